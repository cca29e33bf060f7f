"""--batching_parameters_file: TensorFlow Serving's BatchingParameters, in the text form of protocol buffers.

    max_batch_size { value: 32 }
    batch_timeout_micros { value: 1000 }
    num_batch_threads { value: 2 }
    allowed_batch_sizes: 8
    allowed_batch_sizes: 32

Names and rules are those of servables/tensorflow/session_bundle_config.proto and bundle_factory_util.h;
the message's Python code is in no package, so its descriptor is made here.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2

from embedded_server.common.cpus import cpu_count
from embedded_server.common.errors import StartError
from embedded_server.config.config_files import read_message

_INTEGER, _BOOLEAN, _TEXT = "Int64Value", "BoolValue", "StringValue"
_WRAPPED = {
    "max_batch_size": _INTEGER,
    "batch_timeout_micros": _INTEGER,
    "max_enqueued_batches": _INTEGER,
    "num_batch_threads": _INTEGER,
    "max_execution_batch_size": _INTEGER,
    "enable_large_batch_splitting": _BOOLEAN,
    "thread_pool_name": _TEXT,  # only names threads
}
"""Fields written as `name { value: ... }`, and the message that wraps the value."""
_TIMEOUT_MICROS = 2000


@dataclass(frozen=True)
class BatchingParameters:
    """How requests are batched.

    Defaults are those of TensorFlow's shared_batch_scheduler.h, but for batch_timeout, which is 0 there: here
    a batch waits only for requests that are to be expected. Measured on ResNet-50 with 8 clients on 2 CPUs:
    2.5 requests in a batch with 0, and 4 with 2 ms; 75 and 70 ms of CPU time for each.
    """

    max_batch_size: int = 1000
    """Rows that one request may have, and one batch."""
    batch_timeout: float = _TIMEOUT_MICROS / 1e6
    """Seconds that a batch waits for further requests after its first one."""
    max_enqueued_batches: int = 10
    """Batches that may wait for execution."""
    num_batch_threads: int = field(default_factory=cpu_count)
    """Batches executed at once."""
    allowed_batch_sizes: tuple[int, ...] = ()
    """Sizes to which batches are filled up; none for any size."""
    pad_variable_length_inputs: bool = False
    """Whether requests of different shapes are padded so that they fit into one batch."""
    max_execution_batch_size: int | None = None
    """Rows of a batch where requests may have more: those are executed in pieces. None if they may not."""

    @property
    def batch_rows(self) -> int:
        """The most rows that are executed at once."""
        return self.max_execution_batch_size or self.max_batch_size

    @property
    def sizes_to_warm_up(self) -> tuple[int, ...]:
        """Apart from 1: the sizes that batches will have, or one size if any may occur."""
        if self.batch_rows == 1:
            return ()
        return self.allowed_batch_sizes or (2,)

    def filled_up(self, rows: int) -> int:
        """The smallest allowed size that `rows` fit in."""
        sizes = self.allowed_batch_sizes
        return sizes[bisect.bisect_left(sizes, rows)] if sizes else rows


def read_batching_parameters(file: Path, named_by: str = "--batching_parameters_file") -> BatchingParameters:
    """Read a file of parameters. Raises StartError for what is none, or cannot be.

    named_by: what messages put before the file's name.
    """
    message = _message_class()()
    read_message(named_by, file, message)
    flag = f"{named_by} {file}"
    given = {name: getattr(message, name).value for name in _WRAPPED if message.HasField(name)}
    for name, value in given.items():
        smallest = 0 if name == "batch_timeout_micros" else 1
        if _WRAPPED[name] == _INTEGER and value < smallest:
            raise StartError(f"{flag}: {name} must be at least {smallest}; was {value}")
    largest = given.get("max_batch_size", BatchingParameters.max_batch_size)
    execution = None
    if given.get("enable_large_batch_splitting"):
        execution = given.get("max_execution_batch_size", largest)
        if execution > largest:
            raise StartError(
                f"{flag}: max_execution_batch_size must not be larger than max_batch_size, {largest}"
            )
    parameters = BatchingParameters(
        max_batch_size=largest,
        batch_timeout=given.get("batch_timeout_micros", _TIMEOUT_MICROS) / 1e6,
        max_enqueued_batches=given.get("max_enqueued_batches", BatchingParameters.max_enqueued_batches),
        num_batch_threads=given.get("num_batch_threads", cpu_count()),
        allowed_batch_sizes=tuple(message.allowed_batch_sizes),
        pad_variable_length_inputs=message.pad_variable_length_inputs,
        max_execution_batch_size=execution,
    )
    _check_sizes(flag, parameters)
    return parameters


def _check_sizes(flag: str, parameters: BatchingParameters) -> None:
    sizes = parameters.allowed_batch_sizes
    if any(size >= following for size, following in zip((0, *sizes), sizes, strict=False)):
        raise StartError(f"{flag}: allowed_batch_sizes entries must be monotonically increasing")
    if sizes and sizes[-1] != parameters.batch_rows:
        raise StartError(
            f"{flag}: Last entry in allowed_batch_sizes must match max_batch_size; "
            f"last entry was {sizes[-1]}; expected {parameters.batch_rows}"
        )


def _message_class() -> Any:
    kinds = descriptor_pb2.FieldDescriptorProto
    wrappers = wrappers_pb2.DESCRIPTOR
    file = descriptor_pb2.FileDescriptorProto(
        name="embedded_server/batching_parameters.proto",
        package="embedded_server",
        syntax="proto3",
        dependency=[wrappers.name],
    )
    message = file.message_type.add(name="BatchingParameters")
    # Numbers do not occur in the text form.
    for number, (name, wrapper) in enumerate(_WRAPPED.items(), start=1):
        message.field.add(
            name=name,
            number=number,
            type=kinds.TYPE_MESSAGE,
            label=kinds.LABEL_OPTIONAL,
            type_name=f".{wrappers.package}.{wrapper}",
        )
    message.field.add(
        name="allowed_batch_sizes", number=101, type=kinds.TYPE_INT64, label=kinds.LABEL_REPEATED
    )
    message.field.add(
        name="pad_variable_length_inputs", number=102, type=kinds.TYPE_BOOL, label=kinds.LABEL_OPTIONAL
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("embedded_server.BatchingParameters"))

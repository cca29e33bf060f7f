"""What OpenVINO executes: compiled bodies and their inference requests."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import openvino

from embedded_server.execution import artefact
from embedded_server.execution.backend import Array

_ONE, _ANY = "one row", "any rows"
# Those that wait for their stream do so in OpenVINO, so that no stream waits for a thread of Python.
_REQUESTS_PER_STREAM = 4


INPUT = "body_input"
"""What the names of a body's inputs begin with."""


def compile_options(precision: str, hint: str) -> dict[str, object]:
    """What a body is compiled with. precision: f32 or bf16. hint: LATENCY or THROUGHPUT."""
    return {
        "PERFORMANCE_HINT": hint,
        "INFERENCE_PRECISION_HINT": precision,
        # Attention that is fused as a whole is wrong for some lengths, and after a first inference with one
        # word (OpenVINO 2026.4).
        "SNIPPETS_MODE": "DISABLE",
    }


class CannotInfer(Exception):
    """OpenVINO refuses these inputs. The message is OpenVINO's, and not for clients."""


class Body:
    """One body; all methods may be called from several threads at once.

    Compiled for requests of one row it is some 4 % faster, since fewer shapes are left to work out each time,
    and that is what most requests are. The form for any number of rows is compiled when the first request of
    more than one comes, and its kernels for each number of rows with the first request of that number.
    """

    def __init__(self, file: Path, outputs: Mapping[str, str], precision: str) -> None:
        """outputs: tensor -> OpenVINO's name for it."""
        self._outputs = outputs
        self._precision = precision
        self._lock = threading.Lock()
        self._entered = 0
        self._core = openvino.Core()
        self._models = {_ANY: self._core.read_model(file)}
        self._with_rows = _with_rows(self._models[_ANY])
        self._compiling = threading.Lock()
        self._compiled: dict[str, _Compiled] = {}
        one_row = _of_one_row(self._models[_ANY], self._with_rows)
        if one_row is not None:
            self._models[_ONE] = one_row
            try:
                self._get(_ONE)
            except RuntimeError:  # what was tried when the artefact was made is the other form
                del self._models[_ONE]
        if not self._compiled:
            self._get(_ANY)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Count a request that is going to be inferred, or is being so."""
        with self._lock:
            self._entered += 1
        try:
            yield
        finally:
            with self._lock:
                self._entered -= 1

    def run(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """To be called within `entered`.

        given: by OpenVINO's names. Returns an array for each tensor of `outputs`. Raises CannotInfer.
        """
        one_row = _ONE in self._models and all(len(given[name]) == 1 for name in self._with_rows)
        try:
            values = self._get(_ONE if one_row else _ANY).infer(given, self._outputs.values(), self._entered)
        except RuntimeError as error:
            raise CannotInfer(str(error)) from error
        return dict(zip(self._outputs, values, strict=True))

    def _get(self, rows: str) -> _Compiled:
        compiled = self._compiled.get(rows)
        if compiled is None:
            with self._compiling:
                if rows not in self._compiled:
                    self._compiled[rows] = _Compiled(self._core, self._models[rows], self._precision)
                compiled = self._compiled[rows]
        return compiled

    def close(self) -> None:
        """Free the compiled models."""
        self._compiled.clear()
        self._models.clear()


class _Compiled:
    """One form of a body, compiled twice. All methods may be called from several threads at once.

    With all cores for one inference (LATENCY) a request that is alone is answered soonest; with a stream
    for every core or few (THROUGHPUT) many requests together take less time. ResNet-50 in bf16 on two
    cores of a Xeon with AMX, per image: 6.6 ms with one request at a time, 5.3 ms with two streams, where
    a single request takes 10 ms. The second one costs 0.13 s and 106 MB.
    """

    def __init__(self, core: openvino.Core, model: openvino.Model, precision: str) -> None:
        self._alone = _Requests(core, model, compile_options(precision, "LATENCY"))
        self._many = _Requests(core, model, compile_options(precision, "THROUGHPUT"))
        if self._many.streams == 1:  # one CPU: the second model would be the first one again
            self._many = self._alone
        # Requests on half of the streams would leave half of the machine idle.
        self._few = max(1, self._many.streams // 2)
        self._warming = threading.Lock()
        self._cold = True

    def infer(self, given: Mapping[str, Array], tensors: Iterable[str], entered: int) -> list[Array]:
        """The values of output `tensors`, while `entered` requests are on their way. Raises RuntimeError."""
        if self._cold:
            self._warm_up(given)
        requests = self._alone if entered <= self._few else self._many
        return requests.infer(given, tensors)

    def _warm_up(self, given: Mapping[str, Array]) -> None:
        """Both at once: a warm-up sends one request at a time, and would reach only one."""
        with self._warming:
            if self._cold:
                self._alone.warm_up(given)
                if self._many is not self._alone:
                    self._many.warm_up(given)
                self._cold = False


class _Requests:
    """A compiled model's inference requests; one thread at a time uses one.

    Each keeps the arrays that it was given last, so those used last are used first.
    """

    def __init__(self, core: openvino.Core, model: openvino.Model, options: Mapping[str, object]) -> None:
        compiled = core.compile_model(model, artefact.DEVICE, dict(options))
        self.streams: int = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
        self._free: queue.LifoQueue[openvino.InferRequest] = queue.LifoQueue()
        for _ in range(self.streams * _REQUESTS_PER_STREAM):
            self._free.put(compiled.create_infer_request())

    def infer(self, given: Mapping[str, Array], tensors: Iterable[str]) -> list[Array]:
        request = self._free.get()
        try:
            if self.streams == 1:  # executed here and now, with no thread to wake
                request.infer(given, share_inputs=True)
            else:
                request.start_async(given, share_inputs=True)
                request.wait()
            return [array_of(request.get_tensor(tensor)) for tensor in tensors]
        finally:
            self._free.put(request)

    def warm_up(self, given: Mapping[str, Array]) -> None:
        """Let every stream infer: it makes its kernels then. To be called before all else."""
        requests = [self._free.get() for _ in range(self.streams)]
        for request in requests:
            with contextlib.suppress(Exception):  # the request itself meets the same error
                request.start_async(given, share_inputs=True)
        for request in requests:
            with contextlib.suppress(Exception):
                request.wait()
            self._free.put(request)


def array_of(tensor: openvino.Tensor) -> Array:
    """A copy of what a tensor holds; OpenVINO gives the bits of bfloat16 out as half."""
    data: np.ndarray[Any, Any] = np.array(tensor.data)
    return data.view(ml_dtypes.bfloat16) if tensor.element_type == openvino.Type.bf16 else data


def _with_rows(model: openvino.Model) -> list[str]:
    """The inputs whose first dimension is of any size."""
    return [
        # A port has the names of what only hands it on too.
        next((name for name in port.get_names() if name.startswith(INPUT)), port.get_any_name())
        for port in model.inputs
        if port.partial_shape.rank.is_static and len(port.partial_shape) and port.partial_shape[0].is_dynamic
    ]


def _of_one_row(model: openvino.Model, with_rows: Iterable[str]) -> openvino.Model | None:
    """The model for inputs of one row; None where no input has any number of rows."""
    names = list(with_rows)
    if not names:
        return None
    one_row = model.clone()
    shapes = {
        name: openvino.PartialShape([1, *list(one_row.input(name).partial_shape)[1:]]) for name in names
    }
    try:
        one_row.reshape(shapes)
    except RuntimeError:  # the model takes no single row
        return None
    return one_row

"""Requests in flight at once, executed together: --enable_batching.

Rows of several requests become one batch of the model, and each request gets its own rows of the answer.
As in TensorFlow Serving (batching/batching_session.cc, whose messages these are), a batch waits for others
for at most batch_timeout_micros after its first request, holds at most max_batch_size rows, and at most
num_batch_threads batches are executed at once. Other than there,

- a batch waits only for requests that are to be expected, and leaves to the other threads their share: as
  soon as it holds its part of those that were in flight lately, it is executed. A client that is alone is
  answered as if there were no batching. The time counts from when a thread is free;
- requests whose shapes do not fit each other (unless they are padded) go into different batches instead of
  failing, and where a batch fails, each request is executed once more by itself, so that one that is wrong
  fails alone;
- num_batch_threads holds for each version of a model, not for all of them;
- a signature with an input or output that has no batch dimension is executed without batching.

There are no threads for batches: the first request of a batch executes it in its own thread.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from embedded_server.common.errors import (
    DeadlineExceeded,
    InvalidArgument,
    Postponed,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from embedded_server.config.batching_parameters import BatchingParameters
from embedded_server.execution.backend import Array, Backend
from embedded_server.execution.signature import Signature, TensorSpec

_Shape = tuple[tuple[int, ...], ...]


@dataclass(eq=False)
class _Task:
    """One request, or a piece of one. `wake` tells its thread that one of the things below has come."""

    inputs: Mapping[str, Array]
    rows: int
    shape: _Shape
    """What must be the same in one batch: each input's shape after the first dimension, or its rank."""
    began: float
    wake: threading.Event = field(default_factory=threading.Event)
    leads: bool = False
    """It is the first of a batch that can be executed now, which is up to its thread."""
    answer: dict[str, Array] | None = None
    error: Exception | None = None
    alone: bool = False
    """The batch failed: to be executed by itself."""


@dataclass(eq=False)
class _Queue:
    """The requests for one signature and one choice of outputs that are not being executed."""

    waiting: list[_Task] = field(default_factory=list)
    leader: _Task | None = None
    """The one whose thread is gathering a batch."""
    executing: int = 0
    """Requests in the batches that are being executed."""
    lately: int = 1
    """Requests that were in flight when the last batch was done."""


class BatchingBackend:
    """A backend behind batching; see backend.Backend."""

    def __init__(self, backend: Backend, parameters: BatchingParameters, timeout: float = 0) -> None:
        """timeout: seconds that a request may wait for its turn; 0 for any time."""
        self._backend = backend
        self._parameters = parameters
        self._timeout = timeout or None
        self._changed = threading.Condition()
        self._free = parameters.num_batch_threads
        self._queues: dict[tuple[str, tuple[str, ...]], _Queue] = {}

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._backend.signatures

    @property
    def signature_defs(self) -> Mapping[str, Any]:
        return self._backend.signature_defs

    @property
    def runtime(self) -> str:
        return self._backend.runtime

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Execute a signature; see backend.Backend.run.

        Raises InvalidArgument also for a request of more rows than max_batch_size, Unavailable where too
        many wait already, ResourceExhausted where the time is over before it is its turn.
        """
        known = self.signatures.get(signature)
        if known is None or inputs.keys() != known.inputs.keys() or not _has_batches(known, outputs):
            return self._backend.run(signature, inputs, outputs)
        if not self._backend.merges(signature, inputs):
            return self._backend.run(signature, inputs, outputs)
        rows = _rows(inputs)
        if rows == 0:
            return self._backend.run(signature, inputs, outputs)
        if rows > self._parameters.max_batch_size:
            raise InvalidArgument(
                f"Task size {rows} is larger than maximum input batch size {self._parameters.max_batch_size}"
            )
        names = tuple(sorted(known.outputs if outputs is None else set(outputs)))
        size = self._parameters.batch_rows
        if rows <= size:
            return self._run_batched(signature, names, inputs, rows)
        pieces = [
            self._run_batched(signature, names, _part(inputs, first, first + size), min(size, rows - first))
            for first in range(0, rows, size)
        ]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in names}

    def merges(self, signature: str, inputs: Mapping[str, Array]) -> bool:
        """See backend.Backend.merges."""
        return self._backend.merges(signature, inputs)

    def close(self) -> None:
        """See backend.Backend.close."""
        self._backend.close()

    def _run_batched(
        self, signature: str, outputs: tuple[str, ...], inputs: Mapping[str, Array], rows: int
    ) -> dict[str, Array]:
        task = _Task(inputs, rows, self._shape(inputs), time.monotonic())
        with self._changed:
            queue = self._queues.setdefault((signature, outputs), _Queue())
            waiting = sum(other.rows for other in queue.waiting)
            if waiting + rows > self._parameters.batch_rows * self._parameters.max_enqueued_batches:
                raise Unavailable("The batch scheduling queue to which this task was submitted is full")
            queue.waiting.append(task)
            if queue.leader:
                self._changed.notify_all()
            self._appoint()
        if not task.wake.wait(self._timeout) and self._withdrawn(queue, task):
            raise ResourceExhausted("Run() timeout exceeded while waiting in batching queue")
        task.wake.wait()
        if task.leads:
            self._lead(signature, outputs, queue, task)
        if task.alone:
            return self._backend.run(signature, inputs, outputs)
        if task.error is not None:
            raise task.error
        assert task.answer is not None
        return task.answer

    def _shape(self, inputs: Mapping[str, Array]) -> _Shape:
        if self._parameters.pad_variable_length_inputs:
            return tuple((inputs[name].ndim,) for name in sorted(inputs))
        return tuple(inputs[name].shape[1:] for name in sorted(inputs))

    def _withdrawn(self, queue: _Queue, task: _Task) -> bool:
        """Take a task out of its queue; False if it is not waiting any more."""
        with self._changed:
            if task.leads or task not in queue.waiting:
                return False
            queue.waiting.remove(task)
            return True

    def _appoint(self) -> None:
        """Let the oldest requests lead, as many as may. To be called with the lock held."""
        while self._free:
            heads = [queue for queue in self._queues.values() if queue.waiting and queue.leader is None]
            if not heads:
                return
            queue = min(heads, key=lambda candidate: candidate.waiting[0].began)
            queue.leader = queue.waiting[0]
            queue.leader.leads = True
            self._free -= 1
            queue.leader.wake.set()

    def _lead(self, signature: str, outputs: tuple[str, ...], queue: _Queue, leader: _Task) -> None:
        """Gather a batch, and execute it."""
        with self._changed:
            batch = self._gather(queue, leader)
            queue.leader = None
            queue.executing += len(batch)
            self._appoint()
        try:
            self._execute(signature, outputs, batch)
        finally:
            with self._changed:
                queue.lately = queue.executing + len(queue.waiting)
                queue.executing -= len(batch)
                self._free += 1
                self._appoint()
            for task in batch:
                task.wake.set()

    def _gather(self, queue: _Queue, leader: _Task) -> list[_Task]:
        """Wait until the batch is as large as it should be, or its time over; with the lock held."""
        deadline = time.monotonic() + self._parameters.batch_timeout
        while True:
            in_flight = max(queue.lately, queue.executing + len(queue.waiting))
            share = math.ceil(in_flight / self._parameters.num_batch_threads)
            batch, full = self._fitting(queue, leader, share)
            left = deadline - time.monotonic()
            if full or len(queue.waiting) >= min(share, in_flight - queue.executing) or left <= 0:
                queue.waiting = [task for task in queue.waiting if task not in batch]
                return batch
            self._changed.wait(left)

    def _fitting(self, queue: _Queue, leader: _Task, most: int) -> tuple[list[_Task], bool]:
        """The first tasks that can be executed with `leader`, and whether no more fit in; at most `most`."""
        batch: list[_Task] = []
        rows = 0
        for task in queue.waiting:
            if task.shape != leader.shape:
                continue
            if len(batch) == most or rows + task.rows > self._parameters.batch_rows:
                return batch, True
            batch.append(task)
            rows += task.rows
        return batch, rows == self._parameters.batch_rows

    def _execute(self, signature: str, outputs: tuple[str, ...], batch: Sequence[_Task]) -> None:
        """Set the answer of each task, or what is to become of it."""
        try:
            answers = self._run_together(signature, outputs, batch)
        except Postponed as postponed:  # by one of them, or by what they make together
            for task in batch:
                task.alone, task.error = len(batch) > 1, postponed
        except ServingError as error:
            # It is not known whose fault it is. What took too long would do so again.
            again = len(batch) > 1 and not isinstance(error, DeadlineExceeded)
            for task in batch:
                task.alone, task.error = again, error
        except Exception as error:
            for task in batch:
                task.error = error
        else:
            for task, answer in zip(batch, answers, strict=True):
                task.answer = answer

    def _run_together(
        self, signature: str, outputs: tuple[str, ...], batch: Sequence[_Task]
    ) -> list[dict[str, Array]]:
        sizes = [task.rows for task in batch]
        total = self._parameters.filled_up(sum(sizes))
        merged = {name: _merged([task.inputs[name] for task in batch], total) for name in batch[0].inputs}
        answer = self._backend.run(signature, merged, outputs)
        for name, value in answer.items():
            if not value.ndim or len(value) != total:
                raise InvalidArgument(
                    f"Batched output tensor {name} has shape {list(value.shape)}; its 0th dimension does not "
                    f"equal the sum of the 0th dimension sizes of the input tensors, {total}"
                )
        ends = np.cumsum(sizes)
        return [
            {name: value[end - size : end] for name, value in answer.items()}
            for size, end in zip(sizes, ends, strict=True)
        ]


def _has_batches(signature: Signature, outputs: Sequence[str] | None) -> bool:
    """Whether the first dimension of all inputs and of the outputs wanted is one of any size."""
    names = signature.outputs if outputs is None else outputs
    if any(name not in signature.outputs for name in names):
        return False
    specs: list[TensorSpec] = [*signature.inputs.values(), *(signature.outputs[name] for name in names)]
    return bool(signature.inputs) and all(spec.shape and spec.shape[0] is None for spec in specs)


def _rows(inputs: Mapping[str, Array]) -> int:
    """The size of the first dimension of all inputs."""
    if not all(array.ndim for array in inputs.values()):
        raise InvalidArgument("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in inputs.values()}
    if len(sizes) > 1:
        raise InvalidArgument("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()


def _part(inputs: Mapping[str, Array], first: int, end: int) -> dict[str, Array]:
    return {name: array[first:end] for name, array in inputs.items()}


def _merged(arrays: Sequence[Array], rows: int) -> Array:
    """Concatenate, after padding each to the largest of them, and fill up to `rows` with a row that is there.

    An array is padded with its own first value, as TensorFlow Serving does (batching_util.cc).
    """
    if len({array.shape[1:] for array in arrays}) > 1:
        largest = np.max([array.shape[1:] for array in arrays], axis=0)
        arrays = [_padded(array, largest) for array in arrays]
    missing = rows - sum(map(len, arrays))
    if missing:
        arrays = [*arrays, *[arrays[-1][:1]] * missing]
    return np.concatenate(arrays) if len(arrays) > 1 else arrays[0]


def _padded(array: Array, largest: Any) -> Array:
    if not array.size:
        raise InvalidArgument("Got empty tensor in batch of non-empty tensors.")
    result = np.full((len(array), *largest), array.flat[0], dtype=array.dtype)
    result[tuple(slice(size) for size in array.shape)] = array
    return result

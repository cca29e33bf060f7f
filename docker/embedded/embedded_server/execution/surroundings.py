"""What TensorFlow executes of an optimized signature: its front and its tail, parts of one graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from embedded_server.execution import artefact
from embedded_server.execution.backend import Array
from embedded_server.execution.tensorflow_backend import session_callable, translated, whole
from embedded_server.graph.counting import HEAVY
from embedded_server.graph.ways import reached

# Threads within operations are each session's own then. By default all sessions of a process share those that
# the first one asked for, and a front wants one where what TensorFlow executes as a whole wants one for each
# CPU. Read at the first session.
os.environ["TF_OVERRIDE_GLOBAL_THREADPOOL"] = "1"

Values = dict[str, Array]
"""Arrays by tensor."""


@dataclass(frozen=True)
class Threads:
    """How many threads TensorFlow has, within an operation and for operations; 0 leaves them to us."""

    within: int
    between: int

    def config(self, is_heavy: bool) -> tf.compat.v1.ConfigProto:
        """For a session. is_heavy: whether it executes convolutions or matrix products.

        Those have the threads that they have where TensorFlow executes the whole model: they add up in
        another order otherwise. An operation on one photo is too small to be shared by threads.
        """
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=self.within or (0 if is_heavy else 1),
            inter_op_parallelism_threads=self.between,
        )
        # Threads that wait for work without sleeping take the CPU from inference. The first session decides
        # that for the process; so the standby, which asks for nothing, is loaded last.
        config.experimental.disable_thread_spinning = True
        return config


class Surroundings:
    """Front and tail of one signature. All methods may be called from several threads at once.

    Each request executes them in its own thread, so one photo is decoded while others are inferred. For
    several photos in one request TensorFlow's threads execute the turns of the loop over them in parallel.
    For a single one they would only take turns; without them, and with one thread within an operation, it
    takes 1.6 ms instead of 1.9. But what is executed in no thread of TensorFlow is not given up when it takes
    too long.
    """

    def __init__(self, program: artefact.Program, folder: Path, threads: Threads, timeout: float) -> None:
        graph = tf.Graph()
        with graph.as_default():
            graph_def = tf.compat.v1.GraphDef.FromString((folder / str(program.around)).read_bytes())
            tf.import_graph_def(graph_def, name="")
        config = threads.config(any(o.type in HEAVY for o in graph.get_operations()))
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        if program.initializers:
            self._session.run(list(program.initializers))
        self._program = program
        self._timeout = timeout
        self._ends = _ends_by_itself(graph)
        names = {operation.name for operation in graph.get_operations()}
        self._inputs = [t for t in dict.fromkeys(program.inputs.values()) if t.partition(":")[0] in names]
        self._has_front = bool(program.front or program.front_checks)
        self._front = (
            self._callable(self._inputs, program.front, program.front_checks) if self._has_front else None
        )
        done = {*program.front, *program.body_outputs, *program.inputs.values()}
        self._tail_outputs = [t for t in dict.fromkeys(program.outputs.values()) if t not in done]
        self._tail = None
        if self._tail_outputs or program.tail_checks:
            feeds = [*program.tail, *self._inputs]
            self._tail = self._callable(feeds, self._tail_outputs, program.tail_checks)
        self._types = {own: graph.get_tensor_by_name(own).dtype.as_numpy_dtype for own in program.tail}

    def front(self, values: Values) -> None:
        """Add what the front computes to the values of the inputs. Raises errors.ServingError."""
        if self._front is not None:
            values.update(zip(self._program.front, self._front(values), strict=True))

    def tail(self, values: Values) -> None:
        """Add what the tail computes. Raises errors.ServingError."""
        if self._tail is None:
            return
        fed = dict(values)
        for own, tensor in self._program.tail.items():
            fed[own] = values[tensor].astype(self._types[own], copy=False)
        values.update(zip(self._tail_outputs, self._tail(fed), strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session.close()

    def _callable(
        self, feeds: Sequence[str], fetches: Sequence[str], checks: Sequence[str]
    ) -> Callable[[Values], Sequence[Array]]:
        """A function of values by name that gives those of `fetches`."""
        call = session_callable(self._session, feeds, fetches, self._timeout, targets=checks)
        for_one = call
        if self._ends:
            for_one = session_callable(
                self._session, feeds, fetches, self._timeout, targets=checks, in_callers_thread=True
            )

        def run(values: Values) -> Sequence[Array]:
            fed = [values[name] for name in feeds]
            try:
                return [whole(value) for value in (for_one if _have_one_row(fed) else call)(*fed)]
            except (tf.errors.OpError, UnicodeDecodeError) as error:
                raise translated(error) from error

        return run


def _have_one_row(arrays: Iterable[Array]) -> bool:
    return all(not array.ndim or len(array) == 1 for array in arrays)


def _ends_by_itself(graph: tf.Graph) -> bool:
    """Whether no value that is fed says how often a loop goes round, as in one over the photos."""
    if graph.as_graph_def().library.function:
        return False  # there may be loops in there
    operations = {operation.name: operation for operation in graph.get_operations()}

    def before(name: str) -> list[str]:
        operation = operations[name]
        return [] if _is_shape_of_feed(operation) else [tensor.op.name for tensor in operation.inputs]

    conditions = [name for name, operation in operations.items() if operation.type == "LoopCond"]
    earlier = [operations[name] for name in reached(conditions, before)]
    return all(operation.inputs or operation.type == "Const" for operation in earlier)


def _is_shape_of_feed(operation: tf.Operation) -> bool:
    """Other shapes may follow from values: that of a range, or of the rows that fulfil a condition."""
    if operation.type != "Shape":
        return False
    measured = operation.inputs[0].op
    while measured.type in ("Identity", "Cast"):
        measured = measured.inputs[0].op
    return bool(measured.type == "Placeholder")

"""Executes a model's optimized artefact: TensorFlow its front, OpenVINO its body."""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import openvino
import tensorflow as tf

from embedded_server import artefact
from embedded_server.backend import Array
from embedded_server.errors import Internal, InvalidArgument, StartError
from embedded_server.graphs import reached
from embedded_server.signature import Signature, TensorSpec, signatures_of
from embedded_server.tensorflow_backend import (
    TensorFlowBackend,
    read_signature_defs,
    session_callable,
    translated,
)

# Threads within operations are each session's own then. By default all sessions of a process share those that
# the first one asked for, and a front wants one where what TensorFlow executes as a whole wants one for each
# CPU. Read at the first session.
os.environ["TF_OVERRIDE_GLOBAL_THREADPOOL"] = "1"

_ONE, _ANY = "one row", "any rows"
# Those that wait for their stream do so in OpenVINO, so that no stream waits for a thread of Python.
_REQUESTS_PER_STREAM = 4


class OpenVinoBackend:
    """See backend.Backend. Signatures that were not converted are executed by TensorFlow."""

    runtime = "OpenVINO"

    def __init__(
        self,
        signatures: Mapping[str, Signature],
        signature_defs: Mapping[str, Any],
        programs: Mapping[str, _Program],
        rest: TensorFlowBackend | None,
    ) -> None:
        self.signatures = signatures
        self.signature_defs = signature_defs
        self._programs = programs
        self._rest = rest

    @classmethod
    def load(
        cls,
        version_folder: Path,
        artefact_folder: Path,
        precision: str,
        *,
        intra_op_parallelism: int = 0,
        inter_op_parallelism: int = 0,
        timeout: float = 0,
    ) -> OpenVinoBackend:
        """Load the artefact of the SavedModel in `version_folder`.

        precision: f32, bf16, or auto for the one that was chosen by measuring.
        intra_op_parallelism, inter_op_parallelism, timeout: for all that TensorFlow executes; see
            TensorFlowBackend.load. A front has one thread within an operation where 0 leaves them to us.

        Raises StartError if the artefact is missing or damaged, or has no chosen precision.
        """
        try:
            manifest = artefact.read(artefact_folder)
        except artefact.BadArtefact as error:
            raise StartError(f"{error}; build it with `invoke build.optimized`") from error
        if precision == "auto":
            if manifest.precision is None:
                raise StartError(f"no precision was chosen for {artefact_folder}; name one with --precision")
            precision = manifest.precision
        signature_defs = read_signature_defs(version_folder)
        # An operation on one photo is too small to be shared by threads.
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_parallelism or 1,
            inter_op_parallelism_threads=inter_op_parallelism,
        )
        # Threads that wait for work without sleeping take the CPU from inference. The first session decides
        # that for the process; so the rest, which asks for nothing, is loaded last.
        config.experimental.disable_thread_spinning = True
        # Only signatures whose programs are equal share a body's file: it is compiled once for all of them.
        compiled: dict[str, _Program] = {}
        for program in manifest.programs.values():
            if program.body not in compiled:
                front = None if program.front is None else _Front(program, artefact_folder, config, timeout)
                body = _Body(artefact_folder / program.body, program, precision)
                compiled[program.body] = _Program(front, body)
        rest = None
        if manifest.unconverted:
            rest = TensorFlowBackend.load(
                version_folder,
                intra_op_parallelism=intra_op_parallelism,
                inter_op_parallelism=inter_op_parallelism,
                timeout=timeout,
            )
        return cls(
            signatures_of(signature_defs),
            signature_defs,
            {name: compiled[program.body] for name, program in manifest.programs.items()},
            rest,
        )

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Execute a signature. See backend.Backend.run."""
        program = self._programs.get(signature)
        if program is None:
            if self._rest is None:
                raise Internal(f"the signature {signature} is not in the optimized artefact")
            return self._rest.run(signature, inputs, outputs)
        specs = self.signatures[signature]
        for name, spec in specs.inputs.items():
            _check_shape(name, inputs[name], spec)
        answer = program.run(inputs)
        wanted = specs.outputs if outputs is None else outputs
        # OpenVINO has fewer number formats than TensorFlow; clients see the signature's own.
        return {name: answer[name].astype(specs.outputs[name].dtype.numpy, copy=False) for name in wanted}

    def close(self) -> None:
        """See backend.Backend.close."""
        for program in self._programs.values():
            program.close()  # more than once for what signatures share
        self._programs = {}
        if self._rest is not None:
            self._rest.close()


class _Program:
    """One artefact.Program, loaded."""

    def __init__(self, front: _Front | None, body: _Body) -> None:
        self._front = front
        self._body = body

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        with self._body.entered():
            crossing = {} if self._front is None else self._front.run(inputs)
            return self._body.run(inputs, crossing)

    def close(self) -> None:
        """Free what both halves hold."""
        self._body.close()
        if self._front is not None:
            self._front.close()


class _Front:
    """What TensorFlow executes: pixels stay the same bit for bit.

    Each request runs it in its own thread, so one photo is decoded while others are inferred. For several
    photos in one request TensorFlow's threads run the iterations of the loop over them in parallel. For a
    single one they would only take turns; without them, and with one thread within an operation, it takes
    1.6 ms instead of 1.9. But what runs in no thread of TensorFlow's is not given up when it takes too long.
    """

    def __init__(
        self, program: artefact.Program, folder: Path, config: tf.compat.v1.ConfigProto, timeout: float
    ) -> None:
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(
                tf.compat.v1.GraphDef.FromString((folder / str(program.front)).read_bytes()), name=""
            )
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._fed = list(program.front_inputs)
        self._crossing = list(program.crossing)
        feeds, fetches = list(program.front_inputs.values()), list(program.crossing.values())
        self._call = session_callable(self._session, feeds, fetches, timeout)
        self._call_for_one = self._call
        if _ends_by_itself(graph):
            self._call_for_one = session_callable(
                self._session, feeds, fetches, timeout, in_callers_thread=True
            )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the body's tensor -> what crosses the cut there. Raises errors.ServingError."""
        fed = [inputs[name] for name in self._fed]
        call = self._call_for_one if _have_one_row(fed) else self._call
        try:
            values = call(*fed)
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise translated(error) from error
        return dict(zip(self._crossing, values, strict=True))

    def close(self) -> None:
        self._session.close()


class _Body:
    """What OpenVINO executes.

    Compiled for requests of one row it is some 4 % faster, since fewer shapes are left to work out each time,
    and that is what most requests are. The form for any number of rows is compiled when the first request of
    more than one comes, and its kernels for each number of rows with the first request of that number.
    """

    def __init__(self, file: Path, program: artefact.Program, precision: str) -> None:
        self._inputs = program.inputs
        self._outputs = program.outputs
        self._precision = precision
        self._lock = threading.Lock()
        self._entered = 0
        self._core = openvino.Core()
        self._models = {_ANY: self._core.read_model(file)}
        self._compiling = threading.Lock()
        self._compiled: dict[str, _Compiled] = {}
        one_row = _of_one_row(self._models[_ANY])
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

    def run(self, inputs: Mapping[str, Array], crossing: Mapping[str, Array]) -> dict[str, Array]:
        """To be called within `entered`. Returns an array for each output. Raises InvalidArgument."""
        given = {tensor: inputs[name] for tensor, name in self._inputs.items()} | crossing
        compiled = self._get(_ONE if _ONE in self._models and _have_one_row(given.values()) else _ANY)
        try:
            values = compiled.infer(given, self._outputs.values(), self._entered)
        except RuntimeError as error:
            # The shapes fit the signature, so what is left are sizes that do not fit each other.
            raise InvalidArgument(" ".join(str(error).split())[:300]) from error
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
        self._alone = _Requests(core, model, precision, "LATENCY")
        self._many = _Requests(core, model, precision, "THROUGHPUT")
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
        """Both at once: who warms a model up asks once at a time, and would only get to know one."""
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

    def __init__(self, core: openvino.Core, model: openvino.Model, precision: str, hint: str) -> None:
        options = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": precision}
        compiled = core.compile_model(model, artefact.DEVICE, options)
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
            return [_array(request.get_tensor(tensor)) for tensor in tensors]
        finally:
            self._free.put(request)

    def warm_up(self, given: Mapping[str, Array]) -> None:
        """Let every stream infer: it makes its kernels then. To be called before all else."""
        requests = [self._free.get() for _ in range(self.streams)]
        for request in requests:
            with contextlib.suppress(Exception):  # whoever asked is told by his own inference
                request.start_async(given, share_inputs=True)
        for request in requests:
            with contextlib.suppress(Exception):
                request.wait()
            self._free.put(request)


def _ends_by_itself(graph: tf.Graph) -> bool:
    """Whether no value that is fed says how often a loop goes round, as in one over the photos."""
    if graph.as_graph_def().library.function:
        return False  # there may be loops in there
    operations = {operation.name: operation for operation in graph.get_operations()}

    def before(name: str) -> list[str]:
        operation = operations[name]
        return [] if _is_shape_of_feed(operation) else [tensor.op.name for tensor in operation.inputs]

    conditions = [name for name, operation in operations.items() if operation.type == "LoopCond"]
    found = [operations[name] for name in reached(conditions, before)]
    return all(operation.inputs or operation.type == "Const" for operation in found)


def _is_shape_of_feed(operation: tf.Operation) -> bool:
    """Other shapes may follow from values: that of a range, or of the rows that fulfil a condition."""
    if operation.type != "Shape":
        return False
    measured = operation.inputs[0].op
    while measured.type in ("Identity", "Cast"):
        measured = measured.inputs[0].op
    return bool(measured.type == "Placeholder")


def _of_one_row(model: openvino.Model) -> openvino.Model | None:
    """The model for inputs of one row; None where they are not of any number of rows."""
    shapes = [port.partial_shape for port in model.inputs]
    if not shapes or not all(shape.rank.is_static and len(shape) and shape[0].is_dynamic for shape in shapes):
        return None
    one_row = model.clone()
    try:
        one_row.reshape(
            {index: openvino.PartialShape([1, *list(shape)[1:]]) for index, shape in enumerate(shapes)}
        )
    except RuntimeError:  # the model takes no single row
        return None
    return one_row


def _have_one_row(arrays: Iterable[Array]) -> bool:
    return all(not array.ndim or len(array) == 1 for array in arrays)


def _array(tensor: openvino.Tensor) -> Array:
    """A copy of what a tensor holds; OpenVINO gives the bits of bfloat16 out as half."""
    data = np.array(tensor.data)
    return data.view(ml_dtypes.bfloat16) if tensor.element_type == openvino.Type.bf16 else data


def _check_shape(name: str, value: Array, spec: TensorSpec) -> None:
    """Raises InvalidArgument for a shape that the signature does not allow.

    TensorFlow finds out while executing; OpenVINO would do arithmetic on whatever fits its kernels.
    """
    if spec.shape is None:
        return
    fits = len(value.shape) == len(spec.shape) and all(
        wanted in (None, size) for wanted, size in zip(spec.shape, value.shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("?" if size is None else str(size) for size in spec.shape)
        raise InvalidArgument(f"input {name} has shape {list(value.shape)}, and the model takes [{wanted}]")

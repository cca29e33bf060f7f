"""Executes a model's optimized artefact: TensorFlow its front, OpenVINO its body."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import openvino
import tensorflow as tf

from embedded_server import artefact
from embedded_server.backend import Array
from embedded_server.errors import Internal, InvalidArgument, StartError
from embedded_server.signature import Signature, TensorSpec, signatures_of
from embedded_server.tensorflow_backend import (
    TensorFlowBackend,
    read_signature_defs,
    session_callable,
    translated,
)


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
            TensorFlowBackend.load.

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
        rest = None
        if manifest.unconverted:
            rest = TensorFlowBackend.load(
                version_folder,
                intra_op_parallelism=intra_op_parallelism,
                inter_op_parallelism=inter_op_parallelism,
                timeout=timeout,
            )
        config = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=intra_op_parallelism,
            inter_op_parallelism_threads=inter_op_parallelism,
        )
        # Threads that wait for work without sleeping take the CPU from inference: a photo is decoded in
        # 1.6 ms of CPU time instead of 1.8.
        config.experimental.disable_thread_spinning = True
        # Only signatures whose programs are equal share a body's file: it is compiled once for all of them.
        compiled: dict[str, _Program] = {}
        for program in manifest.programs.values():
            if program.body not in compiled:
                front = None if program.front is None else _Front(program, artefact_folder, config, timeout)
                body = _Body(artefact_folder / program.body, program, precision)
                compiled[program.body] = _Program(front, body)
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

    Each request runs it in its own thread, so one photo is decoded while others are inferred; TensorFlow
    runs the iterations of a loop over the photos of one request in parallel.
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
        self._call = session_callable(
            self._session, list(program.front_inputs.values()), list(program.crossing.values()), timeout
        )

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Returns the body's tensor -> what crosses the cut there. Raises errors.ServingError."""
        try:
            values = self._call(*[inputs[name] for name in self._fed])
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise translated(error) from error
        return dict(zip(self._crossing, values, strict=True))

    def close(self) -> None:
        self._session.close()


class _Body:
    """What OpenVINO executes, compiled twice.

    With all cores for one inference (LATENCY) a request that is alone is answered soonest; with a stream
    for every core or few (THROUGHPUT) many requests together take less time. ResNet-50 in bf16 on two
    cores of a Xeon with AMX, per image: 6.0 ms with one request at a time, 4.7 ms with two streams, where
    a single request takes 10.5 ms. The second one costs 0.13 s and 106 MB.
    """

    def __init__(self, file: Path, program: artefact.Program, precision: str) -> None:
        self._inputs = program.inputs
        self._outputs = program.outputs
        self._lock = threading.Lock()
        self._entered = 0
        core = openvino.Core()
        model = core.read_model(file)
        self._alone = _compiled(core, model, precision, "LATENCY")
        self._many = _compiled(core, model, precision, "THROUGHPUT")
        if self._many.qsize() == 1:  # one CPU: the second model would be the first one again
            self._many = self._alone
        # Requests on half of the streams would leave half of the machine idle.
        self._few = max(1, self._many.qsize() // 2)
        self._cold = True

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
        if self._cold:
            self._warm_up(given)
        requests = self._alone if self._entered <= self._few else self._many
        request = requests.get()
        try:
            request.infer(given, share_inputs=True)
            return {name: _array(request.get_tensor(tensor)) for name, tensor in self._outputs.items()}
        except RuntimeError as error:
            # The shapes fit the signature, so what is left are sizes that do not fit each other.
            raise InvalidArgument(" ".join(str(error).split())[:300]) from error
        finally:
            requests.put(request)

    def _warm_up(self, given: Mapping[str, Array]) -> None:
        """Let every request infer once: kernels are made then. Who warms a model up asks once at a time."""
        self._cold = False
        with contextlib.suppress(RuntimeError):  # whoever asked is told by his own inference
            for requests in (self._alone, self._many):
                for _ in range(requests.qsize()):
                    request = requests.get()
                    try:
                        request.infer(given, share_inputs=True)
                    finally:
                        requests.put(request)

    def close(self) -> None:
        """Free the compiled models, which the requests hold."""
        for requests in (self._alone, self._many):
            while not requests.empty():
                requests.get()


def _compiled(
    core: openvino.Core, model: openvino.Model, precision: str, hint: str
) -> queue.SimpleQueue[openvino.InferRequest]:
    """As many inference requests as can run at once. Each holds its tensors: one thread at a time uses it."""
    options = {"PERFORMANCE_HINT": hint, "INFERENCE_PRECISION_HINT": precision}
    compiled = core.compile_model(model, artefact.DEVICE, options)
    requests: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
    for _ in range(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
        requests.put(compiled.create_infer_request())
    return requests


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

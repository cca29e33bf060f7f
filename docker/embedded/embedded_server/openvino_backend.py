"""Executes a model's optimized artefact: TensorFlow its front, OpenVINO its body."""

from __future__ import annotations

import queue
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import tensorflow as tf

from embedded_server import artefact
from embedded_server.backend import Array
from embedded_server.errors import Internal, InvalidArgument, StartError
from embedded_server.signature import Signature, TensorSpec, signatures_of
from embedded_server.tensorflow_backend import TensorFlowBackend, read_signature_defs, translated


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
            operation_timeout_in_ms=round(timeout * 1000),
        )
        # Only signatures whose programs are equal share a body's file: it is compiled once for all of them.
        compiled: dict[str, _Program] = {}
        for program in manifest.programs.values():
            if program.body not in compiled:
                compiled[program.body] = _Program(program, artefact_folder, precision, config)
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

    def __init__(
        self, program: artefact.Program, folder: Path, precision: str, config: tf.compat.v1.ConfigProto
    ) -> None:
        """config: of the session that executes the front."""
        self._program = program
        self._session: Any = None
        if program.front is not None:
            self._load_front(folder / program.front, config)
        # One request at a time gets all cores: what a person who waits for one answer wants.
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        model = openvino.Core().compile_model(folder / program.body, artefact.DEVICE, options)
        # A request holds its tensors, so each may be used by one thread at a time.
        self._requests: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(model.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")):
            self._requests.put(model.create_infer_request())

    def _load_front(self, file: Path, config: tf.compat.v1.ConfigProto) -> None:
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(tf.compat.v1.GraphDef.FromString(file.read_bytes()), name="")
        self._session = tf.compat.v1.Session(graph=graph, config=config)
        self._fed = list(self._program.front_inputs)
        feeds = [graph.get_tensor_by_name(self._program.front_inputs[name]) for name in self._fed]
        self._front = self._session.make_callable(list(self._program.crossing.values()), feed_list=feeds)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        given = {tensor: inputs[name] for tensor, name in self._program.inputs.items()}
        if self._session is not None:
            try:
                crossing = self._front(*(inputs[name] for name in self._fed))
            except (tf.errors.OpError, UnicodeDecodeError) as error:
                raise translated(error) from error
            given.update(zip(self._program.crossing, crossing, strict=True))
        request = self._requests.get()
        try:
            request.infer(given, share_inputs=True)
            return {
                name: np.array(request.get_tensor(tensor).data)
                for name, tensor in self._program.outputs.items()
            }
        except RuntimeError as error:
            # The shapes fit the signature, so what is left are sizes that do not fit each other.
            raise InvalidArgument(" ".join(str(error).split())[:300]) from error
        finally:
            self._requests.put(request)

    def close(self) -> None:
        """Free the compiled model, which the requests hold, and the front."""
        while not self._requests.empty():
            self._requests.get()
        if self._session is not None:
            self._session.close()


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

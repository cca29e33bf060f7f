"""Executes a model's optimized artefact: TensorFlow front and tail, OpenVINO the body.

A request that breaks a condition of the body (a shape, a number that is not finite or too large), or that
OpenVINO refuses, is executed by TensorFlow as a whole. So are signatures that were not converted or not
proven.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from embedded_server.common.errors import ServingError, StartError
from embedded_server.execution import artefact
from embedded_server.execution.backend import Array
from embedded_server.execution.bodies import Body, CannotInfer
from embedded_server.execution.shapes import has_declared_shapes
from embedded_server.execution.signature import Signature, signatures_of
from embedded_server.execution.sizes import Sizes
from embedded_server.execution.standby import Standby
from embedded_server.execution.surroundings import Surroundings, Threads, Values
from embedded_server.execution.tensorflow_backend import TensorFlowBackend, check_names
from embedded_server.graph.saved_model import read_signature_defs

AUTO = "auto"
_TINY = 1e-30
"""Where all numbers of an input are smaller, products of them may have fewer digits than others."""
_log = logging.getLogger(__name__)


class OpenVinoBackend:
    """See backend.Backend."""

    runtime = "OpenVINO"

    def __init__(
        self,
        signatures: Mapping[str, Signature],
        signature_defs: Mapping[str, Any],
        programs: Mapping[str, _Program],
        standby: Standby,
        handed_over: Callable[[str, str], None],
    ) -> None:
        """programs: by signature; TensorFlow executes the others. handed_over: see `load`."""
        self.signatures = signatures
        self.signature_defs = signature_defs
        self._programs = programs
        self._standby = standby
        self._handed_over = handed_over

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
        handed_over: Callable[[str, str], None] = lambda signature, reason: None,
        postpones: bool = False,
    ) -> OpenVinoBackend:
        """Load the artefact of the SavedModel in `version_folder`.

        precision: f32, bf16, or auto for the one that was chosen by measuring.
        intra_op_parallelism, inter_op_parallelism, timeout: for all that TensorFlow executes; see
            TensorFlowBackend.load. A front has one thread within an operation where 0 leaves them to us.
        handed_over: called with signature and reason for each request that TensorFlow executes although
            the signature was converted.
        postpones: whether `run` raises Postponed, instead of waiting, while TensorFlow is loaded.

        Raises StartError if the artefact is missing or damaged, or has no chosen precision.
        """
        try:
            manifest = artefact.read(artefact_folder)
        except artefact.BadArtefact as error:
            raise StartError(f"{error}; build it with `invoke build.optimized`") from error
        if precision == AUTO:
            if manifest.precision is None:
                raise StartError(f"no precision was chosen for {artefact_folder}; name one with --precision")
            precision = manifest.precision
        signature_defs = read_signature_defs(version_folder)
        threads = Threads(intra_op_parallelism, inter_op_parallelism)
        # Before anything was decided, as while it is proven, every converted signature is served as asked.
        undecided = dict.fromkeys(manifest.programs, precision)
        precisions = manifest.accepted.get(precision, undecided if not manifest.accepted else {})
        programs: dict[str, _Program] = {}
        known: dict[tuple[str, str], _Program] = {}
        for name, executed_in in precisions.items():
            program = manifest.programs[name]
            # Only signatures whose programs are equal share a body's file: it is compiled once for all of
            # them.
            if (program.body, executed_in) not in known:
                known[program.body, executed_in] = _Program.load(
                    program, artefact_folder, threads, timeout, executed_in
                )
            programs[name] = known[program.body, executed_in]

        def load_all() -> TensorFlowBackend:
            if artefact.model_digest(version_folder) != manifest.model:
                raise StartError("the files of the SavedModel have changed since it was optimized")
            return TensorFlowBackend.load(
                version_folder,
                intra_op_parallelism=intra_op_parallelism,
                inter_op_parallelism=inter_op_parallelism,
                timeout=timeout,
            )

        standby = Standby(load_all, postpones=postpones)
        if any(proto.inputs and name not in programs for name, proto in signature_defs.items()):
            standby.load_now()
        return cls(signatures_of(signature_defs), signature_defs, programs, standby, handed_over)

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Execute a signature. See backend.Backend.run.

        Raises also Postponed while TensorFlow is loaded for a request (see `load`), and Unavailable where
        that fails.
        """
        program = self._programs.get(signature)
        if program is None:
            backend = self._standby.backend(f"signature {signature!r} is not optimized")
            return backend.run(signature, inputs, outputs)
        known = self.signatures[signature]
        check_names(known, inputs, outputs)
        names = list(known.outputs) if outputs is None else list(outputs)
        try:
            _check_declared(known, inputs)
            answer = program.run(inputs, names)
        except ServingError:
            if set(names) == set(known.outputs):
                raise
            # What failed may not be wanted, and whether that matters is TensorFlow's to say.
            return self._hand_over(signature, inputs, outputs, _NotForBody("outputs", "some outputs only"))
        except _NotForBody as reason:
            return self._hand_over(signature, inputs, outputs, reason)
        # OpenVINO has fewer number formats than TensorFlow; clients see the signature's own.
        return {name: answer[name].astype(known.outputs[name].dtype.numpy, copy=False) for name in names}

    def merges(self, signature: str, inputs: Mapping[str, Array]) -> bool:
        """See backend.Backend.merges: what TensorFlow has to execute would take its neighbours along."""
        program = self._programs.get(signature)
        known = self.signatures[signature]
        return program is None or (
            _has_declared_types(known, inputs)
            and has_declared_shapes(known, inputs)
            and program.takes(inputs)
        )

    def _hand_over(
        self,
        signature: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None,
        reason: _NotForBody,
    ) -> dict[str, Array]:
        backend = self._standby.backend(f"a request to {signature!r} has {reason}")
        self._handed_over(signature, reason.kind)
        return backend.run(signature, inputs, outputs)

    def close(self) -> None:
        """See backend.Backend.close."""
        for program in self._programs.values():
            program.close()  # more than once for what signatures share
        self._programs = {}
        self._standby.close()


class _NotForBody(Exception):
    """TensorFlow has to execute this request; the message says what it has."""

    def __init__(self, kind: str, message: str) -> None:
        """kind: one word for the metric."""
        super().__init__(message)
        self.kind = kind


class _Program:
    """One artefact.Program, loaded."""

    def __init__(
        self,
        program: artefact.Program,
        around: Surroundings | None,
        body: Body,
        sizes: Sizes | None,
        precision: str,
    ) -> None:
        self._program = program
        self._sizes = sizes
        self._around = around
        self._body = body
        self._precision = precision

    @classmethod
    def load(
        cls,
        program: artefact.Program,
        folder: Path,
        threads: Threads,
        timeout: float,
        precision: str,
    ) -> _Program:
        around = None if program.around is None else Surroundings(program, folder, threads, timeout)
        sizes = None if program.sizes is None else Sizes(folder / program.sizes, program.body_outputs)
        body = Body(folder / program.body, program.body_outputs, precision)
        return cls(program, around, body, sizes, precision)

    def prepared(self, inputs: Mapping[str, Array]) -> Values:
        """The inputs by their tensors, and what the front makes of them. Raises errors.ServingError."""
        values: Values = {tensor: inputs[name] for name, tensor in self._program.inputs.items()}
        if self._around is not None:
            self._around.front(values)
        return values

    def takes(self, inputs: Mapping[str, Array]) -> bool:
        """Whether the inputs by themselves break no condition."""
        try:
            self._check_inputs(inputs)
        except _NotForBody:
            return False
        return True

    def _check_inputs(self, inputs: Mapping[str, Array]) -> None:
        """Raises _NotForBody for inputs that can be judged before the front takes its time."""
        for name, tensor in self._program.inputs.items():
            if not inputs[name].size:
                raise _NotForBody("shape", "an empty input")
            if tensor in self._program.conditions:
                _check(self._program.conditions[tensor], self._precision, inputs[name])

    def run(self, inputs: Mapping[str, Array], names: Iterable[str]) -> dict[str, Array]:
        """Returns the outputs `names`. Raises _NotForBody, errors.ServingError."""
        program = self._program
        self._check_inputs(inputs)
        with self._body.entered():
            values = self.prepared(inputs)
            for tensor, condition in program.conditions.items():
                if tensor not in program.inputs.values():
                    _check(condition, self._precision, values[tensor])
            given = {own: values[tensor] for own, tensor in program.body_inputs.items()}
            shapes = None
            if self._sizes is not None:
                shapes = self._sizes.of_outputs({own: array.shape for own, array in given.items()})
                if shapes is None:
                    raise _NotForBody("sizes", "sizes that do not fit, or that leave nothing")
            try:
                results = self._body.run(given)
            except CannotInfer as error:
                _log.debug("OpenVINO refuses a request: %s", error)
                raise _NotForBody("refused", "inputs that do not fit each other") from error
        for tensor, array in results.items():
            if shapes is not None and array.shape != shapes[tensor]:
                raise _NotForBody("result", "a result of another shape")
            if not _is_finite(array):
                raise _NotForBody("result", "a result that is not finite")
        values.update(results)
        if self._around is not None:
            # All of them: what fails for one output fails a function of TensorFlow as a whole.
            self._around.tail(values)
        return {name: values[program.outputs[name]] for name in names}

    def close(self) -> None:
        """Free what all parts hold."""
        self._body.close()
        if self._around is not None:
            self._around.close()


def _check_declared(signature: Signature, inputs: Mapping[str, Array]) -> None:
    """Raises _NotForBody for other shapes than the signature's (see shapes.py), and for other types.

    Serialized Examples may be fed to an input that is declared as something else.
    """
    if not _has_declared_types(signature, inputs):
        raise _NotForBody("type", "another type than the signature")
    if not has_declared_shapes(signature, inputs):
        raise _NotForBody("shape", "another shape than the signature")


def _has_declared_types(signature: Signature, inputs: Mapping[str, Array]) -> bool:
    return all(inputs[name].dtype == spec.dtype.numpy for name, spec in signature.inputs.items())


def _check(condition: artefact.Condition, precision: str, array: Array) -> None:
    """Raises _NotForBody if the body is not known to be right for this array."""
    fits = array.ndim == len(condition.shape) and all(
        size and expected in (None, size) for expected, size in zip(condition.shape, array.shape, strict=True)
    )
    if not fits:
        raise _NotForBody("shape", f"an input of shape {list(array.shape)}")
    bound = condition.bound(precision)
    if bound is None:
        return
    low, high = _extremes(array)
    # Written so that NaN, which is neither less nor more, breaks it.
    # TensorFlow takes the smallest numbers for 0, and OpenVINO orders them.
    is_tiny = 0 < max(-low, high) < _TINY
    if is_tiny or not (low >= -bound and high <= bound):
        raise _NotForBody("magnitude", f"numbers from {low:g} to {high:g}")


def _is_finite(array: Array) -> bool:
    if array.dtype.kind not in "fV" or not array.size:
        return True
    low, high = _extremes(array)
    return math.isfinite(low) and math.isfinite(high)


def _extremes(array: Array) -> tuple[float, float]:
    """The least and the largest number; NaN if there is one."""
    wide = array if array.dtype == np.float32 else array.astype(np.float32)
    return float(wide.min()), float(wide.max())

"""Predict, classify and regress on arrays: what REST and gRPC do alike.

The rules and messages are TensorFlow Serving's (servables/tensorflow/predict_util.cc, classifier.cc,
regressor.cc, and tensorflow/cc/saved_model/util.cc for inputs that have a default).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from embedded_server.common.errors import FailedPrecondition, Internal, InvalidArgument, Unimplemented
from embedded_server.common.metrics import Metrics
from embedded_server.execution.backend import Array
from embedded_server.execution.servable import Servable
from embedded_server.execution.signature import DEFAULT_SIGNATURE, Signature
from embedded_server.execution.tensors import from_proto

# tensorflow/cc/saved_model/signature_constants.h
PREDICT_METHOD = "tensorflow/serving/predict"
CLASSIFY_METHOD = "tensorflow/serving/classify"
REGRESS_METHOD = "tensorflow/serving/regress"
EXAMPLES, CLASSES, SCORES, VALUES = "inputs", "classes", "scores", "outputs"


@dataclass(frozen=True)
class Classes:
    """What a classifier says of n examples; at least one of the two is there.

    labels: n x c strings, as bytes. scores: n x c float32.
    """

    labels: Array | None
    scores: Array | None

    def rows(self) -> Iterator[list[tuple[bytes, float]]]:
        """Label and score of each class, for one example after the other; what is missing is empty, or 0."""
        given = self.scores if self.labels is None else self.labels
        assert given is not None, "a classifier has labels or scores"
        labels = np.full(given.shape, b"", np.object_) if self.labels is None else self.labels
        scores = np.zeros(given.shape, np.float32) if self.scores is None else self.scores
        for row_labels, row_scores in zip(labels, scores, strict=True):
            yield list(zip(row_labels.tolist(), row_scores.tolist(), strict=True))


class Inference:
    """Executes requests on a servable. All methods may be called from several threads at once.

    check_method_names: whether a signature must have the method name of what it is asked for
        (--enable_signature_method_name_check).
    """

    def __init__(self, metrics: Metrics, check_method_names: bool = False) -> None:
        self._metrics = metrics
        self._check_method_names = check_method_names

    def predict(
        self, servable: Servable, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] = ()
    ) -> dict[str, Array]:
        """Execute a signature ("" for the default one); `outputs` are those wanted, none for all.

        Raises errors.ServingError.
        """
        name = signature or DEFAULT_SIGNATURE
        known = servable.backend.signatures.get(name)
        if known is None:
            raise FailedPrecondition(f'Serving signature key "{name}" not found.')
        methods = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)
        if self._check_method_names and known.method_name not in methods:
            raise Internal(
                f"Expected prediction signature method_name to be one of {{{', '.join(methods)}}}. "
                f"Was: {known.method_name}"
            )
        given = _complete(servable, known, inputs)
        _check_types(known, given)
        _check_outputs(known, outputs)
        return self._run(servable, "Predict", name, given, tuple(outputs) or None)

    def classify(self, servable: Servable, signature: str, examples: Array) -> Classes:
        """Classify n serialized tf.Examples (an object array of bytes). Raises errors.ServingError."""
        known = classifier(servable, signature, self._check_method_names)
        names = [name for name in (CLASSES, SCORES) if name in known.outputs]
        outputs = self._run_on_examples(servable, "Classify", known, examples, names)
        shape = None
        for name in names:
            array, dtype = outputs[name], "DT_STRING" if name == CLASSES else "DT_FLOAT"
            if array.ndim != 2:
                raise InvalidArgument(
                    f"Expected Tensor shape: [batch_size num_classes] but got {_shape(array)}"
                )
            if array.dtype != (np.object_ if name == CLASSES else np.float32):
                raise InvalidArgument(
                    f"Expected {name} Tensor of {dtype}. Got: {known.outputs[name].dtype.name}"
                )
            if len(array) != len(examples):
                raise InvalidArgument(
                    f"Expected {name} output batch size of {len(examples)}. Got: {len(array)}"
                )
            if shape is not None and array.shape != shape:
                raise InvalidArgument(
                    "Tensors class and score should match in dim_size(1). "
                    f"Got {shape[1]} vs. {array.shape[1]}"
                )
            shape = array.shape
        return Classes(outputs.get(CLASSES), outputs.get(SCORES))

    def regress(self, servable: Servable, signature: str, examples: Array) -> Array:
        """n float32 values for n serialized tf.Examples. Raises errors.ServingError."""
        known = regressor(servable, signature, self._check_method_names)
        values = self._run_on_examples(servable, "Regress", known, examples, [VALUES])[VALUES]
        if values.ndim != 1 and not (values.ndim == 2 and values.shape[1] == 1):
            raise InvalidArgument(
                "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
                f"but got {_shape(values)}"
            )
        if len(values) != len(examples):
            raise InvalidArgument(
                f"Input batch size did not match output batch size: {len(examples)} vs. {len(values)}"
            )
        if values.dtype != np.float32:
            raise InvalidArgument(
                f"Expected output Tensor of DT_FLOAT.  Got: {known.outputs[VALUES].dtype.name}"
            )
        return values.reshape(-1)

    def check_tasks(self, servable: Servable, tasks: Sequence[tuple[str, str]]) -> None:
        """Whether tasks (a method name, a signature) can share one request (multi_inference.cc).

        Raises InvalidArgument or Unimplemented.
        """
        seen: set[str] = set()
        for method, signature in tasks:
            name = signature or DEFAULT_SIGNATURE
            if name in seen:
                raise InvalidArgument(f"Duplicate evaluation of signature: {name}")
            seen.add(name)
            if name not in servable.backend.signatures:
                raise InvalidArgument(f"Requested signature not found in model graph: {name}")
            if method not in (CLASSIFY_METHOD, REGRESS_METHOD):
                raise Unimplemented(f"Unsupported signature method_name: {method}")
            find = classifier if method == CLASSIFY_METHOD else regressor
            find(servable, name, self._check_method_names)

    def _run_on_examples(
        self, servable: Servable, api: str, signature: Signature, examples: Array, outputs: Sequence[str]
    ) -> dict[str, Array]:
        if not len(examples):
            raise InvalidArgument("Input is empty.")
        # Whatever type the signature says: its tensor decides, as half_plus_three's does.
        answer = self._run(servable, api, signature.name, {EXAMPLES: examples}, outputs)
        self._metrics.examples(servable.name, len(examples))
        return answer

    def _run(
        self,
        servable: Servable,
        api: str,
        signature: str,
        inputs: Mapping[str, Array],
        outputs: Sequence[str] | None,
    ) -> dict[str, Array]:
        began = time.perf_counter()
        answer = servable.backend.run(signature, inputs, outputs)
        self._metrics.executed(servable.name, api, servable.backend.runtime, time.perf_counter() - began)
        return answer


def classifier(servable: Servable, signature: str, check_method_name: bool) -> Signature:
    """The signature ("" for the default one), if one can classify with it.

    Raises InvalidArgument.
    """
    known = _on_examples(servable, signature, "classification", CLASSIFY_METHOD, check_method_name)
    if len(known.outputs) not in (1, 2):
        raise InvalidArgument(f"Expected one or two output Tensors, found {len(known.outputs)}")
    _check_examples_input(known, "classification")
    if CLASSES not in known.outputs and SCORES not in known.outputs:
        raise InvalidArgument(
            f'Expected classification signature outputs to contain at least one of "{CLASSES}" or '
            f'"{SCORES}". Signature was: {_described(known)}'
        )
    return known


def regressor(servable: Servable, signature: str, check_method_name: bool) -> Signature:
    """The signature ("" for the default one), if one can regress with it.

    Raises InvalidArgument.
    """
    known = _on_examples(servable, signature, "regression", REGRESS_METHOD, check_method_name)
    if len(known.outputs) != 1:
        raise InvalidArgument("Expected one output Tensor.")
    _check_examples_input(known, "regression")
    if VALUES not in known.outputs:
        raise InvalidArgument(f"No regression outputs found in SignatureDef: {_described(known)}")
    return known


def _on_examples(
    servable: Servable, signature: str, kind: str, method: str, check_method_name: bool
) -> Signature:
    name = signature or DEFAULT_SIGNATURE
    known = servable.backend.signatures.get(name)
    if known is None:
        raise InvalidArgument(f"No signature was found with the name: {name}")
    if check_method_name and known.method_name != method:
        raise InvalidArgument(
            f"Expected {kind} signature method_name to be {method}. Was: {known.method_name}"
        )
    if len(known.inputs) != 1:
        raise InvalidArgument("Expected one input Tensor.")
    return known


def _check_examples_input(signature: Signature, kind: str) -> None:
    if EXAMPLES not in signature.inputs:
        raise InvalidArgument(f"No {kind} inputs found in SignatureDef: {_described(signature)}")


def _described(signature: Signature) -> str:
    return f"inputs {_set(signature.inputs)}, outputs {_set(signature.outputs)}"


def _complete(servable: Servable, signature: Signature, given: Mapping[str, Array]) -> Mapping[str, Array]:
    """The inputs to execute with: those given, and the signature's defaults for those that are not."""
    if given.keys() == signature.inputs.keys():
        return given
    defaults = servable.backend.signature_defs[signature.name].defaults
    extra, missing = given.keys() - signature.inputs.keys(), signature.inputs.keys() - given.keys()
    if len(given) > len(signature.inputs) or (len(given) < len(signature.inputs) and not defaults):
        raise InvalidArgument(
            f"input size does not match signature: {len(given)}!={len(signature.inputs)} "
            f"len({_set(given)}) != len({_set(signature.inputs)}). "
            f"Sent extra: {_set(extra)}. Missing but required: {_set(missing)}."
        )
    complete = dict(given)
    for alias in sorted(missing):
        if alias not in defaults:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {signature.inputs[alias].name}) not found in "
                "request and no default value provided. Inputs expected to be in the request "
                f"{_set(given)}, or default input alias set: {','.join(sorted(defaults))}"
            )
        complete[alias] = from_proto(alias, defaults[alias])
    if extra:
        raise InvalidArgument(
            "Inputs contains invalid name. Used request inputs: "
            f"{','.join(sorted(given.keys() - extra))}, request input: {','.join(sorted(given))}"
        )
    return complete


def _check_types(signature: Signature, inputs: Mapping[str, Array]) -> None:
    """Raises InvalidArgument for an array of another type than the signature's."""
    for alias, array in inputs.items():
        spec = signature.inputs.get(alias)
        if spec is not None and spec.dtype.numpy != array.dtype:
            sent = "string" if array.dtype == np.object_ else array.dtype.name
            raise InvalidArgument(f"Expects input {alias} to be {spec.dtype.name} but {sent} is provided")


def _check_outputs(signature: Signature, outputs: Sequence[str]) -> None:
    seen: set[str] = set()
    for alias in outputs:
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_set(signature.outputs)}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)


def _set(names: Iterable[str]) -> str:
    return f"{{{','.join(sorted(names))}}}"


def _shape(array: Array) -> str:
    return f"[{','.join(map(str, array.shape))}]"

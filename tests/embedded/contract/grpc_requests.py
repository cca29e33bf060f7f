"""Messages over gRPC: how tensors are sent, what is asked for, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from contract.case import HALF, MODULE, PREDICT_UTIL, Grpc

TENSOR = "tensorflow/core/framework/tensor.cc, Tensor::FromProto"
CLASSIFIER = "servables/tensorflow/{classifier,regressor,multi_inference}.cc"
SERVICE = "model_servers/{get_model_status_impl,model_service_impl}.cc"
X = np.array([[1, 2], [3, 4]], np.float32)
Y = [[4.0, 1.0], [10.0, 2.0]]
FIELDS = {
    "float32": "float_val", "float64": "double_val", "int32": "int_val", "int16": "int_val", "int8": "int_val",
    "uint8": "int_val", "uint16": "int_val", "int64": "int64_val", "uint32": "uint32_val", "uint64": "uint64_val",
    "bool": "bool_val",
}  # fmt: skip


def predict(
    inputs: dict[str, Any],
    signature: str = "",
    name: str = MODULE,
    change: Callable[[Any], object] = id,
    **more: Any,
) -> Callable[[], Any]:
    def make() -> Any:
        request = predict_pb2.PredictRequest(**more)
        request.model_spec.name, request.model_spec.signature_name = name, signature
        for alias, value in inputs.items():
            proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
            request.inputs[alias].CopyFrom(proto)
        change(request)
        return request

    return make


def tensor(dtype: str, shape: list[int], **fields: Any) -> Any:
    proto = tensor_pb2.TensorProto(dtype=tf.dtypes.as_dtype(dtype).as_datatype_enum)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    for field, value in fields.items():
        if isinstance(value, bytes):
            setattr(proto, field, value)
        else:
            getattr(proto, field).extend(value)
    return proto


def echoed(values: Any, output: str = "y") -> Callable[[Any], bool]:
    """The answer is just this array."""

    def check(answer: Any) -> bool:
        found = tf.make_ndarray(answer.outputs[output])
        wanted = np.asarray(values, found.dtype)
        return found.shape == wanted.shape and bool((found == wanted).all())

    return check


def _tensors() -> Iterator[Grpc]:
    for dtype, field in FIELDS.items():
        values: list[Any] = [True, False, True] if dtype == "bool" else [1, 0, 100]
        signature = f"echo_{dtype}"
        array = np.array(values, dtype)
        forms = {
            f"values in {field}": tensor(dtype, [3], **{field: values}),
            "values in tensor_content": tensor(dtype, [3], tensor_content=array.tobytes()),
            "the last value again and again": tensor(dtype, [3], **{field: values[:1]}),
            "no values are zeros": tensor(dtype, [3]),
            "no elements": tensor(dtype, [0]),
            "a scalar": tensor(dtype, [], **{field: values[:1]}),
        }
        answers = [values, values, values[:1] * 3, [0] * 3, [], values[0]]
        for (name, proto), answer in zip(forms.items(), answers, strict=True):
            request = predict({"x": proto}, signature)
            yield Grpc(f"{dtype}: {name}", TENSOR, "Predict", request, check=echoed(answer))
        yield Grpc(
            f"{dtype}: content of another length", TENSOR, "Predict",
            predict({"x": tensor(dtype, [3], tensor_content=array.tobytes()[:-1])}, signature),
            "INVALID_ARGUMENT", "tensor parsing error: x",
        )  # fmt: skip
        other = "int64" if dtype != "int64" else "float32"
        yield Grpc(
            f"{dtype}: another type", PREDICT_UTIL, "Predict",
            predict({"x": tensor(other, [1], **{FIELDS[other]: [1]})}, signature),
            "INVALID_ARGUMENT", "",
        )  # fmt: skip
    texts = tensor("string", [2], string_val=[b"a", b"\xff"])
    yield Grpc(
        "string: bytes",
        TENSOR,
        "Predict",
        predict({"text": texts}, "undecodable"),
        check=lambda answer: list(answer.outputs["raw"].string_val) == [b"a\xff", b"\xff\xff"],
    )


def _predicts() -> Iterator[Grpc]:
    several = {"a": np.ones((2, 3), np.float32), "b": np.array([2, 3])}
    yield Grpc("predict", PREDICT_UTIL, "Predict", predict({"x": X}), check=echoed(Y))
    yield Grpc(
        "a signature by name", PREDICT_UTIL, "Predict", predict({"x": X}, "serving_default"), check=echoed(Y)
    )
    yield Grpc(
        "who answered", PREDICT_UTIL, "Predict", predict({"x": X}),
        check=lambda answer: (answer.model_spec.name, answer.model_spec.version.value, answer.model_spec.signature_name) == (MODULE, 3, "serving_default"),
    )  # fmt: skip
    yield Grpc(
        "several inputs",
        PREDICT_UTIL,
        "Predict",
        predict(several, "several"),
        check=lambda answer: set(answer.outputs) == {"scaled", "total"},
    )
    yield Grpc(
        "one output",
        PREDICT_UTIL,
        "Predict",
        predict(several, "several", output_filter=["total"]),
        check=lambda answer: set(answer.outputs) == {"total"},
    )
    yield Grpc(
        "both outputs by name",
        PREDICT_UTIL,
        "Predict",
        predict(several, "several", output_filter=["total", "scaled"]),
        check=lambda answer: set(answer.outputs) == {"total", "scaled"},
    )
    yield Grpc(
        "an output twice",
        PREDICT_UTIL,
        "Predict",
        predict({"x": X}, output_filter=["y", "y"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: y",
    )
    yield Grpc(
        "an output that is not there",
        PREDICT_UTIL,
        "Predict",
        predict({"x": X}, output_filter=["z"]),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z",
    )
    yield Grpc(
        "an input too many",
        PREDICT_UTIL,
        "Predict",
        predict({"x": X, "z": X}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1",
    )
    yield Grpc(
        "an input too few",
        PREDICT_UTIL,
        "Predict",
        predict({"a": several["a"]}, "several"),
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=2",
    )
    yield Grpc(
        "no inputs",
        PREDICT_UTIL,
        "Predict",
        predict({}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1",
    )
    yield Grpc(
        "an input of another name",
        PREDICT_UTIL,
        "Predict",
        predict({"z": X}),
        "INVALID_ARGUMENT",
        "input tensor alias not found in signature|Signature input alias: x",
    )
    yield Grpc(
        "shapes that do not fit the graph",
        PREDICT_UTIL,
        "Predict",
        predict({"x": X[:, :1]}),
        "INVALID_ARGUMENT",
        "Matrix size-incompatible",
    )
    yield Grpc(
        "a signature that is not there",
        PREDICT_UTIL,
        "Predict",
        predict({"x": X}, "none"),
        "FAILED_PRECONDITION",
        'Serving signature key "none" not found.',
    )
    yield Grpc(
        "no spec",
        PREDICT_UTIL,
        "Predict",
        predict_pb2.PredictRequest,
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    )
    yield Grpc("no name", PREDICT_UTIL, "Predict", predict({"x": X}, name=""), "INVALID_ARGUMENT", "")
    yield Grpc(
        "a model that is not there",
        PREDICT_UTIL,
        "Predict",
        predict({"x": X}, name="none"),
        "NOT_FOUND",
        "Servable not found for request: Latest(none)",
    )

    def version(number: int) -> Callable[[Any], object]:
        return lambda request: setattr(request.model_spec.version, "value", number)

    def label(text: str) -> Callable[[Any], object]:
        return lambda request: setattr(request.model_spec, "version_label", text)

    yield Grpc("a version", PREDICT_UTIL, "Predict", predict({"x": X}, change=version(3)), check=echoed(Y))
    yield Grpc(
        "a version that is not there",
        PREDICT_UTIL,
        "Predict",
        predict({"x": X}, change=version(7)),
        "NOT_FOUND",
        "Servable not found for request: Specific(module, 7)",
    )
    yield Grpc("a label", PREDICT_UTIL, "Predict", predict({"x": X}, change=label("stable")), check=echoed(Y))
    yield Grpc(
        "a label that is not there",
        PREDICT_UTIL,
        "Predict",
        predict({"x": X}, change=label("none")),
        "INVALID_ARGUMENT",
        "none",
    )


def _judged(
    kind: Any, signature: str, values: list[float], context: float | None = None, name: str = HALF
) -> Callable[[], Any]:
    def make() -> Any:
        request = kind()
        request.model_spec.name, request.model_spec.signature_name = name, signature
        _fill(request.input, values, context)
        return request

    return make


def _fill(sent: Any, values: list[float], context: float | None) -> None:
    place = sent.example_list if context is None else sent.example_list_with_context
    if context is not None:
        place.context.features.feature["x"].float_list.value.append(context)
    for value in values:
        example = place.examples.add()
        if not np.isnan(value):
            example.features.feature["x"].float_list.value.append(value)


def _judges() -> Iterator[Grpc]:
    for method, kind, signature, read in (
        (
            "Regress",
            regression_pb2.RegressionRequest,
            "regress_x_to_y",
            lambda a: [r.value for r in a.result.regressions],
        ),
        (
            "Classify",
            classification_pb2.ClassificationRequest,
            "classify_x_to_y",
            lambda a: [c.classes[0].score for c in a.result.classifications],
        ),
    ):

        def gives(*values: float, read: Callable[[Any], list[float]] = read) -> Callable[[Any], bool]:
            return lambda answer: read(answer) == list(values)

        asked = _judged(kind, signature, [1.0, 2.0])
        yield Grpc(f"{method}: examples", CLASSIFIER, method, asked, check=gives(2.5, 3.0), model=HALF)
        yield Grpc(
            f"{method}: a context",
            CLASSIFIER,
            method,
            _judged(kind, signature, [float("nan"), 1.0], 2.0),
            check=gives(3.0, 2.5),
            model=HALF,
        )
        yield Grpc(
            f"{method}: no input",
            CLASSIFIER,
            method,
            lambda kind=kind, s=signature: kind(model_spec={"name": HALF, "signature_name": s}),
            "INVALID_ARGUMENT",
            "Input is empty",
            model=HALF,
        )
        yield Grpc(
            f"{method}: no examples",
            CLASSIFIER,
            method,
            _judged(kind, signature, []),
            "INVALID_ARGUMENT",
            "Input is empty",
            model=HALF,
        )
        yield Grpc(
            f"{method}: a feature that is missing",
            CLASSIFIER,
            method,
            _judged(kind, signature, [float("nan")]),
            "INVALID_ARGUMENT",
            "x",
            model=HALF,
        )
        yield Grpc(
            f"{method}: a signature that is not there",
            CLASSIFIER,
            method,
            _judged(kind, "none", [1.0]),
            "INVALID_ARGUMENT",
            "none",
            model=HALF,
        )
        yield Grpc(
            f"{method}: a model that is not there",
            CLASSIFIER,
            method,
            _judged(kind, signature, [1.0], name="none"),
            "NOT_FOUND",
            "Servable not found for request: Latest(none)",
            model=HALF,
        )


def _several_tasks(*methods: str, names: tuple[str, ...] = (HALF, HALF)) -> Callable[[], Any]:
    def make() -> Any:
        request = inference_pb2.MultiInferenceRequest()
        _fill(request.input, [3.0], None)
        for method, name in zip(methods, names, strict=False):
            task = request.tasks.add(method_name=f"tensorflow/serving/{method}")
            task.model_spec.name = name
            task.model_spec.signature_name = "classify_x_to_y" if method == "predict" else f"{method}_x_to_y"
        return request

    return make


def _others() -> Iterator[Grpc]:
    both = _several_tasks("classify", "regress")
    yield Grpc(
        "several tasks",
        CLASSIFIER,
        "MultiInference",
        both,
        check=lambda a: a.results[1].regression_result.regressions[0].value == 3.5,
        model=HALF,
    )
    yield Grpc(
        "one task",
        CLASSIFIER,
        "MultiInference",
        _several_tasks("regress"),
        check=lambda a: len(a.results) == 1,
        model=HALF,
    )
    yield Grpc(
        "no tasks",
        CLASSIFIER,
        "MultiInference",
        inference_pb2.MultiInferenceRequest,
        "INVALID_ARGUMENT",
        "",
        model=HALF,
    )
    yield Grpc(
        "the same task twice",
        CLASSIFIER,
        "MultiInference",
        _several_tasks("regress", "regress"),
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: regress_x_to_y",
        model=HALF,
    )
    yield Grpc(
        "tasks of several models",
        CLASSIFIER,
        "MultiInference",
        _several_tasks("classify", "regress", names=(HALF, MODULE)),
        "INVALID_ARGUMENT",
        "must access the same model name",
        model=HALF,
    )
    yield Grpc(
        "a task that is no such method",
        CLASSIFIER,
        "MultiInference",
        _several_tasks("predict"),
        "UNIMPLEMENTED",
        "Unsupported signature method_name",
        model=HALF,
    )

    for method, kind in (
        ("Classify", classification_pb2.ClassificationRequest),
        ("Regress", regression_pb2.RegressionRequest),
    ):
        for signature, reason in (
            ("serving_default", "inputs found in SignatureDef"),
            ("several", "Expected one input Tensor."),
        ):
            yield Grpc(
                f"{method}: the signature {signature} of a predictor", CLASSIFIER, method,
                _judged(kind, signature, [1.0], name=MODULE), "INVALID_ARGUMENT", reason,
            )  # fmt: skip

    def metadata(name: str, *fields: str) -> Callable[[], Any]:
        return lambda: get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec={"name": name}, metadata_field=fields
        )

    yield Grpc(
        "metadata",
        SERVICE,
        "GetModelMetadata",
        metadata(MODULE, "signature_def"),
        check=lambda a: list(a.metadata) == ["signature_def"],
    )
    yield Grpc(
        "metadata without a field", SERVICE, "GetModelMetadata", metadata(MODULE), "INVALID_ARGUMENT", ""
    )
    yield Grpc(
        "metadata of another field",
        SERVICE,
        "GetModelMetadata",
        metadata(MODULE, "other"),
        "INVALID_ARGUMENT",
        "other",
    )
    yield Grpc(
        "metadata of a model that is not there",
        SERVICE,
        "GetModelMetadata",
        metadata("none", "signature_def"),
        "NOT_FOUND",
        "none",
    )
    yield Grpc(
        "metadata without a spec",
        SERVICE,
        "GetModelMetadata",
        get_model_metadata_pb2.GetModelMetadataRequest,
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    )

    def status(name: str, number: int | None = None) -> Callable[[], Any]:
        spec = {"name": name} if number is None else {"name": name, "version": {"value": number}}
        return lambda: get_model_status_pb2.GetModelStatusRequest(model_spec=spec)

    yield Grpc(
        "status",
        SERVICE,
        "GetModelStatus",
        status(MODULE),
        check=lambda a: [(v.version, v.state) for v in a.model_version_status] == [(3, 30)],
    )
    yield Grpc(
        "status of a version",
        SERVICE,
        "GetModelStatus",
        status(MODULE, 3),
        check=lambda a: len(a.model_version_status) == 1,
    )
    yield Grpc(
        "status of a version that is not there",
        SERVICE,
        "GetModelStatus",
        status(MODULE, 7),
        "NOT_FOUND",
        "Could not find version 7 of model module",
    )
    yield Grpc(
        "status of a model that is not there",
        SERVICE,
        "GetModelStatus",
        status("none"),
        "NOT_FOUND",
        "Could not find any versions of model none",
    )
    yield Grpc(
        "status without a spec",
        SERVICE,
        "GetModelStatus",
        get_model_status_pb2.GetModelStatusRequest,
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    )
    yield Grpc(
        "a reload without a list",
        SERVICE,
        "HandleReloadConfigRequest",
        model_management_pb2.ReloadConfigRequest,
        "INVALID_ARGUMENT",
        "Only ModelConfigList is currently supported",
    )


CASES = [*_tensors(), *_predicts(), *_judges(), *_others()]

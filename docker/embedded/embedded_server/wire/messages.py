"""Requests and answers as TensorFlow Serving's messages (tensorflow_serving/apis), executed.

What gRPC answers, and what a recorded warm-up request is executed with.
"""

from __future__ import annotations

import numpy as np
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from embedded_server.common.errors import InvalidArgument
from embedded_server.execution.backend import Array
from embedded_server.execution.inference import CLASSIFY_METHOD, Inference
from embedded_server.execution.servable import Servable
from embedded_server.execution.signature import DEFAULT_SIGNATURE
from embedded_server.execution.tensors import from_protos, to_proto

_METADATA_FIELD = "signature_def"


def predict(
    inference: Inference, servable: Servable, request: predict_pb2.PredictRequest, as_content: bool = False
) -> predict_pb2.PredictResponse:
    """Raises errors.ServingError, as all functions here do.

    as_content: see tensors.to_proto.
    """
    signature = request.model_spec.signature_name
    outputs = inference.predict(servable, signature, from_protos(request.inputs), request.output_filter)
    response = predict_pb2.PredictResponse(model_spec=_model_spec(servable, signature))
    for alias, array in outputs.items():
        to_proto(array, response.outputs[alias], as_content)
    return response


def classify(
    inference: Inference, servable: Servable, request: classification_pb2.ClassificationRequest
) -> classification_pb2.ClassificationResponse:
    """The classes of each tf.Example."""
    signature = request.model_spec.signature_name
    return classification_pb2.ClassificationResponse(
        model_spec=_model_spec(servable, signature),
        result=_classified(inference, servable, signature, _examples(request.input)),
    )


def regress(
    inference: Inference, servable: Servable, request: regression_pb2.RegressionRequest
) -> regression_pb2.RegressionResponse:
    """A value for each tf.Example."""
    signature = request.model_spec.signature_name
    return regression_pb2.RegressionResponse(
        model_spec=_model_spec(servable, signature),
        result=_regressed(inference, servable, signature, _examples(request.input)),
    )


def multi_inference(
    inference: Inference, servable: Servable, request: inference_pb2.MultiInferenceRequest
) -> inference_pb2.MultiInferenceResponse:
    """Several classifications and regressions of the same tf.Examples (multi_inference.cc)."""
    inference.check_tasks(
        servable, [(task.method_name, task.model_spec.signature_name) for task in request.tasks]
    )
    examples = _examples(request.input)
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        signature = task.model_spec.signature_name
        result = response.results.add(model_spec=_model_spec(servable, signature))
        if task.method_name == CLASSIFY_METHOD:
            result.classification_result.CopyFrom(_classified(inference, servable, signature, examples))
        else:
            result.regression_result.CopyFrom(_regressed(inference, servable, signature, examples))
    return response


def metadata(
    servable: Servable, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a model."""
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = servable.name
    response.model_spec.version.value = servable.version
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, proto in servable.backend.signature_defs.items():
        signatures.signature_def[name].CopyFrom(proto)
    response.metadata[_METADATA_FIELD].Pack(signatures)
    return response


def check_metadata_fields(request: get_model_metadata_pb2.GetModelMetadataRequest) -> None:
    """Raises InvalidArgument for anything but the one field that there is."""
    if not request.metadata_field:
        raise InvalidArgument("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != _METADATA_FIELD:
            raise InvalidArgument(f"Metadata field {field} is not supported")


def _model_spec(servable: Servable, signature: str) -> model_pb2.ModelSpec:
    """Who answered (MakeModelSpec in servables/tensorflow/util.cc)."""
    spec = model_pb2.ModelSpec(name=servable.name, signature_name=signature or DEFAULT_SIGNATURE)
    spec.version.value = servable.version
    return spec


def _examples(given: input_pb2.Input) -> Array:
    """Serialized tf.Examples; a context that they share is written before each of them (util.cc)."""
    kind = given.WhichOneof("kind")
    if kind == "example_list_with_context":
        context = given.example_list_with_context.context.SerializeToString()
        examples = given.example_list_with_context.examples
    else:
        context, examples = b"", given.example_list.examples
    return np.array([context + example.SerializeToString() for example in examples], dtype=np.object_)


def _classified(
    inference: Inference, servable: Servable, signature: str, examples: Array
) -> classification_pb2.ClassificationResult:
    classes = inference.classify(servable, signature, examples)
    result = classification_pb2.ClassificationResult()
    for row in classes.rows():
        classifications = result.classifications.add()
        for label, score in row:
            # A C++ server writes any bytes; Python's messages take text alone.
            classifications.classes.add(label=label.decode(errors="replace"), score=score)
    return result


def _regressed(
    inference: Inference, servable: Servable, signature: str, examples: Array
) -> regression_pb2.RegressionResult:
    values = inference.regress(servable, signature, examples)
    return regression_pb2.RegressionResult(
        regressions=[regression_pb2.Regression(value=value) for value in values.tolist()]
    )

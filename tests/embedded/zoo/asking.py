"""Asks a server over gRPC and REST, and gives its answers as TensorFlow's own are given."""

from __future__ import annotations

import base64
import http.client
import re
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from embedded_server.common import errors
from embedded_server.config.monitoring import METRICS_PATH
from embedded_server.execution.backend import Array
from running import PATIENCE, Server
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from zoo.comparing import Answer, Failure
from zoo.kind import Inputs

_ERRORS = (
    errors.InvalidArgument,
    errors.FailedPrecondition,
    errors.OutOfRange,
    errors.NotFound,
    errors.Conflict,
    errors.ResourceExhausted,
    errors.Internal,
    errors.Unimplemented,
    errors.Unavailable,
    errors.DeadlineExceeded,
)
STATUSES = {error.code: error.http_status for error in _ERRORS}


class Asked:
    """A running server that has the whole zoo."""

    def __init__(self, server: Server, channel: grpc.Channel) -> None:
        self.server = server
        self._stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    def by_grpc(self, model: str, signature: str, inputs: Inputs) -> Answer:
        request = predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = model, signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        try:
            response = self._stub.Predict(request, timeout=PATIENCE)
        except grpc.RpcError as error:
            return Failure(error.code().name, error.details() or "")
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def handed_over(self, model: str) -> int:
        """How many requests to optimized signatures of a model TensorFlow has executed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        try:
            connection.request("GET", METRICS_PATH)
            page = connection.getresponse().read().decode()
        finally:
            connection.close()
        sample = rf':requests_executed_by_tensorflow\{{model_name="{re.escape(model)}",.*\}} (\d+)'
        return sum(map(int, re.findall(sample, page)))

    def by_rest(self, model: str, signature: str, inputs: Inputs, expected: Answer) -> Answer:
        """In columns. `expected` says of which types the answer is, and which code means which status."""
        columns = {name: _to_json(array.tolist()) for name, array in inputs.items()}
        body = {"signature_name": signature, "inputs": columns}
        status, answer = self.server.call("POST", f"/v1/models/{model}:predict", body)
        if status != 200:
            code = expected.code if isinstance(expected, Failure) else ""
            return Failure(code if STATUSES.get(code) == status else f"HTTP {status}", answer["error"])
        if isinstance(expected, Failure):
            return {"outputs": np.array(str(answer["outputs"]), object)}
        named = answer["outputs"] if len(expected) > 1 else dict.fromkeys(expected, answer["outputs"])
        if named.keys() != expected.keys():
            return {name: np.array(None) for name in named}
        return {name: _from_json(name, named[name], array) for name, array in expected.items()}


def fits_json(inputs: Inputs, expected: Answer) -> bool:
    """Whether JSON can carry the request and its answer; no empty arrays, and no bytes that are not text."""
    if not inputs or not all(array.size for array in inputs.values()):
        return False
    if isinstance(expected, Failure):
        return True
    return all(
        array.size and (array.dtype != object or name.endswith("_bytes") or _is_text(array))
        for name, array in expected.items()
    )


def _is_text(array: Array) -> bool:
    try:
        b"".join(array.reshape(-1).tolist()).decode()
    except UnicodeDecodeError:
        return False
    return True


def _to_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_to_json(element) for element in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_json(name: str, value: Any, like: Array) -> Array:
    if like.dtype != object:
        return np.array(value, like.dtype)

    def element(leaf: Any) -> Any:
        if isinstance(leaf, list):
            return [element(inner) for inner in leaf]
        return base64.b64decode(leaf["b64"]) if name.endswith("_bytes") else leaf.encode()

    array = np.empty(np.shape(value), object)
    array[...] = np.array(element(value), object)
    return array

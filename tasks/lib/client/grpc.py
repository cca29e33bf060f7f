"""TensorFlow Serving's gRPC API, for single requests: what tasks.lib.client.rest is for REST.

It takes and gives the same as its REST sibling, JSON in and out, so that a caller need not know
over what. The benchmark's hot loop is tasks.lib.measure.load.
"""

from __future__ import annotations

import json
import re
import selectors
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from tasks.lib.client import tensor_messages
from tasks.lib.client.grpc_wire import MESSAGE_HEAD, GrpcReplica, GrpcWire, NotGrpc
from tasks.lib.client.inputs import rows_of
from tasks.lib.client.serving_messages import DTYPES, message
from tasks.lib.client.signature import Signature, default_signature, named_signature
from tasks.lib.common.errors import ModelError, RequestRefused, ServerError

PREDICT = "/tensorflow.serving.PredictionService/Predict"
METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
CODES = {
    1: "CANCELLED", 2: "UNKNOWN", 3: "INVALID_ARGUMENT", 4: "DEADLINE_EXCEEDED", 5: "NOT_FOUND",
    6: "ALREADY_EXISTS", 7: "PERMISSION_DENIED", 8: "RESOURCE_EXHAUSTED", 9: "FAILED_PRECONDITION",
    10: "ABORTED", 11: "OUT_OF_RANGE", 12: "UNIMPLEMENTED", 13: "INTERNAL", 14: "UNAVAILABLE",
    15: "DATA_LOSS", 16: "UNAUTHENTICATED",
}  # fmt: skip
HTTP = {3: 400, 4: 504, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503, 16: 401}
"""What REST would answer instead, where that is not 500 (google/rpc/code.proto)."""


class GrpcClient:
    """One model of one server.

    `url` is `grpc://HOST:PORT/v1/models/NAME`, with `/versions/N` or `/labels/LABEL` behind it where
    one is meant; `timeout` is in seconds. Every method raises ServerError where nothing answers and
    RequestRefused where an error is answered.
    """

    def __init__(self, url: str, timeout: float = 30) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout
        match = re.fullmatch(
            r"/v1/models/([^/]+)(?:/versions/(\d+)|/labels/([^/]+))?", urlsplit(self.url).path
        )
        if match is None:
            raise ServerError(
                f"{url} is not the address of a model.",
                "Give one such as grpc://127.0.0.1:8500/v1/models/resnet.",
            )
        self._name, self._version, self._label = match.groups()

    def metadata(self) -> Mapping[str, Any]:
        """The signatures, as REST answers `GET .../metadata`."""
        asked = message("GetModelMetadataRequest", self._spec())
        asked.metadata_field.append("signature_def")
        return metadata_of(self._call(METADATA, asked.SerializeToString(), "GetModelMetadataResponse"))

    def predict(self, body: bytes) -> Mapping[str, Any]:
        """The answer to a predict request whose JSON text is `body`, as REST gives it."""
        answer = self._call(PREDICT, self.request(body), "PredictResponse")
        try:
            columns = {
                output_name.key: tensor_messages.decode(output_name.value, output_name.key)
                for output_name in answer.outputs
            }
            if rows_of(body) is None:
                return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
            if not all(isinstance(rows, list) for rows in columns.values()):
                raise ValueError("outputs without a batch")
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        except ValueError as error:
            raise ServerError(
                f"{self.url} does not answer each instance with one prediction: {error}.",
                "Measure over REST, or give the model outputs with a batch dimension.",
            ) from None
        return {"predictions": [next(iter(row.values())) for row in rows] if len(columns) == 1 else rows}

    def request(self, body: bytes) -> bytes:
        """The PredictRequest that says what the JSON text `body` does.

        Raises ModelError for values that do not fit the model.
        """
        said = json.loads(body)
        name = said.get("signature_name", "")
        signature = named_signature(self._metadata, name) if name else default_signature(self._metadata)
        request = message("PredictRequest", self._spec(signature.name))
        columns: Mapping[str, Any]
        if "inputs" in said:
            columns = _named(said["inputs"], signature)
        else:
            instances = [_named(instance, signature) for instance in said["instances"]]
            names = [tensor.name for tensor in signature.inputs]
            columns = {name: [instance[name] for instance in instances if name in instance] for name in names}
            columns = {name: values for name, values in columns.items() if values}
        for tensor in signature.inputs:
            if tensor.name in columns:  # some inputs have a default
                value = tensor_messages.encode(tensor, columns[tensor.name])
                request.inputs.add(key=tensor.name).value.CopyFrom(value)
        return bytes(request.SerializeToString())

    @cached_property
    def _metadata(self) -> Mapping[str, Any]:
        return self.metadata()

    def _spec(self, signature: str = "") -> bytes:
        """A message whose first field is the model_spec, as that of every request is."""
        spec = message("PredictRequest")
        spec.model_spec.name, spec.model_spec.signature_name = self._name, signature
        if self._version:
            spec.model_spec.version.value = int(self._version)
        if self._label:
            spec.model_spec.version_label = self._label
        return bytes(spec.SerializeToString())

    def _call(self, method: str, content: bytes, answer: str) -> Any:
        """The message called `answer` that a call is answered with."""
        from google.protobuf.message import DecodeError

        replica = GrpcReplica(0, self.url, method)
        with selectors.DefaultSelector() as selector:
            wire = GrpcWire(replica, selector)
            wire.keep_answer = True
            try:
                self._exchange(wire, selector, replica.request(content))
            except NotGrpc:
                raise ServerError(
                    f"The server at {self.url} does not speak gRPC.",
                    "Give the server's gRPC port (TensorFlow Serving's is 8500), or leave gRPC out.",
                ) from None
            except OSError as error:
                raise ServerError(
                    f"{self.url} does not answer over gRPC ({error.strerror or error}).",
                    "Check that its server has a gRPC port: `invoke serve.status` tells those of this suite.",
                ) from error
            finally:
                wire.close()
        if wire.status != 0:
            code = wire.status or 2
            raise RequestRefused(
                f"{self.url} refused the request with gRPC status {CODES.get(code, code)}: {wire.message}",
                "Look at `invoke serve.logs` for what the server says.",
                status=HTTP.get(code, 500),
                message=wire.message,
            )
        try:
            return message(answer, bytes(wire.answer[MESSAGE_HEAD.size :]))
        except DecodeError:
            raise ServerError(
                f"{self.url} does not answer as TensorFlow Serving does.",
                "Check the address and what listens there.",
            ) from None

    def _exchange(self, wire: GrpcWire, selector: selectors.BaseSelector, request: bytes) -> None:
        """Send the request and receive the whole answer. Raises OSError."""
        end = time.monotonic() + self._timeout
        wire.send(request, 0.0)
        while wire.succeeded is None:
            ready = selector.select(max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"not within {self._timeout:g} s")
            for _, events in ready:
                wire.proceed(events)


class PredictReplica(GrpcReplica):
    """A model's gRPC address, to which the load generator sends predict requests."""

    def __init__(self, number: int, url: str) -> None:
        super().__init__(number, url, PREDICT)
        self._client = GrpcClient(url)

    def request(self, body: bytes) -> bytes:
        """See Replica.request. JSON does not tell the types of numbers, so the server is asked once.

        Raises ServerError where it does not answer, ModelError for values that do not fit the model.
        """
        return super().request(self._client.request(body))


def _named(instance: object, signature: Signature) -> Mapping[str, Any]:
    """An instance's values by the names of the inputs, which it leaves out where there is one input."""
    if isinstance(instance, dict) and instance.keys() != {"b64"}:
        return instance
    if len(signature.inputs) == 1:
        return {signature.inputs[0].name: instance}
    raise ModelError(
        "A request names no inputs, and the model has several.",
        f"Name them in each instance: {', '.join(tensor.name for tensor in signature.inputs)}.",
    )


def metadata_of(answer: Any) -> Mapping[str, Any]:
    """A GetModelMetadataResponse as REST's JSON tells it."""
    spec = answer.model_spec
    packed = next((one.value.value for one in answer.metadata if one.key == "signature_def"), b"")
    definitions = message("SignatureDefMap", packed).signature_def
    return {
        "model_spec": {"name": spec.name, "signature_name": "", "version": str(spec.version.value)},
        "metadata": {"signature_def": {"signature_def": {one.key: _told(one.value) for one in definitions}}},
    }


def _told(definition: Any) -> dict[str, Any]:
    """A SignatureDef as REST's JSON tells it."""

    def tensors(entries: Any) -> dict[str, Any]:
        return {
            entry.key: {
                "dtype": DTYPES.get(entry.value.dtype, "DT_INVALID"),
                "tensor_shape": _shape(entry.value),
            }
            for entry in entries
        }

    return {
        "inputs": tensors(definition.inputs),
        "outputs": tensors(definition.outputs),
        "method_name": definition.method_name,
    }


def _shape(info: Any) -> dict[str, Any]:
    shape = info.tensor_shape
    return {"dim": [{"size": str(dim.size)} for dim in shape.dim], "unknown_rank": shape.unknown_rank}

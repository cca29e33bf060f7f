"""Requests that no client should send, and what a server may answer to them.

A request comes out of a good one by damage to its bytes, its JSON, its path, its headers, its base64 or
its packing, or out of nothing. Whatever it is: an answer comes soon, it is JSON, it is no 5xx, and the next
good request is answered as ever. Damage may leave a request good: then 200 is right.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httptools
import numpy as np
import saved_models
import tensorflow as tf
from hypothesis import strategies as st
from raw import Raw, Response, request
from running import Server
from tensorflow_serving.apis import predict_pb2

PREDICT = "/tensorflow.serving.PredictionService/Predict"
_GRPC_ALLOWED = ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "OUT_OF_RANGE")
_SOON = 20  # seconds; longer than anything takes on a busy machine


@dataclass(frozen=True)
class Good:
    """A request that is right, and the predictions it gets."""

    model: str
    document: dict[str, Any]

    @property
    def path(self) -> str:
        return f"/v1/models/{self.model}:predict"

    @property
    def data(self) -> bytes:
        return request("POST", self.path, json.dumps(self.document).encode())


def module_requests() -> list[Good]:
    """For the model of saved_models.write_module: numbers, texts, scalars, several inputs, every dtype."""
    documents: list[dict[str, Any]] = [
        {"instances": [[1.0, 2.0], [3.0, 4.5]]},
        {"inputs": {"x": [[1.0, 2.0]]}},
        {"signature_name": "several", "instances": [{"a": [1, 2, 3], "b": 4}, {"a": [5, 6, 7], "b": -8}]},
        {"signature_name": "several", "inputs": {"a": [[1, 2, 3]], "b": [4]}},
        {"signature_name": "text", "instances": ["one", {"b64": "dHdv"}]},
        {"signature_name": "matrix_text", "inputs": [["a", "b"], ["c", {"b64": "ZA=="}]]},
        {"signature_name": "scalar", "inputs": 1.5},
        {"signature_name": "logarithm", "instances": [1.0, 0.0]},
        {"signature_name": "echo_bool", "inputs": [[True], [False]]},
        {"signature_name": "echo_bfloat16", "inputs": [0.5]},
        *[{"signature_name": f"echo_{name}", "inputs": [1, 2]} for name in ("uint8", "int64", "float16")],
    ]
    return [Good("module", document) for document in documents]


def photo_requests(model: str) -> list[Good]:
    """For a model that takes JPEGs."""
    photo = {"b64": base64.b64encode(saved_models.photo(1)).decode()}
    return [Good(model, {"instances": [photo]}), Good(model, {"instances": [photo, photo]})]


# -------------------------------------------------------------------------------------- JSON

_RAW = (  # JSON that no encoder writes; a document carries the number in place of each
    "NaN", "Infinity", "-Infinity", "-0", "-0.0", "1e400", "1E-400", "01", ".5", "+1", "0x1", "1e", "tru",
    "9" * 19, "9" * 40, "-" + "9" * 40, '"\\ud800"', '"\\x00"', '"\\u0000"', '"\x00"', "'a'", "", ",",
    "[" * 70 + "]" * 70, "[" * 2000,
    '{"b64":"!"}', '{"b64":1}', '{"b64":"YQ=="}', '{"b64":"YQ==","x":1}', '{"a":1,"a":2}',
)  # fmt: skip
_KEYS = st.sampled_from(["x", "a", "b", "b64", "inputs", "instances", "signature_name", "text"]) | st.text()
_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text()
    | st.sampled_from(range(len(_RAW))).map(lambda number: f"@raw{number}@")
    | st.binary(max_size=20).map(lambda data: {"b64": base64.b64encode(data).decode()})
)
VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


def _encode(document: Any) -> bytes:
    text = json.dumps(document)
    for number, raw in enumerate(_RAW):
        text = text.replace(f'"@raw{number}@"', raw)
    return text.encode(errors="surrogatepass")


@st.composite
def damaged_document(draw: Callable[..., Any], document: Any) -> Any:
    """A document with one to three of its parts replaced, dropped, doubled or wrapped."""
    holder = {"": copy.deepcopy(document)}
    for _ in range(draw(st.integers(1, 3))):
        at: Any = holder
        key: Any = ""
        while isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 4)):
            at = at[key]
            key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        what = draw(st.sampled_from(["replace", "drop", "double", "wrap", "rename"]))
        if what == "replace":
            at[key] = draw(VALUES)
        elif what == "wrap":
            at[key] = draw(st.sampled_from([[at[key]], {"x": at[key]}, {"b64": at[key]}]))
        elif at is holder:
            at[key] = draw(VALUES)
        elif what == "drop":
            del at[key]
        elif isinstance(at, list):
            at.insert(key, copy.deepcopy(at[key]))
        else:
            at[draw(_KEYS)] = at.pop(key) if what == "rename" else copy.deepcopy(at[key])
    return holder[""]


# -------------------------------------------------------------------------------------- bytes


@st.composite
def damaged_bytes(draw: Callable[..., Any], data: bytes, edits: int = 4) -> bytes:
    """Bytes with one to `edits` of them, or stretches of them, changed."""
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, edits))):
        start = draw(st.integers(0, len(damaged)))
        end = min(len(damaged), start + draw(st.integers(0, 40)))
        what = draw(st.sampled_from(["flip", "cut", "insert", "double", "end"]))
        if what == "flip" and start < len(damaged):
            damaged[start] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del damaged[start:end]
        elif what == "insert":
            damaged[start:start] = draw(
                st.binary(max_size=20) | st.sampled_from([b"\r\n", b"\0", b'"', b"[", b"}"])
            )
        elif what == "double":
            damaged[start:start] = damaged[start:end]
        elif what == "end":
            del damaged[max(start, len(damaged) - 40) :]
    return bytes(damaged)


_HEADERS = st.sampled_from(
    [
        "Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: gzip, gzip", "Content-Encoding:",
        "Content-Type: text/plain", "Content-Type: application/json; charset=utf-16", "Expect: 100-continue",
        "Expect: x", "Connection: close", "Connection: x, y", "Upgrade: h2c", "Host: x",
        "Transfer-Encoding: chunked", "Transfer-Encoding: gzip", "Content-Length: 1", "Range: bytes=0-1",
        "Accept: image/png", "X: \x01", "X : 1", ": x", "X", "Cookie: " + "a" * 5000, "If-None-Match: *",
    ]
)  # fmt: skip
_PATHS = (
    st.sampled_from(
        [
            "/", "", "*", "//", "/v1", "/v1/", "/v1/models", "/v1/models/", "/v1/models/:predict",
            "/v1/models/%", "/v1/models/module", "/v1/models/module/", "/v1/models/module:PREDICT",
            "/v1/models/module/versions/3:predict", "/v1/models/module/versions/-1:predict",
            "/v1/models/module/versions/99999999999999999999", "/v1/models/module/labels/x:predict",
            "/v1/models/module/labels/:predict", "/v1/models/module/metadata", "/v1/models/module%00:predict",
            "/v1/models/../../etc/passwd", "/v1/models/module:predict?x=1#y", "/monitoring/prometheus/",
            "/v1/models/module:explain", "/v1/models/module:classify",
            "/v1/models/module:regress", "/v1/models/" + "a" * 5000,
        ]
    )
    | st.text().map(lambda text: "/v1/models/" + "".join(f"%{byte:02x}" for byte in text.encode()))
    | st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=30).map(lambda text: "/" + text)
)  # fmt: skip
_METHODS = st.sampled_from(
    ["POST", "GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post", "BREW", ""]
)


@st.composite
def attack(draw: Callable[..., Any], goods: Sequence[Good]) -> tuple[str, bytes]:
    """What kind of attack, and all that is sent on a connection."""
    good = draw(st.sampled_from(goods))
    kind = draw(
        st.sampled_from(
            ["noise", "bytes", "json", "text", "headers", "path", "base64", "gzip", "random json"]
        )
    )
    body = json.dumps(good.document).encode()
    if kind == "noise":
        return kind, draw(st.sampled_from([b"", b"GET ", b"POST / HTTP/1.1\r\n"])) + draw(
            st.binary(max_size=300)
        )
    if kind == "bytes":
        return kind, draw(damaged_bytes(good.data))
    if kind == "json":
        return kind, request("POST", good.path, _encode(draw(damaged_document(good.document))))
    if kind == "random json":
        return kind, request("POST", good.path, _encode(draw(VALUES)))
    if kind == "text":
        return kind, request("POST", good.path, draw(damaged_bytes(body)))
    if kind == "headers":
        return kind, request("POST", good.path, body, *draw(st.lists(_HEADERS, min_size=1, max_size=4)))
    if kind == "path":
        return kind, request(draw(_METHODS), draw(_PATHS), draw(st.sampled_from([None, b"", body])))
    if kind == "base64":
        encoded = draw(
            st.text(max_size=40) | damaged_bytes(b"dHdvIHRocmVlIGZvdXI=").map(lambda it: it.decode("latin-1"))
        )
        texts = [it for it in goods if "b64" in json.dumps(it.document.get("instances"))]
        good = draw(st.sampled_from(texts))
        document = {**good.document, "instances": [{"b64": encoded}]}
        return kind, request("POST", good.path, _encode(document))
    packed = draw(damaged_bytes(gzip.compress(body, mtime=0)))
    return kind, request("POST", good.path, packed, "Content-Encoding: gzip")


# -------------------------------------------------------------------------------------- the check


class _Messages:
    """Tells by the server's own parser how many answers are due, and to which methods."""

    def __init__(self, data: bytes) -> None:
        self.methods: list[str] = []
        self.in_message = False
        self.is_known = True  # whether this parser sees all that the server will see
        self._parser = httptools.HttpRequestParser(self)
        try:
            self._parser.feed_data(data)
            self.is_wrong = False
        except httptools.HttpParserUpgrade:
            self.is_known = self.is_wrong = False
        except httptools.HttpParserError:
            self.is_wrong = True

    def on_message_begin(self) -> None:
        self.in_message = True

    def on_message_complete(self) -> None:
        self.in_message = False
        self.methods.append(self._parser.get_method().decode())


@dataclass
class Target:
    """A server under attack. statuses: how many answers of each kind of attack had which status."""

    server: Server
    goods: Sequence[Good]
    statuses: Counter[tuple[str, str]] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._kept = Raw(self.server.port)
        self._kept.socket.settimeout(_SOON)
        self._channel = grpc.insecure_channel(f"127.0.0.1:{self.server.grpc_port}")
        self._predict = self._channel.unary_unary(PREDICT)
        self._turn = 0
        self._answers = [self._ask(good) for good in self.goods]

    def close(self) -> None:
        self._kept.socket.close()
        self._channel.close()

    def strike(self, kind: str, data: bytes) -> None:
        """Send an attack. Raises AssertionError where the server behaves as it must not."""
        messages = _Messages(data)
        with Raw(self.server.port) as client:
            client.socket.settimeout(_SOON)
            client.send(data)
            if not messages.is_known:
                self.statuses[kind, "left"] += 1  # goes away without having read the answer
            else:
                for method in messages.methods:
                    response = client.response(body=method != "HEAD")
                    if response is None:
                        break  # the answer before said that the connection ends
                    self._judge(kind, response, has_body=method != "HEAD")
                    if response.headers.get("connection") == "close":
                        break
                else:
                    if messages.is_wrong:
                        response = client.response()
                        assert response, "it is told what is wrong"
                        self._judge(kind, response)
                        assert response.status != 200
                    elif messages.in_message:
                        self.statuses[kind, "left"] += 1  # goes away with half of a request sent
        self._check_next()

    def call(self, kind: str, message: bytes) -> None:
        """Send a gRPC message to Predict. Raises AssertionError where the server behaves as it must not."""
        status, details = self._call(message)
        # By gRPC's own rule, INTERNAL is what a message gets that cannot be parsed.
        unparsed = status == "INTERNAL" and details == "Exception deserializing request!"
        assert unparsed or status in _GRPC_ALLOWED, (status, details)
        assert details or status == "OK"
        self.statuses[kind, status] += 1
        self._check_next()

    def _call(self, message: bytes) -> tuple[str, str]:
        try:
            self._predict(message, timeout=_SOON)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return "OK", ""

    def _judge(self, kind: str, response: Response, has_body: bool = True) -> None:
        self.statuses[kind, str(response.status)] += 1
        assert response.status == 200 or 400 <= response.status < 500, response
        if not has_body:
            return
        if response.status == 200:
            json.loads(response.body.decode(errors="surrogateescape"))
        else:
            assert response.error

    def _check_next(self) -> None:
        self._turn = (self._turn + 1) % len(self.goods)
        assert self._ask(self.goods[self._turn]) == self._answers[self._turn], "the next good request"

    def _ask(self, good: Good) -> bytes:
        self._kept.send(good.data)
        response = self._kept.response()
        assert response
        assert response.status == 200, response
        return response.body


# -------------------------------------------------------------------------------------- gRPC

_SIZES = st.sampled_from([0, 1, 2, 3, -1, -(2**63), 2**31, 2**62, 2**63 - 1])


_SIGNATURES: Sequence[tuple[str, dict[str, Any]]] = [
    ("", {"x": np.ones((2, 2), np.float32)}),
    ("several", {"a": np.ones((2, 3), np.float32), "b": np.ones(2, np.int64)}),
    ("text", {"text": np.array([b"a", b"b"], object)}),
    ("text", {"text": b"a"}),
    ("scalar", {"x": np.float32(1)}),
    ("echo_bool", {"x": np.array([True])}),
    ("echo_float16", {"x": np.ones(2, np.float16)}),
    ("complex_in", {"x": np.ones(2, np.complex64)}),
]


def _seldom(usual: Any, others: Sequence[Any]) -> Any:
    return st.integers(0, 9).flatmap(lambda it: st.sampled_from(others) if it == 9 else st.just(usual))


@st.composite
def message(draw: Callable[..., Any]) -> tuple[str, bytes]:
    """A PredictRequest for the model of saved_models.write_module that is wrong in some way."""
    sent = predict_pb2.PredictRequest()
    sent.model_spec.name = draw(_seldom("module", ["", "no", "a\0"]))
    signature, aliases = draw(st.sampled_from(_SIGNATURES))
    sent.model_spec.signature_name = draw(_seldom(signature, ["no", "text", "echo_int8"]))
    if draw(_seldom(False, [True])):
        sent.model_spec.version.value = draw(st.sampled_from([3, 4, -1, 2**62]))
    for alias in draw(_seldom(list(aliases), [[], ["x", "z"]])):
        tensor = sent.inputs[alias]
        value = draw(
            st.sampled_from([np.ones((2, 2), np.float32), np.array([b"a", b"b"], object), np.int64(3)])
        )
        tensor.CopyFrom(tf.make_tensor_proto(value))
        what = draw(st.sampled_from(["nothing", "dtype", "shape", "content", "values", "rank"]))
        if what == "dtype":
            tensor.dtype = draw(st.sampled_from([0, 1, 7, 20, 21, 23, 101, 999, -1, 2**31 - 1]))
        elif what == "shape":
            del tensor.tensor_shape.dim[:]
            for size in draw(st.lists(_SIZES, max_size=5)):
                tensor.tensor_shape.dim.add(size=size)
        elif what == "content":
            tensor.tensor_content = draw(st.binary(max_size=40))
        elif what == "values":
            tensor.tensor_content = b""
            draw(st.sampled_from([tensor.float_val, tensor.int64_val, tensor.half_val])).extend(
                [1] * draw(st.integers(0, 9))
            )
        elif what == "rank":
            tensor.tensor_shape.unknown_rank = True
    for name in draw(_seldom([], [["y"], ["no"], ["scaled"], ["y", "y"], [""]])):
        sent.output_filter.append(name)
    data = sent.SerializeToString()
    if draw(st.booleans()):
        return "gRPC tensors", data
    return "gRPC bytes", draw(damaged_bytes(data, edits=1))

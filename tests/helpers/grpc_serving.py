"""A real gRPC server (grpcio) on the loopback that does, call by call, what a test has written down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from tasks.lib.client.grpc import METADATA, PREDICT
from tasks.lib.client.serving_messages import message
from tasks.lib.client.signature import PREDICT_METHOD
from tests.helpers.scripted import SILENCE

Act = Callable[["GrpcServing", bytes, grpc.ServicerContext], bytes]
"""Answers one call: its message in, the answer's out."""

FLOAT, STRING = 1, 7


def say(content: bytes = b"fine") -> Act:
    """Answer this."""
    return lambda server, request, context: content


def refuse(code: grpc.StatusCode, details: str = "no") -> Act:
    """End the call with this status."""

    def act(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(code, details)
        raise AssertionError("abort raises")

    return act


def keep_silent(server: GrpcServing, request: bytes, context: grpc.ServicerContext) -> bytes:
    """Answer only when the test is over."""
    server.stopping.wait(SILENCE)
    return b""


def metadata(inputs: dict[str, int], outputs: dict[str, int]) -> bytes:
    """What GetModelMetadata answers for version 7 of a model whose tensors have these types."""
    signatures = message("SignatureDefMap")
    signature = signatures.signature_def.add(key="serving_default").value
    signature.method_name = PREDICT_METHOD
    for side, tensors in ((signature.inputs, inputs), (signature.outputs, outputs)):
        for name, dtype in tensors.items():
            tensor = side.add(key=name).value
            tensor.dtype = dtype
            for _ in range(2 if dtype != STRING else 1):
                tensor.tensor_shape.dim.add(size=-1)
    answer = message("GetModelMetadataResponse")
    answer.model_spec.name, answer.model_spec.version.value = "net", 7
    packed = answer.metadata.add(key="signature_def").value
    packed.type_url, packed.value = (
        "type.googleapis.com/tensorflow.serving.SignatureDefMap",
        (signatures.SerializeToString()),
    )
    return bytes(answer.SerializeToString())


class GrpcServing(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Runs `script`, an act for each predict in the order they arrive; then `finally_` for ever."""

    def __init__(self, *script: Act, finally_: Act, metadata: bytes, port: int) -> None:
        self.stopping = threading.Event()
        self.requests: list[bytes] = []
        """The messages of predict calls, as they came."""
        self.peers: list[str] = []
        """Who sent them: a port of the client for each connection."""
        self._script = list(script)
        self._finally = finally_
        self._metadata = metadata
        self._lock = threading.Lock()
        self._server = grpc.server(
            ThreadPoolExecutor(16),
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
        )
        self._server.add_generic_rpc_handlers((self,))
        self.port: int = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.url = f"grpc://127.0.0.1:{self.port}/v1/models/net"
        self._server.start()

    def service(self, details: Any) -> grpc.RpcMethodHandler | None:
        answers = {PREDICT: self._predict, METADATA: lambda request, context: self._metadata}
        answer = answers.get(details.method)
        return None if answer is None else grpc.unary_unary_rpc_method_handler(answer)

    def _predict(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        with self._lock:
            self.requests.append(request)
            self.peers.append(context.peer())
            act = self._script.pop(0) if self._script else self._finally
        return act(self, request, context)

    def close(self) -> None:
        self.stopping.set()
        self._server.stop(None).wait()


@contextmanager
def serving(
    *script: Act,
    finally_: Act = say(),  # noqa: B008
    metadata: bytes = metadata({"x": FLOAT}, {"y": FLOAT}),
    port: int = 0,
) -> Iterator[GrpcServing]:
    """A server for as long as the block lasts."""
    server = GrpcServing(*script, finally_=finally_, metadata=metadata, port=port)
    try:
        yield server
    finally:
        server.close()

"""The gRPC interface of TensorFlow Serving: PredictionService, ModelService, and gRPC's health service.

grpcio's synchronous server, with threads of its own: it answers an empty call in 0.45 ms where grpc.aio
needs 0.55 ms, on uvloop too, and does a quarter more of them with eight connections.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from embedded_server.common.errors import Internal, InvalidArgument, Postponed, ServingError, StartError
from embedded_server.common.limits import Limits, Memory
from embedded_server.common.metrics import Metrics
from embedded_server.config.grpc_options import GrpcOptions
from embedded_server.config.model_config import models_of
from embedded_server.config.tls import Tls
from embedded_server.execution.inference import Inference
from embedded_server.execution.servable import Models, Servable
from embedded_server.grpc import unix_socket
from embedded_server.grpc.limits import Bounds
from embedded_server.lifecycle.manager import Manager
from embedded_server.wire import messages

_PREDICTION, _MODEL = "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"
_KEEP_ALIVE, _KEEP_ALIVE_TIMEOUT = 60, 20  # seconds between two pings; until one must be answered
_LOADING_PATIENCE = 600  # seconds that a change of the configuration waits for new models
_MESSAGE_LIMIT = 1024  # characters of an error message (model_servers/grpc_status_util.cc)

_Request = TypeVar("_Request")
_Response = TypeVar("_Response")

_log = logging.getLogger(__name__)
# A message that cannot be parsed is its client's affair, and not worth a traceback in the log for each.
logging.getLogger("grpc._common").addFilter(lambda record: "deserializing" not in record.getMessage())


class GrpcServer:
    """The server; it listens from start() to stop()."""

    def __init__(
        self,
        models: Models,
        manager: Manager,
        inference: Inference,
        metrics: Metrics,
        threads: int,
        limits: Limits,
        memory: Memory,
        options: GrpcOptions | None = None,
    ) -> None:
        """manager: is told which models to serve. threads: requests executed at once.
        memory: what all messages together may hold. options: None for the default ones."""
        options = options or GrpcOptions()
        self._calls = _Calls()
        self._credentials = _credentials(options.tls) if options.tls is not None else None
        self._socket_path = options.socket_path
        self._stopped: threading.Event | None = None
        at_once = threads + limits.queued_requests
        self._server = grpc.server(
            ThreadPoolExecutor(at_once, thread_name_prefix="grpc"),
            interceptors=[Bounds(_PREDICTION, threads, memory)],
            maximum_concurrent_rpcs=at_once,
            options=list(
                {
                    "grpc.so_reuseport": 0,  # or two servers could share a port, and neither would notice
                    "grpc.max_receive_message_length": limits.request_bytes,
                    "grpc.max_send_message_length": -1,
                    # A client that has vanished without a word is noticed.
                    "grpc.keepalive_time_ms": 1000 * _KEEP_ALIVE,
                    "grpc.keepalive_timeout_ms": 1000 * _KEEP_ALIVE_TIMEOUT,
                    **options.channel_arguments,
                }.items()
            ),
        )
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _PredictionService(models, inference, metrics, self._calls, options.writes_tensor_content),
            self._server,
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            _ModelService(models, manager, metrics, self._calls), self._server
        )
        self._health = health.HealthServicer()
        if options.has_health_service:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for service in ("", _PREDICTION, _MODEL):
            self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    def start(self, reserved: socket.socket | None) -> None:
        """Listen where a socket is bound, and close that; and at the Unix socket of the options.

        Raises StartError where another server has begun to listen there.
        """
        if reserved is not None:
            host, port = reserved.getsockname()[:2]
            with contextlib.closing(reserved):
                self._listen(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", f"{host}:{port}")
        if self._socket_path is not None:
            # gRPC would replace one that is in use. It removes its own as soon as it is told to stop.
            unix_socket.free(self._socket_path)
            self._listen(f"unix:{self._socket_path}", str(self._socket_path))
        self._server.start()

    def _listen(self, address: str, shown: str) -> None:
        try:
            if self._credentials is None:
                self._server.add_insecure_port(address)
            else:
                self._server.add_secure_port(address, self._credentials)
        except RuntimeError as error:  # which does not say why
            refused = "" if self._credentials is None else ", or gRPC does not take the certificate"
            raise StartError(f"cannot listen on {shown}: Address already in use{refused}") from error
        _log.info("Running gRPC ModelServer at %s ...", shown)

    def leave(self) -> None:
        """Report NOT_SERVING as the health, and go on answering."""
        self._health.enter_graceful_shutdown()

    def stop(self, grace: float) -> None:
        """Accept nothing more, and give requests in flight `grace` seconds. Does not wait for them.

        May be called again, with a shorter time.
        """
        self.leave()
        self._stopped = self._server.stop(grace)

    @property
    def has_stopped(self) -> bool:
        """Whether the end that stop() began has come."""
        return self._stopped is not None and self._stopped.is_set()

    def stopped(self) -> int:
        """Wait for the end that stop() began. Returns the number of requests that were cut off."""
        if self._stopped is not None:
            self._stopped.wait()
        return self._calls.running


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.key.encode(), tls.certificate.encode())],
        root_certificates=tls.authority.encode() or None,
        require_client_auth=tls.verifies_clients,
    )


class _Calls:
    """The requests that are being executed."""

    def __init__(self) -> None:
        self.running = 0
        self._lock = threading.Lock()

    def answer(self, execute: Callable[[], _Response], context: grpc.ServicerContext) -> _Response:
        """What `execute` returns, or its error as a status. Raises Postponed."""
        with self._lock:
            self.running += 1
        try:
            return execute()
        except ServingError as error:
            refused = error
        except Postponed:
            raise
        except Exception as error:  # a bug of ours must not look like one of gRPC's
            _log.exception("a gRPC request failed")
            refused = Internal(f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self.running -= 1
        message = str(refused)
        if len(message) > _MESSAGE_LIMIT:
            message = f"{message[:_MESSAGE_LIMIT]}...TRUNCATED"
        context.abort(grpc.StatusCode[refused.code], message)
        raise AssertionError("abort raises")


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):  # type: ignore[misc]
    """tensorflow_serving/apis/prediction_service.proto."""

    def __init__(
        self, models: Models, inference: Inference, metrics: Metrics, calls: _Calls, as_content: bool
    ) -> None:
        """as_content: see messages.predict."""
        self._calls = calls
        self._models = models
        self._inference = inference
        self._metrics = metrics
        self._predict = functools.partial(messages.predict, as_content=as_content)

    def Predict(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._measured("Predict", self._predict, request, context)

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._measured("Classify", messages.classify, request, context)

    def Regress(self, request: Any, context: grpc.ServicerContext) -> Any:
        return self._measured("Regress", messages.regress, request, context)

    def MultiInference(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            names = {task.model_spec.name for task in request.tasks}
            if "" in names or not names:
                raise InvalidArgument("Found ModelSpec with an empty model name.")
            if len(names) > 1:
                raise InvalidArgument(
                    "All ModelSpecs in a MultiInferenceRequest must access the same model name."
                )
            with _use(self._models, request.tasks[0].model_spec) as servable:
                return messages.multi_inference(self._inference, servable, request)

        return self._calls.answer(answer, context)

    def GetModelMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            _require_spec(request)
            messages.check_metadata_fields(request)
            with _use(self._models, request.model_spec) as servable:
                return messages.metadata(servable, request)

        return self._calls.answer(answer, context)

    def _measured(
        self,
        api: str,
        execute: Callable[[Inference, Servable, _Request], _Response],
        request: Any,
        context: grpc.ServicerContext,
    ) -> _Response:
        began = time.perf_counter()
        status: str | None = "OK"

        def answer() -> _Response:
            nonlocal status
            try:
                _require_spec(request)
                with _use(self._models, request.model_spec) as servable:
                    return execute(self._inference, servable, request)
            except ServingError as error:
                status = error.code
                raise
            except Postponed:
                status = None  # not answered yet
                raise
            except Exception:
                status = Internal.code
                raise

        try:
            return self._calls.answer(answer, context)
        finally:
            if status is not None:
                seconds = time.perf_counter() - began
                self._metrics.answered(request.model_spec.name, api, "GRPC", status, seconds)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):  # type: ignore[misc]
    """tensorflow_serving/apis/model_service.proto."""

    def __init__(self, models: Models, manager: Manager, metrics: Metrics, calls: _Calls) -> None:
        self._calls = calls
        self._models = models
        self._manager = manager
        self._metrics = metrics

    def GetModelStatus(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            _require_spec(request)
            # TensorFlow Serving takes no notice of a label here and reports every version.
            versions = self._models.status(request.model_spec.name, _version(request.model_spec))
            response = get_model_status_pb2.GetModelStatusResponse()
            for version in versions:
                status = response.model_version_status.add(version=version.version, state=version.state)
                status.status.error_code = version.error_code
                status.status.error_message = version.error_message
            return response

        return self._calls.answer(answer, context)

    def HandleReloadConfigRequest(self, request: Any, context: grpc.ServicerContext) -> Any:
        def answer() -> Any:
            if request.config.WhichOneof("config") != "model_config_list":
                raise InvalidArgument(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                    "Only ModelConfigList is currently supported"
                )
            # A thread of the pool waits here, so not for ever, though TensorFlow Serving would.
            patience = min(context.time_remaining() or _LOADING_PATIENCE, _LOADING_PATIENCE)
            before = {name: self._metrics.total(name) for name in request.metric_names}
            self._manager.reload(models_of(request.config), patience)
            response = model_management_pb2.ReloadConfigResponse()
            for name, total in before.items():
                response.metric.add(name=name, int64_value_increase=self._metrics.total(name) - total)
            return response

        return self._calls.answer(answer, context)


def _require_spec(request: Any) -> None:
    if not request.HasField("model_spec"):
        raise InvalidArgument("Missing ModelSpec")


def _use(models: Models, spec: Any) -> contextlib.AbstractContextManager[Servable]:
    if not spec.name:
        raise InvalidArgument("ModelSpec has no name specified.")
    label = spec.version_label if spec.WhichOneof("version_choice") == "version_label" else None
    return models.use(spec.name, _version(spec), label)


def _version(spec: Any) -> int | None:
    return spec.version.value if spec.HasField("version") else None

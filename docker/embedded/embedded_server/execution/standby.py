"""The model as TensorFlow executes it, for what OpenVINO cannot answer alike: loaded when it is first
needed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from embedded_server.common.errors import Postponed, StartError, Unavailable
from embedded_server.execution.tensorflow_backend import TensorFlowBackend

RETRY_SECONDS = 10.0
"""After a load that failed, before another one is tried: each reads the whole model."""
_log = logging.getLogger(__name__)


class Standby:
    """A TensorFlow backend that is there once it is asked for. May be used from several threads at once.

    It is loaded in a thread of its own, one load at a time.
    """

    def __init__(
        self, load: Callable[[], TensorFlowBackend], *, postpones: bool, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        """load: raises StartError.
        postpones: whether a request that has to wait for it is postponed instead.
        """
        self._load = load
        self._postpones = postpones
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()
        self._loading: Future[TensorFlowBackend] | None = None
        self._failed_at = 0.0
        self._closed = False

    def load_now(self) -> None:
        """Load it in this thread. Raises StartError."""
        backend = self._load()
        with self._lock:
            self._loading = Future()
            self._loading.set_result(backend)

    def backend(self, reason: str) -> TensorFlowBackend:
        """The backend, which the caller must not close. `reason` is logged with a load.

        Raises Postponed while it is loaded, if requests are postponed; Unavailable if it cannot be loaded.
        """
        loading = self._begun(reason)
        if self._postpones and not loading.done():
            raise Postponed(loading)
        try:
            return loading.result()
        except StartError as error:
            raise Unavailable("TensorFlow has to execute this request, and cannot load the model") from error

    def close(self) -> None:
        """Free the backend, now or once it is loaded."""
        with self._lock:
            self._closed = True
            loading = self._loading
        if loading is not None and loading.done() and loading.exception() is None:
            loading.result().close()

    def _begun(self, reason: str) -> Future[TensorFlowBackend]:
        with self._lock:
            if self._loading is None or self._may_try_again(self._loading):
                _log.info("TensorFlow loads the model too: %s", reason)
                self._loading = Future()
                threading.Thread(target=self._fill, args=(self._loading,), daemon=True).start()
            return self._loading

    def _may_try_again(self, loading: Future[TensorFlowBackend]) -> bool:
        has_failed = loading.done() and loading.exception() is not None
        return has_failed and time.monotonic() - self._failed_at >= self._retry_seconds

    def _fill(self, loading: Future[TensorFlowBackend]) -> None:
        try:
            backend = self._load()
        except BaseException as error:
            _log.error("TensorFlow cannot load the model: %s", error)
            self._failed_at = time.monotonic()
            loading.set_exception(error if isinstance(error, StartError) else StartError(str(error)))
            return
        with self._lock:
            closed = self._closed
            loading.set_result(backend)
        if closed:
            backend.close()

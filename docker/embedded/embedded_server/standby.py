"""The model as TensorFlow executes it, for what OpenVINO cannot answer alike: loaded when it is first
needed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from embedded_server.backend import Array
from embedded_server.errors import DeadlineExceeded, StartError, Unavailable
from embedded_server.tensorflow_backend import TensorFlowBackend

_log = logging.getLogger(__name__)


class Standby:
    """A TensorFlow backend that is there once it is asked. May be used from several threads at once.

    It is loaded in a thread of its own, one load at a time, while requests wait for it.
    """

    def __init__(self, load: Callable[[], TensorFlowBackend], timeout: float = 0) -> None:
        """load: raises StartError. timeout: seconds that a request waits for it; 0 for any time."""
        self._load = load
        self._timeout = timeout or None
        self._lock = threading.Lock()
        self._loading: Future[TensorFlowBackend] | None = None
        self._closed = False

    def load_now(self) -> None:
        """Load it in this thread. Raises StartError."""
        backend = self._load()
        with self._lock:
            self._loading = Future()
            self._loading.set_result(backend)

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None, reason: str
    ) -> dict[str, Array]:
        """Execute a signature; see backend.Backend.run. `reason` is logged with the first load.

        Raises also Unavailable if it cannot be loaded, DeadlineExceeded if that takes too long.
        """
        loading = self._begun(reason)
        try:
            backend = loading.result(self._timeout)
        except FutureTimeout:
            raise DeadlineExceeded("TensorFlow is still loading the model for this request") from None
        except StartError as error:
            raise Unavailable("TensorFlow has to execute this request, and cannot load the model") from error
        return backend.run(signature, inputs, outputs)

    def close(self) -> None:
        """Free the backend, now or once it is loaded."""
        with self._lock:
            self._closed = True
            loading = self._loading
        if loading is not None and loading.done() and loading.exception() is None:
            loading.result().close()

    def _begun(self, reason: str) -> Future[TensorFlowBackend]:
        with self._lock:
            if self._loading is None:
                _log.info("TensorFlow loads the model too: %s", reason)
                self._loading = Future()
                threading.Thread(target=self._fill, args=(self._loading,), daemon=True).start()
            return self._loading

    def _fill(self, loading: Future[TensorFlowBackend]) -> None:
        try:
            backend = self._load()
        except BaseException as error:
            with self._lock:
                self._loading = None  # the next request tries again
            _log.error("TensorFlow cannot load the model: %s", error)
            loading.set_exception(error if isinstance(error, StartError) else StartError(str(error)))
            return
        with self._lock:
            closed = self._closed
            loading.set_result(backend)
        if closed:
            backend.close()

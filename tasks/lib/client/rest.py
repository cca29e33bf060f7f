"""TensorFlow Serving's REST API, for single requests. The benchmark's hot loop is tasks.lib.measure.load."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tasks.lib.common import console
from tasks.lib.common.errors import RequestRefused, ServerError
from tasks.lib.common.settings import GRPC, REST


class ModelClient(Protocol):
    """One model of one server, whatever it is asked over. What goes in and comes out is REST's JSON."""

    url: str

    def metadata(self) -> Mapping[str, Any]:
        """The signatures, as `GET .../metadata` answers them."""
        ...

    def predict(self, body: bytes) -> Mapping[str, Any]:
        """The answer to a predict request in row form whose JSON text is `body`."""
        ...


def protocol_of(url: str) -> str:
    """What a model is asked over at that address: one of tasks.lib.common.settings.PROTOCOLS."""
    return GRPC if url.startswith("grpc://") else REST


def client_for(url: str, timeout: float) -> ModelClient:
    """The client for a model's address; `timeout` is in seconds."""
    if protocol_of(url) == REST:
        return Client(url, timeout)
    from tasks.lib.client.grpc import GrpcClient

    return GrpcClient(url, timeout)


class Client:
    """One model of one server.

    `url` is the model's address, `http://HOST:PORT/v1/models/NAME`; `timeout` is in seconds. Every
    method raises ServerError where nothing answers and RequestRefused where an error is answered.
    Contract: https://www.tensorflow.org/tfx/serving/api_rest
    """

    def __init__(self, url: str, timeout: float = 30) -> None:
        self.url = url.rstrip("/")
        self._timeout = timeout

    def status(self) -> list[Mapping[str, Any]]:
        """The state of each version: [{"version": "1", "state": "AVAILABLE", "status": {...}}]."""
        versions = self._ask("GET", "").get("model_version_status")
        if not isinstance(versions, list):
            raise self._stranger()
        return versions

    def metadata(self) -> Mapping[str, Any]:
        """The signatures, as `GET .../metadata` answers them."""
        return self._ask("GET", "/metadata")

    def predict(self, body: bytes) -> Mapping[str, Any]:
        """The answer to a predict request whose JSON text is `body`."""
        return self._ask("POST", ":predict", body)

    def _ask(self, method: str, suffix: str, body: bytes | None = None) -> Mapping[str, Any]:
        import requests

        # A proxy set in the environment is for the way out, not for a server on this machine.
        with requests.Session() as session:
            session.trust_env = False
            try:
                response = session.request(method, self.url + suffix, data=body, timeout=self._timeout)
            except requests.RequestException as error:
                raise ServerError(
                    f"{self.url} does not answer ({type(error).__name__}).",
                    "Look at `invoke serve.status` and `invoke serve.logs`.",
                ) from error
        try:
            content = response.json()
        except (ValueError, RecursionError):  # a number of 5,000 digits is a ValueError of its own
            content = {"error": console.shortened(response.text)}
        if not response.ok:
            message = str(content.get("error", content)) if isinstance(content, Mapping) else str(content)
            raise RequestRefused(
                f"{self.url} refused the request with HTTP {response.status_code}: {message}",
                "Look at `invoke serve.logs` for what the server says.",
                status=response.status_code,
                message=message,
            )
        if not isinstance(content, Mapping) or "error" in content:
            raise self._stranger()
        return content

    def _stranger(self) -> ServerError:
        return ServerError(
            f"{self.url} does not answer as TensorFlow Serving does.",
            "Check the address and what listens there.",
        )

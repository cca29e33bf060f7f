"""When a server is ready: when it has answered a real predict, whatever its status says before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.lib.common import console
from tasks.lib.common.errors import ModelError, RequestRefused, ServerError
from tasks.lib.common.settings import Settings
from tasks.lib.engines.base import Server

if TYPE_CHECKING:
    from tasks.lib.client.inputs import Sample

PASSING = (404, 429, 503, 504)
"""HTTP statuses of a server that is still loading."""


class Trial:
    """A real predict, tried until it is answered."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self._settings = settings
        self._server = server
        self._sample: Sample | None = None

    def passed(self, timeout: float) -> bool:
        """Whether a predict is answered now. Raises ServerError if it never will be."""
        from tasks.lib.client.rest import Client

        client = Client(self._server.url, timeout)
        try:
            if self._sample is None:
                self._sample = self._make_up(client.metadata())
            if self._sample is not None:
                client.predict(self._sample.body)
        except RequestRefused as refusal:
            if refusal.status in PASSING:
                return False
            if 400 <= refusal.status < 500:
                # The model took the request in and objects to made-up values: it works.
                console.note(f"{self._server} answers, but not to a made-up request: {refusal.message}")
                return True
            raise ServerError(
                f"{self._server} has loaded but refuses a predict: HTTP {refusal.status}, {refusal.message}",
                "Check the model with the framework that exported it.",
            ) from refusal
        except ServerError:
            return False
        return True

    def _make_up(self, metadata: Mapping[str, Any]) -> Sample | None:
        from tasks.lib.client.inputs import requests_for, sample_photos
        from tasks.lib.client.signature import default_signature
        from tasks.lib.models import samples

        try:
            made = samples.of_server(self._settings, self._server.model, self._server.version)
            if made is not None:
                return made.of(default_signature(metadata))[0]
            return requests_for(metadata, sample_photos(self._settings.paths), 1)[0]
        except ModelError as error:
            console.note(f"{self._server} is taken as ready without a predict: {error.problem}")
            return None


def too_late(server: Server, limit: float) -> ServerError:
    """What is raised once `limit` seconds have passed."""
    return ServerError(
        f"{server} has not answered a predict within {limit:g} s.",
        "Look at the lines above, or allow more time with INVOKE_SERVE_READY_TIMEOUT.",
    )


def stopped_meanwhile(server: Server) -> ServerError:
    """What is raised when another call has stopped the server that this one waits for."""
    return ServerError(f"{server} was stopped by another call while it was loading.", "Start it again.")

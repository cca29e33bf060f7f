"""The loaded models, and finding one by name, version or label.

Messages and states are those of TensorFlow Serving (core/basic_manager.cc, model_servers/server_core.cc,
model_servers/get_model_status_impl.cc).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from embedded_server.common.errors import InvalidArgument, NotFound
from embedded_server.execution.backend import Backend

State = Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
"""As in get_model_status.proto."""


@dataclass(frozen=True)
class Servable:
    """One loaded version of a model."""

    name: str
    version: int
    backend: Backend


@dataclass(frozen=True)
class VersionStatus:
    """What the status call says of one version; error_code is the name of a gRPC code."""

    version: int
    state: State
    error_code: str = "OK"
    error_message: str = ""


class Loaded:
    """A servable and the number of requests that use it."""

    def __init__(self, servable: Servable) -> None:
        self.servable = servable
        self._lock = threading.Lock()
        self._users = 0
        self._when_idle: Callable[[], None] | None = None

    def acquire(self) -> bool:
        """Use it; False if it is retired."""
        with self._lock:
            if self._when_idle is not None:
                return False
            self._users += 1
            return True

    def release(self) -> None:
        """Use it no longer."""
        with self._lock:
            self._users -= 1
            idle = self._when_idle if self._users == 0 else None
        if idle is not None:
            idle()

    def retire(self, when_idle: Callable[[], None]) -> None:
        """Let no new user in; `when_idle` is called once, as soon as the last one has left."""
        with self._lock:
            self._when_idle = when_idle
            idle = self._users == 0
        if idle:
            when_idle()


@dataclass(frozen=True)
class View:
    """What is served at one moment, by model name."""

    served: Mapping[str, Mapping[int, Loaded]] = field(default_factory=dict)
    statuses: Mapping[str, Mapping[int, VersionStatus]] = field(default_factory=dict)
    """Of everything that was ever to be served; a version keeps its last state."""
    labels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Models:
    """What is being served, for those who answer requests. May be used from several threads at once."""

    def __init__(self, view: View | None = None) -> None:
        self._view = view or View()

    @property
    def view(self) -> View:
        """The present state; it never changes, another one takes its place."""
        return self._view

    def show(self, view: View) -> None:
        """Serve `view` from now on. The caller that removes a servable retires it afterwards."""
        self._view = view

    @contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Servable]:
        """The servable of a request: the version or label asked for, or the newest. Loaded while in use.

        Raises NotFound for an unknown name or version, InvalidArgument for an unknown label.
        """
        loaded = self._find(name, version, label)
        while not loaded.acquire():  # retired since it was found, so it is no longer there
            loaded = self._find(name, version, label)
        try:
            yield loaded.servable
        finally:
            loaded.release()

    def _find(self, name: str, version: int | None, label: str | None) -> Loaded:
        view = self._view
        if label is not None:
            version = view.labels.get(name, {}).get(label)
            if version is None:
                raise InvalidArgument(f"Unrecognized servable version label: {label}")
        versions = view.served.get(name, {})
        number = max(versions, default=None) if version is None else version
        loaded = None if number is None else versions.get(number)
        if loaded is None:
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise NotFound(f"Servable not found for request: {asked}")
        return loaded

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The state of one version, or of all, the newest first. Raises NotFound."""
        statuses = self._view.statuses.get(name, {})
        if version is not None:
            if version not in statuses:
                raise NotFound(f"Could not find version {version} of model {name}")
            return [statuses[version]]
        if not statuses:
            raise NotFound(f"Could not find any versions of model {name}")
        return [statuses[number] for number in sorted(statuses, reverse=True)]

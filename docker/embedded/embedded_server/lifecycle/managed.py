"""A version that the manager looks after, and which one of a model goes next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from embedded_server.config.model_config import ModelConfig
from embedded_server.config.versions import Contents, contents
from embedded_server.execution.servable import Loaded, Servable, State, VersionStatus
from embedded_server.lifecycle.loading import artefact_folder


@dataclass
class Version:
    """A version that is to be served, or was. Only the manager's thread changes it."""

    model: ModelConfig
    number: int
    folder: Path
    aspired: bool = True
    state: State = "START"
    error_code: str = "OK"
    error_message: str = ""
    failures: int = 0
    retry_at: float | None = None
    """When to load it again (time.monotonic)."""
    failed_with: Contents = frozenset()
    """Its files when loading failed, and when they were last looked at."""
    last_seen: Contents = frozenset()
    loaded: Loaded | None = None
    """What requests use, as long as it is available."""
    leaving: Servable | None = None
    """What is to be unloaded, once it is idle."""
    idle: bool = False

    @property
    def status(self) -> VersionStatus:
        return VersionStatus(self.number, self.state, self.error_code, self.error_message)

    @property
    def failed(self) -> bool:
        return self.error_code != "OK"

    def to_be_loaded(self, now: float) -> bool:
        """Is it time to load it, for the first time or again?"""
        if not self.aspired:
            return False
        return self.state == "START" or (self.retry_at is not None and self.retry_at <= now)

    def files(self) -> Contents:
        """All that loading it reads."""
        return contents(self.folder, artefact_folder(self.model, self.number))


def superfluous(versions: Iterable[Version]) -> Version | None:
    """The version of a model to unload next, so that one of them is always available if any can be."""
    versions = list(versions)
    aspired = [version for version in versions if version.aspired]
    unwanted = [version for version in versions if version.loaded is not None and not version.aspired]
    replaced = not aspired or any(version.loaded is not None for version in aspired)
    if unwanted and (replaced or len(unwanted) > 1):
        return min(unwanted, key=lambda version: version.number)
    return None

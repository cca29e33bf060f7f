"""A manager in this process, and models for it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from embedded_server.common.errors import (
    NotFound,
)
from embedded_server.common.metrics import Metrics
from embedded_server.config.flags import parse_flags
from embedded_server.config.model_config import configured_models
from embedded_server.execution.servable import Models, VersionStatus
from embedded_server.lifecycle.manager import Manager

SOON = "--load_retry_interval_micros=100000"
ZERO = {"x": np.zeros((1, 1), np.float32)}


class Served:
    """A base path that a manager looks at."""

    def __init__(self, folder: Path, adders: Path) -> None:
        self.base = folder / "m"
        self.base.mkdir()
        self.config = folder / "models.config"
        self.models = Models()
        self._adders = adders
        self.manager: Manager | None = None

    def add(self, number: int, source: int | None = None) -> None:
        """Put a version into the base path, all at once."""
        shutil.copytree(self._adders / str(source or number), self.base / f".{number}")
        (self.base / f".{number}").rename(self.base / str(number))

    def break_(self, number: int) -> None:
        """Put a version there that cannot be loaded."""
        (self.base / str(number)).mkdir()
        (self.base / str(number) / "saved_model.pb").write_bytes(b"broken")

    def remove(self, number: int) -> None:
        # At once: what is half removed may look like what is half copied.
        (self.base / str(number)).rename(self.base / f".gone{number}")

    def start(self, *flags: str) -> None:
        """Serve what is there."""
        named = (f"--model_base_path={self.base}", "--model_name=m")
        if self.config.exists():
            named = (f"--model_config_file={self.config}",)
        parsed = parse_flags([*named, *flags])
        # Tests should not have to wait for whole seconds, which is what the flags count in.
        parsed = replace(
            parsed,
            file_system_poll_wait=parsed.file_system_poll_wait / 10,
            model_config_file_poll_wait=parsed.model_config_file_poll_wait / 10,
        )
        self.manager = Manager(self.models, parsed, configured_models(parsed), Metrics())
        self.manager.start()
        self.manager.wait_until_served()

    def configure(self, text: str = "", name: str = "m") -> None:
        """Write a configuration file with one model."""
        model = f'name: "{name}" base_path: "{self.base}" model_platform: "tensorflow" {text}'
        scratch = self.config.with_suffix(".new")
        scratch.write_text(f"model_config_list {{ config {{ {model} }} }}")
        scratch.rename(self.config)

    def states(self, name: str = "m") -> dict[int, str]:
        try:
            return {status.version: status.state for status in self.models.status(name)}
        except NotFound:
            return {}

    def status(self, number: int) -> VersionStatus:
        return self.models.status("m", number)[0]

    def answer(self, **which: Any) -> float:
        """What the model adds: the version that answered."""
        with self.models.use("m", **which) as servable:
            outputs = servable.backend.run("serving_default", ZERO)
        return float(outputs["y"][0, 0])

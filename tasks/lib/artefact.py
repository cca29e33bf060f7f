"""The optimized artefact of a model version, as the runner knows it.

docker/embedded's artefact.py writes the manifest with what is in the files; here stands what was
decided about them: which precision serves, which others have passed, and what was asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tasks.lib import disk, environment
from tasks.lib.errors import OptimizeError
from tasks.lib.hardware import detect
from tasks.lib.settings import Settings
from tasks.lib.store import Model, content_digest
from tasks.lib.variants import Variant

FOLDER = ".optimized"
"""Beside the versions. Not a number, so TensorFlow Serving passes it by."""
MANIFEST = "artefact.json"
CONVERTER = ("artefact.py", "convert.py")
"""The sources that decide what an artefact holds."""
AUTO = "auto"


@dataclass(frozen=True)
class Artefact:
    """An artefact that is whole and belongs to what is there now."""

    folder: Path
    precision: str
    """What `auto` means when it is served."""
    asked: str
    """What build.optimized was asked for: auto, or one precision."""
    accepted: tuple[str, ...]
    """The precisions that answer like stock."""

    def answers(self, wanted: str) -> bool:
        """Whether asking build.optimized for `wanted` would decide the same again."""
        return self.asked == wanted or (self.asked == AUTO and self.precision == wanted)


def folder_of(model: Model) -> Path:
    """Where the artefact of this model version stands."""
    return model.base / FOLDER / str(model.version)


def read(settings: Settings, model: Model) -> Artefact | None:
    """The artefact of this model version; None if there is none, or it was made from something else.

    Raises OptimizeError if it is damaged.
    """
    folder = folder_of(model)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["fingerprint"] != fingerprint(settings, model):
            return None
        found = Artefact(folder, manifest["precision"], manifest["asked"], tuple(manifest["accepted"]))
        files: Mapping[str, str] = dict(manifest["files"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError):
        raise _damaged(settings, model, folder / MANIFEST) from None
    for name, expected in files.items():
        if not (folder / name).is_file() or _digest(folder / name) != expected:
            raise _damaged(settings, model, folder / name)
    return found


def write_decision(folder: Path, precision: str, asked: str, accepted: tuple[str, ...]) -> None:
    """Add what was decided to the manifest of a converted artefact. Raises OSError."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    decided = {"precision": precision, "asked": asked, "accepted": list(accepted)}
    disk.write_text(folder / MANIFEST, json.dumps({**manifest, **decided}, indent=1) + "\n")


def fingerprint(settings: Settings, model: Model) -> str:
    """Of everything that decides what the artefact is: model, converter, limits, and this CPU."""
    digest = hashlib.sha256(content_digest(model.folder).encode())
    root = settings.paths.root
    sources = root / environment.SOURCES / "embedded_server"
    for path in (root / environment.LOCK, *(sources / name for name in CONVERTER)):
        digest.update(path.read_bytes())
    # Another CPU may compute other precisions natively, and rank them differently.
    machine = detect()
    digest.update(repr((machine.cpu, machine.instruction_sets)).encode())
    digest.update(repr(sorted(settings.optimize.max_difference.items())).encode())
    return digest.hexdigest()


def content_of(model: Model, variant: Variant) -> str:
    """SHA-256 of what a server of `variant` loads; empty if it is not there yet."""
    try:
        if variant.needs_artefact:
            # The manifest names every file by its digest.
            return _digest(folder_of(model) / MANIFEST)
        return content_digest(model.folder)
    except FileNotFoundError:
        return ""


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _damaged(settings: Settings, model: Model, path: Path) -> OptimizeError:
    folder = settings.paths.shown(folder_of(model))
    return OptimizeError(
        f"The optimized artefact of {model} is damaged: {settings.paths.shown(path)} has changed.",
        f"Remove {folder} and build it again with `invoke build.optimized`.",
    )

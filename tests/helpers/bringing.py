"""What the tests of obtain share: a catalogue, and what a download leaves."""

from __future__ import annotations

from pathlib import Path

from tasks.lib.common.settings import Settings
from tasks.lib.models.store import Model
from tests.helpers.archives import saved_model, tree

VERSION = "1538687457"
ARCHIVE = saved_model(size=100_000)


def catalogue(settings: Settings, url: str, extra: str = "seeded = 'resnet50_v2'") -> None:
    settings.paths.models.mkdir(exist_ok=True)
    (settings.paths.models / "catalog.toml").write_text(f"[resnet]\nurl = '{url}'\n{extra}\n")


def got(model: Model | None) -> Model:
    assert model is not None
    return model


def nothing_left(settings: Settings) -> bool:
    return set(tree(settings.paths.models)) <= {"catalog.toml"}


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return folder


SAVED = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets/words.txt": b"a\nb\n"}

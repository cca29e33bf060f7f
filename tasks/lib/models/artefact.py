"""The optimized artefact of a model version, as the runner knows it.

docker/embedded's artefact.py writes the manifest with what is in the files. The runner adds what was
decided about them: which precision serves, in which precision each signature is executed, and what was
asked for. What cannot be optimized is remembered with its reason in a file next to the artefact.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.lib.common import disk
from tasks.lib.common.errors import CannotGain, OptimizeError
from tasks.lib.common.hardware import detect
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.embedded import environment, sources
from tasks.lib.models import samples
from tasks.lib.models.store import Model, content_digest

FOLDER = ".optimized"
"""Next to the versions. Not a number, so TensorFlow Serving passes it by."""
MANIFEST = "artefact.json"
FORMAT = 2
"""Of the manifest; docker/embedded's artefact.py says what is in it."""
PROGRAMS = ("embedded_server.convert", "embedded_server.prove")
"""What makes an artefact and proves it: with all they import, the sources that decide what it holds."""
AUTO = "auto"
ANY = "any"
"""Means every precision in what is remembered."""

Accepted = Mapping[str, Mapping[str, str]]
"""Precision served -> signature -> the precision in which OpenVINO executes it."""


@dataclass(frozen=True)
class Artefact:
    """An artefact that is whole and belongs to what is there now."""

    folder: Path
    precision: str
    """What `auto` means when it is served."""
    asked: str
    """What build.optimized was asked for: auto, or one precision."""
    accepted: Accepted
    """What answers like stock; TensorFlow executes the signatures that are not named."""

    def answers(self, precision: str) -> bool:
        """Whether asking build.optimized for `wanted` would decide the same again."""
        return self.asked == precision or (self.asked == AUTO and self.precision == precision)


@dataclass(frozen=True)
class Program:
    """How one signature was converted, as far as the runner needs it."""

    share: float
    """The part of the multiplications that OpenVINO executes."""
    multiplications: int
    """Of a request with one row."""
    digest: str
    """Equal for signatures that are the same in everything but their names."""


@dataclass(frozen=True)
class Converted:
    """What the converter made of a model's signatures."""

    programs: Mapping[str, Program]
    unconverted: Mapping[str, str]
    """Signature -> why TensorFlow executes it."""


@dataclass(frozen=True)
class Refusal:
    """Why a model version cannot be optimized, and what to do: the two sentences of the error."""

    problem: str
    remedy: str

    def error(self) -> CannotGain:
        """What is raised for it."""
        return CannotGain(self.problem, self.remedy)


def folder_of(model: Model) -> Path:
    """Where the artefact of this model version is."""
    return model.base / FOLDER / str(model.version)


def read(settings: Settings, model: Model) -> Artefact | None:
    """The artefact of this model version; None if there is none, or it was made from something else.

    Raises OptimizeError if it is damaged.
    """
    folder = folder_of(model)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if manifest["fingerprint"] != fingerprint(settings, model) or manifest.get("format") != FORMAT:
            return None
        accepted = {precision: dict(signatures) for precision, signatures in manifest["accepted"].items()}
        artefact = Artefact(folder, manifest["precision"], manifest["asked"], accepted)
        files: Mapping[str, str] = dict(manifest["files"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(settings, model, folder / MANIFEST) from None
    for name, expected in files.items():
        if not (folder / name).is_file() or _digest(folder / name) != expected:
            raise _damaged(settings, model, folder / name)
    return artefact


def converted(folder: Path) -> Converted:
    """What the converter has just written into `folder`."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    programs = {
        name: Program(
            share=float(program["share"]),
            multiplications=int(program["multiplications"]),
            digest=hashlib.sha256(json.dumps(program, sort_keys=True).encode()).hexdigest(),
        )
        for name, program in manifest["programs"].items()
    }
    return Converted(programs, dict(manifest["unconverted"]))


def write_decision(folder: Path, precision: str, asked: str, accepted: Accepted) -> None:
    """Add what was decided to the manifest of a converted artefact. Raises OSError."""
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    decided = {"precision": precision, "asked": asked, "accepted": accepted}
    disk.write_text(folder / MANIFEST, json.dumps({**manifest, **decided}, indent=1) + "\n")


def fingerprint(settings: Settings, model: Model) -> str:
    """Of everything that decides what the artefact is: model, converter, limits, and this CPU."""
    digest = hashlib.sha256(content_digest(model.folder).encode())
    root = settings.paths.root
    digest.update((root / environment.LOCK).read_bytes())
    for path in sources.imported(root / environment.SOURCES, PROGRAMS):
        digest.update(f"{path.relative_to(root).as_posix()}\0{_digest(path)}\n".encode())
    # Another CPU may compute other precisions natively, and rank them differently.
    machine = detect()
    digest.update(repr((machine.cpu, machine.instruction_sets)).encode())
    digest.update(repr(sorted(settings.optimize.max_difference.items())).encode())
    digest.update(samples.decided(model).encode())  # what was proven with other requests is stale
    return digest.hexdigest()


def refusal(settings: Settings, model: Model, asked: str) -> Refusal | None:
    """Why this model version cannot be optimized with the precision asked for, as found out earlier.

    None if nothing is known, or model, converter, limits or CPU have changed since.
    """
    known = _refusals(settings, model)
    return known.get(ANY) or known.get(asked)


def remember_refusal(settings: Settings, model: Model, asked: str, why: Refusal) -> None:
    """Keep why the precision `asked` for (AUTO, ANY, or one) is not available. Raises OSError."""
    _write_refusals(settings, model, {**_refusals(settings, model), asked: why})


def forget_refusals(settings: Settings, model: Model, precisions: Iterable[str]) -> None:
    """Forget what was refused to `precisions`, AUTO and ANY: one of them has succeeded. Raises OSError."""
    gone = {*precisions, AUTO, ANY}
    known = _refusals(settings, model)
    _write_refusals(settings, model, {asked: why for asked, why in known.items() if asked not in gone})


def _write_refusals(settings: Settings, model: Model, known: Mapping[str, Refusal]) -> None:
    file = _refusals_file(model)
    if not known:
        file.unlink(missing_ok=True)
        return
    content = {
        "fingerprint": fingerprint(settings, model),
        "refused": {asked: asdict(why) for asked, why in known.items()},
    }
    disk.make_folder(file.parent)
    disk.write_text(file, json.dumps(content, indent=1) + "\n")


def _refusals_file(model: Model) -> Path:
    return model.base / FOLDER / f"{model.version}.refused.json"


def _refusals(settings: Settings, model: Model) -> dict[str, Refusal]:
    try:
        content: dict[str, Any] = json.loads(_refusals_file(model).read_text(encoding="utf-8"))
        if content["fingerprint"] != fingerprint(settings, model):
            return {}
        return {asked: Refusal(**one) for asked, one in content["refused"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # what cannot be read is found out again


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

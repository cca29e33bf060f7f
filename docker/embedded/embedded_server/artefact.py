"""The optimized artefact on disk: what `convert` writes and the OpenVINO backend reads.

    BASE/.optimized/VERSION/
        artefact.json       the manifest
        body-0.xml/.bin     OpenVINO's model of one signature
        front-0.pb          TensorFlow's part of it, where there is one

Every file's SHA-256 stands in the manifest, so that a damaged artefact is refused and not served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "artefact.json"
FORMAT = 1
DEVICE = "CPU"
"""What OpenVINO executes it on."""


class BadArtefact(Exception):
    """The artefact is missing, of another format, or damaged; the message says which."""


@dataclass(frozen=True)
class Program:
    """How one signature is executed. Tensor names are those of the files they belong to."""

    body: str
    """File of OpenVINO's model."""
    inputs: Mapping[str, str]
    """The body's tensor -> the input that it is given."""
    outputs: Mapping[str, str]
    """Output -> the body's tensor."""
    front: str | None = None
    """File of TensorFlow's frozen graph, if there is a front."""
    front_inputs: Mapping[str, str] = field(default_factory=dict)
    """Input -> the front's tensor that is fed with it."""
    crossing: Mapping[str, str] = field(default_factory=dict)
    """The body's tensor -> the front's tensor that it is given."""


@dataclass(frozen=True)
class Manifest:
    """What an artefact is made of."""

    fingerprint: str
    """Of all that it was made from; whoever asked for it decides what that is."""
    programs: Mapping[str, Program]
    """By signature. Signatures that are the same in everything share their files."""
    unconverted: Mapping[str, str]
    """Signature -> why TensorFlow goes on executing it."""
    files: Mapping[str, str]
    """File -> SHA-256."""
    precision: str | None = None
    """What was chosen by measuring; None until that was done."""
    asked: str | None = None
    """What was asked for: auto, or one precision."""
    accepted: list[str] = field(default_factory=list)
    """The precisions that were found to answer like stock."""


def write(folder: Path, manifest: Manifest) -> None:
    """Write `manifest` into `folder`."""
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, indent=1)
    (folder / MANIFEST).write_text(text + "\n")


def read(folder: Path) -> Manifest:
    """The manifest in `folder`, whose files have been checked. Raises BadArtefact."""
    try:
        content: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        raise BadArtefact(f"there is no optimized artefact in {folder}") from None
    except ValueError as error:
        raise BadArtefact(
            f"the optimized artefact in {folder} is damaged: {MANIFEST} is no JSON ({error})"
        ) from None
    if content.pop("format", None) != FORMAT:
        raise BadArtefact(f"the optimized artefact in {folder} has another format")
    programs = {name: Program(**program) for name, program in content.pop("programs").items()}
    manifest = Manifest(programs=programs, **content)
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or file_digest(path) != expected:
            raise BadArtefact(
                f"the optimized artefact in {folder} is damaged: {name} is not what was written"
            )
    return manifest


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

"""The optimized artefact on disk: what `convert` writes and the OpenVINO backend reads.

    BASE/.optimized/VERSION/
        artefact.json       the manifest
        body-0.xml/.bin     OpenVINO's model of one signature
        around-0.pb         TensorFlow's part of it (front and tail), if there is one

The manifest holds the SHA-256 of every file, so that a damaged artefact is refused and not served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "artefact.json"
FORMAT = 2
DEVICE = "CPU"
"""What OpenVINO executes it on."""


class BadArtefact(Exception):
    """The artefact is missing, of another format, or damaged; the message says which."""


@dataclass(frozen=True)
class Program:
    """How one signature is executed: TensorFlow the front, OpenVINO the body, TensorFlow the tail.

    Tensors are named as in the signature's flat graph (converting.flat): "conv/Relu:0". Front and tail are
    parts of one graph, which TensorFlow executes in two calls.
    """

    body: str
    """File of OpenVINO's model."""
    inputs: Mapping[str, str]
    """Signature input -> its tensor."""
    outputs: Mapping[str, str]
    """Signature output -> its tensor."""
    body_inputs: Mapping[str, str]
    """OpenVINO's name -> the tensor that it is given."""
    body_outputs: Mapping[str, str]
    """Tensor -> OpenVINO's name for it."""
    conditions: Mapping[str, Condition]
    """Tensor that the body is given -> what must hold of it; TensorFlow executes requests that break it."""
    sizes: str | None = None
    """File of the body's graph with zeros for weights, where it depends on open sizes
    (embedded_server.execution.sizes)."""
    around: str | None = None
    """File of the graph that holds front and tail; None if OpenVINO executes all."""
    initializers: tuple[str, ...] = ()
    """Operations of that graph that fill its tables."""
    front: tuple[str, ...] = ()
    """Tensors that TensorFlow computes first, for the body or the tail."""
    front_checks: tuple[str, ...] = ()
    """Operations that are executed with the front for the errors that they raise."""
    tail: Mapping[str, str] = field(default_factory=dict)
    """The graph's placeholder -> the tensor that the tail is given there."""
    tail_checks: tuple[str, ...] = ()
    """As front_checks, with the tail."""
    multiplications: int = 0
    """Of one request with one row: how many the convolutions and matrix products need."""
    share: float = 0.0
    """The part of them that OpenVINO executes."""


@dataclass(frozen=True)
class Condition:
    """What must hold of a tensor so that the body answers like TensorFlow."""

    shape: tuple[int | None, ...]
    """None where any size but 0 goes."""
    bounds: Mapping[str, float] = field(default_factory=dict)
    """Precision -> the largest magnitude of its numbers, which must be finite; empty for other types than
    floats.
    """

    def bound(self, precision: str) -> float | None:
        """The bound in a precision; a CPU that does not compute it natively computes in f32."""
        return self.bounds.get(precision, self.bounds.get("f32"))


@dataclass(frozen=True)
class Manifest:
    """What an artefact is made of."""

    fingerprint: str
    """Of all that it was made from; the caller decides what that is."""
    model: str
    """SHA-256 over the files of the SavedModel (model_digest)."""
    programs: Mapping[str, Program]
    """By signature. Signatures that are the same in everything share their files."""
    unconverted: Mapping[str, str]
    """Signature -> why TensorFlow executes it."""
    files: Mapping[str, str]
    """File -> SHA-256."""
    native: tuple[str, ...] = ()
    """The precisions that the converting machine's CPU computes natively."""
    precision: str | None = None
    """What was chosen by measuring; None until that was done."""
    asked: str | None = None
    """What was asked for: auto, or one precision."""
    accepted: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Precision served -> signature -> the precision in which OpenVINO executes it.

    Only signatures that were proven; TensorFlow executes the others. A signature that disagrees in bf16 may
    be executed in f32 where bf16 is served.
    """


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
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise BadArtefact(f"the optimized artefact in {folder} has another format")
    try:
        programs = {name: _program(program) for name, program in content.pop("programs").items()}
        manifest = Manifest(programs=programs, **content)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadArtefact(
            f"the optimized artefact in {folder} is damaged: {MANIFEST} has other keys"
        ) from error
    for name, expected in manifest.files.items():
        path = folder / name
        if not path.is_file() or file_digest(path) != expected:
            raise BadArtefact(
                f"the optimized artefact in {folder} is damaged: {name} is not what was written"
            )
    return manifest


def _program(content: dict[str, Any]) -> Program:
    conditions = {
        tensor: Condition(tuple(condition["shape"]), condition["bounds"])
        for tensor, condition in content.pop("conditions").items()
    }
    names = ("initializers", "front", "front_checks", "tail_checks")
    lists: dict[str, Any] = {name: tuple(content.pop(name)) for name in names}
    return Program(conditions=conditions, **lists, **content)


def model_digest(version_folder: Path) -> str:
    """SHA-256 over the names and contents of a SavedModel's files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in version_folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(version_folder).as_posix()}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

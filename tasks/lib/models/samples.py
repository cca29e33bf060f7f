"""Sample requests of a model version, which fit what its graph does with its inputs.

A program of the embedded environment makes them once (docker/embedded's make_samples.py says what is in the
files). They are in a hidden folder next to the versions, so that the model's digest stays as it is. A person
may edit or replace them: what was edited is used, and not made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lib.client import inputs
from tasks.lib.client.inputs import PIXEL_RANGES, Sample
from tasks.lib.client.signature import DEFAULT_SIGNATURE, Signature
from tasks.lib.common import console, disk, locks
from tasks.lib.common.errors import ModelError, OptimizeError, SuiteError
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import environment, sources
from tasks.lib.models import store
from tasks.lib.models.publish import PARTIAL
from tasks.lib.models.store import Model, content_digest

FOLDER = ".samples"
"""Next to the versions. Not a number, so TensorFlow Serving passes it by."""
REQUESTS, ABOUT = "requests.jsonl", "about.json"
FORMAT = 1
PROGRAM = "embedded_server.make_samples"
PHOTO = "photo"
UNKNOWN_RANGE = (
    "the model does not tell in which range it expects pixels, so samples have all three in turn: 0..1, "
    "0..255 and -1..1; --pixels 0..1 says it"
)


@dataclass(frozen=True)
class Samples:
    """The requests of a model version."""

    file: Path
    requests: tuple[Sample, ...]
    """Of all signatures; those that name none are for the default one."""
    about: Mapping[str, Any]
    """See make_samples.py: what each input was taken for, by signature."""
    is_edited: bool
    """Whether a person has changed the file of requests."""

    def of(self, signature: Signature) -> list[Sample]:
        """Those for `signature`. Raises ModelError if there is none."""
        mine = [
            one for one in self.requests if inputs.signature_of(one.body, DEFAULT_SIGNATURE) == signature.name
        ]
        if not mine:
            problem = self._told(signature.name).get("problem") or f"{self.file.name} holds none for it"
            raise ModelError(
                f"There is no sample request for the signature {signature.name!r}: {problem}.",
                "Give --inputs a file of JSON requests (.jsonl), one a line.",
            )
        return mine

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user who relies on them has to know."""
        names = self.about.get("signatures", {})
        return (UNKNOWN_RANGE,) if any(map(self.lacks_range, names)) else ()

    def kind(self, signature: str, tensor: str) -> str:
        """What an input was taken for: photo, pixels, words, example, ... (make_samples.py)."""
        return str(self._told(signature).get("inputs", {}).get(tensor, {}).get("kind", ""))

    def kinds(self, signature: str) -> set[str]:
        """What its inputs were taken for."""
        return {self.kind(signature, tensor) for tensor in self._told(signature).get("inputs", {})}

    def takes_photos(self, signature: str) -> bool:
        """Whether an input takes photos, encoded or as pixels."""
        return any(kind == "pixels" or kind.endswith(PHOTO) for kind in self.kinds(signature))

    def is_photo(self, signature: Signature) -> bool:
        """Whether its one input takes an encoded photo as it is."""
        return len(signature.inputs) == 1 and self.kinds(signature.name) == {PHOTO}

    def is_random(self, signature: str) -> bool:
        """Whether TensorFlow answers one request differently from call to call."""
        return bool(self._told(signature).get("random"))

    def pixels(self, signature: str) -> str | None:
        """The range in which it expects pixels; None if it takes none, or does not tell."""
        told = self._told(signature).get("inputs", {}).values()
        return next(
            (
                signature_about["pixels"]
                for signature_about in told
                if signature_about.get("pixels") is not None
            ),
            None,
        )

    def photo_size(self, signature: str) -> tuple[int, int] | None:
        """Height and width that encoded photos must have; None for any."""
        told = self._told(signature).get("inputs", {}).values()
        sizes = [signature_about["photo_size"] for signature_about in told if "photo_size" in signature_about]
        return (sizes[0][0], sizes[0][1]) if sizes else None

    def lacks_range(self, signature: str) -> bool:
        """Whether the model takes pixels and does not tell in which range."""
        told = self._told(signature).get("inputs", {}).values()
        return any(
            signature_about["kind"] == "pixels" and signature_about.get("pixels") is None
            for signature_about in told
        )

    def _told(self, signature: str) -> Mapping[str, Any]:
        told: Mapping[str, Any] = self.about.get("signatures", {}).get(signature, {})
        return told


def folder_of(model: Model) -> Path:
    """Where the samples of this model version are."""
    return model.base / FOLDER / str(model.version)


def decided(model: Model) -> str:
    """What a person has decided about the samples; an empty text if nothing.

    SHA-256 of the requests if they were edited, else the range of pixels if it was said.
    """
    try:
        text = (folder_of(model) / REQUESTS).read_bytes()
        about = json.loads((folder_of(model) / ABOUT).read_text(encoding="utf-8"))
        made, pixels = about["requests"], _pixels_in(about["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""
    digest = hashlib.sha256(text).hexdigest()
    return (pixels or "") if digest == made else digest


def ensure(settings: Settings, model: Model, pixels: str | None = None) -> Samples:
    """The samples of this model version; they are made if they are missing or stale.

    pixels: one of PIXEL_RANGES, if a person says it; None for what was said before, or what the model says.

    Raises OptimizeError if the program that makes them fails, SuiteError if an edited file cannot be read.
    """
    samples = _read(settings, model, pixels)
    if samples is not None:
        return samples
    environment.ensure(settings)
    with locks.held(settings.paths, f"samples-{model.name}", f"it is making samples of {model.name}"):
        samples = _read(settings, model, pixels)
        if samples is None:
            try:
                _make(settings, model, pixels or _said_before(model))
            except OSError as error:
                raise disk.unwritable(settings.paths.shown(model.base), error) from error
            samples = _read(settings, model, pixels)
    if samples is None:
        raise OptimizeError(f"{model} was changed while its samples were being made.", "Try again.")
    return samples


def if_possible(settings: Settings, model: Model, pixels: str | None = None) -> Samples | None:
    """The samples, if they are there or can be made without building the embedded environment.

    A model that the embedded environment cannot load may still be served elsewhere: that is said, and none
    are returned. Raises SuiteError if an edited file cannot be read.
    """
    if not environment.is_built(settings):
        return _read(settings, model, pixels)
    try:
        return ensure(settings, model, pixels)
    except OptimizeError as error:
        console.note(f"no samples of {model}: {error.problem}")
        return None


def of_server(settings: Settings, name: str, version: int, *, make: bool = False) -> Samples | None:
    """The samples of a model that is served, if they are there; with `make` also if they can be made."""
    try:
        model = store.find(settings.paths, f"{name}@{version}")
    except SuiteError:
        return None
    return if_possible(settings, model) if make else _read(settings, model, None)


def _read(settings: Settings, model: Model, pixels: str | None) -> Samples | None:
    """None if there are none, or they were made from something else and not edited."""
    folder = folder_of(model)
    try:
        text = (folder / REQUESTS).read_bytes()
        about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        is_edited = hashlib.sha256(text).hexdigest() != about["requests"]
        expected = fingerprint(settings, model, pixels or _pixels_in(about["fingerprint"]))
        if not is_edited and (about["fingerprint"] != expected or about.get("format") != FORMAT):
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if is_edited:
        console.note(f"samples: {settings.paths.shown(folder / REQUESTS)}, as you have edited them")
    requests = tuple(inputs.requests_in(folder / REQUESTS)) if text.strip() else ()
    return Samples(folder / REQUESTS, requests, about, is_edited)


def fingerprint(settings: Settings, model: Model, pixels: str | None) -> str:
    """Of everything that decides what the samples are, with the range of pixels that a person has said."""
    root = settings.paths.root
    digest = hashlib.sha256(content_digest(model.folder).encode())
    digest.update((root / environment.LOCK).read_bytes())
    for path in sources.imported(root / environment.SOURCES, [PROGRAM]):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    for photo in inputs.sample_photos(settings.paths):
        digest.update(photo.read_bytes())
    return f"{digest.hexdigest()} {pixels or ''}"


def _pixels_in(fingerprint: str) -> str | None:
    return fingerprint.partition(" ")[2] or None


def _said_before(model: Model) -> str | None:
    try:
        about = json.loads((folder_of(model) / ABOUT).read_text(encoding="utf-8"))
        return _pixels_in(about["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _make(settings: Settings, model: Model, pixels: str | None) -> None:
    base = model.base / FOLDER
    base.mkdir(exist_ok=True)
    for leftover in base.glob(f"{PARTIAL}*"):  # of a call that was killed: the lock is held
        shutil.rmtree(leftover, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=base))
    workplace.chmod(0o755)
    made = workplace / str(model.version)
    try:
        arguments = [
            f"--model={model.folder}",
            f"--photos={settings.paths.root / inputs.SAMPLES}",
            f"--output={made}",
            f"--fingerprint={fingerprint(settings, model, pixels)}",
            *([f"--pixels={pixels}"] if pixels else []),
        ]
        label = f"making sample requests for {model}"
        environment.run(settings, PROGRAM, arguments, label, OptimizeError, model.name)
        target = folder_of(model)
        if target.exists():
            target.rename(workplace / "old")
        made.rename(target)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
        if not any(base.iterdir()):
            base.rmdir()


def check_pixels(text: str) -> str | None:
    """`text` as a range of pixels; None for an empty one. Raises SuiteError for another."""
    if text and text not in PIXEL_RANGES:
        raise SuiteError(f"{text!r} is not a range of pixels.", f"Choose one of: {', '.join(PIXEL_RANGES)}.")
    return text or None

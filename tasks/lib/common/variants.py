"""Named ways of serving a model: invoke.yaml -> Variant."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.lib.common.errors import SettingError
from tasks.lib.common.settings import PRECISIONS, Settings

BACKENDS = {"tensorflow": "TensorFlow", "openvino": "OpenVINO", "serving": "TF Serving"}
"""What executes the model, and how tables call it. TensorFlow Serving exists on Docker only."""
EMBEDDED = ("tensorflow", "openvino")
"""The backends of the embedded server."""
IMAGES = ("stock", "optimized", "embedded")
"""What a variant can call an image: the published one, and those that build tasks make."""


class NotOnEngine(SettingError):
    """The variant is there, but says nothing about the engine it was asked for on."""


@dataclass(frozen=True)
class Container:
    """What a variant is on Docker."""

    image: str
    """One of IMAGES, or an image's own name."""
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Variant:
    """A named way of serving a model, on one engine."""

    name: str
    backend: str
    """A key of BACKENDS."""
    precision: str
    """The number format of the arithmetic; "auto" means the one that build.optimized chose."""
    container: Container | None = None
    """None on the local engine."""
    arguments: tuple[str, ...] = ()
    """For the server, after the suite's own."""

    @property
    def needs_artefact(self) -> bool:
        """Whether it serves the artefact of build.optimized instead of the SavedModel itself."""
        return self.backend == "openvino"


def find(settings: Settings, name: str, engine: str = "local") -> Variant:
    """The variant called `name` as it is on `engine`.

    Raises SettingError if there is none or if it is malformed, NotOnEngine if it is not for `engine`.
    """
    table = settings.variants.get(name)
    if table is None:
        raise SettingError(
            f"There is no variant {name!r}.",
            f"Choose one of {', '.join(settings.variants)}, or add it under `variants` in invoke.yaml.",
        )
    # A table without sides is the local one: what a variant was before there was Docker.
    sides = {side: read(name, table[side]) for side, read in _READINGS.items() if side in table}
    unknown = set(table) - set(_READINGS)
    if not sides:
        sides = {"local": _local(name, table)}
    elif unknown:
        raise _wrong(name, f"unknown settings: {_listed(unknown)}")
    if engine not in sides:
        raise NotOnEngine(
            f"The variant {name!r} is not for the {engine} engine.",
            f"Choose --engine {next(iter(sides))}, or add variants.{name}.{engine} in invoke.yaml.",
        )
    return sides[engine]


def check(settings: Settings, name: str) -> None:
    """Raises SettingError if there is no such variant, or if it is malformed."""
    try:
        find(settings, name)
    except NotOnEngine:
        return


def _local(name: str, table: Any) -> Variant:
    fields = _fields(name, table, {"backend", "precision", "arguments"})
    backend = str(fields.get("backend", EMBEDDED[0]))
    if backend not in EMBEDDED:
        raise _wrong(name, f"backend {backend!r}, not one of: {', '.join(EMBEDDED)}")
    return Variant(name, backend, _precision(name, backend, fields), arguments=_arguments(name, fields))


def _docker(name: str, table: Any) -> Variant:
    known = {"image", "arguments", "environment", "backend", "precision"}
    fields = _fields(name, table, known)
    image = str(fields.get("image", "")).strip()
    if not image:
        raise _wrong(name, "no image")
    container = Container(image, _environment(name, fields))
    backend = str(fields.get("backend", "tensorflow" if image == "embedded" else "serving"))
    if backend not in BACKENDS or (image == "embedded" and backend not in EMBEDDED):
        choices = EMBEDDED if image == "embedded" else BACKENDS
        raise _wrong(name, f"backend {backend!r}, not one of: {', '.join(choices)}")
    return Variant(name, backend, _precision(name, backend, fields), container, _arguments(name, fields))


_READINGS = {"local": _local, "docker": _docker}


def _precision(name: str, backend: str, fields: Mapping[str, Any]) -> str:
    """The first is what the backend does by itself."""
    allowed = {"openvino": ("auto", *PRECISIONS), "serving": PRECISIONS}.get(backend, ("f32",))
    precision = str(fields.get("precision", allowed[0]))
    if precision not in allowed:
        raise _wrong(name, f"precision {precision!r}; {backend} offers: {', '.join(allowed)}")
    return precision


def _arguments(name: str, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """A list, or text as one would type it."""
    value = fields.get("arguments") or []
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError:
            raise _wrong(name, "arguments with a quote that is not closed") from None
    if not isinstance(value, (list, tuple)):
        raise _wrong(name, "arguments that are not a list")
    return tuple(str(word) for word in value)


def _environment(name: str, fields: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    value = fields.get("environment") or {}
    if not hasattr(value, "keys"):
        raise _wrong(name, "an environment that is not a table of names and values")
    return tuple((str(key), str(value[key])) for key in value)


def _fields(name: str, table: Any, known: set[str]) -> dict[str, Any]:
    if not hasattr(table, "keys"):
        raise _wrong(name, "text where a table of settings must be")
    fields = {key: table[key] for key in table}
    unknown = set(fields) - known
    if unknown:
        raise _wrong(name, f"unknown settings: {_listed(unknown)}")
    return fields


def _listed(names: set[Any]) -> str:
    return ", ".join(sorted(map(str, names)))


def _wrong(name: str, what: str) -> SettingError:
    return SettingError(f"The variant {name!r} has {what}.", f"Fix variants.{name} in invoke.yaml.")

"""Named ways of serving a model: invoke.yaml -> Variant."""

from __future__ import annotations

from dataclasses import dataclass

from tasks.lib.errors import SettingError
from tasks.lib.settings import PRECISIONS, Settings

BACKENDS = {"tensorflow": "TensorFlow", "openvino": "OpenVINO"}
"""What executes the model, and how tables call it."""


@dataclass(frozen=True)
class Variant:
    """A named way of serving a model."""

    name: str
    backend: str
    """A key of BACKENDS."""
    precision: str
    """The number format of the arithmetic; "auto" means the one that build.optimized chose."""

    @property
    def is_optimized(self) -> bool:
        """Whether it serves the artefact of build.optimized instead of the SavedModel itself."""
        return self.backend == "openvino"


def find(settings: Settings, name: str) -> Variant:
    """The variant called `name`. Raises SettingError if there is none, or if it is malformed."""
    table = settings.variants.get(name)
    if table is None:
        raise SettingError(
            f"There is no variant {name!r}.",
            f"Choose one of {', '.join(settings.variants)}, or add it under `variants` in invoke.yaml.",
        )
    remedy = f"Mend variants.{name} in invoke.yaml."
    unknown = set(table) - {"backend", "precision"}
    if unknown:
        raise SettingError(
            f"The variant {name!r} has unknown settings: {', '.join(sorted(map(str, unknown)))}.", remedy
        )
    backend = str(table.get("backend", "tensorflow"))
    if backend not in BACKENDS:
        raise SettingError(
            f"The variant {name!r} has backend {backend!r}, not one of: {', '.join(BACKENDS)}.", remedy
        )
    allowed = ("auto", *PRECISIONS) if backend == "openvino" else ("f32",)
    precision = str(table.get("precision", allowed[0]))
    if precision not in allowed:
        raise SettingError(
            f"The variant {name!r} has precision {precision!r}; {backend} offers: {', '.join(allowed)}.",
            remedy,
        )
    return Variant(name, backend, precision)

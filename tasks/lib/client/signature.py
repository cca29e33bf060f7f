"""What a model takes and gives: the part of `GET .../metadata` that clients need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.lib.common.errors import ModelError, ServerError

DEFAULT_SIGNATURE = "serving_default"
PREDICT_METHOD = "tensorflow/serving/predict"
_OF_TENSORFLOW = "__saved_model_"
_NO_TENSOR = "DT_INVALID"
"""The type of an output that is an operation, as of what TensorFlow executes to load or to save a model."""


@dataclass(frozen=True)
class Tensor:
    """One named input or output."""

    name: str
    dtype: str
    """TensorFlow's name: DT_STRING, DT_FLOAT, ..."""
    shape: tuple[int | None, ...] | None
    """None for a size, or a rank, that is not fixed."""

    @property
    def is_image_bytes(self) -> bool:
        """Whether this looks like encoded images: a batch of strings."""
        return self.dtype == "DT_STRING" and (self.shape is None or len(self.shape) == 1)

    @property
    def is_pixels(self) -> bool:
        """Whether this looks like decoded images: [batch, height, width, 3] numbers."""
        return (
            self.dtype != "DT_STRING"
            and self.shape is not None
            and len(self.shape) == 4
            and self.shape[3] == 3
        )


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one signature, each sorted by name."""

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]


def default_signature(metadata: Mapping[str, Any]) -> Signature:
    """The signature that is meant where none is named.

    `serving_default`; where there is none, the first by name, of predict signatures if there are some. Raises
    ModelError if the model has no signature that can be asked, and ServerError if `metadata` is not what
    TensorFlow Serving answers.
    """
    definitions = _definitions(metadata)
    if not definitions:
        raise ModelError(
            "The model has no signature that can be asked.",
            f"Export it with a signature called {DEFAULT_SIGNATURE}.",
        )
    predicting = [
        name for name, definition in definitions.items() if definition.get("method_name") == PREDICT_METHOD
    ]
    name = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in definitions else min(predicting or definitions)
    return _signature(name, definitions[name])


def signature_names(metadata: Mapping[str, Any]) -> list[str]:
    """The signatures that can be asked, sorted. Raises ServerError as default_signature."""
    return sorted(_definitions(metadata))


def named_signature(metadata: Mapping[str, Any], name: str) -> Signature:
    """The signature called `name`. Raises ModelError if there is none, ServerError as default_signature."""
    definitions = _definitions(metadata)
    if name not in definitions:
        raise ModelError(
            f"The model has no signature {name!r}.", f"Choose one of: {', '.join(sorted(definitions))}."
        )
    return _signature(name, definitions[name])


def _definitions(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Those that can be asked: not what TensorFlow itself executes to load and to save a model."""
    try:
        definitions = dict(metadata["metadata"]["signature_def"]["signature_def"])
        return {
            name: definition for name, definition in definitions.items() if _can_be_asked(name, definition)
        }
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ServerError(
            "The server describes no signatures in its metadata.", "Check the address and what listens there."
        ) from None


def _can_be_asked(name: str, definition: Mapping[str, Any]) -> bool:
    types = {output["dtype"] for output in definition.get("outputs", {}).values()}
    return types != {_NO_TENSOR} and not name.startswith(_OF_TENSORFLOW)


def _signature(name: str, definition: Mapping[str, Any]) -> Signature:
    return Signature(name, _tensors(definition.get("inputs", {})), _tensors(definition.get("outputs", {})))


def _tensors(table: Mapping[str, Any]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name, one["dtype"], _shape(one.get("tensor_shape", {}))) for name, one in sorted(table.items())
    )


def _shape(shape: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    if shape.get("unknown_rank"):
        return None
    sizes = (int(dimension.get("size", 0)) for dimension in shape.get("dim", []))
    return tuple(None if size < 0 else size for size in sizes)

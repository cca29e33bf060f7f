"""Photos, metadata and requests that tests make up."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.lib.client.serving_messages import message

WIDTH, HEIGHT = 40, 30
"""Of pictures."""


def picture(format: str = "JPEG", mode: str = "RGB", size: tuple[int, int] = (WIDTH, HEIGHT)) -> bytes:
    """A picture with something to see: a slope from black to colour."""
    slope = np.linspace(0, 255, size[0] * size[1] * 3).astype("uint8").reshape(size[1], size[0], 3)
    written = BytesIO()
    Image.fromarray(slope).convert(mode).save(written, format)
    return written.getvalue()


Put = Callable[[str, bytes], Path]


def metadata(signature: str = "serving_default", **tensors: tuple[str, list[int] | None]) -> dict[str, Any]:
    """A model with these inputs: name=(dtype, shape), None for a rank that is not fixed."""
    described = {
        name: {
            "dtype": dtype,
            "tensor_shape": {"unknown_rank": True}
            if shape is None
            else {"dim": [{"size": str(size)} for size in shape]},
        }
        for name, (dtype, shape) in tensors.items()
    }
    definition = {"inputs": described, "outputs": {}, "method_name": "tensorflow/serving/predict"}
    return {"metadata": {"signature_def": {"signature_def": {signature: definition}}}}


def features(instance: Mapping[str, str]) -> dict[str, list[Any]]:
    """What a serialized tf.Example of a request holds."""
    made = message("Example", base64.b64decode(instance["b64"]))
    found = {}
    for entry in made.features.feature:
        (kind,) = entry.value.ListFields() or ((None, message("BytesList")),)
        found[entry.key] = list(kind[1].value)
    return found

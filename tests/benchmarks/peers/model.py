"""The SavedModel as every peer loads it: TensorFlow's own way, warmed up for the batches that they make."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from contract import LARGEST_BATCH, MODEL, PHOTO


class Model:
    """Photos in, classes and probabilities out."""

    def __init__(self) -> None:
        self._loaded = tf.saved_model.load(os.environ[MODEL])  # keeps the variables
        self._signature = self._loaded.signatures["serving_default"]
        (self._input,) = self._signature.structured_input_signature[1]
        photo = Path(os.environ[PHOTO]).read_bytes()
        for size in range(1, LARGEST_BATCH + 1):
            self.predict([photo] * size)

    def predict(self, photos: Sequence[bytes]) -> list[dict[str, Any]]:
        """An answer for each photo."""
        outputs = self._signature(**{self._input: tf.constant(photos)})
        columns = {name: tensor.numpy().tolist() for name, tensor in outputs.items()}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

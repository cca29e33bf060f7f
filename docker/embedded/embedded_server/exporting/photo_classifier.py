"""What the models of the catalogue are saved as: JPEG bytes in, class and probabilities out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import tensorflow as tf

Decode = Callable[[tf.Tensor], tf.Tensor]
"""JPEG bytes -> [side, side, 3], as the network takes images."""


class PhotoClassifier(tf.Module):  # type: ignore[misc]
    """Decodes each photo, and gives all of them to `probabilities`: [n, side, side, 3] -> [n, classes].

    network: has the variables that `probabilities` uses, which are saved with it.
    """

    def __init__(self, network: tf.Module, probabilities: Decode, decode: Decode, side: int) -> None:
        super().__init__(name="classifier")
        self.network = network
        self._probabilities, self._decode, self._side = probabilities, decode, side

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])  # type: ignore[untyped-decorator]
    def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        image = tf.TensorSpec([self._side, self._side, 3], tf.float32)
        images = tf.map_fn(self._decode, image_bytes, fn_output_signature=image)
        probabilities = self._probabilities(images)
        return {"classes": tf.argmax(probabilities, axis=1), "probabilities": probabilities}

    def save(self, output: Path) -> None:
        """As a SavedModel, with the signatures of the official ResNet."""
        signature = self.serve.get_concrete_function()
        signatures = {"serving_default": signature, "predict": signature}
        tf.saved_model.save(self, str(output), signatures=signatures)

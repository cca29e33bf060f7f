"""Makes the worked example's model where its archive cannot be reached.

The architecture is that of the official archive: ResNet-50 v2 (He et al. 2016, pre-activation, with
the stride on the 3x3 convolution), 224x224, 1001 classes, JPEG bytes in. The weights are seeded, so
timings hold and classes mean nothing. They are not plain random numbers: a freshly initialised
ResNet gives nearly every photo the same class with a probability near 0.001, and two servers that
disagree would look alike. So the batch-norm statistics are those of the sample photos, and the head
is fitted so that each photo gets a class of its own, ahead of all others by a margin in the logits.

    python -m embedded_server.seeded --output DIR --photos DIR [--seed N]
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from embedded_server.exporting.photo_classifier import PhotoClassifier

SIZE = 224
RESIZED_SIDE = 256
CLASSES = 1001
CHANNEL_MEANS = (123.68, 116.78, 103.94)
"""Subtracted from RGB; the ones of the official model (and of VGG before it)."""
STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Filters, blocks and stride of each stage of ResNet-50; a block's output has four times the filters."""
EPSILON = 1e-5
TOP_LOGIT = 6.0
"""A photo's own class gets this logit. The others stay near zero, so that its probability is about
0.3: far ahead of the second, and far from 1, where differences between servers would vanish."""
OTHER_LOGITS = 0.5
"""Standard deviation of the other classes' logits over the photos, before the fit."""

BRANCH_GAIN = 0.5
"""Of the last convolution of each block. Branches as large as their shortcut drown what tells photos
apart in fifty layers of rounding; training makes them smaller too. Measured: bf16 moves a probability
by up to 0.06 at gain 1, and by 0.01 at 0.5."""

Normalize = Callable[[str, tf.Tensor], tf.Tensor]


class ResNet50V2(tf.Module):  # type: ignore[misc]
    """ResNet-50 v2 over decoded images; `variables_by_name` holds every weight."""

    def __init__(self, seed: int) -> None:
        super().__init__(name="resnet")
        self.variables_by_name: dict[str, tf.Variable] = {}
        self._random = np.random.default_rng(seed)

    def features(self, images: tf.Tensor, normalize: Normalize) -> tf.Tensor:
        """[n, 224, 224, 3] mean-free RGB -> [n, 2048]. `normalize(name, x)` does batch norm."""
        x = self._convolution("stem", images, 64, kernel=7, stride=2)
        x = tf.nn.max_pool2d(x, 3, 2, "SAME")
        for stage, (filters, blocks, stride) in enumerate(STAGES, start=1):
            for block in range(1, blocks + 1):
                x = self._block(
                    f"stage{stage}/block{block}", x, filters, stride if block == 1 else 1, normalize
                )
        return tf.reduce_mean(tf.nn.relu(normalize("final", x)), axis=[1, 2])

    def _block(self, name: str, x: tf.Tensor, filters: int, stride: int, normalize: Normalize) -> tf.Tensor:
        shortcut = x
        x = tf.nn.relu(normalize(f"{name}/norm1", x))
        if name.endswith("block1"):
            shortcut = self._convolution(f"{name}/shortcut", x, 4 * filters, kernel=1, stride=stride)
        x = self._convolution(f"{name}/conv1", x, filters, kernel=1)
        x = tf.nn.relu(normalize(f"{name}/norm2", x))
        x = self._convolution(f"{name}/conv2", x, filters, kernel=3, stride=stride)
        x = tf.nn.relu(normalize(f"{name}/norm3", x))
        return shortcut + self._convolution(f"{name}/conv3", x, 4 * filters, kernel=1, gain=BRANCH_GAIN)

    def _convolution(
        self, name: str, x: tf.Tensor, filters: int, kernel: int, stride: int = 1, gain: float = 1.0
    ) -> tf.Tensor:
        channels = int(x.shape[-1])
        # He initialisation: keeps the variance through ReLUs (He et al. 2015).
        deviation = gain * np.sqrt(2 / (kernel * kernel * channels))
        shape = (kernel, kernel, channels, filters)
        weights = self.weight(f"{name}/weights", lambda: self._random.normal(0, deviation, shape))
        if stride == 1:
            return tf.nn.conv2d(x, weights, 1, "SAME")
        # The official model pads by kernel size alone, whatever the image size.
        before = (kernel - 1) // 2
        around = [before, kernel - 1 - before]
        return tf.nn.conv2d(tf.pad(x, [[0, 0], around, around, [0, 0]]), weights, stride, "VALID")

    def weight(self, name: str, value: Callable[[], np.ndarray]) -> tf.Variable:
        """The weight called `name`, made from `value` when it is first asked for."""
        if name not in self.variables_by_name:
            self.variables_by_name[name] = tf.Variable(value().astype(np.float32), name=name, trainable=False)
        return self.variables_by_name[name]

    def calibrate(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Batch norm by the statistics of `x`, which become the layer's own."""
        mean, variance = tf.nn.moments(x, axes=[0, 1, 2])
        self.weight(f"{name}/mean", mean.numpy)
        self.weight(f"{name}/variance", variance.numpy)
        return self.normalize(name, x)

    def normalize(self, name: str, x: tf.Tensor) -> tf.Tensor:
        """Batch norm by the statistics that `calibrate` kept."""
        mean, variance = self.variables_by_name[f"{name}/mean"], self.variables_by_name[f"{name}/variance"]
        return tf.nn.batch_normalization(x, mean, variance, None, None, EPSILON)

    def fit_head(self, features: np.ndarray) -> None:
        """Weights [2048, 1001] and bias that give row i of `features` its own class.

        A random head decides the other logits; the smallest change of it that puts each photo's own
        logit at TOP_LOGIT is added (there are fewer photos than features, so it fits exactly).
        """
        classes = self._random.choice(np.arange(1, CLASSES), size=len(features), replace=False)
        center = features.mean(axis=0)
        centered = features - center
        weights = self._random.normal(0, 1, (features.shape[1], CLASSES))
        weights *= OTHER_LOGITS / (centered @ weights).std()
        logits = centered @ weights
        logits[:, classes] = 0
        logits[np.arange(len(features)), classes] = TOP_LOGIT
        # The photos' mean is no photo of its own, so n rows have rank n-1; the bias is the n-th column.
        design = np.hstack([centered, np.full((len(features), 1), np.linalg.norm(centered, axis=1).mean())])
        start = np.vstack([weights, np.zeros((1, CLASSES))])
        solution = start + np.linalg.pinv(design) @ (logits - design @ start)
        weights, bias = solution[:-1], solution[-1] * design[0, -1]
        self.weight("head/weights", lambda: weights)
        self.weight("head/bias", lambda: bias - center @ weights)

    def probabilities(self, images: tf.Tensor) -> tf.Tensor:
        """[n, 224, 224, 3] mean-free RGB -> [n, 1001]."""
        logits = tf.linalg.matmul(
            self.features(images, self.normalize), self.variables_by_name["head/weights"]
        )
        return tf.nn.softmax(logits + self.variables_by_name["head/bias"])


def decode(jpeg: tf.Tensor) -> tf.Tensor:
    """JPEG bytes -> [224, 224, 3] mean-free RGB: shorter side to 256, then the central square."""
    image = tf.image.decode_jpeg(jpeg, channels=3)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    scale = RESIZED_SIDE / tf.minimum(height, width)
    resized_height = tf.cast(tf.round(tf.cast(height, tf.float64) * scale), tf.int32)
    resized_width = tf.cast(tf.round(tf.cast(width, tf.float64) * scale), tf.int32)
    image = tf.image.resize(image, [resized_height, resized_width])
    top, left = (resized_height - SIZE) // 2, (resized_width - SIZE) // 2
    image = tf.slice(image, [top, left, 0], [SIZE, SIZE, 3])
    return image - tf.constant(CHANNEL_MEANS)


def build(output: Path, photos: Sequence[Path], seed: int) -> list[dict[str, object]]:
    """Save the model in `output` and return, for each photo, its class and margin over the second.

    Raises ValueError if the photos cannot be told apart.
    """
    images = tf.stack([decode(photo.read_bytes()) for photo in photos])
    network = ResNet50V2(seed)
    network.fit_head(network.features(images, network.calibrate).numpy().astype(np.float64))
    probabilities = network.probabilities(images).numpy()
    ranked = np.sort(probabilities, axis=1)
    report = [
        {
            "photo": photo.name,
            "class": int(row.argmax()),
            "probability": float(top[-1]),
            "margin": float(top[-1] - top[-2]),
        }
        for photo, row, top in zip(photos, probabilities, ranked, strict=True)
    ]
    if len({entry["class"] for entry in report}) < len(photos):
        raise ValueError("the seeded weights do not tell the photos apart; choose another seed")
    PhotoClassifier(network, network.probabilities, decode, SIZE).save(output)
    return report


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embedded_server.seeded")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    flags = parser.parse_args(argv)
    photos = sorted(flags.photos.glob("*.jpg"))
    json.dump(build(flags.output, photos, flags.seed), sys.stdout, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes EfficientNet-Lite0 from published weights: JPEG bytes in, ImageNet's 1000 classes out.

The architecture is EfficientNet-B0 (Tan and Le, ICML 2019) without squeeze and excitation, and with ReLU6
instead of swish: https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. The weights
are a state dict of PyTorch, which was converted from TensorFlow's own.

    python -m embedded_server.efficientnet --weights FILE --output DIR

The exit status is 3, with a sentence on stderr, if the weights are refused.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from embedded_server.exporting import state_dict
from embedded_server.exporting.errors import Refused
from embedded_server.exporting.photo_classifier import PhotoClassifier

REFUSED = 3
SIZE = 224
CROPPED = SIZE / (SIZE + 32)
"""Side of the square in the photo's centre that is looked at, as a part of the photo's shorter side."""
MEAN, DEVIATION = 127.0, 128.0
"""The network takes (pixel - MEAN) / DEVIATION. The square, the bicubic resize and these two are what the
weights were trained with (efficientnet_lite_builder.py and ../preprocessing.py at the address above)."""
CLASSES = 1000
STEM, HEAD = 32, 1280
"""Filters of the first and of the last convolution."""
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, size of the kernel, stride of the first block, expansion, and filters of each stage."""
EPSILON = 1e-3


def network() -> keras.Model:
    """The architecture: [n, 224, 224, 3] -> probabilities [n, 1000]. See `name_of` for its layers."""
    images = layers.Input([SIZE, SIZE, 3])
    x = _normalized(_convolution(images, "conv_stem", STEM, 3, 2), "bn0")
    place = 0
    for blocks, kernel, stride, expansion, filters in STAGES:
        for block in range(blocks):
            x = _block(x, f"blocks.{place}", kernel, stride if block == 0 else 1, expansion, filters)
            place += 1
    x = _normalized(_convolution(x, "conv_head", HEAD, 1), "bn1")
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, layers.Dense(CLASSES, activation="softmax", name="fc")(x))


def _block(x: Any, name: str, kernel: int, stride: int, expansion: int, filters: int) -> Any:
    """An inverted residual: wider, a convolution of each channel by itself, narrower."""
    shortcut, channels = x, x.shape[-1]
    if expansion > 1:
        wider = _convolution(x, f"{name}.expand_conv", channels * expansion, 1)
        x = _normalized(wider, f"{name}.bn0")
    depthwise = layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}.depthwise_conv"
    )
    x = _normalized(depthwise(x), f"{name}.bn1")
    x = _convolution(x, f"{name}.project_conv", filters, 1)
    x = layers.BatchNormalization(epsilon=EPSILON, name=f"{name}.bn2")(x)
    return layers.Add()([x, shortcut]) if stride == 1 and channels == filters else x


def _convolution(x: Any, name: str, filters: int, kernel: int, stride: int = 1) -> Any:
    return layers.Conv2D(filters, kernel, stride, padding="same", use_bias=False, name=name)(x)


def _normalized(x: Any, name: str) -> Any:
    return layers.ReLU(6.0)(layers.BatchNormalization(epsilon=EPSILON, name=name)(x))


def load(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Give each layer its weights. Raises Refused if one is missing, has another shape, or is not needed."""
    left = {name for name in weights if not name.endswith(".num_batches_tracked")}
    for layer in model.layers:
        if not layer.weights:
            continue
        names = [f"{name_of(layer)}.{part}" for part in parts(layer)]
        missing = [name for name in names if name not in weights]
        if missing:
            raise Refused(f"it has no {missing[0]}")
        values = [_turned(layer, weights[name]) for name in names]
        for name, value, variable in zip(names, values, layer.weights, strict=True):
            if value.shape != tuple(variable.shape) or value.dtype != np.float32:
                raise Refused(f"its {name} is {value.dtype} {weights[name].shape}, and does not fit")
            if not np.isfinite(value).all():
                raise Refused(f"its {name} is not finite")
        layer.set_weights(values)
        left -= set(names)
    if left:
        raise Refused(f"it has {min(left)}, which this network does not have")


def name_of(layer: layers.Layer) -> str:
    """What the state dict calls a layer: "_blocks.0._bn1"; TensorFlow has no names with such a beginning."""
    return ".".join(part if part.isdigit() else f"_{part}" for part in layer.name.split("."))


def parts(layer: layers.Layer) -> tuple[str, ...]:
    """What the state dict calls the weights of a layer, in Keras's order."""
    if isinstance(layer, layers.BatchNormalization):
        return "weight", "bias", "running_mean", "running_var"
    return ("weight", "bias") if isinstance(layer, layers.Dense) else ("weight",)


def _turned(layer: layers.Layer, value: np.ndarray) -> np.ndarray:
    """From PyTorch's order of axes to TensorFlow's."""
    if value.ndim != 4:
        return np.asarray(value.T)
    # [channels, 1, height, width], else [out, in, height, width]
    axes = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return np.asarray(value.transpose(axes))


def decode(jpeg: tf.Tensor) -> tf.Tensor:
    """JPEG bytes -> [224, 224, 3], as the network takes images."""
    image = tf.image.decode_jpeg(jpeg, channels=3)
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    shorter = tf.cast(tf.minimum(height, width), tf.float32)
    side = tf.maximum(tf.cast(tf.round(shorter * CROPPED), tf.int32), 1)
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    image = tf.slice(image, [top, left, 0], [side, side, 3])
    return (tf.image.resize(image, [SIZE, SIZE], "bicubic") - MEAN) / DEVIATION


def build(weights: Path, output: Path) -> None:
    """Save the model in `output`. Raises Refused."""
    model = network()
    load(model, state_dict.read(weights))
    PhotoClassifier(model, lambda images: model(images, training=False), decode, SIZE).save(output)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embedded_server.efficientnet")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    flags = parser.parse_args(argv)
    try:
        build(flags.weights, flags.output)
    except Refused as refusal:
        print(f"The weights in {flags.weights.name} are refused: {refusal}.", file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Networks on pixels, as the papers draw them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from zoo.kind import DEFAULT, Kind, exported, floats, save, served, spec, weight

layers = tf.keras.layers
ops = tf.keras.ops


def on_pixels(body: Callable[[Any], Any], *shape: int | None) -> Callable[[Path], None]:
    """A `write` for a network that `body` makes of pixels of this shape."""

    def build() -> Any:
        pixels = layers.Input(shape, name="pixels")
        return tf.keras.Model(pixels, body(pixels))

    return exported(build)


def head(x: Any, classes: int = 5) -> Any:
    return layers.Dense(classes, activation="softmax")(layers.GlobalAveragePooling2D()(x))


def normed(x: Any, filters: int, size: int = 3, **options: Any) -> Any:
    x = layers.Conv2D(filters, size, padding="same", use_bias=False, **options)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def cnn(x: Any) -> Any:
    return head(layers.MaxPooling2D()(normed(x, 8)))


def resnet(x: Any) -> Any:
    x = normed(x, 8)
    branch = layers.Conv2D(8, 3, padding="same")(normed(x, 8, strides=2))
    return head(layers.ReLU()(layers.Conv2D(8, 1, strides=2)(x) + branch))


def densenet(x: Any) -> Any:
    x = normed(x, 6)
    for _ in range(2):
        x = layers.Concatenate()([x, normed(x, 4)])
    return head(layers.AveragePooling2D(2)(layers.Conv2D(8, 1)(x)))


def mobilenet(x: Any) -> Any:
    x = normed(x, 8, strides=2)
    x = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(x))
    return head(layers.SeparableConv2D(12, 3, activation="relu6")(layers.Conv2D(16, 1)(x)))


def efficientnet(x: Any) -> Any:
    """Swish and squeeze-and-excite."""
    x = layers.Rescaling(1 / 255.0)(x)
    x = layers.Activation("swish")(layers.BatchNormalization()(layers.Conv2D(12, 3, 2)(x)))
    squeezed = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(12, 1, activation="sigmoid")(layers.Conv2D(3, 1, activation="swish")(squeezed))
    return head(layers.Dropout(0.2)(layers.Conv2D(16, 1)(x * gate)))


def grouped(x: Any) -> Any:
    """Convolutions in groups, with shuffled channels."""
    x = layers.Conv2D(8, 1, activation="relu")(x)
    x = layers.Conv2D(8, 3, groups=4, padding="same", activation="hard_sigmoid")(x)
    x = layers.Reshape([12, 12, 8])(layers.Permute([1, 2, 4, 3])(layers.Reshape([12, 12, 4, 2])(x)))
    return head(layers.Conv2D(8, 3, groups=2)(x))


def dilated(x: Any) -> Any:
    """Atrous convolutions side by side, as in DeepLab."""
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    sides = [layers.Conv2D(4, 3, padding="same", dilation_rate=rate)(x) for rate in (1, 2, 3)]
    return head(layers.Activation("softplus")(layers.Concatenate()(sides)))


def norms(x: Any) -> Any:
    """Layer, group and instance normalization."""
    x = layers.GroupNormalization(2)(layers.Conv2D(8, 3, padding="same")(x))
    x = layers.GroupNormalization(-1)(layers.Conv2D(8, 3, padding="same", activation="selu")(x))
    x = layers.UnitNormalization()(layers.LayerNormalization(axis=[1, 2, 3])(x))
    return head(layers.PReLU(shared_axes=[1, 2])(layers.RMSNormalization()(x)))


def unet(x: Any) -> Any:
    """Down and up again with transposed convolutions."""
    first = normed(x, 6)
    second = normed(layers.MaxPooling2D()(first), 8)
    up = layers.Conv2DTranspose(6, 2, 2, activation="relu")(second)
    return layers.Conv2D(1, 1, activation="sigmoid")(normed(layers.Concatenate()([up, first]), 6))


def resizing_unet(x: Any) -> Any:
    """Down, and up again with bilinear and nearest resizes."""
    first = normed(x, 6)
    second = normed(layers.MaxPooling2D()(first), 8)
    third = normed(layers.MaxPooling2D()(second), 8)
    up = normed(layers.UpSampling2D(interpolation="nearest")(third) + second, 6)
    return layers.Conv2D(2, 1)(
        layers.Concatenate()([layers.UpSampling2D(interpolation="bilinear")(up), first])
    )


def autoencoder(x: Any) -> Any:
    code = layers.Dense(8)(layers.Flatten()(normed(x, 4, strides=2)))
    back = layers.Reshape([6, 6, 4])(layers.Dense(144, activation="relu")(code))
    return {"code": code, "pixels": layers.Conv2DTranspose(3, 3, 2, padding="same")(back)}


def decoder(code: Any) -> Any:
    """Of a variational autoencoder: a code to an image's mean and deviation."""
    x = layers.Reshape([3, 3, 8])(layers.Dense(72, activation="leaky_relu")(code))
    x = layers.Conv2DTranspose(6, 4, 2, padding="same", activation="leaky_relu")(x)
    mean = layers.Conv2DTranspose(1, 3, 2, padding="same", activation="tanh")(x)
    return {"mean": mean, "deviation": ops.exp(0.5 * layers.Conv2D(1, 1, strides=1)(mean))}


def patches(x: Any) -> Any:
    return layers.Reshape([9, 16])(layers.Conv2D(16, 4, 4)(x))


def mixer(x: Any) -> Any:
    """An MLP mixer: dense layers over the patches, then over the channels."""
    x = patches(x)
    across = layers.Permute([2, 1])(layers.LayerNormalization()(x))
    x = x + layers.Permute([2, 1])(layers.Dense(9)(layers.Dense(18, activation="gelu")(across)))
    x = x + layers.Dense(16)(layers.Dense(32, activation="gelu")(layers.LayerNormalization()(x)))
    return layers.Dense(4)(layers.GlobalAveragePooling1D()(x))


def transformer(x: Any) -> Any:
    """A vision transformer."""
    x = patches(x) + layers.Embedding(9, 16)(ops.arange(9))[None]
    normal = layers.LayerNormalization(epsilon=1e-6)(x)
    x = x + layers.MultiHeadAttention(4, 4)(normal, normal)
    x = x + layers.Dense(16)(layers.Dense(24, activation="gelu")(layers.LayerNormalization()(x)))
    return layers.Dense(4, activation="log_softmax")(x[:, 0])


def local_attention(x: Any) -> Any:
    """Windows of patches that attend to each other, as in Swin, with a cyclic shift."""
    x = ops.roll(layers.Conv2D(8, 3, 3)(x), [-1, -1], [1, 2])
    windows = ops.reshape(ops.transpose(ops.reshape(x, [-1, 2, 2, 2, 2, 8]), [0, 1, 3, 2, 4, 5]), [-1, 4, 8])
    attended = layers.MultiHeadAttention(2, 4)(windows, windows)
    x = ops.reshape(
        ops.transpose(ops.reshape(attended, [-1, 2, 2, 2, 2, 8]), [0, 1, 3, 2, 4, 5]), [-1, 4, 4, 8]
    )
    return head(ops.roll(x, [1, 1], [1, 2]))


def super_resolution(x: Any) -> Any:
    """Depth to space, added to a bilinear enlargement."""
    fine = layers.Conv2D(27, 3, padding="same")(layers.Conv2D(8, 3, padding="same", activation="relu")(x))
    fine = layers.Lambda(lambda given: tf.nn.depth_to_space(given, 3))(fine)
    # Of two operations that fail at the same time TensorFlow reports either; so here is a convolution, too.
    coarse = layers.UpSampling2D(3, interpolation="bilinear")(layers.Conv2D(3, 1)(x))
    return ops.clip(fine + coarse, 0.0, 1.0)


def mixed(policy: str) -> Callable[[Path], None]:
    """A network that computes in 16 bits and answers in 32."""

    def build() -> Any:
        tf.keras.config.set_dtype_policy(policy)
        try:
            pixels = layers.Input([12, 12, 3], dtype="float32", name="pixels")
            x = layers.GlobalAveragePooling2D()(normed(normed(pixels, 8), 8, strides=2))
            return tf.keras.Model(pixels, layers.Dense(5, dtype="float32", activation="softmax")(x))
        finally:
            tf.keras.config.set_dtype_policy("float32")

    return exported(build)


def write_fake_quantized(folder: Path) -> None:
    """Weights and activations quantized in training, as the quantization toolkit leaves them."""
    module = tf.Module()
    module.kernel, module.head = weight(131, 3, 3, 3, 8), weight(132, 8, 4)

    def quantized(x: tf.Tensor, bound: float) -> tf.Tensor:
        return tf.quantization.fake_quant_with_min_max_vars(x, -bound, bound)

    def serve(pixels: tf.Tensor) -> Any:
        kernel = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            module.kernel, tf.fill([8], -0.5), tf.fill([8], 0.5)
        )
        seen = tf.nn.relu6(tf.nn.conv2d(quantized(pixels, 4.0), kernel, 2, "SAME"))
        return {"scores": tf.reduce_mean(quantized(seen, 6.0), [1, 2]) @ quantized(module.head, 1.0)}

    save(folder, module, serving_default=served(serve, pixels=spec(None, 12, 12, 3)))


def write_padded(folder: Path) -> None:
    """Channels first to last and back, all modes of padding, pooling of odd sizes, and strided slices."""
    module = tf.Module()
    module.kernel, module.wide = weight(133, 3, 3, 3, 6), weight(134, 1, 5, 6, 4)

    def serve(pixels: tf.Tensor) -> Any:
        x = tf.transpose(pixels, [0, 2, 3, 1])
        x = tf.pad(x, [[0, 0], [2, 1], [1, 2], [0, 0]], "REFLECT")
        x = tf.nn.conv2d(x, module.kernel, [1, 2, 1, 1], "VALID")
        x = tf.pad(x[:, :, 1:-1], [[0, 0], [1, 1], [0, 0], [0, 0]], constant_values=0.5)
        x = tf.nn.avg_pool2d(tf.pad(x, [[0, 0], [1, 0], [0, 1], [0, 0]], "SYMMETRIC"), 3, 2, "SAME")
        x = tf.nn.conv2d(x, module.wide, 1, [[0, 0], [1, 0], [2, 3], [0, 0]])
        return {"y": tf.transpose(tf.nn.max_pool2d(x, [2, 3], [2, 1], "VALID"), [0, 3, 1, 2])}

    save(folder, module, serving_default=served(serve, pixels=spec(None, 3, 11, 9)))


def _kinds() -> list[Kind]:
    square = [(DEFAULT, {"pixels": floats(141, 2, 12, 12, 3)})]
    bytes_like = [(DEFAULT, {"pixels": abs(floats(142, 2, 13, 13, 3, scale=60.0))})]
    plain = [
        Kind(body.__name__, on_pixels(body, 12, 12, 3), square, plain=True)
        for body in (cnn, resnet, densenet, mobilenet, autoencoder)
    ]
    others = [
        Kind(body.__name__, on_pixels(body, 12, 12, 3), square)
        for body in (grouped, dilated, norms, unet, mixer, local_attention, super_resolution)
    ]
    any_size = [(DEFAULT, {"pixels": floats(size, 1, size, size + 2, 3)}) for size in (8, 17)]
    return [
        *plain,
        *others,
        # Keras repeats pixels by Tile, which OpenVINO takes along another axis behind a convolution.
        Kind("resizing_unet", on_pixels(resizing_unet, 12, 12, 3), square, shares={DEFAULT: 0.6}),
        Kind("vision_transformer", on_pixels(transformer, 12, 12, 3), square),
        Kind("efficientnet", on_pixels(efficientnet, 13, 13, 3), bytes_like),
        Kind("vae_decoder", on_pixels(decoder, 6), [(DEFAULT, {"pixels": floats(143, 2, 6)})]),
        Kind("any_size", on_pixels(cnn, None, None, 3), any_size),
        Kind("mixed_float16", mixed("mixed_float16"), square, tolerance="half"),
        Kind("mixed_bfloat16", mixed("mixed_bfloat16"), square, tolerance="bf16", resized=False),
        Kind("fake_quantized", write_fake_quantized, square),
        Kind("padded", write_padded, [(DEFAULT, {"pixels": floats(144, 2, 3, 11, 9)})]),
    ]


KINDS = _kinds()

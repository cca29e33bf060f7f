"""Images before the network: encoded, of any size, of bytes, resized in every way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.control import photo
from zoo.kind import (
    DEFAULT,
    INVALID,
    OPTIMIZED,
    Kind,
    Outcome,
    floats,
    integers,
    save,
    served,
    spec,
    strings,
    text,
    weight,
)

RESIZES = ("antialias", "bicubic", "area", "lanczos", "nearest")


def _module() -> Any:
    module = tf.Module()
    module.kernel, module.head = weight(151, 3, 3, 3, 8), weight(152, 8, 5)
    return module


def _network(module: Any, images: tf.Tensor) -> tf.Tensor:
    seen = tf.nn.relu(tf.nn.conv2d(images, module.kernel, 2, "SAME"))
    return tf.nn.softmax(tf.reduce_mean(seen, [1, 2]) @ module.head * 3.0)


def write_resized(folder: Path) -> None:
    """Images of any size, brought to the network's in each way that TensorFlow has."""
    module = _module()

    def signature(method: str) -> Any:
        options = {"antialias": True} if method == "antialias" else {"method": method}
        if method == "lanczos":
            options = {"method": "lanczos3", "antialias": True}

        def serve(pixels: tf.Tensor) -> Any:
            return {"p": _network(module, tf.image.resize(pixels, [16, 16], **options))}

        return served(serve, pixels=spec(None, None, None, 3))

    save(folder, module, **{method: signature(method) for method in RESIZES})


def write_styled(folder: Path) -> None:
    """A style network: resized, normalized, padded by reflection, and bytes again at its end."""
    module = tf.Module()
    module.down, module.up = weight(153, 3, 3, 3, 8), weight(154, 3, 3, 8, 3)

    def serve(pixels: tf.Tensor) -> Any:
        x = tf.image.resize(tf.cast(pixels, tf.float32) / 255.0, [20, 20], "bicubic", antialias=True)
        x = tf.pad(x, [[0, 0], [2, 2], [2, 2], [0, 0]], "REFLECT")
        x = tf.nn.conv2d(x, module.down, 1, "VALID")
        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        x = tf.nn.relu((x - mean) / tf.sqrt(variance + 1e-3))
        x = tf.sigmoid(tf.nn.conv2d(x, module.up, 1, "VALID"))
        return {"styled": x, "pixels": tf.cast(tf.round(x * 15.0), tf.uint8)}

    save(folder, module, serving_default=served(serve, pixels=spec(None, None, None, 3, dtype=tf.uint8)))


def write_decoded(folder: Path) -> None:
    """One encoded image of whatever format, as a scalar."""
    module = _module()

    def serve(encoded: tf.Tensor) -> Any:
        pixels = tf.io.decode_image(encoded, 3, expand_animations=False, dtype=tf.float32)
        image = tf.image.resize_with_pad(tf.ensure_shape(pixels, [None, None, 3]), 16, 16)
        return {"p": _network(module, image[None]), "size": tf.shape(pixels)}

    save(folder, module, serving_default=served(serve, encoded=spec(dtype=tf.string)))


def write_byte_pixels(folder: Path) -> None:
    """Pixels as unsigned bytes, as signed ones, and as bytes with a mean taken off in bytes."""
    module = _module()

    def unsigned(pixels: tf.Tensor) -> Any:
        return {"p": _network(module, tf.image.convert_image_dtype(pixels, tf.float32))}

    def signed(pixels: tf.Tensor) -> Any:
        return {"p": _network(module, (tf.cast(pixels, tf.float32) + 128.0) / 64.0)}

    def wrapped(pixels: tf.Tensor) -> Any:
        return {"p": _network(module, tf.cast(pixels + pixels, tf.float32) / 64.0)}

    shape = (None, 12, 12, 3)
    save(
        folder,
        module,
        unsigned=served(unsigned, pixels=spec(*shape, dtype=tf.uint8)),
        signed=served(signed, pixels=spec(*shape, dtype=tf.int8)),
        wrapped=served(wrapped, pixels=spec(*shape, dtype=tf.uint8)),
    )


def write_cropped(folder: Path) -> None:
    """Crops at boxes that the request names, each put through a network."""
    module = _module()

    def serve(pixels: tf.Tensor, boxes: tf.Tensor, at: tf.Tensor) -> Any:
        crops = tf.image.crop_and_resize(pixels, boxes, at, [10, 10])
        return {"p": _network(module, crops), "crops": tf.reduce_mean(crops, [1, 2])}

    inputs = {"pixels": spec(None, None, None, 3), "boxes": spec(None, 4), "at": spec(None, dtype=tf.int32)}
    save(folder, module, serving_default=served(serve, **inputs))


def write_base64(folder: Path) -> None:
    """Photos in web-safe base64, decoded in the graph."""
    module = _module()

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_png(tf.io.decode_base64(encoded), 3)
        return tf.ensure_shape(tf.image.central_crop(tf.cast(pixels, tf.float32), 0.5), [12, 16, 3]) / 255.0

    def serve(encoded: tf.Tensor) -> Any:
        images = tf.map_fn(decode, encoded, fn_output_signature=tf.float32)
        return {"p": _network(module, tf.image.per_image_standardization(images))}

    save(folder, module, serving_default=served(serve, encoded=text()))


def _kinds() -> list[Kind]:
    any_size = [{"pixels": abs(floats(161 + n, 1, *size, 3))} for n, size in enumerate([(20, 33), (7, 9)])]
    byte_image = {"pixels": integers(163, 256, 1, 26, 22, 3, dtype=np.uint8)}
    png = tf.io.encode_png(integers(164, 256, 9, 14, 3, dtype=np.uint8)).numpy()
    encoded = [{"encoded": np.array(data, object)} for data in (photo(1), png)]
    crops = {
        "pixels": floats(165, 2, 14, 12, 3),
        "boxes": np.array([[0, 0, 1, 1], [0.2, 0.1, 0.7, 1.2], [1, 1, 0, 0]], np.float32),
        "at": np.array([0, 1, 1], np.int32),
    }
    wide = {**crops, "at": np.array([0, 2, 1], np.int32)}
    bytes_ = {"pixels": integers(166, 256, 2, 12, 12, 3, dtype=np.uint8)}
    web = [
        tf.io.encode_base64(tf.io.encode_png(integers(n, 256, 24, 32, 3, dtype=np.uint8))).numpy()
        for n in (1, 2)
    ]
    return [
        Kind(
            "resized",
            write_resized,
            [(method, given) for method in RESIZES for given in any_size],
            shares=dict.fromkeys(RESIZES, OPTIMIZED),
        ),
        Kind("styled", write_styled, [(DEFAULT, byte_image)]),
        Kind(
            "decoded",
            write_decoded,
            [(DEFAULT, given) for given in encoded],
            outcomes=[Outcome(DEFAULT, {"encoded": np.array(b"no image", object)}, error=INVALID)],
        ),
        Kind(
            "byte_pixels",
            write_byte_pixels,
            [(name, bytes_) for name in ("unsigned", "wrapped")]
            + [("signed", {"pixels": (bytes_["pixels"].astype(np.int32) - 128).astype(np.int8)})],
            shares=dict.fromkeys(["unsigned", "signed", "wrapped"], OPTIMIZED),
        ),
        Kind("cropped", write_cropped, [(DEFAULT, crops)], [(DEFAULT, wide)], fragile=frozenset(["boxes"])),
        Kind("base64", write_base64, [(DEFAULT, {"encoded": strings(*web)})]),
    ]


KINDS = _kinds()

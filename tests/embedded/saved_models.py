"""SavedModels of every style, small enough to make in a moment.

As a program, `python saved_models.py FOLDER`, it makes those that can be optimized, for tests that have
no TensorFlow themselves.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

DTYPES = (
    "float16", "bfloat16", "float32", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip
PHOTO_INPUT = "image/encoded bytes"  # no Python identifier, and none is asked for
SIZE = 32


def photo(seed: int) -> bytes:
    """A JPEG of 60 x 80 pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    return bytes(tf.io.encode_jpeg(pixels).numpy())


def _function(function: Any, **inputs: tf.TensorSpec) -> Any:
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in inputs.items()]
    return tf.function(function, input_signature=specs).get_concrete_function()


def write_module(folder: Path) -> None:
    """A TF 2 module with tensors in and out: every dtype, strings, scalars, several inputs and outputs."""
    module = tf.Module()
    module.weight = tf.Variable([[2.0, 0.0], [1.0, 0.5]])
    floats = tf.TensorSpec([None], tf.float32)

    def spin(n: tf.Tensor) -> dict[str, tf.Tensor]:
        step = tf.constant(np.eye(64, dtype=np.float32))
        _, last = tf.while_loop(
            lambda i, _: i < n[0], lambda i, x: (i + 1, x @ step), (tf.constant(0, tf.int64), step)
        )
        return {"n": n + tf.cast(last[0, 1], tf.int64)}

    signatures = {
        "serving_default": _function(
            lambda x: {"y": x @ module.weight}, x=tf.TensorSpec([None, None], tf.float32)
        ),
        "several": _function(
            lambda a, b: {"scaled": a * tf.cast(b, tf.float32)[:, None], "total": tf.reduce_sum(a, 1)},
            a=tf.TensorSpec([None, 3], tf.float32),
            b=tf.TensorSpec([None], tf.int64),
        ),
        "text": _function(
            lambda text: {"upper": tf.strings.upper(text), "raw_bytes": text + b"\x00\xff"},
            text=tf.TensorSpec([None], tf.string),
        ),
        "undecodable": _function(lambda text: {"raw": text + b"\xff"}, text=tf.TensorSpec([None], tf.string)),
        "matrix_text": _function(
            lambda text: {"upper": tf.strings.upper(text)}, text=tf.TensorSpec([None, None], tf.string)
        ),
        "scalar": _function(lambda x: {"y": x + 1.0}, x=tf.TensorSpec([], tf.float32)),
        "constant_rows": _function(lambda x: {"y": x, "z": tf.constant([1.0, 2.0])}, x=floats),
        "logarithm": _function(lambda x: {"y": tf.math.log(x)}, x=floats),
        "logarithms": _function(lambda x: {"y": tf.math.log(x), "x": x + 0.0}, x=floats),
        "complex": _function(lambda x: {"y": tf.complex(x, x)}, x=floats),
        "complex_in": _function(lambda x: {"y": tf.math.real(x)}, x=tf.TensorSpec([None], tf.complex64)),
        "spin": _function(spin, n=tf.TensorSpec([None], tf.int64)),
    }
    for name in DTYPES:
        spec = tf.TensorSpec(None, tf.dtypes.as_dtype(name))
        signatures[f"echo_{name}"] = _function(lambda x: {"y": tf.identity(x)}, x=spec)
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_tf1_photos(folder: Path) -> None:
    """TF 1 style, as the official ResNet archive: JPEGs in, a map loop, variables, a table, a main op."""
    v1 = tf.compat.v1

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(tf.image.decode_jpeg(encoded, channels=3), tf.float32)
        return v1.image.resize_images(pixels, [SIZE, SIZE]) / 255.0

    with tf.Graph().as_default(), v1.Session() as session:
        encoded = v1.placeholder(tf.string, [None], "input_tensor")
        images = v1.map_fn(decode, encoded, dtype=tf.float32)
        v1.set_random_seed(1)
        kernel = v1.get_variable("kernel", [3, 3, 3, 8], use_resource=False)
        head = v1.get_variable("head", [8, 5], use_resource=True)
        features = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, kernel, 2, "SAME")), [1, 2])
        probabilities = tf.nn.softmax(features @ head * 50.0)
        classes = tf.argmax(probabilities, 1)
        names = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(
                tf.range(5, dtype=tf.int64), tf.constant(["ant", "bee", "cat", "dog", "eel"])
            ),
            "?",
        )
        outputs = {
            "classes": classes,
            "top-1 class": classes,  # the same tensor under two names
            "probabilities": probabilities,
            "label": names.lookup(classes),
            "given_bytes": encoded,  # the input itself
        }
        session.run([v1.global_variables_initializer(), v1.tables_initializer()])
        signature = v1.saved_model.predict_signature_def({PHOTO_INPUT: encoded}, outputs)
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature, "predict": signature},
            main_op=v1.tables_initializer(),
        )
        builder.save()


def _network() -> Any:
    tf.keras.utils.set_random_seed(2)
    return tf.keras.Sequential(
        [
            tf.keras.layers.Input([8, 8, 3], name="pixels"),
            tf.keras.layers.Conv2D(4, 3, activation="relu"),
            tf.keras.layers.BatchNormalization(),
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(3, activation="softmax"),
        ]
    )


def write_keras_export(folder: Path) -> None:
    """What Keras itself writes for serving."""
    _network().export(str(folder), verbose=False)


def write_keras_in_module(folder: Path) -> None:
    """A Keras model within a tf.Module: only its object graph says where the variables' values are."""
    module = tf.Module()
    module.network = _network()
    serve = _function(
        lambda pixels: {"scores": module.network(pixels)}, pixels=tf.TensorSpec([None, 8, 8, 3], tf.float32)
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": serve})


def write_classifier(folder: Path) -> None:
    """TF 1 style, as the official archive is: reference variables and a `map` loop of v1 control flow."""
    with tf.compat.v1.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.set_random_seed(1)
        image_bytes = tf.compat.v1.placeholder(tf.string, [None], name="input_tensor")

        def decode(jpeg: tf.Tensor) -> tf.Tensor:
            image = tf.cast(tf.compat.v1.image.decode_jpeg(jpeg, channels=3), tf.float32)
            image = tf.compat.v1.image.resize_bilinear(image[None], [64, 64])[0]
            image.set_shape([64, 64, 3])
            return image - [123.68, 116.78, 103.94]

        images = tf.compat.v1.map_fn(decode, image_bytes, dtype=tf.float32, back_prop=False)
        kernel = tf.compat.v1.get_variable("kernel", [7, 7, 3, 32], use_resource=False)
        weights = tf.compat.v1.get_variable("weights", [32, 1001], use_resource=False)
        features = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(images, kernel, 2, "SAME")), [1, 2])
        logits = tf.matmul(features, weights)
        outputs = {"classes": tf.argmax(logits, 1), "probabilities": tf.nn.softmax(logits * 0.3)}
        session.run(tf.compat.v1.global_variables_initializer())
        info = tf.compat.v1.saved_model.build_tensor_info
        signature = tf.compat.v1.saved_model.build_signature_def(
            {"image_bytes": info(image_bytes)},
            {name: info(tensor) for name, tensor in outputs.items()},
            "tensorflow/serving/predict",
        )
        builder = tf.compat.v1.saved_model.Builder(str(folder))
        signatures = {"predict": signature, "serving_default": signature}
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def write_pixels(folder: Path) -> None:
    """A Keras export that takes pixels."""
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            tf.keras.Input((64, 64, 3), name="keras_tensor"),
            layers.Conv2D(16, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.export(str(folder), verbose=False)


class Plain(tf.Module):
    """Numbers in, numbers out: two inputs, two outputs, neither classes nor photos."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32))

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 4], tf.float32, "x"),
            tf.TensorSpec([None, 3], tf.float32, "offset"),
        ]
    )
    def serve(self, x: tf.Tensor, offset: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(x, self.weights) + offset, "total": tf.reduce_sum(x, axis=1)}


def write_plain(folder: Path) -> None:
    module = Plain()
    tf.saved_model.save(module, str(folder), signatures=module.serve)


def write_adder(folder: Path, number: int, weight: int = 4) -> None:
    """Adds `number`, which tells who answered; a loop of as many turns as its input says makes it slow.

    weight: bytes of its variable.
    """
    module = tf.Module()
    module.numbers = tf.Variable(np.full(weight // 4, number, np.float32))

    def slow(turns: tf.Tensor) -> dict[str, tf.Tensor]:
        step = tf.eye(64)
        _, last = tf.while_loop(
            lambda i, _: i < turns[0], lambda i, x: (i + 1, x @ step), (tf.constant(0, tf.int64), step)
        )
        return {"y": module.numbers[0] + last[0, 1] + tf.zeros_like(turns, tf.float32)}

    signatures = {
        "serving_default": _function(
            lambda x: {"y": tf.matmul(x, [[1.0]]) + module.numbers[0]}, x=tf.TensorSpec([None, 1], tf.float32)
        ),
        "slow": _function(slow, turns=tf.TensorSpec([None], tf.int64)),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_tagged(folder: Path) -> None:
    """Two MetaGraphs: with the tag `serve` y is x, with `serve` and `double` it is twice that."""
    builder = tf.compat.v1.saved_model.Builder(str(folder))
    for factor, tags in ((1, ["serve"]), (2, ["serve", "double"])):
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, [None])
            signature = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": x * factor})
            signatures = {"serving_default": signature}
            if factor == 1:
                builder.add_meta_graph_and_variables(session, tags, signatures)
            else:
                builder.add_meta_graph(tags, signatures)
    builder.save()


def write_products(folder: Path) -> None:
    """Two matrix products, which lose digits in bfloat16."""
    module = tf.Module()
    random = np.random.default_rng(0)
    module.first, module.second = [
        tf.Variable(random.normal(size=(256, 256)).astype(np.float32)) for _ in range(2)
    ]
    signature = _function(
        lambda x: {"y": tf.nn.relu(x @ module.first) @ module.second},
        x=tf.TensorSpec([None, 256], tf.float32),
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})


def write_example_counter(folder: Path) -> None:
    """Classifies and regresses serialized tf.Examples by how long they are; both read the same tensor."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        examples = tf.compat.v1.placeholder(tf.string, [None], "examples")
        length = tf.cast(tf.strings.length(examples), tf.float32)
        utils = tf.compat.v1.saved_model
        signatures = {
            "classify": utils.classification_signature_def(
                examples, None, tf.stack([length, tf.zeros_like(length)], 1)
            ),
            "regress": utils.regression_signature_def(examples, length),
        }
        builder = utils.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def write_two_signatures(folder: Path) -> None:
    """Two signatures, and none of them the default."""
    module = tf.Module()
    numbers = tf.TensorSpec([None], tf.float32)
    signatures = {
        "double": _function(lambda x: {"y": x * 2.0}, x=numbers),
        "half": _function(lambda x: {"y": x / 2.0}, x=numbers),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_upper(folder: Path) -> None:
    """Text in capitals: nothing that OpenVINO could execute."""
    upper = _function(lambda text: {"upper": tf.strings.upper(text)}, text=tf.TensorSpec([None], tf.string))
    tf.saved_model.save(tf.Module(), str(folder), signatures={"serving_default": upper})


def write_texts(folder: Path) -> None:
    """One network behind signatures that read text: again, by other names, and read in another way."""
    module = tf.Module()
    module.weights = tf.Variable([[1.0, -1.0]])

    def network(text: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.strings.to_number(text)[:, None], module.weights)

    def unsigned(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": network(tf.strings.regex_replace(text, "-", ""))}

    words = tf.TensorSpec([None], tf.string)
    signatures = {
        "serving_default": _function(lambda text: {"y": network(text)}, text=words),
        "again": _function(lambda text: {"y": network(text)}, text=words),
        "renamed": _function(lambda word: {"z": network(word)}, word=words),
        "unsigned": _function(unsigned, text=words),
    }
    tf.saved_model.save(module, str(folder), signatures=signatures)


def write_loops(folder: Path) -> None:
    """Signatures that count as far as a text says: with a matrix product behind it, and without."""

    def counted(text: tf.Tensor) -> tf.Tensor:
        turns = tf.strings.to_number(text, tf.int64)[0]
        return tf.while_loop(lambda i: i < turns, lambda i: (i + 1,), (tf.constant(0, tf.int64),))[0]

    def multiplied(text: tf.Tensor) -> dict[str, tf.Tensor]:
        # OpenVINO must know the rank of what it is given, and freezing a loop forgets it.
        spelled = tf.strings.as_string(tf.ensure_shape(counted(text), []))
        return {"y": tf.matmul(tf.strings.to_number(spelled)[None, None], [[2.0]])}

    def unranked(text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.matmul(tf.cast(counted(text), tf.float32)[None, None], [[2.0]])}

    words = tf.TensorSpec([None], tf.string)
    signatures = {
        "multiplied": _function(multiplied, text=words),
        "unranked": _function(unranked, text=words),
        "counted": _function(lambda text: {"y": counted(text)}, text=words),
    }
    tf.saved_model.save(tf.Module(), str(folder), signatures=signatures)


def main(folder: Path) -> None:
    """Make one model for each way in (JPEGs, pixels, numbers), and two that are odd.

    One has no default signature, one cannot be optimized.
    """
    # As in 2018; the control flow of today would be another graph.
    tf.compat.v1.disable_control_flow_v2()
    write_classifier(folder / "tf1" / "1538687457")
    tf.compat.v1.enable_control_flow_v2()
    write_pixels(folder / "keras" / "1")
    write_plain(folder / "plain" / "3")
    write_two_signatures(folder / "two" / "1")
    write_upper(folder / "upper" / "1")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

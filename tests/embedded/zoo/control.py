"""State, control flow and chance: what stays with TensorFlow, as a whole or in part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.kind import (
    DEFAULT,
    OPTIMIZED,
    Kind,
    Outcome,
    export,
    floats,
    integers,
    save,
    served,
    spec,
    strings,
    text,
    weight,
)

X = floats(51, 2, 4)
BATCH = spec(None, 4)
CHANCE = ("drawn", "noisy", "timed")
"""Signatures of the kind `random` that answer differently with every call."""


def write_counter(folder: Path) -> None:
    """A signature that counts its calls, one that reads the count, and one without state."""
    module = tf.Module()
    module.w = weight(1, 4, 3)
    module.counter = tf.Variable(0, dtype=tf.int64, name="counter")
    module.scale = tf.Variable(1.0, name="scale")

    def count(x: tf.Tensor) -> Any:
        calls = module.counter.assign_add(1)
        return {"y": x @ module.w, "calls": calls}

    def grow(x: tf.Tensor) -> Any:
        return {"y": x @ module.w * module.scale.assign_add(1.0)}

    save(
        folder,
        module,
        serving_default=served(count, x=BATCH),
        grow=served(grow, x=BATCH),
        read=served(lambda x: {"y": x @ module.w, "calls": module.counter.read_value()}, x=BATCH),
        scaled=served(lambda x: {"y": x @ module.w * module.scale}, x=BATCH),
        pure=served(lambda x: {"y": x @ module.w}, x=BATCH),
    )


def write_augmented(folder: Path) -> None:
    """Augmentation layers left in an export: unless told otherwise they work, and draw from a state."""
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input([8, 8, 3], name="pixels"),
            layers.RandomFlip(seed=1),
            layers.RandomContrast(0.2, seed=2),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3),
        ]
    )
    export(folder, model)


def write_still(folder: Path) -> None:
    """Dropout and noise in a model, but off, as an export has them."""
    tf.keras.utils.set_random_seed(2)
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input([8, 8, 3], name="pixels"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.Dropout(0.5),
            layers.GlobalAveragePooling2D(),
            layers.GaussianNoise(0.1),
            layers.Dense(3, activation="softmax"),
        ]
    )
    export(folder, model)


def write_random(folder: Path) -> None:
    """Random numbers: with a seed among the inputs, and from the state of an operation; and the time."""
    module = tf.Module()
    module.w = weight(3, 4, 3)

    def seeded(x: tf.Tensor, seed: tf.Tensor) -> Any:
        noise = tf.random.stateless_normal(tf.shape(x), seed)
        return {"y": tf.nn.relu(x + noise) @ module.w}

    def drawn(x: tf.Tensor) -> Any:
        return {"y": (x + tf.random.uniform(tf.shape(x))) @ module.w}

    def noisy(x: tf.Tensor) -> Any:
        return {"y": x @ module.w + tf.random.normal([3])}  # it needs nothing of the request

    def timed(x: tf.Tensor) -> Any:
        return {"y": x @ module.w, "time": tf.timestamp()}

    save(
        folder,
        module,
        serving_default=served(seeded, x=BATCH, seed=spec(2, dtype=tf.int32)),
        drawn=served(drawn, x=BATCH),
        noisy=served(noisy, x=BATCH),
        timed=served(timed, x=BATCH),
    )


def write_branches(folder: Path) -> None:
    """tf.cond on a data-dependent condition and on an input, and tf.switch_case, around products."""
    module = tf.Module()
    module.w, module.v = weight(4, 4, 3), weight(5, 4, 3)

    def serve(x: tf.Tensor, flag: tf.Tensor) -> Any:
        y = tf.cond(flag, lambda: x @ module.w, lambda: x @ module.v)
        return {"y": tf.cond(tf.reduce_sum(y) > 0, lambda: y, lambda: -y)}

    def before(x: tf.Tensor, way: tf.Tensor) -> Any:
        ready = tf.switch_case(way, {0: lambda: x, 1: lambda: x * 2.0, 2: lambda: tf.reverse(x, [1])})
        return {"y": tf.nn.softmax(tf.ensure_shape(ready, [None, 4]) @ module.w)}

    save(
        folder,
        module,
        serving_default=served(serve, x=BATCH, flag=spec(dtype=tf.bool)),
        before=served(before, x=BATCH, way=spec(dtype=tf.int32)),
    )


def write_decoder(folder: Path) -> None:
    """An autoregressive decoder: an encoder, and a loop that writes one token after another."""
    module = tf.Module()
    module.encode, module.e = weight(6, 16, 8), tf.Variable(floats(7, 12, 8))
    module.step, module.out = weight(8, 16, 8), weight(9, 8, 12)

    def serve(x: tf.Tensor) -> Any:
        state = tf.tanh(x @ module.encode)
        rows = tf.shape(x)[0]
        tokens = tf.TensorArray(tf.int32, 5, element_shape=[None])

        def step(n: tf.Tensor, state: tf.Tensor, last: tf.Tensor, tokens: Any) -> Any:
            state = tf.tanh(tf.concat([state, tf.gather(module.e, last)], 1) @ module.step)
            last = tf.argmax(state @ module.out, 1, tf.int32)
            return n + 1, state, last, tokens.write(n, last)

        start = (0, state, tf.zeros([rows], tf.int32), tokens)
        written = tf.while_loop(lambda n, *_: n < 5, step, start)[3].stack()
        return {"tokens": tf.transpose(written), "state": state}

    save(folder, module, serving_default=served(serve, x=spec(None, 16)))


def write_mapped_photos(folder: Path) -> None:
    """map_fn over JPEGs in front of a network."""
    module = tf.Module()
    module.kernel, module.head = weight(10, 3, 3, 3, 6), weight(11, 6, 4)

    def decode(encoded: tf.Tensor) -> tf.Tensor:
        pixels = tf.io.decode_jpeg(encoded, channels=3)
        return tf.ensure_shape(tf.image.resize(pixels, [16, 16]), [16, 16, 3]) / 127.5 - 1.0

    def serve(image_bytes: tf.Tensor) -> Any:
        images = tf.map_fn(decode, image_bytes, fn_output_signature=tf.float32)
        images = tf.ensure_shape(images, [None, 16, 16, 3])
        seen = tf.nn.relu(tf.nn.conv2d(images, module.kernel, 2, "SAME"))
        return {"scores": tf.nn.softmax(tf.reduce_mean(seen, [1, 2]) @ module.head * 4.0)}

    save(folder, module, serving_default=served(serve, image_bytes=text()))


def write_mapped_network(folder: Path) -> None:
    """The network itself lies in a map over the rows, so TensorFlow executes it."""
    module = tf.Module()
    module.w = weight(12, 4, 3)

    def serve(x: tf.Tensor) -> Any:
        return {"y": tf.map_fn(lambda row: tf.squeeze(tf.nn.softmax(row[None] @ module.w), 0), x)}

    save(folder, module, serving_default=served(serve, x=BATCH))


def write_bag(folder: Path) -> None:
    """int64 ids, a product of their embeddings' mean, and ids of which the last is a padding."""
    module = tf.Module()
    module.e, module.w = tf.Variable(floats(13, 20, 8)), weight(14, 8, 5)

    def serve(ids: tf.Tensor) -> Any:
        kept = tf.cast(ids > 0, tf.float32)[..., None]
        rows = tf.reduce_sum(tf.gather(module.e, ids) * kept, 1)
        mean = tf.math.divide_no_nan(rows, tf.reduce_sum(kept, 1))
        return {"y": tf.nn.softmax(mean @ module.w), "best": tf.argmax(mean @ module.w, 1)}

    save(folder, module, serving_default=served(serve, ids=spec(None, None, dtype=tf.int64)))


def write_printed(folder: Path) -> None:
    """A signature that prints what it sees."""
    module = tf.Module()
    module.w = weight(15, 4, 3)

    def serve(x: tf.Tensor) -> Any:
        tf.print("rows", tf.shape(x)[0], output_stream="file:///dev/null")
        return {"y": tf.nn.softmax(x @ module.w)}

    save(folder, module, serving_default=served(serve, x=BATCH))


def write_learning_table(folder: Path) -> None:
    """A table that one signature adds to and others read; and one that no signature changes."""
    module = tf.Module()
    module.w = weight(16, 4, 3)
    tables = tf.lookup.experimental
    module.learned = tables.MutableHashTable(tf.string, tf.float32, 1.0)
    module.learned.insert(tf.constant(["a", "b"]), tf.constant([2.0, 3.0]))
    module.fixed = tables.DenseHashTable(tf.int64, tf.float32, 0.5, -1, -2)
    module.fixed.insert(tf.constant([7, 8], tf.int64), tf.constant([4.0, 5.0]))

    def learn(word: tf.Tensor, value: tf.Tensor) -> Any:
        with tf.control_dependencies([module.learned.insert(word, value)]):
            return {"value": tf.identity(value)}

    def read(x: tf.Tensor, word: tf.Tensor) -> Any:
        return {"y": x @ module.w, "factor": module.learned.lookup(word)}

    def fixed(x: tf.Tensor, key: tf.Tensor) -> Any:
        return {"y": x @ module.w, "factor": module.fixed.lookup(key)}

    save(
        folder,
        module,
        serving_default=served(read, x=BATCH, word=text()),
        learn=served(learn, word=text(), value=spec(None)),
        fixed=served(fixed, x=BATCH, key=spec(None, dtype=tf.int64)),
    )


def photo(seed: int, height: int = 24, width: int = 32) -> bytes:
    """A JPEG with some structure in it."""
    noise = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    pixels = np.kron(noise, np.ones((height // 3, width // 4, 1), np.uint8))
    return bytes(tf.io.encode_jpeg(pixels, quality=95).numpy())


def _kinds() -> list[Kind]:
    pixels = {"pixels": floats(52, 2, 8, 8, 3)}
    seeded = {"x": X, "seed": np.array([1, 2], np.int32)}
    photos = {"image_bytes": strings(photo(1), photo(2))}
    return [
        Kind(
            "counter",
            write_counter,
            [(name, {"x": X}) for name in (DEFAULT, "grow", "read", "scaled", "pure")],
            shares={**dict.fromkeys([DEFAULT, "grow", "read", "scaled"], 0.0), "pure": OPTIMIZED},
            reasons={
                DEFAULT: "changes the variable .*counter",
                "grow": "changes the variable .*scale",
                "read": "variable .*counter",
                "scaled": "variable .*scale",
            },
            vague=frozenset([DEFAULT, "grow", "read", "scaled"]),
        ),
        Kind(
            "augmented",
            write_augmented,
            [(DEFAULT, pixels)],
            shares={DEFAULT: 0.0},
            reasons={DEFAULT: "changes the variable .*seed"},
            vague=frozenset([DEFAULT]),
        ),
        Kind("still", write_still, [(DEFAULT, pixels)], plain=True),
        Kind(
            "random",
            write_random,
            [(DEFAULT, seeded), *((name, {"x": X}) for name in CHANCE)],
            shares={DEFAULT: OPTIMIZED, **dict.fromkeys(CHANCE, 0.0)},
            reasons={"drawn": "random", "noisy": "random"},
            vague=frozenset(CHANCE),
        ),
        Kind(
            "branches",
            write_branches,
            [(DEFAULT, {"x": X, "flag": np.array(flag)}) for flag in (True, False)]
            + [("before", {"x": X, "way": np.array(way, np.int32)}) for way in range(3)],
            shares={DEFAULT: 0.0, "before": OPTIMIZED},
            reasons={DEFAULT: "condition"},
        ),
        Kind("decoder", write_decoder, [(DEFAULT, {"x": floats(53, 3, 16)})], shares={DEFAULT: 0.0}),
        Kind(
            "mapped_photos",
            write_mapped_photos,
            [(DEFAULT, photos)],
            [(DEFAULT, {"image_bytes": strings(photo(3), photo(4, 9, 8)[:-40])})],
        ),
        Kind(
            "mapped_network",
            write_mapped_network,
            [(DEFAULT, {"x": X})],
            shares={DEFAULT: 0.0},
            reasons={DEFAULT: "MatMul.*loop"},
        ),
        Kind("printed", write_printed, [(DEFAULT, {"x": X})], shares={DEFAULT: 0.0}),
        Kind(
            "learning_table",
            write_learning_table,
            [
                (DEFAULT, {"x": X, "word": strings(b"a", b"z")}),
                ("learn", {"word": strings(b"c"), "value": np.array([6], np.float32)}),
                ("fixed", {"x": X, "key": np.array([8, 9], np.int64)}),
            ],
            outcomes=[Outcome("fixed", {"x": X, "key": np.array([7, 9], np.int64)}, {"factor": [4.0, 0.5]})],
            shares={DEFAULT: 0.0, "learn": 0.0, "fixed": 0.0},
            vague=frozenset([DEFAULT, "learn"]),
        ),
        Kind("bag", write_bag, [(DEFAULT, {"ids": integers(54, 20, 3, 5)})]),
    ]


KINDS = _kinds()

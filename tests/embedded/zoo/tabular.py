"""Rows of numbers, ids and categories: recommenders, rankers, and what reads tf.Examples."""

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
    examples,
    exported,
    floats,
    integers,
    save,
    served,
    spec,
    strings,
    text,
    weight,
)

layers = tf.keras.layers
CITIES = [b"Berlin", b"Oslo", b"Rome", b"Z\xc3\xbcrich"]


def mlp() -> Any:
    """A wide dense network with batch normalization."""
    return tf.keras.Sequential(
        [
            layers.Input([24], name="x"),
            layers.Dense(128, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(64, activation="gelu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def multi_task() -> Any:
    """One trunk, three heads."""
    x = layers.Input([12], name="x")
    trunk = layers.Dense(32, activation="elu")(x)
    return tf.keras.Model(
        x,
        {
            "price": layers.Dense(1, name="price")(trunk),
            "sold": layers.Dense(1, activation="sigmoid", name="sold")(trunk),
            "category": layers.Dense(5, activation="softmax", name="category")(trunk),
        },
    )


def image_and_table() -> Any:
    """Pixels and a row of numbers together."""
    pixels, row = layers.Input([12, 12, 3], name="pixels"), layers.Input([6], name="row")
    seen = layers.GlobalMaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(pixels))
    both = layers.Concatenate()([seen, layers.Dense(8, activation="tanh")(row)])
    return tf.keras.Model([pixels, row], layers.Dense(4, activation="softmax")(both))


def normalized() -> Any:
    """A normalization layer with adapted statistics."""
    statistics = layers.Normalization()
    statistics.adapt(floats(61, 50, 8, scale=40.0) + 100.0)
    x = layers.Input([8], name="x")
    return tf.keras.Model(x, layers.Dense(3)(layers.Dense(16, activation="swish")(statistics(x))))


def bucketized() -> Any:
    """A number sorted into buckets, one-hot and embedded."""
    age, row = layers.Input([1], name="age"), layers.Input([4], name="row")
    bucket = layers.Discretization([18.0, 30.0, 45.0, 65.0])(age)
    embedded = layers.Flatten()(layers.Embedding(5, 6)(bucket))
    both = layers.Concatenate()([embedded, row])
    return tf.keras.Model([age, row], layers.Dense(2)(layers.Dense(16, activation="relu")(both)))


def hashed() -> Any:
    """Words and ids hashed into bins, one-hot."""
    word, number = (
        layers.Input([1], dtype="string", name="word"),
        layers.Input([1], dtype="int64", name="number"),
    )
    bins = layers.Hashing(8)(word), layers.Hashing(6)(number)
    hot = [
        layers.CategoryEncoding(n, output_mode="multi_hot")(bin_)
        for n, bin_ in zip((8, 6), bins, strict=True)
    ]
    both = layers.Concatenate()(hot)
    return tf.keras.Model([word, number], layers.Dense(3)(layers.Dense(12, activation="relu")(both)))


def siamese() -> Any:
    """One tower for both inputs, and their distance."""
    left, right = layers.Input([10], name="left"), layers.Input([10], name="right")
    tower = tf.keras.Sequential([layers.Dense(16, activation="relu"), layers.Dense(8)])
    apart = layers.Subtract()([tower(left), tower(right)])
    distance = tf.keras.ops.sqrt(tf.keras.ops.sum(tf.keras.ops.square(apart), -1, keepdims=True) + 1e-6)
    return tf.keras.Model([left, right], layers.Dense(1, activation="sigmoid")(distance))


def write_wide_and_deep(folder: Path) -> None:
    """tf.Examples, a vocabulary, a crossing of two features, a wide and a deep part."""
    module = tf.Module()
    module.cities = tf.lookup.StaticVocabularyTable(
        tf.lookup.KeyValueTensorInitializer(CITIES, tf.range(4, dtype=tf.int64)), 2
    )
    module.e, module.wide = tf.Variable(floats(62, 6, 4)), tf.Variable(floats(63, 20, 1))
    module.deep, module.head, module.bias = weight(64, 11, 32), weight(65, 32, 1), tf.Variable([0.1])
    features = {
        "age": tf.io.FixedLenFeature([], tf.float32, 30.0),
        "counts": tf.io.FixedLenFeature([6], tf.float32),
        "city": tf.io.FixedLenFeature([], tf.string, ""),
        "tags": tf.io.VarLenFeature(tf.string),
    }

    def serve(inputs: tf.Tensor) -> Any:
        row = tf.io.parse_example(inputs, features)
        city = module.cities.lookup(row["city"])
        bucket = tf.raw_ops.Bucketize(input=row["age"], boundaries=[20.0, 40.0, 60.0])
        crossed = tf.strings.to_hash_bucket_fast(
            tf.strings.join([tf.as_string(city), tf.as_string(bucket)], "x"), 20
        )
        tags = tf.cast(tf.sets.size(row["tags"]), tf.float32)[:, None] / 10.0
        numbers = tf.concat([tf.gather(module.e, city), tf.math.log1p(row["counts"]), tags], 1)
        deep = tf.nn.relu(numbers @ module.deep) @ module.head
        wide = tf.reduce_sum(tf.one_hot(crossed, 20)[..., None] * module.wide, 1)
        return {"score": tf.sigmoid(wide + deep + module.bias), "city": city}

    save(folder, module, serving_default=served(serve, inputs=text()))


EXAMPLES = examples(
    {"age": [31.5], "counts": [1.0, 0.0, 3.0, 2.0, 9.0, 1.0], "city": [b"Oslo"], "tags": [b"a", b"b"]},
    {"counts": [0.0] * 6, "city": [b"Paris"]},
    {"age": [70.0], "counts": [5.0] * 6, "city": [CITIES[3]], "tags": [b"c"]},
)


def write_factorization(folder: Path) -> None:
    """A factorization machine over one-hot ids, as their rows."""
    module = tf.Module()
    module.v, module.w = weight(66, 30, 6), weight(67, 30, 1)

    def serve(ids: tf.Tensor) -> Any:
        hot = tf.reduce_max(tf.one_hot(ids, 30), 1)
        squares = tf.square(hot @ module.v) - tf.square(hot) @ tf.square(module.v)
        return {"score": tf.sigmoid(hot @ module.w + 0.5 * tf.reduce_sum(squares, 1, keepdims=True))}

    save(folder, module, serving_default=served(serve, ids=spec(None, 3, dtype=tf.int32)))


def write_two_tower(folder: Path) -> None:
    """Retrieval: a user's row against all items, the best of them by name."""
    module = tf.Module()
    module.user, module.deep = tf.Variable(floats(68, 15, 12)), weight(69, 16, 16)
    module.items = tf.Variable(floats(70, 40, 16))
    module.names = tf.Variable([f"item {n}" for n in range(40)])

    def serve(user: tf.Tensor, context: tf.Tensor) -> Any:
        row = tf.concat([tf.gather(module.user, user), context], 1)
        query = tf.nn.l2_normalize(tf.nn.relu(row @ module.deep), 1)
        scores, at = tf.math.top_k(tf.matmul(query, module.items, transpose_b=True), 5)
        return {"scores": scores, "at": at, "names": tf.gather(module.names, at)}

    inputs = {"user": spec(None, dtype=tf.int64), "context": spec(None, 4)}
    save(folder, module, serving_default=served(serve, **inputs))


def write_positive(folder: Path) -> None:
    """Functions with a limited domain: logarithms, Gaussians, quotients, exponentials, roots and powers."""
    module = tf.Module()
    module.w, module.centers = weight(71, 6, 4), tf.Variable(floats(72, 5, 6))
    module.out = weight(73, 5, 3)

    def log_features(x: tf.Tensor) -> Any:
        return {"y": tf.nn.relu(tf.math.log1p(x) @ module.w)}

    def gaussian(x: tf.Tensor) -> Any:
        distances = tf.reduce_sum(tf.square(x[:, None, :] - module.centers), 2)
        return {"y": tf.exp(-distances) @ module.out}

    def by_sum(x: tf.Tensor) -> Any:
        return {"y": tf.clip_by_value((x / tf.reduce_sum(x, 1, keepdims=True)) @ module.w, -1.0, 1.0)}

    def by_hand(x: tf.Tensor) -> Any:
        powers = tf.exp(x @ module.w)
        return {"p": powers / tf.reduce_sum(powers, 1, keepdims=True)}

    def cosine(x: tf.Tensor) -> Any:
        length = tf.nn.l2_normalize(x, 1), tf.nn.l2_normalize(module.centers, 1)
        return {"y": tf.matmul(*length, transpose_b=True)}

    def focal(x: tf.Tensor) -> Any:
        p = tf.sigmoid(x @ module.w)
        return {"p": p, "loss": -tf.pow(1.0 - p, 2.0) * tf.math.log(p + 1e-7)}

    def roots(x: tf.Tensor) -> Any:
        y = x @ module.w
        return {"root": tf.sqrt(y), "inverse": 1.0 / y, "power": tf.pow(y, 1.5), "whole": tf.floor(y)}

    signatures = {f.__name__: f for f in (log_features, gaussian, by_sum, by_hand, cosine, focal, roots)}
    save(folder, module, **{name: served(f, x=spec(None, 6)) for name, f in signatures.items()})


def _kinds() -> list[Kind]:
    positive = ("log_features", "gaussian", "by_sum", "by_hand", "cosine", "focal", "roots")
    x = {"x": abs(floats(74, 3, 6)) * 0.5}
    zero, negative = {"x": np.zeros((2, 6), np.float32)}, {"x": -x["x"]}
    pixels_row = {"pixels": floats(75, 2, 12, 12, 3), "row": floats(76, 2, 6)}
    ages = {"age": np.array([[17.0], [30.0], [80.0]], np.float32), "row": floats(77, 3, 4)}
    words = {"word": strings([b"ant"], [b""], [b"\xff"]), "number": integers(78, 999, 3, 1)}
    users = {"user": np.array([3, 14], np.int64), "context": floats(79, 2, 4)}
    outside = {"user": np.array([15], np.int64), "context": floats(79, 1, 4)}
    damaged = strings(EXAMPLES[0][:-3])
    incomplete = examples({"age": [3.0]})
    return [
        Kind("mlp", exported(mlp), [(DEFAULT, {"x": floats(80, 3, 24)})], plain=True),
        Kind("multi_task", exported(multi_task), [(DEFAULT, {"x": floats(81, 2, 12)})]),
        Kind("image_and_table", exported(image_and_table), [(DEFAULT, pixels_row)]),
        Kind(
            "normalized",
            exported(normalized),
            [(DEFAULT, {"x": floats(82, 3, 8, scale=40.0) + 100.0})],
            plain=True,
        ),
        Kind("bucketized", exported(bucketized), [(DEFAULT, ages)]),
        Kind("hashed", exported(hashed), [(DEFAULT, words)]),
        Kind(
            "siamese", exported(siamese), [(DEFAULT, {"left": floats(83, 2, 10), "right": floats(84, 2, 10)})]
        ),
        Kind(
            "wide_and_deep",
            write_wide_and_deep,
            [(DEFAULT, {"inputs": EXAMPLES})],
            outcomes=[
                Outcome(DEFAULT, {"inputs": damaged}, error="INVALID_ARGUMENT"),
                Outcome(DEFAULT, {"inputs": incomplete}, error="INVALID_ARGUMENT"),
                Outcome(DEFAULT, {"inputs": EXAMPLES[:1]}, {"city": [1]}),
            ],
        ),
        Kind(
            "factorization", write_factorization, [(DEFAULT, {"ids": integers(85, 30, 2, 3, dtype=np.int32)})]
        ),
        Kind(
            "two_tower",
            write_two_tower,
            [(DEFAULT, users)],
            outcomes=[Outcome(DEFAULT, outside, error="INVALID_ARGUMENT")],
        ),
        Kind(
            "positive",
            write_positive,
            [(name, x) for name in positive],
            [(name, given) for name in positive for given in (zero, negative)],
            shares=dict.fromkeys(positive, OPTIMIZED),
        ),
    ]


KINDS = _kinds()

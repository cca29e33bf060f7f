"""Words and tokens: tables and splitting in front of networks, and transformers on ids."""

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
WORDS = ["a", "bad", "film", "good", "it", "not", "so", "was"]
REVIEWS = strings(b"It was a good film", b"not so good!", b"so unknown")


def vectorized() -> Any:
    """TextVectorization, embedding, pooling, dense layers."""
    review = layers.Input([], dtype="string", name="review")
    ids = layers.TextVectorization(vocabulary=WORDS, output_sequence_length=6)(review)
    pooled = layers.GlobalAveragePooling1D()(layers.Embedding(10, 16)(ids))
    return tf.keras.Model(
        review, layers.Dense(2, activation="softmax")(layers.Dense(32, activation="relu")(pooled))
    )


def tfidf() -> Any:
    """TextVectorization to counts weighted by frequency."""
    review = layers.Input([], dtype="string", name="review")
    counts = layers.TextVectorization(
        vocabulary=WORDS,
        output_mode="tf_idf",
        idf_weights=np.linspace(0.2, 2.0, 8),
        pad_to_max_tokens=True,
        max_tokens=9,
    )(review)
    return tf.keras.Model(review, layers.Dense(3)(layers.Dense(24, activation="relu")(counts)))


def looked_up() -> Any:
    """StringLookup to embeddings, and the class back to its name."""
    word = layers.Input([2], dtype="string", name="word")
    ids = layers.StringLookup(vocabulary=WORDS)(word)
    flat = layers.Flatten()(layers.Embedding(9, 8)(ids))
    return tf.keras.Model(
        word, layers.Dense(4, activation="softmax")(layers.Dense(16, activation="relu")(flat))
    )


def encoder() -> Any:
    """A transformer encoder on token ids, with a mask where they are 0."""
    ids = layers.Input([None], dtype="int32", name="ids")
    embedded = layers.Embedding(30, 16)(ids)
    mask = tf.keras.ops.not_equal(ids, 0)
    attended = layers.MultiHeadAttention(2, 8)(embedded, embedded, attention_mask=mask[:, None, :])
    x = layers.LayerNormalization()(embedded + attended)
    x = layers.LayerNormalization()(x + layers.Dense(16)(layers.Dense(32, activation="gelu")(x)))
    return tf.keras.Model(ids, layers.Dense(5)(x[:, 0]))


def masked_pooling() -> Any:
    """Attention pooling over vectors of which a mask says which count."""
    x, mask = layers.Input([None, 8], name="x"), layers.Input([None], name="mask")
    scores = layers.Dense(1)(layers.Dense(16, activation="tanh")(x))[..., 0]
    weights = tf.keras.ops.softmax(scores + (1.0 - mask) * -1e9)
    pooled = tf.keras.ops.sum(x * weights[..., None], 1)
    return tf.keras.Model([x, mask], layers.Dense(3)(pooled))


def write_characters(folder: Path) -> None:
    """A convolution over the code points of words of any length."""
    module = tf.Module()
    module.e, module.kernel, module.head = (
        tf.Variable(floats(91, 128, 8)),
        weight(92, 3, 8, 16),
        weight(93, 16, 4),
    )

    def serve(words: tf.Tensor) -> Any:
        points = tf.strings.unicode_decode(words, "UTF-8").to_tensor(shape=[None, 12]) % 128
        seen = tf.nn.relu(tf.nn.conv1d(tf.gather(module.e, points), module.kernel, 1, "SAME"))
        return {"scores": tf.nn.softmax(tf.reduce_max(seen, 1) @ module.head)}

    save(folder, module, serving_default=served(serve, words=text()))


def write_ragged_words(folder: Path) -> None:
    """Words split to a ragged tensor, hashed, embedded, averaged, and the class by its name."""
    module = tf.Module()
    module.e, module.w = tf.Variable(floats(94, 50, 12)), weight(95, 12, 16)
    module.head = weight(96, 16, 3)
    module.names = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.range(3, dtype=tf.int64), ["bad", "fair", "good"]), "?"
    )

    def serve(sentence: tf.Tensor) -> Any:
        words = tf.strings.split(tf.strings.lower(sentence))
        ids = tf.strings.to_hash_bucket_fast(words.values, 50)
        sums = tf.math.segment_sum(tf.gather(module.e, ids), words.value_rowids())
        sums = tf.pad(sums, [[0, words.nrows() - tf.cast(tf.shape(sums)[0], tf.int64)], [0, 0]])
        mean = sums / tf.maximum(tf.cast(words.row_lengths(), tf.float32), 1.0)[:, None]
        scores = tf.nn.softmax(tf.nn.relu(mean @ module.w) @ module.head)
        return {"scores": scores, "name": module.names.lookup(tf.argmax(scores, 1)), "sentence": sentence}

    save(folder, module, serving_default=served(serve, sentence=text()))


def write_tokens(folder: Path) -> None:
    """A BERT-like layer: three inputs of ids, positions, segments and padding, and a pooled output."""
    module = tf.Module()
    module.e, module.p, module.s = (tf.Variable(floats(n, n, 16)) for n in (40, 12, 2))
    module.qkv, module.out = weight(98, 16, 48), weight(99, 16, 16)
    module.up, module.down, module.pool = weight(100, 16, 64), weight(101, 64, 16), weight(102, 16, 16)

    def norm(x: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-6)

    def serve(input_ids: tf.Tensor, input_mask: tf.Tensor, segment_ids: tf.Tensor) -> Any:
        size = tf.shape(input_ids)[1]
        x = tf.gather(module.e, input_ids) + tf.gather(module.s, segment_ids) + module.p[:size]
        x = norm(x)
        heads = tf.reshape(tf.einsum("btd,de->bte", x, module.qkv), [-1, size, 3, 4, 4])
        q, k, v = tf.unstack(tf.transpose(heads, [2, 0, 3, 1, 4]))
        scores = tf.matmul(q, k, transpose_b=True) / 2.0
        scores += (1.0 - tf.cast(input_mask, tf.float32))[:, None, None, :] * -10000.0
        attended = tf.transpose(tf.matmul(tf.nn.softmax(scores), v), [0, 2, 1, 3])
        x = norm(x + tf.einsum("btd,de->bte", tf.reshape(attended, [-1, size, 16]), module.out))
        hidden = tf.nn.gelu(tf.einsum("btd,de->bte", x, module.up), approximate=True)
        x = norm(x + tf.einsum("btd,de->bte", hidden, module.down))
        return {"sequence": x, "pooled": tf.tanh(x[:, 0] @ module.pool)}

    ids = spec(None, None, dtype=tf.int32)
    inputs = {"input_ids": ids, "input_mask": ids, "segment_ids": ids}
    save(folder, module, serving_default=served(serve, **inputs))


def write_names_of_classes(folder: Path) -> None:
    """A table from words to ids in front and one from ids to words behind, with a threshold in between."""
    module = tf.Module()
    words = tf.lookup.KeyValueTensorInitializer(WORDS, tf.range(8, dtype=tf.int64))
    module.ids = tf.lookup.StaticHashTable(words, -1)
    module.e, module.w = tf.Variable(floats(103, 8, 12)), weight(104, 12, 8)
    module.words = tf.Variable(WORDS)

    def serve(word: tf.Tensor) -> Any:
        scores = tf.gather(module.e, module.ids.lookup(word)) @ module.w
        best = tf.argmax(scores, 1)
        sure = tf.reduce_max(tf.nn.softmax(scores), 1) > 0.5
        return {"next": tf.where(sure, tf.gather(module.words, best), "?"), "scores": scores}

    save(folder, module, serving_default=served(serve, word=text()))


def _kinds() -> list[Kind]:
    ids = integers(105, 30, 2, 7, dtype=np.int32)
    ids[1, 4:] = 0
    long = integers(106, 30, 1, 61, dtype=np.int32)
    vectors = {"x": floats(107, 2, 5, 8), "mask": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], np.float32)}
    words = strings("naïve".encode(), b"x", b"a word that is too long")
    tokens = {
        "input_ids": integers(108, 40, 2, 6, dtype=np.int32),
        "input_mask": np.array([[1] * 6, [1, 1, 1, 0, 0, 0]], np.int32),
        "segment_ids": np.array([[0, 0, 0, 1, 1, 1]] * 2, np.int32),
    }
    too_long = {name: np.resize(array, (1, 13)) for name, array in tokens.items()}
    return [
        Kind("vectorized", exported(vectorized), [(DEFAULT, {"review": REVIEWS})]),
        Kind("tfidf", exported(tfidf), [(DEFAULT, {"review": REVIEWS})]),
        Kind(
            "looked_up", exported(looked_up), [(DEFAULT, {"word": strings([b"good", b"film"], [b"x", b""])})]
        ),
        Kind(
            "encoder",
            exported(encoder),
            [(DEFAULT, {"ids": ids})],
            [(DEFAULT, {"ids": long}), (DEFAULT, {"ids": np.zeros((2, 4), np.int32)})],
            outcomes=[Outcome(DEFAULT, {"ids": np.array([[3, 30]], np.int32)}, error="INVALID_ARGUMENT")],
        ),
        Kind("masked_pooling", exported(masked_pooling), [(DEFAULT, vectors)], shares={DEFAULT: 0.8}),
        Kind("characters", write_characters, [(DEFAULT, {"words": words})]),
        Kind("ragged_words", write_ragged_words, [(DEFAULT, {"sentence": REVIEWS})]),
        Kind("tokens", write_tokens, [(DEFAULT, tokens)], [(DEFAULT, too_long)]),
        Kind(
            "names_of_classes",
            write_names_of_classes,
            [(DEFAULT, {"word": strings(b"film", b"a")})],
            outcomes=[Outcome(DEFAULT, {"word": strings(b"film", b"no")}, error="INVALID_ARGUMENT")],
            shares={DEFAULT: OPTIMIZED},
        ),
    ]


KINDS = _kinds()

"""Models of TensorFlow 1: sessions, reference variables, tables, and the control flow of its day."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gallery
import numpy as np
import saved_models
import tensorflow as tf

from zoo.kind import DEFAULT, INVALID, OPTIMIZED, Inputs, Kind, Outcome, floats, strings

v1 = tf.compat.v1
X = floats(191, 2, 6)


@contextlib.contextmanager
def _graph(old_control_flow: bool = False) -> Iterator[Any]:
    """A session of a new graph."""
    if old_control_flow:
        v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default(), v1.Session() as session:
            v1.set_random_seed(3)
            yield session
    finally:
        if old_control_flow:
            v1.enable_control_flow_v2()


def _variable(name: str, value: Any, resource: bool = False) -> Any:
    return v1.get_variable(name, initializer=value, use_resource=resource)


def _product(x: tf.Tensor, seed: int, size: int, resource: bool = False) -> tf.Tensor:
    rows = int(x.shape[-1])
    return tf.matmul(x, _variable(f"w{seed}", floats(seed, rows, size, scale=rows**-0.5), resource))


def _build(
    session: Any,
    folder: Path,
    signatures: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]],
    **options: Any,
) -> None:
    session.run([v1.global_variables_initializer(), v1.tables_initializer()])
    definitions = {name: v1.saved_model.predict_signature_def(*parts) for name, parts in signatures.items()}
    builder = v1.saved_model.Builder(str(folder))
    builder.add_meta_graph_and_variables(session, ["serve"], definitions, **options)
    builder.save()


def write_simple(folder: Path) -> None:
    """simple_save of a dense network whose logits and probabilities are both outputs."""
    with _graph() as session:
        x = v1.placeholder(tf.float32, [None, 6], "x")
        logits = _product(tf.nn.relu(_product(x, 192, 16)), 193, 3)
        session.run(v1.global_variables_initializer())
        outputs = {"logits": logits, "probabilities": tf.nn.softmax(logits)}
        v1.saved_model.simple_save(session, str(folder), {"x": x}, outputs)


def write_table(folder: Path) -> None:
    """A product in one signature, an initialized table in another, both in a third."""
    with _graph() as session:
        x, word = v1.placeholder(tf.float32, [None, 6], "x"), v1.placeholder(tf.string, [None], "word")
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([1.5, -2.0])), 9.0
        )
        y = _product(x, 194, 3)
        looked_up = table.lookup(word)
        signatures = {
            DEFAULT: ({"x": x}, {"y": y}),
            "table": ({"word": word}, {"n": looked_up}),
            "both": ({"x": x, "word": word}, {"y": y * looked_up[:, None]}),
        }
        _build(session, folder, signatures, main_op=v1.tables_initializer())


def write_vocabulary(folder: Path) -> None:
    """A vocabulary in a file among the assets, and a table back to the words."""
    words = folder.parent / f"{folder.name}-words.txt"
    words.parent.mkdir(parents=True, exist_ok=True)
    words.write_text("ant\nbee\ncat\ndog\n")
    with _graph() as session:
        word = v1.placeholder(tf.string, [None], "word")
        asset = tf.constant(str(words))
        v1.add_to_collection(v1.GraphKeys.ASSET_FILEPATHS, asset)
        whole, line = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER
        ids = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(asset, tf.string, whole, tf.int64, line), 0
        )
        names = tf.lookup.StaticHashTable(
            tf.lookup.TextFileInitializer(asset, tf.int64, line, tf.string, whole), "?"
        )
        embedded = tf.nn.embedding_lookup(_variable("e", floats(195, 4, 8)), ids.lookup(word))
        scores = tf.nn.softmax(_product(tf.tanh(_product(embedded, 196, 12)), 197, 4))
        outputs = {"scores": scores, "name": names.lookup(tf.argmax(scores, 1))}
        tables = v1.tables_initializer()
        options = {"main_op": tables, "assets_collection": v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS)}
        _build(session, folder, {DEFAULT: ({"word": word}, outputs)}, **options)
    words.unlink()


def _normalized(x: tf.Tensor, training: tf.Tensor, channels: int) -> tf.Tensor:
    """Batch normalization as it was: which statistics count, a condition on a placeholder says."""
    scale, offset = (
        _variable("scale", floats(198, channels) ** 2 + 0.5),
        _variable("offset", floats(199, channels)),
    )
    mean, variance = (
        _variable("mean", floats(200, channels)),
        _variable("variance", floats(201, channels) ** 2 + 0.5),
    )

    def batch() -> Any:
        return tf.nn.moments(x, [0, 1, 2])

    used = v1.cond(training, batch, lambda: (tf.identity(mean), tf.identity(variance)))
    return tf.nn.batch_normalization(x, *used, offset, scale, 1e-3)


def write_training_switch(folder: Path) -> None:
    """A CNN with a placeholder that says whether it trains; it has a default, and no signature names it."""
    with _graph(old_control_flow=True) as session:
        pixels = v1.placeholder(tf.float32, [None, 10, 10, 3], "pixels")
        training = v1.placeholder_with_default(False, [], "training")
        kernel = _variable("kernel", floats(202, 3, 3, 3, 8, scale=0.2))
        seen = tf.nn.relu(_normalized(tf.nn.conv2d(pixels, kernel, 1, "SAME"), training, 8))
        outputs = {"scores": tf.nn.softmax(_product(tf.reduce_mean(seen, [1, 2]), 203, 4))}
        _build(session, folder, {DEFAULT: ({"pixels": pixels}, outputs)})


def write_dropout(folder: Path) -> None:
    """Dropout whose rate is a placeholder with a default of 0: nothing is dropped, yet numbers are drawn."""
    with _graph() as session:
        x = v1.placeholder(tf.float32, [None, 6], "x")
        rate = v1.placeholder_with_default(0.0, [], "rate")
        hidden = tf.nn.relu(_product(x, 204, 32, resource=True))
        outputs = {"y": _product(tf.nn.dropout(hidden, rate), 205, 3, resource=True)}
        _build(session, folder, {DEFAULT: ({"x": x}, outputs)})


def write_recurrent(folder: Path) -> None:
    """A recurrent network in a loop of the old control flow, and two dense layers behind it."""
    with _graph(old_control_flow=True) as session:
        x = v1.placeholder(tf.float32, [None, None, 6], "x")
        steps = tf.TensorArray(tf.float32, tf.shape(x)[1]).unstack(tf.transpose(x, [1, 0, 2]))
        w = _variable("w", floats(206, 14, 8, scale=0.3))

        def step(n: tf.Tensor, state: tf.Tensor) -> Any:
            return n + 1, tf.tanh(tf.concat([tf.reshape(steps.read(n), [-1, 6]), state], 1) @ w)

        start = (0, tf.zeros([tf.shape(x)[0], 8]))
        last = v1.while_loop(lambda n, _: n < tf.shape(x)[1], step, start)[1]
        last = tf.ensure_shape(last, [None, 8])
        outputs = {"y": _product(tf.nn.relu(_product(last, 207, 16)), 208, 3), "state": last}
        _build(session, folder, {DEFAULT: ({"x": x}, outputs)})


def write_partitioned(folder: Path) -> None:
    """An embedding in three parts."""
    with _graph() as session:
        ids = v1.placeholder(tf.int64, [None, 2], "ids")
        parts = [_variable(f"part{n}", floats(209 + n, 5, 8)) for n in range(3)]
        row = tf.reshape(v1.nn.embedding_lookup(parts, ids, partition_strategy="div"), [-1, 16])
        outputs = {"y": _product(tf.nn.elu(_product(row, 212, 24)), 213, 3)}
        _build(session, folder, {DEFAULT: ({"ids": ids}, outputs)})


def write_photos(folder: Path) -> None:
    """A map over JPEGs in the old control flow, as in the official archive of ResNet."""
    v1.disable_control_flow_v2()
    try:
        saved_models.write_classifier(folder)
    finally:
        v1.enable_control_flow_v2()


def write_assigned(folder: Path) -> None:
    """A reference variable that a signature adds to."""
    with _graph() as session:
        x = v1.placeholder(tf.float32, [None, 6], "x")
        calls = v1.get_variable("calls", initializer=0.0, use_resource=False, trainable=False)
        y = _product(x, 214, 3)
        with tf.control_dependencies([v1.assign_add(calls, 1.0)]):
            counted = tf.identity(y)
        _build(session, folder, {"counted": ({"x": x}, {"y": counted}), DEFAULT: ({"x": x}, {"y": y})})


def write_local_response(folder: Path) -> None:
    """What the networks of 2012 to 2016 have: local response normalization, and maxout."""
    with _graph() as session:
        pixels = v1.placeholder(tf.float32, [None, 12, 12, 3], "pixels")
        kernel = _variable("kernel", floats(215, 5, 5, 3, 8, scale=0.1), resource=True)
        seen = tf.nn.relu(tf.nn.conv2d(pixels, kernel, 2, "SAME", name="conv1"))
        seen = tf.nn.local_response_normalization(seen, 2, 1.0, 2e-5, 0.75)
        seen = tf.nn.max_pool2d(seen, 3, 2, "VALID")
        whole = _product(tf.reshape(seen, [-1, 2 * 2 * 8]), 216, 12)
        outputs = {"prob": tf.nn.softmax(tf.reduce_max(tf.reshape(whole, [-1, 4, 3]), 2))}
        _build(session, folder, {DEFAULT: ({"pixels": pixels}, outputs)})


def write_odd_names(folder: Path) -> None:
    """Names that are no identifiers, and outputs that are the second or third of an operation."""
    with _graph() as session:
        x = v1.placeholder(tf.float32, [None, 6], "x")
        best = tf.math.top_k(_product(x, 220, 9), 3)
        parts = tf.split(tf.tanh(best.values), 3, 1)
        outputs = {
            "top-3 classes": best.indices,
            "größe": parts[1],
            "scores/all": best.values,
            "last": parts[2],
        }
        _build(session, folder, {"a signature": ({"in put/ä": x}, outputs)})


def write_fed_inside(folder: Path) -> None:
    """Signatures that are fed in the middle of the graph, and at a placeholder that has a default."""
    with _graph() as session:
        encoded = v1.placeholder(tf.string, [None], "encoded")
        numbers = tf.reshape(tf.io.decode_raw(encoded, tf.float32), [-1, 6])
        scale = v1.placeholder_with_default(np.float32(2.0), [], "scale")
        hidden = tf.nn.relu(_product(numbers * scale, 221, 12))
        outputs = {"y": _product(hidden, 222, 3)}
        signatures = {
            DEFAULT: ({"encoded": encoded}, outputs),
            "numbers": ({"x": numbers}, outputs),
            "scaled": ({"x": numbers, "scale": scale}, outputs),
            "hidden": ({"hidden": hidden}, outputs),
        }
        _build(session, folder, signatures)


def _kinds() -> list[Kind]:
    x: Inputs = {"x": X}
    words = {"word": strings(b"a", b"z")}
    both = {"x": X, **words}
    photos = strings(saved_models.photo(1), saved_models.photo(2))
    series = [(DEFAULT, {"x": floats(217, 2, size, 6)}) for size in (4, 1)]
    raw = strings(*(row.tobytes() for row in X))
    inside: list[tuple[str, Inputs]] = [
        (DEFAULT, {"encoded": raw}),
        ("numbers", x),
        ("scaled", {"x": X, "scale": np.array(-1.5, np.float32)}),
        ("hidden", {"hidden": floats(223, 2, 12)}),
    ]
    ids = {"ids": np.array([[0, 14], [5, 9]], np.int64)}
    return [
        Kind("simple_save", write_simple, [(DEFAULT, x)], plain=True),
        Kind(
            "tf1_table",
            write_table,
            [(DEFAULT, x), ("table", words), ("both", both)],
            outcomes=[Outcome("table", words, {"n": [1.5, 9.0]})],
            shares={DEFAULT: OPTIMIZED, "table": 0.0, "both": OPTIMIZED},
        ),
        Kind("tf1_vocabulary", write_vocabulary, [(DEFAULT, {"word": strings(b"cat", b"dog", b"?")})]),
        Kind("training_switch", write_training_switch, [(DEFAULT, {"pixels": floats(218, 2, 10, 10, 3)})]),
        Kind(
            "tf1_dropout", write_dropout, [(DEFAULT, x)], shares={DEFAULT: 0.0}, reasons={DEFAULT: "random"}
        ),
        Kind("tf1_recurrent", write_recurrent, series, shares={DEFAULT: 0.0}),
        Kind(
            "partitioned",
            write_partitioned,
            [(DEFAULT, ids)],
            outcomes=[Outcome(DEFAULT, {"ids": np.array([[0, 15]], np.int64)}, error=INVALID)],
        ),
        Kind("tf1_photos", write_photos, [(DEFAULT, {"image_bytes": photos})]),
        Kind(
            "tf1_assigned",
            write_assigned,
            [("counted", x), (DEFAULT, x)],
            shares={"counted": 0.0, DEFAULT: OPTIMIZED},
            reasons={"counted": "changes the variable .*calls"},
        ),
        Kind("local_response", write_local_response, [(DEFAULT, {"pixels": floats(219, 2, 12, 12, 3)})]),
        Kind(
            "odd_names",
            write_odd_names,
            [("a signature", {"in put/ä": X})],
            shares={"a signature": OPTIMIZED},
            chooses=True,
        ),
        Kind(
            "fed_inside",
            write_fed_inside,
            inside,
            shares={name: OPTIMIZED for name, _ in inside},
        ),
        Kind(
            "estimator",
            gallery.write_examples,
            [("predict", {"examples": gallery.EXAMPLES})],
            shares={"predict": OPTIMIZED},
        ),
    ]


KINDS = _kinds()

"""Sample requests fit what a model does with its inputs, and TensorFlow answers them."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import zoo
from embedded_server import make_samples
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.graph.saved_model import read_signature_defs
from embedded_server.wire.decoding import decode_predict
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

PHOTOS = [
    tf.io.encode_jpeg(
        np.random.default_rng(n).integers(0, 256, (24 + n, 40, 3), np.uint8), optimize_size=True
    ).numpy()
    for n in range(12)
]
v1 = tf.compat.v1


def save(folder: Path, function: Callable[..., Any], **inputs: tf.TensorSpec) -> Path:
    module = tf.Module()
    module.serve = tf.function(function, input_signature=None)
    signature = module.serve.get_concrete_function(
        **{name: tf.TensorSpec(one.shape, one.dtype, name) for name, one in inputs.items()}
    )
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
    return folder


def made(folder: Path, pixels: str | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The requests of the default signature, each answered by the server's own way, and what is told."""
    output = folder.parent / "samples"
    make_samples.write(make_samples.make(folder, PHOTOS, pixels), output, "a fingerprint")
    text = (output / make_samples.REQUESTS).read_bytes()
    about = json.loads((output / make_samples.ABOUT).read_text())
    assert about["requests"] == hashlib.sha256(text).hexdigest()
    bodies = [json.loads(line) for line in text.splitlines()]
    backend = TensorFlowBackend.load(folder)
    for body in bodies:
        request = decode_predict(body, backend.signatures)
        outputs = backend.run(request.signature, request.inputs)
        if request.rows:
            assert {len(array) for array in outputs.values()} == {len(body["instances"])}
    mine = [body for body in bodies if body["signature_name"] == "serving_default"]
    return mine, about["signatures"]["serving_default"]


def pixels_of(body: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(body.get("instances", body.get("inputs")), np.float64)


def image(*shape: int | None, dtype: Any = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype)


def total(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(x, [1, 2, 3])


RANGES: dict[str, tuple[Callable[[tf.Tensor], tf.Tensor], str | None]] = {
    "rescaling": (lambda x: total(x * (1 / 255.0)), "0..255"),
    "division": (lambda x: total(x / 127.5 - 1.0), "0..255"),
    "means": (lambda x: total(x[..., ::-1] - [103.939, 116.779, 123.68]), "0..255"),
    "resized first": (lambda x: total(tf.image.resize(x, [5, 5]) / 255.0), "0..255"),
    "clipped": (lambda x: total(tf.clip_by_value(x, 0.0, 1.0)), "0..1"),
    "centred": (lambda x: total(x * 2.0 - 1.0), "0..1"),
    "means of parts": (lambda x: total((x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]), "0..1"),
    "nothing said": (total, None),
}


@pytest.mark.parametrize("name", RANGES)
def test_pixels_are_in_the_range_that_the_model_expects(tmp_path: Path, name: str) -> None:
    function, expected = RANGES[name]
    bodies, about = made(save(tmp_path / "1", lambda x: {"y": function(x)}, x=image(None, 12, 10, 3)))
    assert about["inputs"] == {"x": {"kind": "pixels", "pixels": expected}}
    assert len(bodies) == 12
    lows, highs = zip(*[(pixels_of(body).min(), pixels_of(body).max()) for body in bodies], strict=True)
    if expected == "0..255":
        assert min(lows) >= 0
        assert 100 < max(highs) <= 255
    elif expected == "0..1":
        assert min(lows) >= 0
        assert max(highs) <= 1
    else:
        assert min(lows) < -0.1, "all three ranges are among them"
        assert max(highs) > 100


def test_pixels_as_a_person_says(tmp_path: Path) -> None:
    folder = save(tmp_path / "1", lambda x: {"y": total(x)}, x=image(None, 12, 10, 3))
    bodies, about = made(folder, "-1..1")
    assert about["inputs"]["x"]["pixels"] == "-1..1"
    assert min(pixels_of(body).min() for body in bodies) < -0.1
    assert max(pixels_of(body).max() for body in bodies) <= 1


def decoded(encoded: tf.Tensor) -> tf.Tensor:
    def one(data: tf.Tensor) -> tf.Tensor:
        return tf.image.resize(tf.io.decode_jpeg(data, 3), [6, 6])

    return tf.map_fn(one, encoded, fn_output_signature=tf.float32)


TEXT = tf.TensorSpec([None], tf.string)


def test_photos_where_images_are_decoded(tmp_path: Path) -> None:
    folder = save(
        tmp_path / "1",
        lambda image_bytes, key: {"y": total(decoded(image_bytes)), "key": key},
        image_bytes=TEXT,
        key=TEXT,
    )
    bodies, about = made(folder)
    assert about["inputs"] == {"image_bytes": {"kind": "photo"}, "key": {"kind": "text"}}
    sent = [base64.b64decode(body["instances"][0]["image_bytes"]["b64"]) for body in bodies]
    assert sorted(sent) == sorted(PHOTOS)
    assert all(isinstance(body["instances"][0]["key"], str) for body in bodies)


def test_two_photos_of_a_request_differ(tmp_path: Path) -> None:
    folder = save(
        tmp_path / "1",
        lambda left, right: {"y": total(decoded(left)) - total(decoded(right))},
        left=TEXT,
        right=TEXT,
    )
    bodies, _ = made(folder)
    assert len(bodies) == 12
    for body in bodies:
        assert body["instances"][0]["left"] != body["instances"][0]["right"]


def test_web_safe_base64(tmp_path: Path) -> None:
    folder = save(tmp_path / "1", lambda t: {"y": total(decoded(tf.io.decode_base64(t)))}, t=TEXT)
    bodies, about = made(folder)
    assert about["inputs"] == {"t": {"kind": "base64 photo"}}
    assert len(bodies) == 12


def test_examples_with_a_photo_and_an_id(tmp_path: Path) -> None:
    table = tf.ones([7, 2])

    def serve(examples: tf.Tensor) -> Any:
        parsed = tf.io.parse_example(
            examples,
            {
                "photo": tf.io.FixedLenFeature([], tf.string),
                "id": tf.io.FixedLenFeature([2], tf.int64),
                "note": tf.io.VarLenFeature(tf.string),
                "size": tf.io.FixedLenFeature([3], tf.float32),
            },
        )
        rows = tf.reduce_sum(tf.gather(table, parsed["id"]), [1, 2])
        return {"y": total(decoded(parsed["photo"])) + rows + tf.reduce_sum(parsed["size"], 1)}

    bodies, about = made(save(tmp_path / "1", serve, examples=TEXT))
    assert about["inputs"] == {"examples": {"kind": "example"}}
    assert len(bodies) == 12
    message = tf.train.Example.FromString(base64.b64decode(bodies[3]["instances"][0]["b64"]))
    assert message.features.feature["photo"].bytes_list.value[0] in PHOTOS
    assert all(0 <= number < 7 for number in message.features.feature["id"].int64_list.value)


def test_words_of_the_vocabulary(tmp_path: Path) -> None:
    words = ["red", "green", "blue", *(f"word{n}" for n in range(20))]
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant(words), tf.range(len(words), dtype=tf.int64)), -1
    )
    folder = tmp_path / "1"
    module = tf.Module()
    module.table = table
    module.serve = tf.function(
        lambda t: {"y": tf.reduce_sum(table.lookup(tf.strings.split(tf.strings.lower(t))), 1).to_tensor()
                   if False else tf.reduce_sum(table.lookup(tf.strings.split(t)).to_tensor(), 1)},
        input_signature=[tf.TensorSpec([None], tf.string, "t")],
    )  # fmt: skip
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    bodies, about = made(folder)
    assert about["inputs"] == {"t": {"kind": "words"}}
    assert {word for body in bodies for word in body["instances"][0].split()} <= set(words)
    assert len(bodies) == 12


def test_ids_are_smaller_than_what_they_choose_from(tmp_path: Path) -> None:
    table = tf.ones([30, 2])

    def serve(ids: tf.Tensor, segment: tf.Tensor, hour: tf.Tensor) -> Any:
        chosen = tf.gather(table, ids) + tf.gather(table[:2], segment)
        return {"y": tf.reduce_sum(chosen, [1, 2]) + tf.reduce_sum(tf.one_hot(hour, 24), 1)}

    spec = tf.TensorSpec([None, None], tf.int32)
    bodies, _ = made(
        save(tmp_path / "1", serve, ids=spec, segment=spec, hour=tf.TensorSpec([None], tf.int64))
    )
    rows = [body["instances"][0] for body in bodies]
    assert all(len(row["ids"]) == len(row["segment"]) for row in rows)
    assert len({len(row["ids"]) for row in rows}) > 1, "open sizes vary"
    ids = {number for row in rows for number in row["ids"]}
    assert ids <= set(range(30))
    assert max(ids) > 5
    assert {number for row in rows for number in row["segment"]} == {0, 1}
    assert {row["hour"] for row in rows} <= set(range(24))


def test_a_detector_without_rows_is_asked_in_columns(tmp_path: Path) -> None:
    def serve(image: tf.Tensor) -> Any:
        count = tf.shape(image)[1] // 16
        return {"boxes": tf.zeros([count, 4]) + tf.reduce_mean(image), "count": count}

    bodies, _ = made(save(tmp_path / "1", serve, image=image(1, None, None, 3)))
    assert len(bodies) == 12
    assert all("inputs" in body for body in bodies)
    assert len({pixels_of(body).shape for body in bodies}) > 1


def test_fixed_batches_scalars_and_flags(tmp_path: Path) -> None:
    def serve(x: tf.Tensor, keep_prob: tf.Tensor, is_training: tf.Tensor) -> Any:
        return {"y": tf.where(is_training, x * keep_prob, x)}

    bodies, about = made(
        save(
            tmp_path / "1",
            serve,
            x=tf.TensorSpec([4, 10], tf.float32),
            keep_prob=tf.TensorSpec([], tf.float32),
            is_training=tf.TensorSpec([], tf.bool),
        )
    )
    assert all(np.shape(body["inputs"]["x"]) == (4, 10) for body in bodies)
    assert {body["inputs"]["is_training"] for body in bodies} == {True, False}
    assert all(0 < body["inputs"]["keep_prob"] <= 1 for body in bodies)
    assert not about["random"]


def test_a_fixed_batch_in_rows(tmp_path: Path) -> None:
    bodies, _ = made(save(tmp_path / "1", lambda x: {"y": x * 2.0}, x=tf.TensorSpec([4, 10], tf.float32)))
    assert all(np.shape(body["instances"]) == (4, 10) for body in bodies)


def test_no_rows_at_all(tmp_path: Path) -> None:
    bodies, _ = made(
        save(tmp_path / "1", lambda x: {"y": tf.reduce_sum(x)}, x=tf.TensorSpec([10], tf.float32))
    )
    assert all(np.shape(body["inputs"]) == (10,) for body in bodies)


def test_random_answers_are_told(tmp_path: Path) -> None:
    folder = save(
        tmp_path / "1",
        lambda x: {"y": x + tf.random.normal(tf.shape(x))},
        x=tf.TensorSpec([None, 3], tf.float32),
    )
    assert made(folder)[1]["random"]


def test_what_cannot_be_made_up_says_what_tensorflow_says(tmp_path: Path) -> None:
    def serve(x: tf.Tensor) -> Any:
        with tf.control_dependencies([tf.debugging.assert_equal(x[:, 0], 123456.0, "the magic is missing")]):
            return {"y": tf.identity(x)}

    bodies, about = made(save(tmp_path / "1", serve, x=tf.TensorSpec([None, 3], tf.float32)))
    assert not bodies
    assert "the magic is missing" in about["problem"]


def test_signatures_of_the_saver_are_left_out(tmp_path: Path) -> None:
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        w = v1.get_variable("w", [3, 2])
        tf.no_op("init")
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": x @ w})
        builder = v1.saved_model.Builder(str(tmp_path / "1"))
        builder = v1.saved_model.Builder(str(tmp_path / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    file = tmp_path / "1" / "saved_model.pb"
    saved = SavedModel.FromString(file.read_bytes())
    # As TensorFlow lists what it executes after loading.
    key = "__saved_model_init_op"
    saved.meta_graphs[0].signature_def[key].outputs[key].name = "init"
    file.write_bytes(saved.SerializeToString())
    assert len(read_signature_defs(tmp_path / "1")) == 2
    assert set(make_samples.make(tmp_path / "1", PHOTOS, None)) == {"serving_default"}


def test_the_parts_of_a_sparse_matrix(tmp_path: Path) -> None:
    """How many columns it has, TensorFlow tells when it refuses a guess."""
    (kind,) = [kind for kind in zoo.KINDS if kind.name == "sparse"]
    kind.write(tmp_path / "1")
    ((requests, told),) = make_samples.make(tmp_path / "1", [], None).values()
    assert len(requests.bodies) == 12
    assert told["problem"] is None
    for body in requests.bodies:
        parts = body["inputs"]
        assert parts["shape"] == [2, 10]
        assert len(parts["at"]) == len(parts["values"]) == 4
        assert parts["at"] == sorted(parts["at"])
        assert all(0 <= row < 2 and 0 <= column < 10 for row, column in parts["at"])


def test_photos_of_the_one_size_that_tensorflow_asks_for(tmp_path: Path) -> None:
    (kind,) = [kind for kind in zoo.KINDS if kind.name == "base64"]
    kind.write(tmp_path / "1")
    photos = [tf.io.encode_jpeg(np.full((90, 70, 3), 100 + n, np.uint8)).numpy() for n in range(3)]
    ((requests, told),) = make_samples.make(tmp_path / "1", photos, None).values()
    assert told["inputs"]["encoded"] == {"kind": "base64 photo", "photo_size": (24, 32)}
    assert requests.bodies

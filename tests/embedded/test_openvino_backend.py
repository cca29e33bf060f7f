"""The two halves of an optimized model while many ask at once: exact pixels, and to each its own answer."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from embedded_server import convert, seeded
from embedded_server.execution.backend import Array
from embedded_server.execution.openvino_backend import OpenVinoBackend
from embedded_server.execution.surroundings import _ends_by_itself
from embedded_server.execution.tensorflow_backend import session_callable

PHOTOS = [
    path.read_bytes()
    for path in sorted((Path(__file__).resolve().parents[2] / "models" / "samples").glob("*.jpg"))
]
TF1, TF2 = "tf1", "tf2"


class Classifier(tf.Module):
    """TF 2 style: decodes as the seeded model does."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
    def serve(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        spec = tf.TensorSpec([seeded.SIZE, seeded.SIZE, 3], tf.float32)
        images = tf.map_fn(seeded.decode, image_bytes, fn_output_signature=spec)
        return {"means": tf.reduce_mean(images, [1, 2]) @ tf.constant(np.eye(3, dtype=np.float32))}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Version folders of both styles, each with its artefact."""
    base = tmp_path_factory.mktemp("photos")
    made = {TF1: base / TF1 / "1", TF2: base / TF2 / "1"}
    tf.compat.v1.disable_control_flow_v2()
    saved_models.write_classifier(made[TF1])
    tf.compat.v1.enable_control_flow_v2()
    module = Classifier()
    tf.saved_model.save(module, str(made[TF2]), signatures=module.serve)
    for folder in made.values():
        convert.convert(folder, folder.parent / ".optimized" / "1", "")
    return made


def load(folder: Path) -> OpenVinoBackend:
    return OpenVinoBackend.load(folder, folder.parent / ".optimized" / "1", "f32")


def decoded_by_tensorflow(folder: Path) -> Array:
    """The pixels of all sample photos without any of our programs."""
    if folder.parent.name == TF2:
        return np.stack([seeded.decode(photo).numpy() for photo in PHOTOS])
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        pixels: Array = session.run(
            "map/TensorArrayStack/TensorArrayGatherV3:0",
            {"input_tensor:0": np.array(PHOTOS, dtype=object)},
        )
        return pixels


@pytest.mark.parametrize("style", [TF1, TF2])
def test_pixels_are_tensorflows_bit_for_bit(folders: dict[str, Path], style: str) -> None:
    program = load(folders[style])._programs["serving_default"]
    expected = decoded_by_tensorflow(folders[style])

    def decoded(photos: list[bytes]) -> Array:
        (crossing,) = program._program.body_inputs.values()
        return program.prepared({"image_bytes": np.array(photos, dtype=object)})[crossing]

    np.testing.assert_array_equal(decoded(PHOTOS), expected)
    with ThreadPoolExecutor(4) as threads:
        ones = threads.map(lambda photo: decoded([photo]), PHOTOS)
        for one, pixels in zip(ones, expected, strict=True):
            np.testing.assert_array_equal(one[0], pixels)


def test_each_of_many_gets_its_own_answer(folders: dict[str, Path]) -> None:
    backend = load(folders[TF1])
    expected = [
        backend.run("serving_default", {"image_bytes": np.array([photo], dtype=object)})["probabilities"][0]
        for photo in PHOTOS
    ]
    nearest = min(
        np.abs(a - b).max() for i, a in enumerate(expected) for j, b in enumerate(expected) if i < j
    )

    def ask(seed: int) -> float:
        """The largest difference from what a photo gets when it is alone."""
        choose = random.Random(seed)
        worst = 0.0
        for _ in range(40):
            asked = choose.choices(range(len(PHOTOS)), k=choose.randint(1, 3))
            images = np.array([PHOTOS[number] for number in asked], dtype=object)
            answer = backend.run("serving_default", {"image_bytes": images})["probabilities"]
            assert len(answer) == len(asked)
            worst = max(worst, *(np.abs(answer[i] - expected[n]).max() for i, n in enumerate(asked)))
        return worst

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(ask, range(8))) < nearest / 10


def test_more_rows_than_one_are_compiled_for_when_they_come(folders: dict[str, Path]) -> None:
    backend = load(folders[TF1])
    body = backend._programs["serving_default"]._body

    def ask(photos: list[bytes]) -> Array:
        images = np.array(photos, dtype=object)
        return backend.run("serving_default", {"image_bytes": images})["probabilities"]

    alone = np.concatenate([ask([photo]) for photo in PHOTOS])
    assert set(body._compiled) == {"one row"}
    with ThreadPoolExecutor(8) as threads:
        for together in threads.map(ask, [PHOTOS] * 8):
            np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-7)
    assert set(body._compiled) == {"one row", "any rows"}


@pytest.mark.parametrize("style", [TF1, TF2])
def test_one_photo_is_decoded_in_the_requests_own_thread(folders: dict[str, Path], style: str) -> None:
    around = load(folders[style])._programs["serving_default"]._around
    assert around is not None
    assert around._ends


def counted(turns: Callable[[tf.Tensor], tf.Tensor]) -> tf.Graph:
    """A loop that goes round as often as `turns` says of a fed vector of whole numbers."""
    graph = tf.Graph()
    tf.compat.v1.disable_control_flow_v2()
    with graph.as_default():
        fed = tf.compat.v1.placeholder(tf.int32, [None])
        end = turns(fed)
        tf.while_loop(lambda i: i < end, lambda i: (i + 1,), (0,))
    tf.compat.v1.enable_control_flow_v2()
    return graph


@pytest.mark.parametrize(
    ("turns", "ends"),
    [
        (lambda fed: tf.shape(fed)[0], True),
        (lambda fed: tf.shape(tf.cast(tf.identity(fed), tf.float32))[0], True),
        (lambda fed: tf.constant(5), True),
        (lambda fed: fed[0], False),
        (lambda fed: tf.shape(tf.range(fed[0]))[0], False),
        (lambda fed: tf.shape(tf.where(fed > 0))[0], False),
        (lambda fed: tf.shape(tf.repeat(fed, fed))[0], False),
    ],
    ids=["shape", "shape of a cast", "constant", "value", "range", "where", "repeat"],
)
def test_a_loop_ends_by_itself_where_no_value_says_when(
    turns: Callable[[tf.Tensor], tf.Tensor], ends: bool
) -> None:
    assert _ends_by_itself(counted(turns)) == ends


def test_a_call_in_the_callers_thread_is_executed_there() -> None:
    def threads(*, in_callers_thread: bool) -> set[int]:
        seen = set()

        def note() -> np.int64:
            seen.add(threading.get_ident())
            return np.int64(0)

        with tf.Graph().as_default() as graph:
            result = tf.numpy_function(note, [], tf.int64)
        with tf.compat.v1.Session(graph=graph) as session:
            session_callable(session, [], [result.name], 0, in_callers_thread=in_callers_thread)()
        return seen

    assert threads(in_callers_thread=True) == {threading.get_ident()}
    assert threading.get_ident() not in threads(in_callers_thread=False)

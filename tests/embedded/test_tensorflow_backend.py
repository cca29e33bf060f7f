"""SavedModels of every style, executed by the backend and by TensorFlow itself."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from embedded_server.common.errors import DeadlineExceeded, FailedPrecondition, InvalidArgument, StartError
from embedded_server.execution.signature import DEFAULT_SIGNATURE
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.graph.saved_model import read_signature_defs


@pytest.fixture(scope="module")
def module(models: Path) -> TensorFlowBackend:
    return TensorFlowBackend.load(models / "module" / "3")


def test_tf1_photos(models: Path) -> None:
    folder = models / "photos" / "1538687457"
    photos = np.array([saved_models.photo(seed) for seed in range(3)], dtype=object)
    backend = TensorFlowBackend.load(folder)
    signature = backend.signatures[DEFAULT_SIGNATURE]
    assert signature.inputs[saved_models.PHOTO_INPUT].shape == (None,)
    assert signature.outputs["probabilities"].shape == (None, 5)
    assert signature.method_name == "tensorflow/serving/predict"
    answer = backend.run("predict", {saved_models.PHOTO_INPUT: photos})
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        proto = meta_graph.signature_def["predict"]
        fetches = {alias: info.name for alias, info in proto.outputs.items()}
        expected = session.run(fetches, {proto.inputs[saved_models.PHOTO_INPUT].name: photos})
    assert answer.keys() == expected.keys()
    for alias, value in expected.items():
        np.testing.assert_array_equal(answer[alias], value)
    assert len(set(map(str, answer["probabilities"]))) == 3, "the photos are told apart"
    assert all(isinstance(label, bytes) for label in answer["label"])
    some = backend.run("predict", {saved_models.PHOTO_INPUT: photos}, ["classes"])
    assert list(some) == ["classes"]


@pytest.mark.parametrize("style", ["keras", "wrapped"])
def test_keras(models: Path, style: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = models / style / "1"
    with caplog.at_level("INFO"):
        backend = TensorFlowBackend.load(folder)
    assert ("executed as functions" in caplog.text) == (style == "wrapped")
    signature = backend.signatures[DEFAULT_SIGNATURE]
    ((alias, spec),) = signature.inputs.items()
    assert spec.shape == (None, 8, 8, 3)
    pixels = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    expected = tf.saved_model.load(str(folder)).signatures[DEFAULT_SIGNATURE](**{alias: pixels})
    answer = backend.run(DEFAULT_SIGNATURE, {alias: pixels})
    assert answer.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(answer[name], value.numpy(), rtol=1e-5)
    with pytest.raises(InvalidArgument):
        backend.run(DEFAULT_SIGNATURE, {alias: pixels[..., :2]})


@pytest.mark.parametrize("dtype", saved_models.DTYPES)
def test_every_dtype(module: TensorFlowBackend, dtype: str) -> None:
    name = f"echo_{dtype}"
    numpy_type = module.signatures[name].inputs["x"].dtype.numpy
    assert numpy_type == tf.dtypes.as_dtype(dtype).as_numpy_dtype
    given = np.array([[0, 1], [1, 0]], dtype=numpy_type)
    answer = module.run(name, {"x": given})["y"]
    assert answer.dtype == given.dtype
    np.testing.assert_array_equal(answer, given)


def test_errors(module: TensorFlowBackend) -> None:
    ones = np.ones((2, 3), np.float32)
    with pytest.raises(InvalidArgument, match="Matrix size-incompatible"):
        module.run(DEFAULT_SIGNATURE, {"x": ones})
    with pytest.raises(InvalidArgument, match="input size does not match signature"):
        module.run(DEFAULT_SIGNATURE, {})
    with pytest.raises(InvalidArgument, match="output tensor alias not found in signature: no"):
        module.run(DEFAULT_SIGNATURE, {"x": ones}, ["no"])
    with pytest.raises(FailedPrecondition, match="not found"):
        module.run("no", {"x": ones})
    with pytest.raises(InvalidArgument, match="Type mismatch"):
        module.run(DEFAULT_SIGNATURE, {"x": ones.astype(np.int32)})


def test_a_call_that_takes_too_long_is_given_up(models: Path) -> None:
    backend = TensorFlowBackend.load(models / "module" / "3", timeout=0.2)
    with pytest.raises(DeadlineExceeded):
        backend.run("spin", {"n": np.array([10**12])})


def test_several_threads_do_not_mix_answers(module: TensorFlowBackend) -> None:
    wrong: list[Any] = []

    def work(number: int) -> None:
        x = np.full((1, 2), number, dtype=np.float32)
        for _ in range(200):
            answer = module.run(DEFAULT_SIGNATURE, {"x": x})["y"]
            if not np.array_equal(answer, x @ [[2, 0], [1, 0.5]]):
                wrong.append(answer)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_signature_defs_without_loading(models: Path, module: TensorFlowBackend) -> None:
    assert read_signature_defs(models / "module" / "3") == module.signature_defs


def test_what_is_no_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"not a protocol buffer")
    for load in (TensorFlowBackend.load, read_signature_defs):
        with pytest.raises(StartError, match="cannot load the SavedModel in"):
            load(tmp_path)


def test_a_failure_that_quotes_bytes_which_are_no_text(tmp_path: Path) -> None:
    saved_models.write_texts(tmp_path / "1")
    backend = TensorFlowBackend.load(tmp_path / "1")
    with pytest.raises(InvalidArgument, match=r"could not correctly convert string: \\xff"):
        backend.run(DEFAULT_SIGNATURE, {"text": np.array([b"\xff"], object)})

"""The requests that are made before a version is available."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from embedded_server.common.errors import InvalidArgument, ServingError, Unimplemented
from embedded_server.config.batching_parameters import BatchingParameters
from embedded_server.execution.backend import Array
from embedded_server.execution.servable import Servable
from embedded_server.execution.signature import Signature
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.lifecycle import warmup
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog


class Watched:
    """A real backend that remembers what it was asked, and what it refused."""

    def __init__(self, folder: Path) -> None:
        self._backend = TensorFlowBackend.load(folder)
        self.signatures: Mapping[str, Signature] = self._backend.signatures
        self.signature_defs = self._backend.signature_defs
        self.runtime = self._backend.runtime
        self.answered: list[tuple[str, Mapping[str, Array], Sequence[str] | None]] = []
        self.refused: list[str] = []

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        try:
            answer = self._backend.run(signature, inputs, outputs)
        except ServingError as error:
            self.refused.append(str(error))
            raise
        self.answered.append((signature, inputs, outputs))
        return answer

    def close(self) -> None:
        self._backend.close()


@pytest.fixture
def module(models: Path, tmp_path: Path) -> Path:
    """A copy of the model with many signatures, to put warm-up requests in."""
    folder = tmp_path / "3"
    shutil.copytree(models / "module" / "3", folder)
    return folder


def record(folder: Path, *messages: bytes) -> None:
    """Make these the warm-up requests of a version."""
    file = folder / warmup.REQUESTS_FILE
    file.parent.mkdir()
    with tf.io.TFRecordWriter(str(file)) as writer:
        for message in messages:
            writer.write(message)


def predict(signature: str, outputs: Sequence[str] = (), **inputs: Any) -> bytes:
    """A predict request, as TensorFlow Serving logs it."""
    log = PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.output_filter.extend(outputs)
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return bytes(log.SerializeToString())


def test_recorded_requests_are_made_as_they_were(module: Path) -> None:
    a, b, x = np.ones((2, 3), np.float32), np.array([4, 5]), np.ones((1, 2), np.float32)
    record(module, predict("several", ["total"], a=a, b=b), predict("", x=x), predict("text", text=[b"\xff"]))
    backend = Watched(module)
    warmup.warm_up(Servable("m", 1, backend), module, iterations=2)
    names = [call[0] for call in backend.answered]
    assert names == ["several", "several", "serving_default", "serving_default", "text", "text"]
    _, inputs, outputs = backend.answered[0]
    assert list(outputs or ()) == ["total"]
    assert inputs.keys() == {"a", "b"}
    np.testing.assert_array_equal(inputs["a"], a)
    np.testing.assert_array_equal(inputs["b"], b)
    assert backend.answered[2][2] is None
    assert backend.answered[4][1]["text"].tolist() == [b"\xff"]


def test_requests_with_examples(tmp_path: Path) -> None:
    saved_models.write_example_counter(tmp_path / "1")
    log = PredictionLog()
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(1.0)
    log.classify_log.request.model_spec.signature_name = "classify"
    log.classify_log.request.input.example_list.examples.append(example)
    regress = PredictionLog()
    regress.regress_log.request.model_spec.signature_name = "regress"
    regress.regress_log.request.input.example_list.examples.extend([example, example])
    both = PredictionLog()
    for name in ("classify", "regress"):
        task = both.multi_inference_log.request.tasks.add(method_name=f"tensorflow/serving/{name}")
        task.model_spec.signature_name = name
    both.multi_inference_log.request.input.example_list.examples.append(example)
    record(tmp_path / "1", *(message.SerializeToString() for message in (log, regress, both)))
    backend = Watched(tmp_path / "1")
    warmup.warm_up(Servable("m", 1, backend), tmp_path / "1")
    assert [(name, len(inputs["inputs"])) for name, inputs, _ in backend.answered] == [
        ("classify", 1), ("regress", 2), ("classify", 1), ("regress", 1),
    ]  # fmt: skip


def test_at_most_a_thousand_requests(module: Path) -> None:
    request = predict("", x=np.ones((1, 2), np.float32))
    record(module, *[request] * warmup.MAX_RECORDS)
    backend = Watched(module)
    warmup.warm_up(Servable("m", 1, backend), module)
    assert len(backend.answered) == warmup.MAX_RECORDS
    shutil.rmtree((module / warmup.REQUESTS_FILE).parent)
    record(module, *[request] * (warmup.MAX_RECORDS + 1))
    with pytest.raises(InvalidArgument, match=r"exceeds the maximum \(1000\)"):
        warmup.warm_up(Servable("m", 1, backend), module)


@pytest.mark.parametrize(
    ("message", "error", "text"),
    [
        (predict("", x=np.ones((1, 3), np.float32)), InvalidArgument, "Matrix size-incompatible"),
        (predict("none", x=[1.0]), ServingError, '"none" not found'),
        (b"no message", InvalidArgument, "it is no PredictionLog"),
        (PredictionLog(session_run_log={}).SerializeToString(), Unimplemented, "session_run_log"),
    ],
)
def test_a_recorded_request_that_fails(
    module: Path, message: bytes, error: type[ServingError], text: str
) -> None:
    record(module, message)
    with pytest.raises(error, match=text):
        warmup.warm_up(Servable("m", 3, Watched(module)), module)


def test_records_that_are_no_tfrecord(module: Path) -> None:
    record(module)
    (module / warmup.REQUESTS_FILE).write_bytes(b"no TFRecord at all")
    with pytest.raises(InvalidArgument, match="verify your warmup data is in TFRecord format"):
        warmup.warm_up(Servable("m", 3, Watched(module)), module)


@pytest.mark.parametrize(
    ("write", "signature", "refused"),
    [
        (saved_models.write_pixels, "serving_default", 0),
        (saved_models.write_plain, "serving_default", 0),
        (saved_models.write_two_signatures, "double", 0),
        (saved_models.write_tf1_photos, "serving_default", 1),  # the empty text is no photo
        (saved_models.write_texts, None, 2),  # neither is a number
    ],
)
def test_without_records_a_request_is_made_up(
    tmp_path: Path, write: Callable[[Path], None], signature: str | None, refused: int
) -> None:
    write(tmp_path / "1")
    backend = Watched(tmp_path / "1")
    warmup.warm_up(Servable("m", 1, backend), tmp_path / "1")
    assert [call[0] for call in backend.answered] == ([] if signature is None else [signature])
    assert len(backend.refused) == refused


@pytest.mark.parametrize(
    ("parameters", "sizes"),
    [
        ({"max_batch_size": 8, "allowed_batch_sizes": (2, 8)}, (2, 8)),
        ({"max_batch_size": 8}, (2,)),
        ({"max_batch_size": 8, "max_execution_batch_size": 1}, ()),
        ({"max_batch_size": 1}, ()),
    ],
)
def test_sizes_to_warm_up_are_those_that_batches_can_have(
    parameters: dict[str, Any], sizes: tuple[int, ...]
) -> None:
    assert BatchingParameters(**parameters).sizes_to_warm_up == sizes


def test_batches_are_warmed_up_in_the_sizes_that_they_will_have(tmp_path: Path) -> None:
    saved_models.write_tf1_photos(tmp_path / "1")
    backend = Watched(tmp_path / "1")
    warmup.warm_up(Servable("m", 1, backend), tmp_path / "1", batch_sizes=(4, 8))
    sizes = [len(inputs[saved_models.PHOTO_INPUT]) for _, inputs, _ in backend.answered]
    assert sizes == [1, 4, 8]


def test_a_sample_is_asked_where_there_are_some(module: Path) -> None:
    """Of the default signature the first; lines that are none are passed by."""
    folder = module.parent / warmup.SAMPLES_FOLDER / module.name
    folder.mkdir(parents=True)
    bodies = (
        "no JSON",
        '{"signature_name": "scalar", "inputs": 1}',
        '{"instances": [[5, 6]]}',
        '{"instances": [[7, 8]]}',
    )
    (folder / warmup.REQUESTS).write_text("".join(f"{body}\n" for body in bodies))
    backend = Watched(module)
    warmup.warm_up(Servable("module", 3, backend), module)
    ((signature, inputs, _),) = backend.answered
    assert signature == "serving_default"
    assert inputs["x"].tolist() == [[5, 6]]
    backend.close()


def test_a_sample_that_is_refused_is_no_reason_to_fail(module: Path) -> None:
    folder = module.parent / warmup.SAMPLES_FOLDER / module.name
    folder.mkdir(parents=True)
    (folder / warmup.REQUESTS).write_text('{"instances": [[1, 2, 3]]}\n')
    backend = Watched(module)
    warmup.warm_up(Servable("module", 3, backend), module)
    assert "Matrix size-incompatible" in backend.refused[0]
    backend.close()

"""Requests executed together: none gets another's answer, and none fails for another's fault."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
from conditions import wait_for
from embedded_server.common.errors import (
    DeadlineExceeded,
    InvalidArgument,
    ResourceExhausted,
    StartError,
    Unavailable,
)
from embedded_server.config.batching_parameters import BatchingParameters, read_batching_parameters
from embedded_server.execution.backend import Array
from embedded_server.execution.batching import BatchingBackend
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.lifecycle.loading import BATCHING_FILE
from running import PATIENCE, Server, run_to_end


class Gate:
    """A backend that notes the rows of each execution, and lets none pass while it is closed."""

    def __init__(self, backend: TensorFlowBackend) -> None:
        self._backend = backend
        self.signatures = backend.signatures
        self.signature_defs = backend.signature_defs
        self.runtime = backend.runtime
        self.rows: list[int] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()
        self.open.set()

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        array = next(iter(inputs.values()))
        self.rows.append(len(array) if array.ndim else 0)
        self.entered.release()
        assert self.open.wait(PATIENCE)
        return self._backend.run(signature, inputs, outputs)

    def merges(self, signature: str, inputs: Mapping[str, Array]) -> bool:
        """Whether no input is NaN, as a backend may want to execute such requests by themselves."""
        return not any(array.dtype.kind == "f" and np.isnan(array).any() for array in inputs.values())


class Crowd:
    """Requests from a thread each, in a known order."""

    def __init__(self, gate: Gate, parameters: BatchingParameters, timeout: float = 0) -> None:
        self.gate = gate
        self.backend = BatchingBackend(gate, parameters, timeout)
        self._threads = ThreadPoolExecutor(16)

    def send(self, signature: str, **inputs: Any) -> Future[dict[str, Array]]:
        return self._threads.submit(self.backend.run, signature, inputs)

    def hold(self, signature: str, **inputs: Any) -> Future[dict[str, Array]]:
        """Send a request that is being executed until `release`."""
        self.gate.open.clear()
        future = self.send(signature, **inputs)
        assert self.gate.entered.acquire(timeout=PATIENCE)
        return future

    def queue(self, signature: str, **inputs: Any) -> Future[dict[str, Array]]:
        """Send a request that has to wait, and return when it does."""
        (before, sent) = (self.waiting(), self.send(signature, **inputs))
        while self.waiting() == before and not sent.done():
            threading.Event().wait(0.001)
        return sent

    def waiting(self) -> int:
        with self.backend._changed:
            return sum(len(queue.waiting) for queue in self.backend._queues.values())

    def release(self) -> None:
        self.gate.open.set()


@pytest.fixture(scope="module")
def module(models: Path) -> TensorFlowBackend:
    return TensorFlowBackend.load(models / "module" / "3", timeout=5)


@pytest.fixture(scope="module")
def photos(models: Path) -> TensorFlowBackend:
    return TensorFlowBackend.load(models / "photos" / "1538687457")


def one_thread(**parameters: Any) -> BatchingParameters:
    return BatchingParameters(num_batch_threads=1, **parameters)


def texts(*words: str) -> Array:
    return np.array([[word.encode() for word in words]], dtype=object)


@pytest.mark.parametrize(
    "parameters",
    [
        BatchingParameters(batch_timeout=0, num_batch_threads=2),
        BatchingParameters(
            max_batch_size=8, max_enqueued_batches=20, batch_timeout=0.002, num_batch_threads=2
        ),
        BatchingParameters(
            max_batch_size=9,
            max_enqueued_batches=20,
            batch_timeout=0.001,
            num_batch_threads=3,
            allowed_batch_sizes=(3, 9),
        ),
        BatchingParameters(max_execution_batch_size=4, max_enqueued_batches=20, num_batch_threads=1),
    ],
    ids=["takes what is there", "waits", "filled up", "in pieces"],
)
def test_each_of_thousands_of_requests_gets_its_own_answer(
    module: TensorFlowBackend, parameters: BatchingParameters
) -> None:
    gate = Gate(module)
    backend = BatchingBackend(gate, parameters)
    wrong: list[Any] = []
    answered = []

    def work(seed: int) -> None:
        choose = random.Random(seed)
        numbers = np.random.default_rng(seed)
        for _ in range(150):
            rows = choose.randint(1, 7)
            a = numbers.random((rows, 3), np.float32)
            b = numbers.integers(1, 1000, rows)
            asked = choose.choice([None, ["total"], ["scaled"], ["total", "scaled"]])
            answer = backend.run("several", {"a": a, "b": b}, asked)
            expected = module.run("several", {"a": a, "b": b}, asked)
            same = answer.keys() == expected.keys() and all(
                np.array_equal(answer[name], expected[name]) for name in expected
            )
            answered.append(rows)
            if not same:
                wrong.append((a, b, asked))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(answered) == 12 * 150
    assert not wrong
    assert len(gate.rows) < len(answered) or parameters.max_execution_batch_size, "some were merged"
    assert max(gate.rows) <= parameters.batch_rows
    if parameters.allowed_batch_sizes:
        assert set(gate.rows) <= set(parameters.allowed_batch_sizes)


def test_what_waits_is_executed_together(module: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(module), one_thread())
    first = crowd.hold("several", a=np.ones((2, 3), np.float32), b=np.array([1, 2]))
    rest = [crowd.queue("several", a=np.full((n, 3), n, np.float32), b=np.arange(n)) for n in (1, 2, 3)]
    crowd.release()
    assert first.result(PATIENCE)["total"].tolist() == [3, 3]
    assert [future.result(PATIENCE)["total"].tolist() for future in rest] == [[3], [6, 6], [9, 9, 9]]
    assert crowd.gate.rows == [2, 6]


def test_what_the_backend_does_not_merge_is_executed_by_itself(module: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(module), one_thread())
    first = crowd.hold("several", a=np.ones((1, 3), np.float32), b=np.array([1]))
    waiting = [crowd.queue("several", a=np.ones((2, 3), np.float32), b=np.array([1, 2])) for _ in range(2)]
    alone = crowd.send("several", a=np.full((3, 3), np.nan, np.float32), b=np.array([1, 2, 3]))
    assert crowd.gate.entered.acquire(timeout=PATIENCE), "it waits for no place in a batch"
    crowd.gate.open.set()
    for request in (first, alone, *waiting):
        request.result(PATIENCE)
    assert crowd.gate.rows == [1, 3, 4]


def test_one_bad_photo_fails_alone(photos: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(photos), one_thread())
    images = [np.array([saved_models.photo(seed)], dtype=object) for seed in range(4)]
    images[2] = np.array([b"not a photo"], dtype=object)
    held = crowd.hold("predict", **{saved_models.PHOTO_INPUT: images[0]})
    futures = [held, *(crowd.queue("predict", **{saved_models.PHOTO_INPUT: image}) for image in images[1:])]
    crowd.release()
    for number, future in enumerate(futures):
        if number == 2:
            with pytest.raises(InvalidArgument):
                future.result(PATIENCE)
            continue
        expected = photos.run("predict", {saved_models.PHOTO_INPUT: images[number]})
        np.testing.assert_allclose(
            future.result(PATIENCE)["probabilities"], expected["probabilities"], rtol=1e-5
        )
    assert crowd.gate.rows[:2] == [1, 3]
    assert sorted(crowd.gate.rows[2:]) == [1, 1, 1]


def test_shapes_that_differ_are_not_merged(module: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(module), one_thread())
    held = crowd.hold("matrix_text", text=texts("a"))
    rest = [
        crowd.queue("matrix_text", text=texts(*words)) for words in (["b", "c"], ["d"], ["e", "f"], ["g"])
    ]
    crowd.release()
    answers = [future.result(PATIENCE)["upper"].tolist() for future in (held, *rest)]
    assert answers == [[[b"A"]], [[b"B", b"C"]], [[b"D"]], [[b"E", b"F"]], [[b"G"]]]
    assert crowd.gate.rows == [1, 2, 2]


def test_shapes_that_differ_are_merged_when_padded(module: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(module), one_thread(pad_variable_length_inputs=True))
    held = crowd.hold("matrix_text", text=texts("a"))
    rest = [crowd.queue("matrix_text", text=texts(*words)) for words in (["b", "c"], ["d"])]
    crowd.release()
    held.result(PATIENCE)
    # The answer is as long as the longest, as TensorFlow Serving leaves it.
    assert [future.result(PATIENCE)["upper"].tolist() for future in rest] == [[[b"B", b"C"]], [[b"D", b"D"]]]
    assert crowd.gate.rows == [1, 2]


@pytest.mark.parametrize(
    ("signature", "inputs"),
    [
        ("scalar", {"x": np.float32(1)}),
        ("constant_rows", {"x": np.ones(1, np.float32)}),
        ("echo_float32", {"x": np.ones(1, np.float32)}),
    ],
    ids=["no dimension", "an output without", "unknown rank"],
)
def test_what_has_no_batch_dimension_is_not_merged(
    module: TensorFlowBackend, signature: str, inputs: dict[str, Any]
) -> None:
    crowd = Crowd(Gate(module), one_thread())
    crowd.gate.open.clear()
    futures = [crowd.send(signature, **inputs) for _ in range(3)]
    for _ in futures:
        assert crowd.gate.entered.acquire(timeout=PATIENCE)  # all at once, with one thread for batches
    crowd.release()
    assert all(future.result(PATIENCE) for future in futures)


def test_a_full_queue_refuses(module: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(module), one_thread(max_batch_size=2, max_enqueued_batches=1))
    inputs = {"a": np.ones((2, 3), np.float32), "b": np.array([1, 2])}
    futures = [crowd.hold("several", **inputs), crowd.queue("several", **inputs)]
    with pytest.raises(
        Unavailable, match="The batch scheduling queue to which this task was submitted is full"
    ):
        crowd.backend.run("several", inputs)
    crowd.release()
    assert all(future.result(PATIENCE) for future in futures)
    assert crowd.backend.run("several", inputs)


def test_waiting_for_ones_turn_has_an_end(module: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(module), one_thread(), timeout=1)
    inputs = {"a": np.ones((1, 3), np.float32), "b": np.array([1])}
    held = crowd.hold("several", **inputs)
    with pytest.raises(ResourceExhausted, match="timeout exceeded while waiting in batching queue"):
        crowd.backend.run("several", inputs)
    crowd.release()
    assert held.result(PATIENCE)
    assert crowd.gate.rows == [1], "what was given up is not executed"


def test_what_takes_too_long_is_not_tried_again(module: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(module), one_thread())
    held = crowd.hold("spin", n=np.array([1]))
    rest = [crowd.queue("spin", n=np.array([10**12])) for _ in range(2)]
    crowd.release()
    assert held.result(PATIENCE)["n"].tolist() == [1]
    for future in rest:
        with pytest.raises(DeadlineExceeded):
            future.result(PATIENCE)
    assert crowd.gate.rows == [1, 2]


def test_a_client_that_is_alone_does_not_wait(module: TensorFlowBackend) -> None:
    crowd = Crowd(Gate(module), BatchingParameters(batch_timeout=3600))
    inputs = {"a": np.ones((1, 3), np.float32), "b": np.array([1])}
    for _ in range(3):
        assert crowd.send("several", **inputs).result(PATIENCE)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"a": np.ones((3, 3), np.float32), "b": np.array([1, 2, 3])}, "Task size 3 is larger than"),
        ({"a": np.ones((2, 3), np.float32), "b": np.array([1])}, "must have equal 0th-dimension size"),
        ({"a": np.ones((2, 3), np.float32), "b": np.array(1)}, "must have at least one dimension"),
        ({"a": np.ones((2, 3), np.float32)}, "input size does not match signature"),
    ],
)
def test_what_cannot_be_batched_is_refused(
    module: TensorFlowBackend, inputs: dict[str, Array], message: str
) -> None:
    backend = BatchingBackend(module, BatchingParameters(max_batch_size=2))
    with pytest.raises(InvalidArgument, match=message):
        backend.run("several", inputs)
    empty = backend.run("several", {"a": np.ones((0, 3), np.float32), "b": np.ones(0, np.int64)})
    assert empty["total"].shape == (0,)


def test_parameters_file(tmp_path: Path) -> None:
    file = tmp_path / "batching.txt"
    file.write_text(
        """max_batch_size { value: 128 }  # rows
        batch_timeout_micros { value: 1500 }
        max_enqueued_batches { value: 7 }
        num_batch_threads { value: 3 }
        thread_pool_name { value: "threads" }
        allowed_batch_sizes: [8, 16]
        pad_variable_length_inputs: true
        enable_large_batch_splitting { value: true } max_execution_batch_size { value: 16 }"""
    )
    assert read_batching_parameters(file) == BatchingParameters(128, 0.0015, 7, 3, (8, 16), True, 16)
    file.write_text("")
    assert read_batching_parameters(file) == BatchingParameters()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 8", "is no BatchingParameters"),
        ("no_such_field { value: 8 }", "no_such_field"),
        ("max_batch_size { value: 0 }", "max_batch_size must be at least 1; was 0"),
        ("batch_timeout_micros { value: -1 }", "batch_timeout_micros must be at least 0"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [2, 4]", "last entry was 4; expected 8"),
        ("max_batch_size { value: 8 } allowed_batch_sizes: [4, 4, 8]", "monotonically increasing"),
    ],
)
def test_parameters_that_cannot_be(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "batching.txt"
    file.write_text(text)
    with pytest.raises(StartError, match=message):
        read_batching_parameters(file)


def test_a_parameters_file_without_batching_is_a_mistake(models: Path, tmp_path: Path) -> None:
    base = f"--model_base_path={models / 'module'}"
    code, log = run_to_end(base, "--batching_parameters_file=x")
    assert (code, "without setting --enable_batching to true" in log) == (1, True)
    code, log = run_to_end(base, "--enable_batching", f"--batching_parameters_file={tmp_path / 'none'}")
    assert (code, "No such file" in log) == (1, True)


def test_a_batching_server_answers_many_clients(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "batching.txt"
    file.write_text("max_batch_size { value: 8 } batch_timeout_micros { value: 2000 }")
    flags = (
        "--enable_batching",
        f"--batching_parameters_file={file}",
        f"--model_base_path={models / 'module'}",
    )

    def ask(number: int) -> tuple[int, Any]:
        body = {"signature_name": "several", "instances": [{"a": [number, 0, 1], "b": number}]}
        return server.call("POST", "/v1/models/default:predict", body)

    with Server(*flags) as server, ThreadPoolExecutor(8) as clients:
        for number, (status, answer) in enumerate(clients.map(ask, range(200))):
            expected = {"scaled": [number * number, 0, number], "total": number + 1}
            assert (status, answer) == (200, {"predictions": [expected]})


def test_each_version_is_batched_as_its_own_file_says(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        saved_models.write_adder(tmp_path / "m" / str(number), number)
    (tmp_path / "m" / "1" / BATCHING_FILE).write_text("max_batch_size { value: 2 }")
    (tmp_path / "m" / "3" / BATCHING_FILE).write_text("max_batch_size { value: 0 }")
    (tmp_path / "common").write_text("max_batch_size { value: 1 } num_batch_threads { value: 3 }")
    config = tmp_path / "models.config"
    model = f'name: "m" base_path: "{tmp_path}/m" model_platform: "tensorflow"'
    config.write_text(f"model_config_list {{ config {{ {model} model_version_policy {{ all {{}} }} }} }}")

    def ask(version: int, rows: int) -> tuple[int, Any]:
        body = {"instances": [[0.0]] * rows}
        return server.call("POST", f"/v1/models/m/versions/{version}:predict", body)

    flags = ("--enable_batching", "--enable_per_model_batching_parameters", "--max_num_load_retries=0")
    with Server(
        *flags, f"--model_config_file={config}", f"--batching_parameters_file={tmp_path / 'common'}"
    ) as server:
        wait_for(lambda: ask(1, 1)[0] == ask(2, 1)[0] == 200)
        assert ask(1, 2) == (200, {"predictions": [[1.0]] * 2})
        message = "Task size 3 is larger than maximum input batch size 2"
        assert ask(1, 3) == (400, {"error": message})
        assert ask(2, 3) == (200, {"predictions": [[2.0]] * 3}), "it has no file: not batched"
        status = server.call("GET", "/v1/models/m/versions/3")[1]["model_version_status"][0]
        file = tmp_path / "m" / "3" / BATCHING_FILE
        assert status["status"]["error_message"] == (
            f"--enable_per_model_batching_parameters: {file}: max_batch_size must be at least 1; was 0"
        )

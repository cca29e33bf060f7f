"""embedded_server.prove: programs that are proven in processes of their own, and real artefacts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import proof_workers
import pytest
import tensorflow as tf
from conftest import PACKAGE_FOLDER
from embedded_server import prove as prove_program
from embedded_server.common import errors
from embedded_server.execution import artefact
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.proving import worker
from embedded_server.proving.examples import examples_of
from embedded_server.proving.proof import Finding, prove
from proof_cases import BF16_LIMIT, IDS, LIMIT, MATRIX, TABLE, WEIGHT, Fake, dense, gather
from running import PATIENCE


def job(**options: Any) -> worker.Job:
    groups = (("a",), ("b", "c"), ("d",))
    limits = {"f32": LIMIT, "bf16": BF16_LIMIT}
    return worker.Job(Path("model"), Path("artefact"), groups, limits, None, None, 0.1, **options)


GOOD = proof_workers.FINDING


@pytest.mark.parametrize("target", [proof_workers.honest, proof_workers.ends_badly])
def test_signatures_of_one_program_share_the_finding(target: Any) -> None:
    findings = prove_program.prove_all(job(), target)
    assert findings == {precision: dict.fromkeys("abcd", GOOD) for precision in ("f32", "bf16")}


def test_a_process_that_the_optimized_model_ends_is_a_problem_of_that_signature_alone() -> None:
    findings = prove_program.prove_all(job(), proof_workers.optimized_crashes)
    assert findings["bf16"] == dict.fromkeys("abcd", GOOD)
    bad = Finding(0, 0.0, "the process ends with SIGKILL (one NaN)")
    assert findings["f32"] == {"a": GOOD, "b": bad, "c": bad, "d": GOOD}


def test_a_request_that_ends_tensorflow_is_left_out() -> None:
    findings = prove_program.prove_all(job(), proof_workers.stock_crashes)
    assert findings == {precision: dict.fromkeys("abcd", GOOD) for precision in ("f32", "bf16")}


def test_a_precision_that_cannot_be_loaded_is_a_problem_of_that_precision() -> None:
    findings = prove_program.prove_all(job(), proof_workers.crashes_while_loading)
    assert findings["f32"] == dict.fromkeys("abcd", GOOD)
    assert {finding.problem for finding in findings["bf16"].values()} == {
        "the process ends with SIGSEGV (loading)"
    }


def test_an_answer_that_does_not_come_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_program, "_ANSWER_SECONDS", 0.5)
    findings = prove_program.prove_all(job(), proof_workers.hangs)
    assert (findings["f32"]["a"].problem or "").startswith("there is no answer within")
    assert findings["f32"]["b"] == findings["bf16"]["a"] == GOOD


@pytest.mark.parametrize(
    ("target", "text"),
    [(proof_workers.fails, "line 3 of it is not a request"), (proof_workers.ends_at_once, "status 7")],
)
def test_what_keeps_everything_from_being_proven_is_said(target: Any, text: str) -> None:
    with pytest.raises(prove_program.CannotProve, match=text):
        prove_program.prove_all(job(), target)


def test_programs_that_are_equal_are_grouped() -> None:
    def made(body: str, name: str) -> artefact.Program:
        return artefact.Program(body, {"x": name}, {"y": "y:0"}, {}, {}, {})

    programs = {"c": made("0", "x"), "a": made("0", "x"), "b": made("0", "other")}
    assert prove_program.groups_of(programs) == (("a", "c"), ("b",))


def test_requests_are_read_in_both_forms(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(
        '{"instances": [[1, 2, 3, 4]]}\n\n{"inputs": {"x": [[1, 2, 3, NaN]]}}\n'
        '{"signature_name": "ids", "inputs": [7]}\n'
    )
    found = worker.read_requests(file, {"serving_default": MATRIX, "ids": IDS})
    assert [each["x"].shape for each in found["serving_default"]] == [(1, 4), (1, 4)]
    assert found["ids"][0]["i"].dtype == np.int32
    file.write_text('{"instances": [[1, 2, 3, 4]]}\n{"instances": ["text"]}\n')
    with pytest.raises(errors.InvalidArgument, match=r"line 2 of .*requests.jsonl is not a request for it"):
        worker.read_requests(file, {"serving_default": MATRIX})


def test_answers_are_remembered_for_the_next_precision_only() -> None:
    stock = Fake(MATRIX, dense)
    remembered = worker.Remembered(stock)
    inputs = {"x": np.ones((1, 4), np.float32)}
    for _ in range(2):
        remembered.run("serving_default", inputs)
    assert len(stock.asked) == 2
    remembered.rewind()
    remembered.run("serving_default", inputs)
    assert len(stock.asked) == 2
    remembered.run("serving_default", {"x": np.ones((2, 4), np.float32)})
    assert len(stock.asked) == 3


def test_errors_are_remembered_too() -> None:
    remembered = worker.Remembered(Fake(IDS, gather))
    for _ in range(2):
        with pytest.raises(errors.InvalidArgument):
            remembered.run("serving_default", {"i": np.array([99], np.int32)})
        remembered.rewind()


FEATURES = {
    "age": tf.io.FixedLenFeature([3], tf.float32),
    "number": tf.io.FixedLenFeature([], tf.int64),
    "job": tf.io.FixedLenFeature([2, 2], tf.string),
    "ids": tf.io.VarLenFeature(tf.int64),
    "sequence": tf.io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True),
    "ragged": tf.io.RaggedFeature(tf.int64),
}


def _parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    parsed = tf.io.parse_example(serialized, FEATURES)
    total = tf.reduce_sum(tf.cast(tf.sparse.to_dense(parsed["ids"]), tf.float32), 1)
    return {"y": parsed["age"] + tf.cast(parsed["number"], tf.float32)[:, None] + total[:, None]}


def _write_tf1_parser(folder: Path) -> None:
    features = {name: FEATURES[name] for name in ("age", "number", "ids")}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialized = tf.compat.v1.placeholder(tf.string, [None])
        parsed = tf.compat.v1.io.parse_example(serialized, features)
        tf.compat.v1.saved_model.simple_save(
            session, str(folder), {"serialized": serialized}, {"y": parsed["age"] * 2}
        )


@pytest.mark.parametrize("style", ["tf1", "tf2"])
def test_a_signature_of_tf_examples_is_asked_with_ones_that_it_parses(tmp_path: Path, style: str) -> None:
    folder = tmp_path / "1"
    if style == "tf1":
        _write_tf1_parser(folder)
    else:
        function = tf.function(_parse, input_signature=[tf.TensorSpec([None], tf.string, "serialized")])
        tf.saved_model.save(tf.Module(), str(folder), signatures=function.get_concrete_function())
    examples = examples_of(folder, [])
    assert len(examples) >= 8
    backend = TensorFlowBackend.load(folder)
    taking = backend.signatures["serving_default"]
    assert prove(backend, backend, taking, LIMIT, seconds=5).problem is not None  # none of its own fit
    finding = prove(backend, backend, taking, LIMIT, examples=examples, seconds=5)
    assert finding.problem is None
    assert finding.requests > 20
    halved = Fake(
        taking, lambda serialized: {"y": backend.run("serving_default", {"serialized": serialized})["y"] / 2}
    )
    assert "tf.Example" in (prove(backend, halved, taking, LIMIT, examples=examples, seconds=5).problem or "")
    backend.close()


def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"embedded_server.{name}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_FOLDER)}
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=PATIENCE * 10)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A SavedModel and its artefact."""
    folder = tmp_path_factory.mktemp("proof")
    module = tf.Module()
    module.weight, module.table = tf.Variable(WEIGHT), tf.Variable(TABLE)
    x, i = tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([None], tf.int64, "i")
    dense_function = tf.function(lambda x: {"y": tf.nn.softmax(x @ module.weight)}, input_signature=[x])
    ids_function = tf.function(
        lambda i: {"y": tf.gather(module.table, i)[:, :4] @ module.weight}, input_signature=[i]
    )
    signatures = {"serving_default": dense_function, "ids": ids_function}
    tf.saved_model.save(module, str(folder / "1"), signatures=signatures)
    made = program("convert", "--model", folder / "1", "--output", folder / "artefact", "--fingerprint", "")
    assert made.returncode == 0, made.stderr
    return folder / "1", folder / "artefact"


def proven(model: Path, artefact_folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return program(
        "prove", "--model", model, "--artefact", artefact_folder, "--precisions", "f32",
        "--limits", json.dumps({"f32": LIMIT, "bf16": BF16_LIMIT}), "--seconds", 5, *arguments,
    )  # fmt: skip


def test_a_real_artefact_is_proven(converted: tuple[Path, Path], tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"instances": [[1, 2, 3, 4]]}\n{"signature_name": "ids", "inputs": [7]}\n')
    done = proven(*converted, "--requests", requests)
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)
    assert findings.keys() == {"f32"}
    assert findings["f32"].keys() == {"serving_default", "ids"}
    for finding in findings["f32"].values():
        assert finding["problem"] is None
        assert finding["requests"] > 20
        assert finding["difference"] < 1e-5
    assert "proof in f32: serving_default: " in done.stderr


def test_a_real_artefact_with_other_weights_is_not(converted: tuple[Path, Path], tmp_path: Path) -> None:
    model, artefact_folder = converted
    other = tmp_path / "artefact"
    shutil.copytree(artefact_folder, other)
    manifest = json.loads((other / artefact.MANIFEST).read_text())
    for file in other.glob("*.bin"):
        content = file.read_bytes()
        assert WEIGHT.tobytes() in content
        file.write_bytes(content.replace(WEIGHT.tobytes(), (WEIGHT * np.float32(1.01)).tobytes()))
        manifest["files"][file.name] = artefact.file_digest(file)
    (other / artefact.MANIFEST).write_text(json.dumps(manifest))
    findings = json.loads(proven(model, other).stdout)["f32"]
    assert findings["ids"]["problem"].startswith("'y' differs by 0.01 of its largest number, and 0.0005")
    assert findings["serving_default"]["problem"].startswith("'y' differs by ")


def test_requests_that_do_not_fit_are_a_sentence(converted: tuple[Path, Path], tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"instances": ["text"]}\n')
    done = proven(*converted, "--requests", requests)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"line 1 of {requests} is not a request for it: " in done.stderr
    assert "Traceback" not in done.stderr
    missing = proven(converted[0], tmp_path / "nowhere")
    assert missing.returncode == 1
    assert "Traceback" not in missing.stderr

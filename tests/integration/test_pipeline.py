"""The main job, typed as a person types it, on a machine with nothing but Python."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest

from tests.helpers.result_schema import assert_valid
from tests.integration.conftest import FirstRun, Suite


def test_from_nothing_to_a_verdict_and_back_to_nothing(first_run: FirstRun) -> None:
    suite, done = first_run.suite, first_run.done
    assert "with seeded weights" in done.stderr  # the official archive cannot be reached
    lines = done.stdout.splitlines()
    assert lines[0].startswith("resnet@1 · local engine · ")
    assert [line.split()[:2] for line in lines[2:4]] == [["stock", "TensorFlow"], ["optimized", "OpenVINO"]]
    assert lines[3].split()[-2] == "100%"
    assert "weights: seeded: timings hold, classes mean nothing" in lines
    assert "answers the same" in lines[-1]
    assert suite.servers() == []
    assert suite.run("serve.status").stderr.strip() == "nothing is running"

    result = min((suite.folder / "results").glob("*-resnet/result.json"))
    record = json.loads(result.read_text())
    assert_valid(record)
    (run,) = record["runs"]
    origin = run["verdict"]["baseline"]["origin"]
    assert origin["source"] == "seeded"
    assert origin["content_sha256"]
    assert record["machine"]["cpu"]
    assert run["verdict"]["agreement"]["holds"] is True
    assert run["sentence"] == lines[-1]


def test_a_second_run_makes_nothing_again(resnet: Suite) -> None:
    again = resnet.run("pipeline", "--format", "json")
    assert json.loads(again.stdout)["runs"][0]["verdict"]["agreement"]["same"] == 12
    assert "converting" not in again.stderr
    assert "building resnet50_v2" not in again.stderr
    assert resnet.servers() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_pipeline_leaves_nothing_running(resnet: Suite, number: signal.Signals) -> None:
    process = resnet.start("pipeline")
    assert process.stderr is not None
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith("starting optimized"):
            break
    assert resnet.servers(), "".join(seen)
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "everything that this pipeline started has been taken down" in err
    assert resnet.servers() == []


def test_a_failing_pipeline_leaves_nothing_running(resnet: Suite) -> None:
    resnet.run("serve")
    done = resnet.with_environment(INVOKE_SERVE_READY_TIMEOUT="1").run("pipeline", code=1)
    assert "within 1 s" in done.stderr
    assert done.stdout == ""
    assert resnet.servers() == []


def test_a_model_that_cannot_be_optimized_is_measured_as_stock(suite: Suite, publisher: str) -> None:
    upper = suite.with_environment(INVOKE_MODEL="upper")
    upper.run("download", "--url", f"{publisher}/upper.tar.gz")
    done = upper.run("pipeline")
    [reason] = [line for line in done.stdout.splitlines() if "was left out" in line]
    assert reason.startswith("optimized was left out: upper@1 cannot be optimized: ")
    assert reason in done.stderr
    assert done.stdout.splitlines()[-1].startswith("stock alone: ")
    assert upper.servers() == []

    compared = upper.run("benchmark", "--min-ratio", "0.5", code=3)
    assert (
        "error: There was nothing to compare, so --min-ratio 0.5 was not checked: upper@1" in compared.stderr
    )
    assert "converting" not in compared.stderr, "it is known"

    for chain in (["serve", "--optimized"], ["build.optimized", "serve", "--optimized"]):
        refused = upper.run(*chain, code=1)
        assert "error: upper@1 cannot be optimized: " in refused.stderr
        assert "`invoke serve --model upper" in refused.stderr
    assert upper.servers() == []


def test_a_misspelt_word_is_told_before_anything_is_done(suite: Suite) -> None:
    done = suite.with_environment(INVOKE_BENCHMARK_CANDIDATE="missing").run("pipeline", code=1)
    assert "There is no variant 'missing'" in done.stderr
    assert "[1/5]" not in done.stderr
    done = suite.run("pipeline", "--engine", "podman", code=1)
    assert "There is no engine 'podman'" in done.stderr
    assert "[1/5]" not in done.stderr


def test_what_a_killed_pipeline_leaves_is_removed_by_the_next_call(resnet: Suite) -> None:
    process = resnet.start("pipeline")
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("starting optimized"):
            break
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    # The server that was loading may only now be visible as a process.
    while not resnet.servers() and time.monotonic() < deadline:
        time.sleep(0.05)
    resnet.run("teardown")
    assert resnet.servers() == []


def test_dry_prints_what_would_be_done_and_does_nothing(suite: Suite) -> None:
    done = suite.run("--dry", "pipeline")
    assert "would" in done.stderr
    assert {path.name for path in suite.folder.iterdir()} == {"models"}
    assert {path.name for path in (suite.folder / "models").iterdir()} == {"catalog.toml", "labels"}


def test_chained_as_in_the_documentation(resnet: Suite) -> None:
    chain = [
        "download",
        "build.devel",
        "build.optimized",
        "serve",
        "--optimized",
        "benchmark",
        "--alone",
        "teardown",
    ]
    done = resnet.run(*chain)
    assert "build.devel: nothing to do" in done.stderr
    assert "optimized resnet@1 on port" in done.stderr
    assert "is up already" in done.stderr
    assert "optimized alone:" in done.stdout
    assert resnet.servers() == []
    assert Path(resnet.folder, "models", "resnet", "1", "saved_model.pb").is_file()

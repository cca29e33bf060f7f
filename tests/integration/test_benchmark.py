"""`invoke benchmark` as it is typed: gates, versions, addresses, and results that were saved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.result_schema import assert_valid
from tests.integration.conftest import Suite, newest


@pytest.fixture(scope="module")
def address(small: Suite) -> Iterator[str]:
    """The optimized variant of a small model, up for the whole module."""
    tf1 = small.with_environment(INVOKE_MODEL="tf1")
    tf1.run("build.optimized", "--precision", "f32")  # by name: whether it gains depends on the CPU
    yield tf1.run("serve", "--optimized").stdout.splitlines()[0]
    tf1.run("teardown")


def test_a_gate(tf1: Suite, address: str) -> None:
    against = ("benchmark", "--baseline", address, "--candidate", address)
    # Of two rounds on a busy machine an interval can be wide by any factor.
    tf1.run(*against, "--min-ratio", "1e-300")
    done = tf1.run(*against, "--min-ratio", "1e300", code=2)
    assert "reliably below --min-ratio 1e+300." in done.stderr
    assert len(done.stdout.splitlines()) > 4, "the table is printed all the same"
    assert "--min-ratio must be" in tf1.run(*against, "--min-ratio", "fast", code=1).stderr
    alone = tf1.run("benchmark", "--alone", "--candidate", address, "--min-ratio", "2", code=1)
    assert "With --alone nothing is compared, so --min-ratio would be ignored." in alone.stderr


def test_a_server_that_was_there_against_a_variant(tf1: Suite, address: str) -> None:
    done = tf1.run("benchmark", "--candidate", address, "--format", "json")
    verdict = json.loads(done.stdout)["runs"][0]["verdict"]
    assert verdict["agreement"]["same"] == 12
    assert verdict["candidate"]["model"] == "tf1@1538687457"
    assert verdict["baseline"]["origin"]["source"] == "url"
    assert verdict["candidate"]["origin"] is None


def test_a_sweep_in_one_table(tf1: Suite, address: str) -> None:
    done = tf1.run("benchmark", "--alone", "--candidate", address, "--connections", "1,4", "--format", "csv")
    rows = [line.split(",") for line in done.stdout.splitlines()]
    assert [row[3] for row in rows] == ["connections", "1", "4"]


def test_a_rate(tf1: Suite, address: str) -> None:
    done = tf1.run("benchmark", "--baseline", address, "--candidate", address, "--rate", "100")
    assert " at 100 requests/s: " in done.stdout


def test_other_answers_are_no_verdict_unless_allowed(tf1: Suite, address: str, tmp_path: Path) -> None:
    against = ("benchmark", "--baseline", address, "--candidate", address, "--max-difference", "0")
    assert tf1.run(*against).returncode == 0  # one server agrees with itself exactly
    mine = tmp_path / "mine.json"
    mine.write_text("[1, 2]\n")
    assert (
        "is not a predict, classify or regress request"
        in tf1.run(*against, "--inputs", str(mine), code=1).stderr
    )


def test_what_was_saved_is_printed_again_and_compared(tf1: Suite, address: str) -> None:
    done = tf1.run("benchmark", "--baseline", address, "--candidate", address)
    first = newest(tf1)
    assert tf1.run("benchmark.show", str(first)).stdout == done.stdout
    assert json.loads(tf1.run("benchmark.show", str(first), "--format", "json").stdout)["schema"] == 3
    content = json.loads((first / "result.json").read_text())
    assert_valid(content)
    (run,) = content["runs"]
    assert run["verdict"]["baseline"]["measured"]["histogram"]

    another = tf1.with_environment(INVOKE_BENCHMARK_SEED="2")
    another.run("benchmark", "--baseline", address, "--candidate", address)
    second = newest(tf1)
    both = tf1.run("benchmark.compare", str(first), str(second), "--format", "csv")
    names = [line.split(",")[0] for line in both.stdout.splitlines()]
    assert names == ["result", *[str(first)] * 2, *[str(second)] * 2]
    assert "careful: the plans differ (what was sent, and for how long): seed 1 and seed 2" in both.stderr
    assert "cannot be read" in tf1.run("benchmark.show", "nowhere", code=1).stderr

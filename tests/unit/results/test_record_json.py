"""tasks.lib.results.record: its result.json."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common.pinning import Pinning
from tasks.lib.common.strict_json import as_json
from tasks.lib.engines.base import Conditions
from tasks.lib.results import record, words
from tests.helpers.records import (
    ALONE,
    COMPARED,
    DONE,
    FAST,
    NOT_COMPARABLE,
    OPTIMIZED,
    only,
    saved,
    strict,
)


def test_keys_of_a_comparison() -> None:
    """The contract that people's scripts rely on: a change of it needs another SCHEMA."""
    content = saved(DONE)
    assert set(content) == {
        "schema", "time", "command", "engine", "machine", "versions", "plan", "pinning", "left_out",
        "suite", "repetitions", "why_this_model", "runs",
    }  # fmt: skip
    assert content["schema"] == 3
    assert content["command"] == "invoke benchmark"
    assert set(content["machine"]) == {
        "cpu", "cores", "instruction_sets", "memory", "system", "summary", "python",
        "siblings", "governor", "load",
    }  # fmt: skip
    assert content["plan"] == {
        "ci_width": 0.02, "min_seconds": 0.0, "instances": 1, "max_seconds": 75.0,
        "max_errors": 0.01, "block_requests": 24,
        "warmup_seconds": 20.0, "seed": 1, "timeout": 60.0, "connections": [1], "rate": None,
        "protocol": "rest", "block_seconds": 1.0,
    }  # fmt: skip
    assert content["left_out"] == []
    assert all(content["versions"].values())
    (run,) = content["runs"]
    assert set(run) == {"time", "connections", "sentence", "notes", "alone", "verdict", "warmup", "blocks"}
    assert run["time"] == content["time"] == DONE.time
    assert run["alone"] is None
    assert {key: column[:4] for key, column in run["blocks"].items()} == {
        "label": ["baseline", "control", "candidate", "twin"],
        "start": [0.0, 0.5123, 1.0247, 1.537],
        "p50": [0.03121, 0.0312, 0.01301, 0.013],
        "rate": [31.6, 31.6, 75.81, 75.79],
        **dict.fromkeys(("others", "stolen", "waited", "migrations", "disturbed"), [None] * 4),
    }
    assert {len(column) for column in run["blocks"].values()} == {16}
    verdict = run["verdict"]
    assert set(verdict) == {
        "baseline", "candidate", "agreement", "comparisons", "problem", "is_narrow", "rounds",
        "round_ratios", "control_ratios", "instances", "restarted", "disturbance",
    }  # fmt: skip
    assert verdict["comparisons"]["p50"] == {
        "ratio": 2.41, "low": 2.37, "high": 2.45, "noise": 0.013, "outcome": 1, "effective": 2.0,
        "allowance": 0.0, "stray": None,
    }  # fmt: skip
    assert verdict["comparisons"]["p99"] is None
    assert verdict["round_ratios"] == [2.4, 2.42]
    assert verdict["agreement"] == {
        "inputs": 12, "same": 12, "near_ties": 0, "difference": 0.009, "holds": True, "percent": "100%",
        "exchangeable": 0.0, "is_hollow": False,
        "outputs": [{"name": "p", "is_scores": True, "same": 12, "near_ties": 0, "numbers": {
            "absolute": 0.009, "relative": 0.009, "is_probability": True, "worst": 0.009, "allowed": 0.05,
            "tolerance": {"absolute": 0.05, "relative": 0.0},
        }}],
    }  # fmt: skip
    assert verdict["candidate"] == {
        "name": "optimized",
        "model": "resnet@1538687457",
        "urls": ["http://127.0.0.1:8503/v1/models/resnet"],
        "further": [["http://127.0.0.1:4/v1/models/net"]],
        "backend": "OpenVINO",
        "precision": "bf16",
        "origin": {
            "source": "seeded",
            "address": "resnet50_v2, seed 1",
            "archive_sha256": None,
            "content_sha256": "ab" * 32,
        },
        "warning": "weights: seeded: timings hold, classes mean nothing",
        "image": "",
        "image_id": "",
        "conditions": None,
        "measured": {
            "p50": 0.013,
            "p90": 0.0133,
            "p99": 0.0152,
            "rate": 75.8,
            "requests": 672,
            "errors": 0,
            "sent": [],
            "histogram": FAST.histogram,
            "growth": None,
        },
    }


def test_who_ran_where_is_said_once_and_kept() -> None:
    content = saved(replace(DONE, pinning=Pinning((0, 1, 2), (3,)), engine_version={"docker-engine": "28.1"}))
    assert content["pinning"] == {
        "servers": [0, 1, 2], "client": [3], "why": "",
        "summary": "servers run on CPUs 0-2, the client on CPU 3",
    }  # fmt: skip
    assert words.notes(content).count("servers run on CPUs 0-2, the client on CPU 3") == 1
    assert content["versions"]["docker-engine"] == "28.1"
    assert saved(DONE)["pinning"] is None


@pytest.mark.parametrize(("load", "said"), [(None, 0), ((4.0, 9.0, 9.0), 0), ((4.1, 0.0, 0.0), 1)])
def test_a_busy_machine_is_said(load: tuple[float, float, float] | None, said: int) -> None:
    content = saved(replace(DONE, hardware=replace(DONE.hardware, load=load)))
    told = "other programs kept the machine busy when this began (load 4.1, 2 CPUs)"
    assert words.notes(content).count(told) == said


def test_under_what_conditions_a_server_ran_is_kept() -> None:
    limited = replace(OPTIMIZED, conditions=Conditions((0, 1), 4 << 30, 4096, "r/i@sha256:ab"))
    assert only(replace(DONE, verdict=replace(COMPARED, candidate=limited)))["verdict"]["candidate"][
        "conditions"
    ] == {"cpus": [0, 1], "memory": 4 << 30, "processes": 4096, "image_digest": "r/i@sha256:ab"}


def test_what_was_measured_alone_has_no_verdict() -> None:
    run = only(ALONE)
    assert run["verdict"] is None
    assert run["alone"]["name"] == "optimized"
    assert run["alone"]["measured"]["requests"] == 672
    assert run["alone"]["rounds"] == 14


def test_what_is_not_comparable_has_no_times() -> None:
    verdict = only(NOT_COMPARABLE)["verdict"]
    assert verdict["comparisons"] == {}
    assert verdict["problem"] == "3 of 12 answers have another top-1 in 'p'"
    assert verdict["baseline"]["measured"] is None
    assert verdict["agreement"]["holds"] is False
    assert verdict["agreement"]["difference"] is None  # it is infinite, which JSON cannot say


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@given(st.dictionaries(st.text(max_size=3), values, max_size=3))
def test_json_is_what_every_reader_takes(value: dict[str, Any]) -> None:
    assert strict(as_json(value)) == plain(value)


@given(st.lists(st.none() | st.floats() | st.integers() | st.sampled_from(["baseline", ""]), min_size=1))
def test_a_list_of_plain_values_is_one_line(values: list[Any]) -> None:
    text = as_json({"blocks": values})
    assert len(text.splitlines()) == 3
    assert strict(text) == {"blocks": plain(values)}


def test_the_time_is_utc_to_the_second() -> None:
    from datetime import datetime, timedelta, timezone

    read = datetime.fromisoformat(record.now())
    assert read.utcoffset() == timedelta(0)
    assert read.microsecond == 0
    assert abs(datetime.now(timezone.utc) - read) < timedelta(seconds=10)


def test_the_command_is_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/inv", "benchmark", "--candidate", "my variant"])
    assert record.command_line() == "invoke benchmark --candidate 'my variant'"


def test_passwords_in_the_command_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "https://me:secret@host:8443/a@1/x.tgz?version=2"
    monkeypatch.setattr("sys.argv", ["inv", "download", "--url", url, f"--url={url}", "--model", "a@1"])
    said = "https://host:8443/a@1/x.tgz?version=2"
    assert record.command_line() == f"invoke download --url '{said}' '--url={said}' --model a@1"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (0.0312, "31.2"), (0.00004, "0.040"), (0.00123, "1.23"), (1.5, "1500.0")],
)
def test_times_are_shown_in_milliseconds(seconds: float | None, shown: str) -> None:
    assert words.milliseconds(seconds) == shown

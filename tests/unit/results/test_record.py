"""tasks.lib.results.record: the table of a benchmark, and its result.json."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common.pinning import Pinning
from tasks.lib.common.settings import GRPC, MIXED
from tasks.lib.common.strict_json import as_json
from tasks.lib.common.tables import render
from tasks.lib.engines.base import Conditions
from tasks.lib.measure import stats
from tasks.lib.measure.agreement import Agreement, Numbers, Output
from tasks.lib.measure.tolerance import Tolerance
from tasks.lib.measure.verdict import (
    BASELINE,
    CANDIDATE,
    Comparison,
    Contestant,
)
from tasks.lib.measure.warmup import Warmup
from tasks.lib.results import folders, record, words
from tasks.lib.results.record import Alone, LeftOut, Record
from tests.helpers.records import (
    ALONE,
    COMPARED,
    DONE,
    FAST,
    NOT_COMPARABLE,
    OPTIMIZED,
    PLAN,
    SLOW,
    over,
    saved,
    strict,
)

# The table


def only(done: Record) -> dict[str, Any]:
    """The same of its single run."""
    run: dict[str, Any]
    (run,) = saved(done)["runs"]
    return run


def test_what_is_printed_of_a_run_is_printed_of_what_was_saved() -> None:
    for done in (DONE, ALONE, NOT_COMPARABLE):
        content = record.content([done])
        assert saved(done) == strict(json.dumps(content))
        assert words.rows(saved(done)) == words.rows(content)


def test_several_candidates_share_the_row_of_the_baseline() -> None:
    other = replace(COMPARED, candidate=replace(OPTIMIZED, name="another"))
    rows = words.rows(saved(DONE, replace(DONE, verdict=other)))
    assert [row["variant"] for row in rows] == ["stock", "optimized", "another"]
    assert rows[2]["speed-up [95% CI]"] == "2.41 [2.37, 2.45]"


def test_what_only_one_run_says_has_its_name() -> None:
    narrow = {**COMPARED.comparisons, "p50": Comparison(stats.Interval(2.41, 2.40, 2.42), 0.013)}
    other = replace(COMPARED, candidate=replace(OPTIMIZED, name="another"), comparisons=narrow)
    content = saved(DONE, replace(DONE, verdict=other))
    assert words.notes(content) == [
        "optimized: measured in 2 rounds, until 75 s had passed",
        "another: measured in 2 rounds, until the interval was narrower than 2%",
        "also: throughput 2.40 [2.35, 2.44], p90 2.30 [2.20, 2.40], p99 -",
        "to compare p99 too, 1324 requests are needed, and this run has 672",
        "weights: seeded: timings hold, classes mean nothing",
    ]


def test_a_sweep_has_a_row_for_each_number_of_connections() -> None:
    content = saved(over(1), over(4))
    assert [(row["variant"], row["connections"]) for row in words.rows(content)] == [
        ("stock", 1), ("optimized", 1), ("stock", 4), ("optimized", 4),
    ]  # fmt: skip
    assert content["plan"]["connections"] == [1, 4]
    assert [run["connections"] for run in content["runs"]] == [1, 4]
    assert content["runs"][1]["sentence"].startswith(
        "optimized is faster than stock over 4 connections: 2.41x"
    )
    assert "connections" not in words.rows(saved(over(64, rate=20.0)))[0]


def test_in_open_loop_the_rate_has_a_column_and_the_cap_has_none() -> None:
    plan = replace(PLAN, connections=64, rate=20.0)
    rows = words.rows(saved(replace(DONE, plan=plan, verdict=replace(COMPARED, plan=plan))))
    assert [row["offered/s"] for row in rows] == ["20", "20"]
    assert "connections" not in rows[0]
    assert "offered/s" not in words.rows(saved(DONE))[0]


@pytest.mark.parametrize(("growth", "said"), [(2.4, True), (1.5, False), (None, False)])
def test_a_server_that_does_not_keep_up_is_told_in_open_loop_alone(growth: float | None, said: bool) -> None:
    for rate in (20.0, None):
        plan = replace(PLAN, rate=rate)
        measured = {BASELINE: replace(SLOW, growth=growth), CANDIDATE: FAST}
        notes = only(replace(DONE, plan=plan, verdict=replace(COMPARED, plan=plan, measured=measured)))[
            "notes"
        ]
        told = [note for note in notes if "keep up" in note]
        assert bool(told) is (said and rate is not None)
        if told:
            assert told[0].startswith(
                "stock does not keep up with 20 requests/s: in the later half of a block"
            )
            assert "2.4 times as long" in told[0]


def test_a_model_without_probabilities_has_relative_differences() -> None:
    numbers = Numbers(2.0, 0.02, False, Tolerance(5.0), 2.0, 5.0)
    agreement = Agreement(12, 12, (Output("price", False, 12, numbers),))
    rows = words.rows(saved(replace(DONE, verdict=replace(COMPARED, agreement=agreement))))
    assert [row["max rel. diff"] for row in rows] == ["-", "0.02"]


def test_each_replica_s_share_is_reported() -> None:
    urls = ("http://a:1/v1/models/net", "http://b:1/v1/models/net")
    measured = {BASELINE: replace(SLOW, sent=(672,)), CANDIDATE: replace(FAST, sent=(168, 504))}
    several = replace(COMPARED, candidate=replace(OPTIMIZED, urls=urls), measured=measured)
    assert (
        f"replicas of optimized: {urls[0]} 25%, {urls[1]} 75%"
        in only(replace(DONE, verdict=several))["notes"]
    )


def test_the_table_is_that_of_the_design() -> None:
    content = saved(DONE)
    lines = render(words.rows(content)).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "variant backend precision p50 ms p90 ms p99 ms req/s speed-up [95% CI] same top-1 max |dp|",
        "stock TensorFlow f32 31.2 32.0 35.1 31.6 1.00 (noise 1.3%) - -",
        "optimized OpenVINO bf16 13.0 13.3 15.2 75.8 2.41 [2.37, 2.45] 100% 0.009",
    ]
    assert words.head(content) == "resnet@1538687457 · local engine · AMD EPYC, 2 cores, AVX-512 VNNI BF16"
    assert content["runs"][0]["sentence"] == (
        "optimized is faster than stock: 2.41x (95% CI 2.37 to 2.45; the machine's own noise is 1.3%), "
        "and answers the same."
    )
    assert content["runs"][0]["notes"] == [
        "also: throughput 2.40 [2.35, 2.44], p90 2.30 [2.20, 2.40], p99 -",
        "measured in 2 rounds, until 75 s had passed",
        "to compare p99 too, 1324 requests are needed, and this run has 672",
        "weights: seeded: timings hold, classes mean nothing",
    ]


def test_a_warm_up_that_was_too_short_is_said() -> None:
    hurried = only(replace(DONE, verdict=replace(COMPARED, warmup=Warmup(False, 240, 20.04))))
    assert hurried["warmup"] == {"steady": False, "requests": 240, "seconds": 20.04}
    assert "latency was not steady yet after 20.0 s of warm-up" in hurried["notes"]
    warm = only(replace(DONE, verdict=replace(COMPARED, warmup=Warmup(True, 240, 20.04))))
    assert not any("warm-up" in note for note in warm["notes"])


def test_an_interval_that_was_narrow_enough_is_said() -> None:
    narrow = {**COMPARED.comparisons, "p50": Comparison(stats.Interval(2.41, 2.40, 2.42), 0.013)}
    content = saved(replace(DONE, verdict=replace(COMPARED, comparisons=narrow)))
    assert "measured in 2 rounds, until the interval was narrower than 2%" in words.notes(content)


def test_grpc_is_named() -> None:
    plan = replace(PLAN, protocol=GRPC)
    done = replace(DONE, plan=plan, verdict=replace(COMPARED, plan=plan))
    content = saved(done)
    assert words.head(content) == (
        "resnet@1538687457 · local engine · gRPC · AMD EPYC, 2 cores, AVX-512 VNNI BF16"
    )
    assert "optimized is faster than stock over gRPC: 2.41x" in only(done)["sentence"]
    assert "protocol" not in words.rows(content)[0]
    alone = replace(ALONE, plan=replace(plan, connections=8))
    assert only(alone)["sentence"].startswith("optimized alone over 8 gRPC connections: ")
    assert any("protocol grpc and protocol rest" in told for told in folders.warnings(content, saved(DONE)))


def test_a_comparison_of_rest_with_grpc_says_which_is_which() -> None:
    plan = replace(PLAN, protocol=MIXED)
    other = replace(OPTIMIZED, urls=("grpc://127.0.0.1:8500/v1/models/resnet",))
    content = saved(replace(DONE, plan=plan, verdict=replace(COMPARED, plan=plan, candidate=other)))
    assert [row["protocol"] for row in words.rows(content)] == ["rest", "grpc"]
    over_grpc = replace(DONE, plan=replace(PLAN, protocol=GRPC))
    assert saved(DONE, over_grpc)["plan"]["protocol"] == MIXED


def test_a_result_from_before_there_was_grpc_is_printed() -> None:
    content = saved(DONE)
    del content["plan"]["protocol"]
    assert words.head(content) == words.head(saved(DONE))


def test_columns_stand_under_their_headings() -> None:
    heading, *lines = render(words.rows(saved(DONE))).splitlines()
    for column in ("p50 ms", "p90 ms", "p99 ms", "req/s"):
        end = heading.index(column) + len(column)
        for line in lines:
            assert line[end - 1] != " "
            assert line[end : end + 1] in ("", " ")


def test_two_models_and_servers_of_others_are_named() -> None:
    theirs = Contestant("there:8501/resnet", "resnet@2", ("http://there:8501/v1/models/resnet",), "-", "-")
    mixed = saved(replace(DONE, verdict=replace(COMPARED, candidate=theirs)))
    assert words.head(mixed).startswith("resnet@1538687457 and resnet@2 · local engine")
    assert words.rows(mixed)[1]["variant"] == "there:8501/resnet"
    both = saved(replace(DONE, engine=None, verdict=replace(COMPARED, baseline=theirs, candidate=theirs)))
    assert words.head(both).startswith("resnet@2 · servers not started here")
    assert "tensorflow" in mixed["versions"]
    assert "tensorflow" not in both["versions"], "what it executes with is not known"
    assert not any("seeded" in note for note in words.notes(both))


def test_one_that_was_measured_alone_has_nothing_to_be_compared_with() -> None:
    (row,) = words.rows(saved(ALONE))
    assert list(row) == ["variant", "backend", "precision", "p50 ms", "p90 ms", "p99 ms", "req/s"]
    assert list(row.values()) == ["optimized", "OpenVINO", "bf16", "13.0", "13.3", "15.2", "75.8"]
    assert only(ALONE)["sentence"] == (
        "optimized alone: 13.0 ms at p50, 75.8 requests/s. Without --alone it is compared."
    )


def test_what_was_left_out_is_said_once_for_all() -> None:
    reason = "net@1 holds no operation that OpenVINO executes faster."
    one = replace(ALONE, left_out=(LeftOut("optimized", reason),))
    content = saved(one, replace(one, plan=replace(PLAN, connections=4)))
    assert content["left_out"] == [{"name": "optimized", "reason": reason}]
    assert words.notes(content).count(f"optimized was left out: {reason}") == 1
    assert only(one)["sentence"].endswith("75.8 requests/s. There was nothing to compare it with.")


def test_a_result_from_before_contestants_were_left_out_is_still_shown() -> None:
    content = saved(ALONE)
    old = {key: value for key, value in content.items() if key != "left_out"}
    assert words.notes(old) == words.notes(content)


def test_errors_of_one_alone_are_said() -> None:
    failing = replace(ALONE, alone=Alone(OPTIMIZED, replace(FAST, errors=4), 14))
    assert only(failing)["sentence"].endswith(" 4 requests failed.")


def test_what_is_not_comparable_has_answers_but_no_times() -> None:
    content = saved(NOT_COMPARABLE)
    stock, optimized = words.rows(content)
    assert list(stock) == list(optimized)
    for row in (stock, optimized):
        assert [row[name] for name in ("p50 ms", "p90 ms", "p99 ms", "req/s")] == ["-"] * 4
        assert row["speed-up [95% CI]"] == "-"
    assert (optimized["same top-1"], optimized["max |dp|"]) == ("75%", "inf")
    assert content["runs"][0]["sentence"] == (
        "optimized and stock are not comparable: 3 of 12 answers have another top-1 in 'p'."
    )
    assert content["runs"][0]["notes"] == ["weights: seeded: timings hold, classes mean nothing"]


# Percentiles that mean nothing


@pytest.mark.parametrize(
    ("count", "cells", "note"),
    [
        (672, ["13.0", "13.3", "15.2"], None),
        (662, ["13.0", "13.3", "15.2"], None),
        (336, ["13.0", "13.3", "-"], "p99 needs 662 requests, this run has 336: "),
        (8, ["13.0", "-", "-"], "p90 needs 64 requests and p99 needs 662 requests, this run has 8: "),
    ],
)
def test_a_percentile_of_too_few_requests_is_a_dash_with_its_reason(
    count: int, cells: list[str], note: str | None
) -> None:
    kept = {f"p{q}": getattr(FAST, f"p{q}") if count >= n else None for q, n in stats.MINIMUM_SAMPLES.items()}
    fewer = replace(FAST, requests=count, **kept)
    for content in (
        saved(replace(DONE, verdict=replace(COMPARED, measured={BASELINE: SLOW, CANDIDATE: fewer}))),
        saved(replace(ALONE, alone=Alone(OPTIMIZED, fewer, 14))),
    ):
        assert [words.rows(content)[-1][name] for name in ("p50 ms", "p90 ms", "p99 ms")] == cells
        told = [one for one in words.notes(content) if "needs" in one]
        assert len(told) == (note is not None)
        assert note is None or told[0].startswith(note)
        assert note is None or "--max-seconds" in told[0]


# result.json


def test_keys_of_a_comparison() -> None:
    """The contract that people's scripts rely on: a change of it needs another SCHEMA."""
    content = saved(DONE)
    assert set(content) == {
        "schema", "time", "command", "engine", "machine", "versions", "plan", "pinning", "left_out",
        "suite", "runs",
    }  # fmt: skip
    assert content["schema"] == 3
    assert content["command"] == "invoke benchmark"
    assert set(content["machine"]) == {
        "cpu", "cores", "instruction_sets", "memory", "system", "summary", "python",
        "siblings", "governor", "load",
    }  # fmt: skip
    assert content["plan"] == {
        "ci_width": 0.02, "max_seconds": 75.0, "max_errors": 0.01, "block_requests": 24,
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
    }
    assert {len(column) for column in run["blocks"].values()} == {16}
    verdict = run["verdict"]
    assert set(verdict) == {
        "baseline", "candidate", "agreement", "comparisons", "problem", "is_narrow", "rounds",
        "round_ratios", "control_ratios",
    }  # fmt: skip
    assert verdict["comparisons"]["p50"] == {
        "ratio": 2.41, "low": 2.37, "high": 2.45, "noise": 0.013, "outcome": 1,
    }  # fmt: skip
    assert verdict["comparisons"]["p99"] is None
    assert verdict["round_ratios"] == [2.4, 2.42]
    assert verdict["agreement"] == {
        "inputs": 12, "same": 12, "difference": 0.009, "holds": True, "percent": "100%",
        "exchangeable": 0.0, "is_hollow": False,
        "outputs": [{"name": "p", "is_scores": True, "same": 12, "numbers": {
            "absolute": 0.009, "relative": 0.009, "is_probability": True, "worst": 0.009, "allowed": 0.05,
            "tolerance": {"absolute": 0.05, "relative": 0.0},
        }}],
    }  # fmt: skip
    assert verdict["candidate"] == {
        "name": "optimized",
        "model": "resnet@1538687457",
        "urls": ["http://127.0.0.1:8503/v1/models/resnet"],
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


# Small things


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

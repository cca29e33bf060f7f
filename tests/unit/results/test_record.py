"""tasks.lib.results.record: the table of a benchmark."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tasks.lib.common.settings import GRPC, MIXED
from tasks.lib.common.tables import render
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
from tasks.lib.results.record import Alone, LeftOut
from tests.helpers.records import (
    ALONE,
    COMPARED,
    DONE,
    FAST,
    NOT_COMPARABLE,
    OPTIMIZED,
    PLAN,
    SLOW,
    only,
    over,
    saved,
    strict,
)


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
    other = replace(COMPARED, candidate=replace(COMPARED.candidate, name="another"), comparisons=narrow)
    content = saved(DONE, replace(DONE, verdict=other))
    assert words.notes(content) == [
        "optimized: measured in 2 rounds of 2 processes of each server, until 75 s had passed",
        "another: measured in 2 rounds of 2 processes of each server, until the interval was "
        "narrower than 2%",
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
        "measured in 2 rounds of 2 processes of each server, until 75 s had passed",
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
    assert (
        "measured in 2 rounds of 2 processes of each server, until the interval was narrower than 2%"
        in words.notes(content)
    )


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

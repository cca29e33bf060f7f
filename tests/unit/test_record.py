"""tasks.lib.record: the table of a benchmark, and its result.json."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib import record, stats
from tasks.lib.agreement import Agreement
from tasks.lib.errors import SuiteError
from tasks.lib.hardware import Hardware
from tasks.lib.record import Alone, Record
from tasks.lib.report import render
from tasks.lib.settings import Settings
from tasks.lib.store import Model, Origin
from tasks.lib.verdict import BASELINE, CANDIDATE, Contestant, Measurement, Plan, Verdict

STOCK = Contestant(
    "stock", "resnet@1538687457", "http://127.0.0.1:8501/v1/models/resnet", "TensorFlow", "f32"
)
OPTIMIZED = replace(
    STOCK,
    name="optimized",
    url="http://127.0.0.1:8503/v1/models/resnet",
    backend="OpenVINO",
    precision="bf16",
)
SLOW = Measurement(0.0312, 0.0320, 0.0351, 31.6, 672, 0)
FAST = Measurement(0.0130, 0.0133, 0.0152, 75.8, 672, 0)
COMPARED = Verdict(
    STOCK,
    OPTIMIZED,
    Agreement(inputs=12, same=12, difference=0.009, limit=0.05),
    {BASELINE: SLOW, CANDIDATE: FAST},
    stats.Interval(2.41, 2.37, 2.45),
    0.013,
    (2.40, 2.42),
    (1.0, 1.01),
)
DIFFERENT = Verdict(STOCK, OPTIMIZED, Agreement(12, 9, math.inf, 0.05), {}, None, None, (), ())
DONE = Record(
    time="2026-11-22T10:15:00+00:00",
    command="invoke benchmark",
    engine="local",
    model=Model(
        "resnet",
        1538687457,
        Path("models", "resnet", "1538687457"),
        Origin("seeded", "resnet50_v2, seed 1", None, "ab" * 32),
    ),
    hardware=Hardware("AMD EPYC", 2, ("AVX2", "FMA", "AVX-512", "VNNI", "BF16"), 8 << 30, "Linux 6.1 x86_64"),
    plan=Plan(14, 75.0, 24, 24, 1, 60.0),
    verdict=COMPARED,
)
ALONE = replace(DONE, verdict=None, alone=Alone(OPTIMIZED, FAST, 14))
NOT_COMPARABLE = replace(DONE, verdict=DIFFERENT)


def strict(text: str) -> Any:
    """What a reader gets that knows only what JSON is."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


# The table


def test_several_candidates_share_the_row_of_the_baseline() -> None:
    other = replace(COMPARED, candidate=replace(OPTIMIZED, name="another"))
    rows = record.rows([DONE, replace(DONE, verdict=other)])
    assert [row["variant"] for row in rows] == ["stock", "optimized", "another"]
    assert rows[2]["speed-up [95% CI]"] == "2.41 [2.37, 2.45]"


def test_the_table_is_that_of_the_design() -> None:
    lines = render(record.rows([DONE])).splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "variant backend precision p50 ms p90 ms p99 ms req/s speed-up [95% CI] same top-1 max |dp|",
        "stock TensorFlow f32 31.2 32.0 35.1 31.6 1.00 (noise 1.3%) - -",
        "optimized OpenVINO bf16 13.0 13.3 15.2 75.8 2.41 [2.37, 2.45] 100% 0.009",
    ]
    assert DONE.head == "resnet@1538687457 · local engine · AMD EPYC, 2 cores, AVX-512 VNNI BF16"
    assert DONE.sentence == (
        "optimized is faster than stock: 2.41x (95% CI 2.37 to 2.45; the machine's own noise is 1.3%), "
        "and answers the same."
    )


def test_columns_stand_under_their_headings() -> None:
    heading, *lines = render(record.rows([DONE])).splitlines()
    for column in ("p50 ms", "p90 ms", "p99 ms", "req/s"):
        end = heading.index(column) + len(column)
        for line in lines:
            assert line[end - 1] != " "
            assert line[end : end + 1] in ("", " ")


def test_one_that_was_measured_alone_has_nothing_to_be_compared_with() -> None:
    (row,) = record.rows([ALONE])
    assert list(row) == ["variant", "backend", "precision", "p50 ms", "p90 ms", "p99 ms", "req/s"]
    assert list(row.values()) == ["optimized", "OpenVINO", "bf16", "13.0", "13.3", "15.2", "75.8"]
    assert (
        ALONE.sentence == "optimized alone: 13.0 ms at p50, 75.8 requests/s. Without --alone it is compared."
    )


def test_errors_of_one_alone_are_said() -> None:
    failing = replace(ALONE, alone=Alone(OPTIMIZED, replace(FAST, errors=4), 14))
    assert failing.sentence.endswith(" 4 requests failed.")


def test_what_is_not_comparable_has_answers_but_no_times() -> None:
    stock, optimized = record.rows([NOT_COMPARABLE])
    for row in (stock, optimized):
        assert [row[name] for name in ("p50 ms", "p90 ms", "p99 ms", "req/s")] == ["-"] * 4
        assert row["speed-up [95% CI]"] == "-"
    assert (optimized["same top-1"], optimized["max |dp|"]) == ("75%", "inf")
    assert NOT_COMPARABLE.sentence == (
        "optimized and stock are not comparable: 3 of 12 answers have another top-1."
    )


def test_both_rows_have_the_same_columns() -> None:
    for done in (DONE, NOT_COMPARABLE):
        first, second = record.rows([done])
        assert list(first) == list(second)


# Percentiles that mean nothing


def with_requests(count: int) -> Record:
    """DONE with fewer requests, and with the percentiles that remain."""

    def fewer(one: Measurement) -> Measurement:
        kept = {
            f"p{q}": getattr(one, f"p{q}") if count >= needed else None
            for q, needed in stats.MINIMUM_SAMPLES.items()
        }
        return replace(one, requests=count, **kept)

    measured = {BASELINE: fewer(SLOW), CANDIDATE: fewer(FAST)}
    return replace(DONE, verdict=replace(COMPARED, measured=measured, round_ratios=(2.4,) * 14))


@pytest.mark.parametrize(
    ("count", "cells", "note"),
    [
        (672, ["13.0", "13.3", "15.2"], None),
        (662, ["13.0", "13.3", "15.2"], None),
        (336, ["13.0", "13.3", "-"], "p99 needs 662 requests, this run has 336: raise benchmark.rounds"),
        (8, ["13.0", "-", "-"], "p90 needs 64 requests and p99 needs 662 requests, this run has 8: raise"),
    ],
)
def test_a_percentile_of_too_few_requests_is_a_dash_with_its_reason(
    count: int, cells: list[str], note: str | None
) -> None:
    done = with_requests(count)
    assert [record.rows([done])[1][name] for name in ("p50 ms", "p90 ms", "p99 ms")] == cells
    if note is None:
        assert done.note is None
    else:
        assert done.note is not None
        assert done.note.startswith(note)
        assert "INVOKE_BENCHMARK_ROUNDS" in done.note
    assert record.content(done)["note"] == done.note


def test_a_run_that_time_cut_short_says_so() -> None:
    done = with_requests(336)
    assert done.verdict is not None
    done = replace(done, verdict=replace(done.verdict, round_ratios=(2.4,) * 7))
    assert done.note is not None
    assert "ended after 7 of 14 rounds, at 75 s" in done.note
    assert "INVOKE_BENCHMARK_MAX_SECONDS" in done.note


def test_one_alone_that_time_cut_short_says_so() -> None:
    cut = replace(ALONE, alone=Alone(OPTIMIZED, replace(FAST, requests=336, p99=None), 7))
    assert cut.note is not None
    assert "ended after 7 of 14 rounds, at 75 s" in cut.note
    assert "INVOKE_BENCHMARK_MAX_SECONDS" in cut.note


def test_the_note_is_of_the_contestant_with_the_fewest_requests() -> None:
    measured = {BASELINE: SLOW, CANDIDATE: replace(FAST, requests=600, p99=None, errors=72)}
    done = replace(DONE, verdict=replace(COMPARED, measured=measured, round_ratios=(2.4,) * 14))
    assert done.note is not None
    assert "this run has 600" in done.note


def test_one_alone_has_its_note_and_what_was_not_timed_has_none() -> None:
    few = replace(ALONE, alone=Alone(OPTIMIZED, replace(FAST, requests=100, p99=None), 14))
    assert few.note is not None
    assert few.note.startswith("p99 needs 662 requests, this run has 100")
    assert "INVOKE_BENCHMARK_ROUNDS" in few.note
    assert NOT_COMPARABLE.note is None


# result.json


def test_keys_of_a_comparison() -> None:
    """The contract that people's scripts rely on: a change of it needs another SCHEMA."""
    content = strict(record.as_json(record.content(DONE)))
    assert set(content) == {
        "schema", "time", "command", "sentence", "note", "engine", "model", "machine", "versions", "plan",
        "alone", "verdict",
    }  # fmt: skip
    assert content["schema"] == 1
    assert content["command"] == "invoke benchmark"
    assert content["sentence"] == DONE.sentence
    assert content["model"] == {
        "name": "resnet",
        "version": 1538687457,
        "origin": {
            "source": "seeded",
            "address": "resnet50_v2, seed 1",
            "archive_sha256": None,
            "content_sha256": "ab" * 32,
        },
        "warning": "weights: seeded: timings hold, classes mean nothing",
    }
    assert set(content["machine"]) == {"cpu", "cores", "instruction_sets", "memory", "system", "python"}
    assert content["plan"] == {
        "rounds": 14, "max_seconds": 75.0, "block_requests": 24, "warmup_requests": 24, "seed": 1,
        "timeout": 60.0,
    }  # fmt: skip
    assert all(content["versions"].values())
    assert content["alone"] is None
    verdict = content["verdict"]
    assert set(verdict) == {
        "baseline", "candidate", "agreement", "speedup", "noise", "round_ratios", "control_ratios",
    }  # fmt: skip
    assert verdict["speedup"] == {"ratio": 2.41, "low": 2.37, "high": 2.45}
    assert verdict["noise"] == 0.013
    assert verdict["round_ratios"] == [2.4, 2.42]
    assert verdict["agreement"] == {
        "inputs": 12,
        "same": 12,
        "difference": 0.009,
        "limit": 0.05,
        "holds": True,
    }
    assert verdict["candidate"] == {
        "name": "optimized",
        "model": "resnet@1538687457",
        "url": "http://127.0.0.1:8503/v1/models/resnet",
        "backend": "OpenVINO",
        "precision": "bf16",
        "image": "",
        "image_id": "",
        "measured": {"p50": 0.013, "p90": 0.0133, "p99": 0.0152, "rate": 75.8, "requests": 672, "errors": 0},
    }


def test_what_was_measured_alone_has_no_verdict() -> None:
    content = strict(record.as_json(record.content(ALONE)))
    assert content["verdict"] is None
    assert content["alone"]["name"] == "optimized"
    assert content["alone"]["measured"]["requests"] == 672
    assert content["alone"]["rounds"] == 14


def test_what_is_not_comparable_has_no_times() -> None:
    verdict = strict(record.as_json(record.content(NOT_COMPARABLE)))["verdict"]
    assert verdict["speedup"] is None
    assert verdict["noise"] is None
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
    assert strict(record.as_json(value)) == plain(value)


# Saving


def test_the_result_is_saved_under_its_time_and_model(settings: Settings) -> None:
    folder = record.write(settings.paths, DONE)
    assert folder == settings.paths.results / "2026-11-22T10-15-00-resnet"
    assert [each.name for each in folder.iterdir()] == ["result.json"]
    assert strict((folder / "result.json").read_text()) == strict(record.as_json(record.content(DONE)))


def test_two_of_one_second_are_both_kept(settings: Settings) -> None:
    folders = [record.write(settings.paths, DONE) for _ in range(3)]
    assert [folder.name for folder in folders] == [
        "2026-11-22T10-15-00-resnet",
        "2026-11-22T10-15-00-resnet-2",
        "2026-11-22T10-15-00-resnet-3",
    ]


def test_two_at_once_are_both_kept(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: record.write(settings.paths, DONE), range(40)))
    assert len(set(folders)) == 40
    assert all((folder / "result.json").is_file() for folder in folders)


def a_file_in_the_way(results: Path) -> None:
    results.write_text("")


def a_file_above(results: Path) -> None:
    results.symlink_to("/dev/null/results")


@pytest.mark.parametrize("spoil", [a_file_in_the_way, a_file_above])
def test_a_folder_that_cannot_be_written_to_is_told(
    settings: Settings, spoil: Callable[[Path], None]
) -> None:
    spoil(settings.paths.results)
    with pytest.raises(SuiteError) as told:
        record.write(settings.paths, DONE)
    assert str(settings.paths.results) in told.value.problem
    assert "INVOKE_PATHS_RESULTS" in told.value.remedy


def test_a_result_that_cannot_be_finished_leaves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SuiteError, match="No space left on device"):
        record.write(settings.paths, DONE)
    assert list(settings.paths.results.iterdir()) == []


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
    ("seconds", "shown"), [(None, "-"), (0.0312, "31.2"), (0.00004, "0.0"), (1.5, "1500.0")]
)
def test_times_are_shown_in_milliseconds(seconds: float | None, shown: str) -> None:
    assert record.milliseconds(seconds) == shown

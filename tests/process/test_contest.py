"""tasks.lib.benchmark.contest, with stand-ins for servers; real ones take part in tests/integration."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.benchmark import contest, instances, outcome
from tasks.lib.benchmark import run as benchmark
from tasks.lib.benchmark.contest import Contest
from tasks.lib.common import hardware, pinning
from tasks.lib.common.errors import CannotGain, GateFailed, NotComparable, ServerError, SuiteError
from tasks.lib.common.variants import Variant
from tasks.lib.engines.base import Conditions
from tasks.lib.engines.local.engine import LocalEngine
from tasks.lib.measure import paired, verdict
from tasks.lib.measure.agreement import Agreement
from tasks.lib.measure.measurement import Measurement
from tasks.lib.measure.stats import Interval
from tasks.lib.measure.verdict import Comparison, Verdict
from tasks.lib.models.store import Origin
from tasks.lib.results import record, shown
from tasks.lib.results.record import LeftOut
from tests.helpers import standin
from tests.helpers.answers import scored
from tests.helpers.commandline import ROOT
from tests.helpers.contestants import HURRY, OPTIMIZED, SAME, STOCK
from tests.helpers.cpus import NEEDS_TWO
from tests.helpers.scripted import answer, say, serving
from tests.helpers.standin import Checkout, checkout_with_standin


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    with checkout_with_standin(tmp_path, monkeypatch) as one:
        shutil.copytree(ROOT / "models" / "samples", one.settings.paths.models / "samples")
        yield one


ORIGIN = Origin("url", "http://example.org/net.tar.gz", None, "0" * 64)


def run(checkout: Checkout, baseline: str | None, *candidates: str, **more: Any) -> list[record.Record]:
    asked = Contest("net", baseline, candidates, "local", replace(HURRY, **more.pop("plan", {})), **more)
    return list(contest.run(checkout.settings, asked))


def test_one_alone_that_time_cuts_short_knows_its_rounds(checkout: Checkout) -> None:
    [done] = run(checkout, None, "stock")
    assert done.alone is not None
    assert (done.alone.rounds, done.alone.measured.requests) == (2, 8)


def test_one_alone_is_measured_until_its_interval_is_narrow(checkout: Checkout) -> None:
    [done] = run(checkout, None, "stock", plan={"max_seconds": 600, "ci_width": math.inf})
    assert done.alone is not None
    assert done.alone.rounds == verdict.FEWEST


def test_a_version_takes_part(checkout: Checkout) -> None:
    standin.model(checkout.settings.paths.models.parent, version=2)
    [done] = run(checkout, "net@1", "net@2")
    assert done.verdict is not None
    assert [one.name for one in (done.verdict.baseline, done.verdict.candidate)] == ["net@1", "net@2"]
    assert [one.model for one in (done.verdict.baseline, done.verdict.candidate)] == ["net@1", "net@2"]
    assert done.verdict.agreement.holds
    assert checkout.processes() == []


def test_several_processes_of_each_server_take_part(checkout: Checkout) -> None:
    standin.model(checkout.settings.paths.models.parent, version=2)
    standin.model(checkout.settings.paths.models.parent, version=3)
    first, second = run(checkout, "net@1", "net@2", "net@3", plan={"instances": 3})
    assert first.verdict is not None
    assert second.verdict is not None
    assert first.verdict.instances == second.verdict.instances == 3
    assert len(first.verdict.round_ratios) == 3, "one round of each pair, although the time was up"
    assert first.verdict.baseline.instances == second.verdict.baseline.instances
    for done in (first.verdict, second.verdict):
        assert len({*done.baseline.instances, *done.candidate.instances}) == 6
    assert "in 3 rounds of 3 processes of each server" in "".join(record.content([first])["runs"][0]["notes"])
    assert checkout.processes() == []


def test_a_benchmark_is_repeated_with_new_servers_and_another_seed(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Contest("net", "stock", ["stock"], "local", HURRY)
    benchmark.measure(checkout.settings, asked, "json", repeats=3)
    printed = capsys.readouterr()
    rows = json.loads(printed.out)
    assert [row["run"] for row in rows] == [1, 2, 3]
    assert printed.err.count("starting stock net@1") == 2 * 3
    assert "of 3 runs; the speed-up was" in printed.err
    saved = sorted(checkout.settings.paths.results.glob("*/result.json"))
    contents = [json.loads(path.read_text()) for path in saved]
    assert sorted(content["plan"]["seed"] for content in contents) == [1, 2, 3]
    assert sorted(len(content["repetitions"]) for content in contents) == [1, 2, 3]
    last = max(saved, key=lambda path: len(json.loads(path.read_text())["repetitions"])).parent
    shown.show_saved(str(last), "text")
    assert "of 3 runs; the speed-up was" in capsys.readouterr().out
    shown.compare(str(last), str(last), "text")
    assert "the second result's speed-up is 1.0" in capsys.readouterr().err
    assert checkout.processes() == []


def test_an_address_meets_every_process_of_the_other(checkout: Checkout) -> None:
    elsewhere = replace(checkout.settings.paths, state=checkout.settings.paths.state / "elsewhere")
    mine = LocalEngine(replace(checkout.settings, paths=elsewhere), command=standin.command())
    theirs = mine.start(checkout.model, Variant("stock", "tensorflow", "f32"))
    [done] = run(checkout, theirs.url, "stock", plan={"instances": 2})
    assert done.verdict is not None
    assert (done.verdict.instances, done.verdict.baseline.further) == (2, ())
    assert len(done.verdict.candidate.instances) == 2
    assert mine.servers() == [theirs]
    mine.stop(theirs, 0)


def test_there_are_fewer_processes_where_the_memory_is_too_small(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    left = iter([100, 80, 80, 30, 30])  # two pairs, of 20 and 50; a third one would need 75
    monkeypatch.setattr(instances, "_available", lambda: next(left))
    [done] = run(checkout, "stock", "stock", plan={"instances": 4})
    assert done.verdict is not None
    assert done.verdict.instances == 2
    assert "the memory suffices for 2 of 4 processes of each server" in capsys.readouterr().err


def test_a_server_of_another_user_takes_part(checkout: Checkout) -> None:
    elsewhere = replace(checkout.settings.paths, state=checkout.settings.paths.state / "elsewhere")
    mine = LocalEngine(replace(checkout.settings, paths=elsewhere), command=standin.command())
    theirs = mine.start(checkout.model, Variant("stock", "tensorflow", "f32"))
    [done] = run(checkout, "stock", f"{theirs.url}:predict")
    assert done.verdict is not None
    candidate = done.verdict.candidate
    assert (candidate.name, candidate.model) == (f"127.0.0.1:{theirs.rest_port}/net", "net@1")
    assert (candidate.backend, candidate.precision, candidate.origin) == ("-", "-", None)
    [alone] = run(checkout, theirs.url, f"{theirs.url},{theirs.url}", connections=(1,))
    assert alone.engine is None
    assert alone.verdict is not None
    assert alone.verdict.candidate.name == f"127.0.0.1:{theirs.rest_port}/net and 1 more"
    assert alone.verdict.measured[verdict.CANDIDATE].sent == (4, 4)
    assert mine.servers() == [theirs], "it is not ours to stop"
    mine.stop(theirs, 0)


def test_a_sweep_measures_each_number_of_connections(checkout: Checkout) -> None:
    done = run(checkout, "stock", "stock", connections=(1, 3))
    assert [one.plan.connections for one in done] == [1, 3]
    counts = [one.verdict.measured[verdict.CANDIDATE].requests for one in done if one.verdict]
    assert counts == [8, 24]


def test_open_loop(checkout: Checkout) -> None:
    [done] = run(checkout, "stock", "stock", plan={"rate": 200.0, "block_seconds": 0.01})
    assert done.verdict is not None
    assert done.verdict.measured[verdict.CANDIDATE].requests == 16, (
        "twice what arrives, in each half of a round"
    )
    assert "at 200 requests/s" in done.verdict.sentence


def test_nothing_is_brought_up_for_addresses_alone(checkout: Checkout) -> None:
    with pytest.raises(ServerError):
        run(checkout, "http://127.0.0.1:1/v1/models/net", "http://127.0.0.1:2/v1/models/net")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("ftp://host/v1/models/net", "is not the address of a model"),
        ("http:///v1/models/net", "is not the address of a model"),
        ("http://host:8501", "is not the address of a model"),
        ("http://host:99999/v1/models/net", "is not the address of a model"),
        ("https://host/v1/models/net", "is encrypted"),
        ("http://me:secret@host/v1/models/net", "^The address of host contains a user name"),
        ("http://me:secret@host/net", "^(?!.*secret)"),
        ("http://me:secret@host:1/v1/models/net,grpc://me:secret@host:1/v1/models/net", "^(?!.*secret)"),
        ("missing", "There is no variant 'missing'"),
        ("net@1:missing", "There is no variant 'missing'"),
        ("net@", "version"),
    ],
)
def test_what_is_no_contestant_is_told(checkout: Checkout, text: str, problem: str) -> None:
    with pytest.raises(SuiteError, match=problem):
        run(checkout, "stock", text)
    assert checkout.processes() == []


def test_a_model_s_name_does_not_reach_the_terminal_as_a_command(checkout: Checkout) -> None:
    told = json.dumps({"model_spec": {"name": "net\x1b[2J", "version": "1"}}).encode()
    refused = pytest.raises(ServerError, match="does not say which model it serves")
    with serving(finally_=say(answer(told))) as theirs, refused:
        run(checkout, None, theirs.url)


def test_inputs_of_ones_own(checkout: Checkout, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"instances": [[1, 2]]}\n\n{"instances": [[3]]}\n')
    [done] = run(checkout, "stock", "stock", inputs=mine)
    assert done.verdict is not None
    assert done.verdict.agreement.inputs == 2


def test_inputs_say_which_signature_is_measured(checkout: Checkout, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text('{"signature_name": "other", "instances": [[1, 2]]}\n')
    with pytest.raises(SuiteError, match="The model has no signature 'other'"):
        run(checkout, "stock", "stock", inputs=mine)
    mine.write_text('{"signature_name": "serving_default", "instances": [[1, 2]]}\n')
    [done] = run(checkout, "stock", "stock", inputs=mine)
    assert done.verdict is not None


# A model that does not gain


def test_stock_is_measured_alone_if_the_model_does_not_gain(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.gains = False
    [done] = run(checkout, "stock", "optimized")
    assert (done.verdict, done.left_out) == (None, (LeftOut("optimized", Checkout.WITHOUT_GAIN),))
    assert done.alone is not None
    assert done.alone.contestant.name == "stock"
    assert f"optimized was left out: {Checkout.WITHOUT_GAIN}" in capsys.readouterr().err
    assert checkout.processes() == []
    outcome.check_outcome([done], None)
    with pytest.raises(NotComparable, match=r"There was nothing to compare, so --min-ratio 0\.5") as told:
        outcome.check_outcome([done], 0.5)
    assert Checkout.WITHOUT_GAIN in told.value.problem
    assert told.value.exit_code == 3


def test_the_other_candidates_are_compared(checkout: Checkout) -> None:
    checkout.gains = False
    [done] = run(checkout, "stock", "optimized", "net@1")
    assert done.verdict is not None
    assert (done.verdict.baseline.name, done.verdict.candidate.name) == ("stock", "net@1")
    outcome.check_outcome([done], None)
    with pytest.raises(NotComparable, match="optimized was not compared, so --min-ratio 1e-09 was not"):
        outcome.check_outcome([done], 1e-9)


def test_stock_is_measured_once_for_each_number_of_connections(checkout: Checkout) -> None:
    checkout.gains = False
    done = run(checkout, "stock", "optimized", "net@1:optimized", "optimized", connections=(1, 2))
    assert [(one.alone.contestant.name, one.plan.connections) for one in done if one.alone] == [
        ("stock", 1),
        ("stock", 2),
    ]
    assert [one.name for one in done[0].left_out] == ["optimized", "net@1:optimized"]
    assert checkout.attempts == 2


def test_candidates_are_measured_alone_if_the_baseline_does_not_gain(checkout: Checkout) -> None:
    checkout.gains = False
    [done] = run(checkout, "optimized", "stock")
    assert done.alone is not None
    assert done.alone.contestant.name == "stock"


@pytest.mark.parametrize("baseline", [None, "optimized"])
def test_there_must_be_something_to_measure(checkout: Checkout, baseline: str | None) -> None:
    checkout.gains = False
    with pytest.raises(CannotGain, match=Checkout.WITHOUT_GAIN):
        run(checkout, baseline, "optimized")


def test_what_an_earlier_step_has_found_is_not_tried_again(checkout: Checkout) -> None:
    known = {"optimized": CannotGain("It is slower.", "Serve it with `invoke serve`.")}
    [done] = run(checkout, "stock", "optimized", left_out=known)
    assert done.left_out == (LeftOut("optimized", "It is slower."),)
    assert checkout.attempts == 0


# Who runs where


@NEEDS_TWO
def test_both_servers_share_cpus_and_the_client_has_others(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = pinning.usable() or ()
    checkout.settings = replace(checkout.settings, serve=replace(checkout.settings.serve, cpus=(first,)))
    seen: list[tuple[Any, ...]] = []
    real = paired.judge

    def watched(*args: Any, **more: Any) -> Verdict:
        servers = [sorted(os.sched_getaffinity(process.pid)) for process in checkout.processes()]
        seen.append((servers, pinning.usable()))
        return real(*args, **more)

    monkeypatch.setattr(paired, "judge", watched)
    before = pinning.usable()
    [done] = run(checkout, "stock", "optimized")
    assert seen == [([[first], [first]], tuple(cpu for cpu in before or () if cpu != first))]
    assert pinning.usable() == before
    assert done.pinning is not None
    assert (done.pinning.servers, done.pinning.client[0]) == ((first,), second)
    assert done.verdict is not None
    for side in (done.verdict.baseline, done.verdict.candidate):
        assert side.conditions == Conditions((first,))


@NEEDS_TWO
def test_a_server_on_other_cpus_is_left_alone_and_another_is_measured(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    first, *_ = pinning.usable() or ()
    engine = LocalEngine(checkout.settings, extra_flags=["--takes=numbers"], command=standin.command())
    up = engine.start(checkout.model, Variant("stock", "tensorflow", "f32"))
    [alike] = run(checkout, None, "stock")
    assert alike.alone is not None
    assert alike.alone.contestant.url == up.url
    checkout.settings = replace(checkout.settings, serve=replace(checkout.settings.serve, cpus=(first,)))
    [apart] = run(checkout, None, "stock")
    assert apart.alone is not None
    assert apart.alone.contestant.url != up.url
    assert "starting another one for this call" in capsys.readouterr().err
    assert engine.servers() == [up]


def test_a_server_that_was_not_started_here_is_on_no_cpus(checkout: Checkout) -> None:
    [done] = run(checkout, None, "stock")
    assert done.alone is not None
    theirs = LocalEngine(checkout.settings, command=standin.command()).start(
        checkout.model, Variant("stock", "tensorflow", "f32")
    )
    [mixed] = run(checkout, "stock", theirs.url)
    assert mixed.pinning is not None
    assert not mixed.pinning.is_apart
    assert f"127.0.0.1:{theirs.rest_port}/net was not started by this suite" in str(mixed.pinning)
    [alone] = run(checkout, None, theirs.url)
    assert alone.pinning is None


def test_a_dry_run_tells_who_would_run_where(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    checkout.settings = replace(checkout.settings, dry=True)
    assert run(checkout, "stock", "optimized") == []
    told = pinning.plan((), hardware.cores())
    assert f"starting the servers that are not up; {told}" in capsys.readouterr().err
    assert checkout.processes() == []


# What the outcome means for the exit code


def finished(ratio: Interval, agreement: Agreement = SAME, errors: int = 0) -> list[record.Record]:
    measured = Measurement(0.01, 0.02, 0.03, 100.0, 672, errors)
    sides = {verdict.BASELINE: measured, verdict.CANDIDATE: measured}
    comparisons = {"p50": Comparison(ratio, 0.01)}
    one = Verdict(STOCK, OPTIMIZED, agreement, sides, comparisons, HURRY, (), ())
    return [record.Record("", "", "local", hardware.detect(), HURRY, one)]


def test_a_gate_is_not_passed_only_where_that_is_certain() -> None:
    for ratio, gate in (
        (Interval(2.4, 2.3, 2.5), 1.5),
        (Interval(0.97, 0.94, 1.0), 0.95),
        (Interval(1.4, 1.2, 1.6), 1.5),
        (Interval(1.4, 1.3, 1.5), 1.5),
        (Interval(0.93, 0.92, 0.945), 0.95),  # by less than the noise: it cannot be told
    ):
        outcome.check_outcome(finished(ratio), gate)
        outcome.check_outcome(finished(ratio), None)
    with pytest.raises(GateFailed, match=r"optimized is 0\.91x as fast as stock, .* --min-ratio 0\.95"):
        outcome.check_outcome(finished(Interval(0.91, 0.9, 0.92)), 0.95)


def test_figures_of_one_alone_need_answers() -> None:
    def alone(errors: int) -> list[record.Record]:
        measured = Measurement(0.01, 0.02, 0.03, 100.0, 672, errors)
        [one] = finished(Interval(1.0, 1.0, 1.0))
        return [replace(one, verdict=None, alone=record.Alone(STOCK, measured, 14))]

    outcome.check_outcome(alone(6), None)
    with pytest.raises(NotComparable, match="14 of 686 requests to stock failed; 1% are allowed"):
        outcome.check_outcome(alone(14), None)


def test_without_a_verdict_there_is_another_code() -> None:
    fast = Interval(2.4, 2.3, 2.5)
    with pytest.raises(NotComparable, match="requests to stock failed"):
        outcome.check_outcome(finished(fast, errors=100), 1.5)
    different = scored(3, 0.5)
    outcome.check_outcome(finished(fast, different), 1.5)  # --allow-different has timed it
    untimed = [
        replace(one, verdict=replace(one.verdict, comparisons={}, measured={}))
        for one in finished(fast, different)
    ]  # type: ignore[type-var]
    with pytest.raises(NotComparable, match="optimized answers differently from stock"):
        outcome.check_outcome(untimed, None)


@pytest.mark.parametrize(
    ("takes_photos", "origin", "advice"),
    [(True, ORIGIN, "invoke predict"), (False, ORIGIN, "with curl"), (True, None, "with curl")],
    ids=["photos", "numbers", "another one's server"],
)
def test_predict_is_only_advised_where_it_works(
    takes_photos: bool, origin: Origin | None, advice: str
) -> None:
    [one] = finished(Interval(1.0, 1.0, 1.0), scored(3, 0.5))
    assert one.verdict is not None
    baseline, candidate = replace(STOCK, origin=ORIGIN), replace(OPTIMIZED, origin=origin)
    untimed = replace(one.verdict, baseline=baseline, candidate=candidate, comparisons={}, measured={})
    with pytest.raises(NotComparable) as told:
        outcome.check_outcome([replace(one, verdict=untimed, takes_photos=takes_photos)], None)
    assert advice in told.value.remedy
    assert "--allow-different" in told.value.remedy


def test_whether_a_model_takes_photos_is_asked(checkout: Checkout) -> None:
    [done] = run(checkout, "stock", "optimized")
    assert not done.takes_photos

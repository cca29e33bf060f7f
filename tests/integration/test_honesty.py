"""Whether a verdict on real servers of known behaviour is the truth about them.

How often servers that are the same are called different, and whether one that is a little slower is found,
depends on the machine and on what else it does: tests/unit/measure/test_verdict.py simulates it, and
scripts in tests/benchmarks/ show it.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.identical_servers import judged, plan
from tests.integration import synthetic
from tests.integration.conftest import Suite

SHORT = plan(seed=1)


@pytest.fixture
def typed(tmp_path: Path) -> Suite:
    """A suite with folders of its own; nothing is served by it."""
    return Suite(tmp_path / "suite")


def test_a_pause_shows_in_open_loop_and_hides_in_closed_loop() -> None:
    """Every 160th request stops the server for half a second: four times in the 664 that count.

    A client that waits for its answers sends nothing meanwhile: four slow requests are less than 1 %, also
    with two more that a busy machine delays, and p99 is that of a server which never stops. Where requests
    arrive at 100 a second, 50 more wait for the end of each pause.
    """
    closed = replace(SHORT, max_seconds=0, block_requests=166)
    arriving = replace(closed, rate=100.0, connections=64, block_seconds=0.83)
    p99: dict[str, list[float]] = {}
    for name, how in (("closed", closed), ("open", arriving)):
        with synthetic.running(0.3) as steady, synthetic.running(0.3, "--pause-every=160") as pausing:
            done = judged(steady, pausing, how)
        assert [one.requests for one in done.measured.values()] == [664, 664]
        p99[name] = [one.p99 for one in done.measured.values() if one.p99 is not None]
    print({name: [f"{one * 1000:.0f} ms" for one in both] for name, both in p99.items()})
    hidden, shown = p99["closed"][1], p99["open"][1]
    assert shown > 0.8 * synthetic.PAUSE
    assert hidden < 0.5 * synthetic.PAUSE


def test_a_server_that_answers_differently_is_not_sent_a_single_request_to_be_timed(typed: Suite) -> None:
    with synthetic.running(0.3) as a, synthetic.running(0.3, "--other") as b:
        against = ("benchmark", "--baseline", a, "--candidate", b, "--format", "json")
        done = typed.run(*against, code=3)
        (run,) = json.loads(done.stdout)["runs"]
        inputs = run["verdict"]["agreement"]["inputs"]
        assert inputs > 0
        assert [synthetic.predicts(url) for url in (a, b)] == [inputs, inputs]
        assert f"{inputs} of {inputs} answers have another top-1 in 'probabilities'" in done.stderr
        allowed = typed.run(*against, "--allow-different")
        (run,) = json.loads(allowed.stdout)["runs"]
        for url, side in ((a, "baseline"), (b, "candidate")):
            timed = run["warmup"]["requests"] + run["verdict"][side]["measured"]["requests"]
            assert synthetic.predicts(url) == 2 * inputs + timed


def test_a_server_that_drops_2_percent_of_the_requests_has_no_verdict(typed: Suite) -> None:
    longer = typed.with_environment(INVOKE_BENCHMARK_BLOCK_REQUESTS="100")
    with synthetic.running(0.3) as a, synthetic.running(0.3, "--drop=50") as b:
        done = longer.run("benchmark", "--baseline", a, "--candidate", b, code=3)
    assert "8 of 400 requests to 127.0.0.1" in done.stderr
    assert "failed; 1% are allowed" in done.stderr
    assert "are not comparable" in done.stdout

"""tasks.lib.measure.paired: through real connections."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from tasks.lib.common.errors import NoAnswer
from tasks.lib.common.settings import Plan
from tasks.lib.measure import paired, warmup
from tasks.lib.measure.load import Block, Load
from tasks.lib.measure.measurement import measure
from tasks.lib.measure.rounds import Instance, run_rounds, timeline
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, TWIN
from tests.helpers.contestants import OPTIMIZED, SAME, STOCK
from tests.helpers.scripted import Act, answer, keep_silent, say, serving
from tests.helpers.simulated_servers import PLAN, after


class Recorder(BaseHTTPRequestHandler):
    """Answers every predict, and notes what it was sent."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.bodies.append(body)  # type: ignore[attr-defined]
        self.wfile.write(answer(b'{"predictions": [1]}'))

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def recorders() -> Iterator[list[Any]]:
    servers: list[Any] = [ThreadingHTTPServer(("127.0.0.1", 0), Recorder) for _ in range(2)]
    threads = [threading.Thread(target=each.serve_forever, args=(0.01,)) for each in servers]
    for server, thread in zip(servers, threads, strict=True):
        server.bodies = []
        thread.start()
    yield servers
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


def url(server: Any) -> str:
    return f"http://127.0.0.1:{server.server_port}/v1/models/net"


def test_blocks_are_told_in_the_order_in_which_they_were_sent() -> None:
    with serving() as server, Load([server.url], 10) as load:
        loads = [(label, load) for label in (BASELINE, CANDIDATE, TWIN)]
        requests = {label: [load.prepare(b"{}")] for label, _ in loads}
        rounds = run_rounds([Instance(loads, requests)], 4, PLAN, after(3))
    told = timeline(rounds)
    assert told.label == tuple(label for one in rounds for label in (*one, *reversed(one)))
    assert len(told.label) == len(told.start) == len(told.p50) == len(told.rate) == 18
    assert told.start[0] == 0
    blocks = [block for one in rounds for blocks in one.values() for block in blocks]
    for start, end, p50, rate in zip(
        told.start, (*told.start[1:], math.inf), told.p50, told.rate, strict=True
    ):
        assert start + 4 / rate <= end, "one at a time"
        assert 0 < p50 < 4 / rate
    assert sorted(told.p50) == sorted(float(np.median(block.latencies)) for block in blocks)


@pytest.mark.parametrize("block_requests", [4, 6, 14, 24])
def test_both_are_sent_the_same_samples_equally_often(recorders: list[Any], block_requests: int) -> None:
    """Otherwise the ratio would compare photos, not servers."""
    samples = [json.dumps({"instances": [n]}).encode() for n in range(5)]
    plan = replace(PLAN, max_seconds=0, block_requests=block_requests, warmup_seconds=0)
    rounds = 2  # the fewest
    contestants = [replace(STOCK, urls=(url(recorders[0]),)), replace(OPTIMIZED, urls=(url(recorders[1]),))]
    done = paired.judge(contestants[0], contestants[1], SAME, samples, plan)
    assert sorted(recorders[0].bodies) == sorted(recorders[1].bodies)
    assert len(recorders[0].bodies) == warmup.BLOCK + rounds * 2 * block_requests
    assert done.warmup is not None
    assert (done.warmup.requests, done.warmup.steady) == (warmup.BLOCK, False)
    assert len(done.round_ratios) == len(done.control_ratios) == rounds
    assert [one.errors for one in done.measured.values()] == [0, 0]
    assert [one.requests for one in done.measured.values()] == [rounds * 2 * block_requests] * 2


def rounds_against(script: Sequence[Act], last: Act, plan: Plan) -> list[Mapping[str, list[Block]]]:
    with serving(*script, finally_=last) as server, Load([server.url], plan.timeout) as connection:
        requests = {"stock": [connection.prepare(b"{}")]}
        size = plan.block_requests
        return list(run_rounds([Instance([("stock", connection)], requests)], size, plan, after(3)))


def test_a_server_that_stops_answering_is_told() -> None:
    plan = replace(PLAN, block_requests=2, warmup_seconds=0, timeout=0.1)
    with pytest.raises(NoAnswer, match=r"http://127\.0\.0\.1:\d+/\S+ answered none of 2 requests in a row"):
        rounds_against([say()] * 6, keep_silent, plan)


def test_single_failures_are_counted() -> None:
    plan = replace(PLAN, block_requests=4, warmup_seconds=0)
    rounds = rounds_against([say(), say(answer(b"{}", 503))], say(), plan)
    assert measure([block for one in rounds for block in one["stock"]]).errors == 1

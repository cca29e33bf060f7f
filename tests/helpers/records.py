"""Finished benchmarks as tests make them up, and what a reader of their result.json has."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np

from tasks.lib.common.hardware import Hardware
from tasks.lib.common.settings import Plan
from tasks.lib.common.strict_json import as_json
from tasks.lib.measure import stats
from tasks.lib.measure.histogram import Histogram
from tasks.lib.measure.measurement import Measurement
from tasks.lib.measure.rounds import Timeline
from tasks.lib.measure.verdict import (
    BASELINE,
    CANDIDATE,
    CONTROL,
    TWIN,
    Comparison,
    Contestant,
    Verdict,
)
from tasks.lib.models.store import Origin
from tasks.lib.results import record
from tasks.lib.results.record import Alone, Record
from tests.helpers.answers import scored
from tests.helpers.result_schema import assert_valid

ORIGIN = Origin("seeded", "resnet50_v2, seed 1", None, "ab" * 32)
STOCK = Contestant(
    "stock", "resnet@1538687457", ("http://127.0.0.1:8501/v1/models/resnet",), "TensorFlow", "f32", ORIGIN
)
OPTIMIZED = replace(
    STOCK,
    name="optimized",
    urls=("http://127.0.0.1:8503/v1/models/resnet",),
    backend="OpenVINO",
    precision="bf16",
)


def latencies(p50: float) -> str:
    """672 of them as result.json has them."""
    histogram = Histogram()
    histogram.record(p50 * np.random.default_rng(1).lognormal(0, 0.05, 672))
    return histogram.encode()


SLOW = Measurement(0.0312, 0.0320, 0.0351, 31.6, 672, 0, histogram=latencies(0.0312))
FAST = Measurement(0.0130, 0.0133, 0.0152, 75.8, 672, 0, histogram=latencies(0.0130))
PLAN = Plan(0.02, 75.0, 0.01, 24, 20.0, 1, 60.0)
ORDER = (BASELINE, CONTROL, CANDIDATE, TWIN)
COMPARED = Verdict(
    replace(STOCK, further=(("http://127.0.0.1:3/v1/models/net",),)),
    replace(OPTIMIZED, further=(("http://127.0.0.1:4/v1/models/net",),)),
    scored(12, 0.009),
    {BASELINE: SLOW, CANDIDATE: FAST},
    {
        "p50": Comparison(stats.Interval(2.41, 2.37, 2.45), 0.013, 2.0, 2),
        "throughput": Comparison(stats.Interval(2.4, 2.35, 2.44), 0.02),
        "p90": Comparison(stats.Interval(2.3, 2.2, 2.4), 0.05),
        "p99": None,
    },
    PLAN,
    (2.40, 2.42),
    (1.0, 1.01),
    Timeline(
        (*ORDER, *reversed(ORDER)) * 2,
        tuple(0.5123456 * number for number in range(16)),
        (0.031212345, 0.0312, 0.013012345, 0.013) * 4,
        (31.6, 31.6, 75.812345, 75.79) * 4,
    ),
    instances=2,
)
DIFFERENT = Verdict(STOCK, OPTIMIZED, scored(9, math.inf), {}, {}, PLAN, (), ())
DONE = Record(
    time="2026-11-22T10:15:00+00:00",
    command="invoke benchmark",
    engine="local",
    hardware=Hardware("AMD EPYC", 2, ("AVX2", "FMA", "AVX-512", "VNNI", "BF16"), 8 << 30, "Linux 6.1 x86_64"),
    plan=PLAN,
    verdict=COMPARED,
)
ALONE = replace(DONE, verdict=None, alone=Alone(OPTIMIZED, FAST, 14))
NOT_COMPARABLE = replace(DONE, verdict=DIFFERENT)


def over(connections: int, **more: Any) -> Record:
    """A comparison with a plan of its own."""
    plan = replace(PLAN, connections=connections, **more)
    return replace(DONE, plan=plan, verdict=replace(COMPARED, plan=plan))


def strict(text: str) -> Any:
    """What a reader gets that knows only what JSON is."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def saved(*done: Record) -> dict[str, Any]:
    """What a reader of its result.json has."""
    content: dict[str, Any] = strict(as_json(record.content(done)))
    assert_valid(content)
    return content


def only(done: Record) -> dict[str, Any]:
    """The same of its single run."""
    run: dict[str, Any]
    (run,) = saved(done)["runs"]
    return run

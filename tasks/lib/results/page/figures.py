"""The charts of a result, each made from what result.json holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import median
from xml.etree.ElementTree import Element

from tasks.lib.measure import stats
from tasks.lib.measure.histogram import Histogram
from tasks.lib.measure.verdict import BASELINE, CONTROL, NEW, P50
from tasks.lib.measure.watch import BUSY
from tasks.lib.results.page.markup import node, table
from tasks.lib.results.page.plots import Band, Chart, Point, Series, Stretch, ruler, strip
from tasks.lib.results.page.scales import Axis, chosen, linear, logarithmic, tail
from tasks.lib.results.schema import Blocks, Comparison, Result, Run, Side
from tasks.lib.results.words import (
    interval,
    is_swept,
    measured_of,
    milliseconds,
    run_name,
    sides_of,
    verdict_of,
)

KINDS = ("baseline", "candidate")
MOST = 200
"""Marks of one kind in a chart: more are one blot."""
STEPS = 240
"""Points of a distribution's line: about one for every third pixel."""
SEEN = min(n * (1 - q / 100) for q, n in stats.MINIMUM_SAMPLES.items() if q > 50)
"""Requests that must be slower than a percentile for it to mean anything, as stats.MINIMUM_SAMPLES has it."""
TOLD = (0.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 99.99)
"""Percentiles that have a mark and a row."""
WORDS = {1: "better", 0: "unclear", -1: "worse"}


def timed(run: Run) -> bool:
    """Whether there is anything to draw."""
    return run["blocks"] is not None


def blocks_of(run: Run) -> Blocks:
    """The blocks of a run that has some."""
    assert run["blocks"] is not None, "nothing was timed"
    return run["blocks"]


# Speed-ups


def speedups(rows: Sequence[tuple[str, Comparison]], title: str) -> Element:
    """An interval for each labelled comparison, with the noise behind it."""
    bounds = [end for _, comparison in rows for end in (comparison["low"], comparison["high"])]
    noise = [1 + comparison["noise"] for _, comparison in rows]
    axis = logarithmic(
        "slower ← times as good as the baseline → better", [1.0, *bounds, *noise, *(1 / n for n in noise)]
    )
    shown = []
    for label, comparison in rows:
        value = str(interval(comparison))
        told = f"{label}: {value}, noise {comparison['noise']:.1%}"
        line = node("p", node("span", label), node("span", value, class_="value"), class_="row")
        kind = WORDS[comparison["outcome"]]
        shown += [
            line,
            strip(
                axis,
                comparison["low"],
                comparison["ratio"],
                comparison["high"],
                comparison["noise"],
                told,
                kind,
            ),
        ]
    explained = (
        "Dots are ratios, whiskers their 95 % confidence intervals, on a logarithmic scale. The grey band is "
        "the difference of the baseline from itself: an interval that reaches into it proves nothing."
    )
    caption = node("figcaption", node("h3", title), node("p", explained))
    return node("figure", caption, *shown, ruler(axis), class_="speedups")


def speedups_of(run: Run) -> Element | None:
    """All figures of one comparison; None where nothing was compared."""
    compared = run["verdict"]["comparisons"] if run["verdict"] else {}
    rows = [(figure, comparison) for figure, comparison in compared.items() if comparison is not None]
    return speedups(rows, "Speed-up, figure by figure") if rows else None


def speedups_of_all(content: Result) -> Element | None:
    """The deciding figure of every comparison; None where there are fewer than two."""
    rows = [
        (run_name(run, content), one)
        for run in content["runs"]
        if run["verdict"] and (one := run["verdict"]["comparisons"].get(P50))
    ]
    return speedups(rows, "Speed-up at p50") if len(rows) > 1 else None


# Latencies


def latencies(run: Run) -> Element:
    """The distribution of every side's latencies, on a tail that grows longer by tenths."""
    sides = sides_of(run)
    counts = [measured_of(side)["requests"] for side in sides]
    x = tail("percent of requests answered within this time", max(counts))
    series, columns = [], []
    for side, name, kind, count in zip(sides, _names(sides), _kinds(sides), counts, strict=True):
        known = [q for q in TOLD if q / 100 <= 1 - 1 / count]
        end = x.scale(1 - 1 / max(count, 2))
        shares = [1 - 10 ** (-end * step / STEPS) for step in range(STEPS + 1)]
        histogram = Histogram.decode(measured_of(side)["histogram"])
        percents = [*(100 * share for share in shares), *known]
        times = [1000 * seconds for seconds in histogram.percentiles(percents)]
        line = list(zip(shares, times, strict=False))
        means = [point for point in line if count * (1 - point[0]) >= SEEN - 1e-6]
        points = [
            Point(q / 100, ms, f"{name}: {_percentile(q)} {ms:.3g} ms")
            for q, ms in zip(known, times[len(shares) :], strict=True)
        ]
        series.append(Series(name, kind, points, means, line[max(len(means) - 1, 0) :], _mark(kind)))
        columns.append({q: point.y for q, point in zip(known, points, strict=True)})
    y = logarithmic("latency, ms", [ms for one in series for _, ms in (*one.line, *one.faint)])
    explained = (
        "The time within which a share of the requests was answered, on a logarithmic scale. The "
        "slowest tenth has as much room as all others, its slowest tenth as much again, and so on. Dotted "
        f"where fewer than {math.ceil(SEEN)} requests took longer: chance decides there. Failed requests are "
        "not in it."
    )
    rows = [
        [_percentile(q), *(milliseconds(c[q] / 1000) if q in c else "-" for c in columns)]
        for q in TOLD
        if any(q in c for c in columns)
    ]
    heading = ["percentile", *(f"{one.name}, ms" for one in series)]
    chart = Chart("Latency distribution", explained, x, y, series)
    return chart.figure(table(heading, rows, "Latency distribution"))


def _percentile(q: float) -> str:
    return f"p{q:g}" if q else "fastest"


# In time

DISTURBED = f"disturbed: others used {BUSY:.0%} of the CPUs, or the server waited for {BUSY:.0%} of its time"


def ratios_in_time(run: Run) -> Element:
    """Every round's speed-up, that of the baseline over itself, and the noise as a band."""
    verdict = verdict_of(run)
    starts = blocks_of(run)["start"]
    rounds = verdict["rounds"]
    begun = [starts[len(starts) // rounds * number] for number in range(rounds)]
    baseline, candidate = (side["name"] for side in sides_of(run))
    p50 = verdict["comparisons"][P50]
    assert p50 is not None, "rounds have enough requests for their p50"
    series = [
        _in_time(f"{candidate} against {baseline}", "candidate", begun, verdict["round_ratios"], "x", 0),
        _in_time(f"{baseline} against itself", "control", begun, verdict["control_ratios"], "x", 1),
    ]
    noise = 1 + p50["noise"]
    bands = [
        Band(f"the machine's own noise, {p50['noise']:.1%}", "noise", 1 / noise, noise),
        Band("95 % interval of the speed-up", "interval", p50["low"], p50["high"]),
    ]
    y = logarithmic(
        "ratio of p50s", [*_heights(series), *(end for band in bands for end in (band.low, band.high))]
    )
    explained = "The ratio of the p50s of every round, in the order in which they were measured."
    explained += _joined(series)
    chart = Chart("Rounds in time", explained, _time(begun), y, series, bands, [1.0])
    return chart.figure(_points_table(series, "seconds", ("ratio",)))


def blocks_in_time(run: Run) -> Element:
    """The p50 of every block."""
    blocks, sides = blocks_of(run), sides_of(run)
    compared = BASELINE in blocks["label"]
    names = _names(sides)
    drawn: list[tuple[str, Sequence[str], str, int]] = [("candidate", NEW, names[-1], 0)]
    if compared:
        drawn.insert(0, ("baseline", (BASELINE,), names[0], 1))
        drawn.insert(1, ("control", (CONTROL,), f"{sides[0]['name']} again (control)", 1))
    series = []
    for kind, booked, name, mark in drawn:
        taken = [number for number, label in enumerate(blocks["label"]) if label in booked]
        starts, values = [blocks["start"][n] for n in taken], [1000 * blocks["p50"][n] for n in taken]
        series.append(_in_time(name, kind, starts, values, "ms", mark))
    explained = "The p50 of every block of requests, in the order in which they were sent."
    if compared:
        explained += " Slopes and steps that both share come from the machine, and do not change the ratio."
    explained += _joined(series)
    y = logarithmic("p50, ms", _heights(series))
    parts = _disturbed(blocks)
    stretches = [Stretch(DISTURBED, "disturbed", parts)] if parts else []
    chart = Chart("Blocks in time", explained, _time(blocks["start"]), y, series, stretches=stretches)
    return chart.figure(_points_table(series, "seconds", ("ms",)))


def _disturbed(blocks: Blocks) -> list[tuple[float, float]]:
    """From when to when disturbed blocks were sent, without a block between that was not disturbed."""
    parts: list[tuple[float, float]] = []
    starts = blocks["start"]
    ends = [*starts[1:], starts[-1]]
    # Results from before this was looked at do not have the key.
    for begin, end, is_disturbed in zip(starts, ends, blocks.get("disturbed", []), strict=False):
        if not is_disturbed:
            continue
        if parts and parts[-1][1] == begin:
            begin = parts.pop()[0]
        parts.append((begin, end))
    return parts


def others_in_time(run: Run) -> Element | None:
    """How much of the CPUs other programs used while each block was sent; None if that is not known."""
    blocks = blocks_of(run)
    # Results from before this was looked at do not have the key.
    shares = [
        (start, 100 * share)
        for start, share in zip(blocks["start"], blocks.get("others", []), strict=False)
        if share is not None
    ]
    if not shares:
        return None
    starts, values = [start for start, _ in shares], [share for _, share in shares]
    series = [_in_time("other programs", "control", starts, values, "% of the CPUs", 1)]
    explained = (
        "The share of all CPUs that programs used which are neither servers nor client. Blocks that were "
    )
    explained += (
        "sent while it was high are in the figures too: what it does to them shows in the charts above."
    )
    explained += _joined(series)
    y = linear("% of the CPUs", max(*values, 10.0))
    chart = Chart("Other programs in time", explained, _time(blocks["start"]), y, series)
    return chart.figure(_points_table(series, "seconds", ("%",)))


def _in_time(
    name: str, kind: str, starts: Sequence[float], values: Sequence[float], unit: str, mark: int
) -> Series:
    """Marks at the times when they began; where there would be too many, one for several in a row."""
    width = -(-len(values) // MOST)
    points = []
    for first in range(0, len(values), width):
        some = values[first : first + width]
        middle, start = median(some), starts[first]
        told = f"{name}: {middle:.4g} {unit} at {start:.1f} s"
        if len(some) > 1:
            told += f", the median of {len(some)}, from {min(some):.4g} to {max(some):.4g}"
            points.append(Point(start, middle, told, min(some), max(some)))
        else:
            points.append(Point(start, middle, told))
    return Series(name, kind, points, mark=mark)


def _joined(series: Sequence[Series]) -> str:
    """What a whisker is, if there are any."""
    if not any(point.low is not None for curve in series for point in curve.points):
        return ""
    return " A mark is the median of several in a row, its whisker reaches from their least to their most."


def _heights(series: Sequence[Series]) -> Iterator[float]:
    for curve in series:
        for point in curve.points:
            yield from (point.y, point.low or point.y, point.high or point.y)


def _time(starts: Sequence[float]) -> Axis:
    return linear("seconds since the first block", max(starts), rounded=False)


def _points_table(series: Sequence[Series], x: str, y: Sequence[str]) -> Element:
    rows = [
        [curve.name, f"{point.x:.2f}", f"{point.y:.4g}"]
        for curve in series
        for point in curve.points
    ]  # fmt: skip
    return table(["what", x, *y], rows, "The marks of this chart")


# Against connections


def sweep(content: Result, figure: str) -> Element | None:
    """A figure ("rate" or "p50") of every contestant against connections; None where they were not swept."""
    runs = [run for run in content["runs"] if timed(run)]
    counts = sorted({run["connections"] for run in runs})
    if not is_swept(content) or len(counts) < 2:
        return None
    values: dict[tuple[str, str], dict[int, float]] = {}
    for run in runs:
        sides = sides_of(run)
        for side, kind in zip(sides, _kinds(sides), strict=True):
            # As in the table, the baseline's first measurement represents the others.
            measured = measured_of(side)
            value = measured["rate"] if figure == "rate" else measured["p50"]
            assert value is not None, "runs have enough requests for their p50"
            values.setdefault((kind, side["name"]), {}).setdefault(run["connections"], value)
    scale, unit = (1, "requests/s") if figure == "rate" else (1000, "ms")
    series = []
    several = 0
    for (kind, name), by_connections in values.items():
        several += kind == "candidate"
        points = [
            Point(n, scale * value, f"{name}: {scale * value:.4g} {unit} over {n} connections")
            for n, value in sorted(by_connections.items())
        ]
        shown = kind if kind == "baseline" or several == 1 else f"candidate-{(several - 2) % 4 + 2}"
        line = [(point.x, point.y) for point in points]
        mark = 1 if kind == "baseline" else (0, 2, 3)[(several - 1) % 3]
        series.append(Series(f"{name} ({kind})" if len(values) > 1 else name, shown, points, line, mark=mark))
    heights = [point.y for one in series for point in one.points]
    if figure == "rate":
        title, y = "Throughput against connections", linear("requests/s", max(heights))
        explained = "Requests per second that succeeded, by the number of requests in flight."
    else:
        title, y = "Latency against connections", logarithmic("p50, ms", heights)
        explained = "The p50 by the number of requests in flight, on a logarithmic scale."
    chart = Chart(title, explained, chosen("connections (logarithmic)", counts), y, series)
    rows = [[one.name, *(_cell(one, n) for n in counts)] for one in series]
    return chart.figure(table(["connections", *map(str, counts)], rows, f"{title}, {unit}"))


def _cell(series: Series, connections: int) -> str:
    return next((f"{point.y:.4g}" for point in series.points if point.x == connections), "-")


# Names and kinds


def _kinds(sides: Sequence[Side]) -> Sequence[str]:
    return KINDS[-len(sides) :]


def _names(sides: Sequence[Side]) -> list[str]:
    """What each is called in a legend: with its part in the comparison, for both may have one name."""
    if len(sides) == 1:
        return [sides[0]["name"]]
    return [f"{side['name']} ({kind})" for side, kind in zip(sides, KINDS, strict=True)]


def _mark(kind: str) -> int:
    """Of plots.MARKS: the baseline's is a square in every chart."""
    return 1 if kind == "baseline" else 0

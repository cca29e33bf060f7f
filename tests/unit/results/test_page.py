"""tasks.lib.page: what report.html says; that a browser draws it is seen in tests/integration."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.measure.histogram import Histogram
from tasks.lib.measure.rounds import Timeline
from tasks.lib.measure.verdict import BASELINE, CANDIDATE, CONTROL, TWIN
from tasks.lib.measure.watch import Disturbance, Span
from tasks.lib.results import record, words
from tasks.lib.results.page import document, figures, manifest, scales
from tasks.lib.results.page.markup import node, text_of
from tasks.lib.results.page.scales import Axis
from tasks.lib.results.record import LeftOut
from tests.helpers.records import (
    ALONE,
    COMPARED,
    DONE,
    FAST,
    NOT_COMPARABLE,
    OPTIMIZED,
    PLAN,
    SLOW,
    STOCK,
    saved,
)

EVIL = """</title><script>alert("x")</script>'&amp;<img src=http://x/y>"""


class Reader(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def read(*done: record.Record) -> Reader:
    return Reader(document.render(saved(*done)))


def charts(page: Reader) -> list[str]:
    """The titles of the drawings."""
    labels = (one["aria-label"] for one in page.all("svg") if one.get("role") == "img")
    return [label.partition(".")[0] for label in labels if label and not re.match(r".*: \d", label)]


def over(connections: int, **more: Any) -> record.Record:
    plan = replace(PLAN, connections=connections, **more)
    return replace(DONE, plan=plan, verdict=replace(COMPARED, plan=plan))


# The page as a whole


def test_a_comparison_has_its_sentence_its_table_and_its_charts() -> None:
    page = read(DONE)
    content = saved(DONE)
    assert content["runs"][0]["sentence"] in page.texts
    assert words.head(content) in page.texts
    for row in words.rows(content):
        assert {str(value) for value in row.values()} <= set(page.texts)
    for note in words.notes(content):
        assert note in page.texts
    assert charts(page) == ["Latency distribution", "Rounds in time", "Blocks in time"]


def test_what_other_programs_used_is_drawn_where_it_is_known() -> None:
    spans = (
        Span(0.0, 2.0, 0.05, 0.0, {BASELINE: 0.2, CANDIDATE: 0.04}, {BASELINE: 3, CANDIDATE: 1}),
        Span(2.0, 1.0, 0.5, 0.01, {}),
        Span(3.0, 9.0, 0.05, 0.0, {}),
    )
    seen = Disturbance(0.16, 0.0, {}, spans)
    done = replace(DONE, verdict=replace(COMPARED, disturbance=seen))
    page = read(done)
    assert charts(page)[-1] == "Other programs in time"
    (block,) = (
        run["blocks"] for run in saved(replace(DONE, verdict=replace(COMPARED, disturbance=seen)))["runs"]
    )
    # A block begins every half second.
    assert block["others"][:8] == [0.05] * 4 + [0.5] * 2 + [0.05] * 2
    assert block["stolen"][:8] == [0.0] * 4 + [0.01] * 2 + [0.0] * 2
    assert block["label"][:4] == [BASELINE, CONTROL, CANDIDATE, TWIN]
    assert block["waited"][:6] == [0.2, 0.2, 0.04, 0.04, None, None]
    assert block["migrations"][:6] == [3, 3, 1, 1, None, None]
    assert block["disturbed"][:8] == [True, True, False, False, True, True, False, False]
    drawn = [one for one in page.all("rect") if one.get("class") == "band disturbed"]
    assert len(drawn) == 1 + 2, "one in the legend; blocks in a row are one stretch"
    assert "band disturbed" not in {one.get("class") for one in read(DONE).all("rect")}
    unknown = replace(COMPARED, disturbance=Disturbance(None, 0.0, {}, (Span(0.0, 9.0, None, 0.0, {}),)))
    assert "Other programs in time" not in charts(read(replace(DONE, verdict=unknown)))


def test_a_sweep_has_a_chart_against_connections_and_one_section_a_run() -> None:
    page = read(over(1), over(4))
    assert charts(page) == [
        "Throughput against connections", "Latency against connections",
        *(["Latency distribution", "Rounds in time", "Blocks in time"] * 2),
    ]  # fmt: skip
    assert {"optimized over 1 connection", "optimized over 4 connections"} <= set(page.texts)
    links = [one["href"] for one in page.all("a")]
    assert links == ["#run-1", "#run-2"]
    assert [f"#{one['id']}" for one in page.all("section") if "id" in one] == links


def test_several_candidates_share_an_overview() -> None:
    other = replace(COMPARED, candidate=replace(OPTIMIZED, name="another"))
    page = read(DONE, replace(DONE, verdict=other))
    assert "Speed-up at p50" in page.texts
    assert "Speed-up at p50" not in read(DONE).texts
    assert not any("against connections" in title for title in charts(page))


def test_in_open_loop_connections_are_no_sweep() -> None:
    assert not any("against connections" in title for title in charts(read(over(64, rate=20.0))))


def test_one_alone_is_drawn_alone() -> None:
    blocks = Timeline(("candidate",) * 4, (0.0, 0.1, 0.2, 0.3), (0.013,) * 4, (75.0,) * 4)
    assert ALONE.alone is not None
    page = read(replace(ALONE, alone=replace(ALONE.alone, timeline=blocks)))
    assert charts(page) == ["Latency distribution", "Blocks in time"]
    assert "13.0 ms" in page.texts
    assert not any("(baseline)" in text or "(candidate)" in text for text in page.texts)


def test_what_was_left_out_is_said_on_the_page() -> None:
    page = read(replace(ALONE, left_out=(LeftOut("stock", "It does not gain."),)))
    assert "stock was left out: It does not gain." in page.texts
    assert "left_out.0.reason" in page.texts


def test_what_is_not_comparable_has_no_charts_and_says_why() -> None:
    page = read(NOT_COMPARABLE)
    assert charts(page) == []
    assert "optimized and stock are not comparable: 3 of 12 answers have another top-1 in 'p'." in page.texts
    assert "agreement.same" in page.texts


# Nothing of it runs or is fetched


def test_names_are_text_whatever_they_hold() -> None:
    wild = replace(COMPARED, candidate=replace(OPTIMIZED, name=EVIL, urls=(EVIL,)))
    page = read(replace(DONE, verdict=wild, command=EVIL))
    assert page.all("script") == page.all("img") == []
    assert page.texts.count(EVIL) >= 3  # the table, the command, the manifest
    assert any(text.startswith(f"{EVIL} is faster than stock") for text in page.texts)


def test_nothing_outside_is_asked_for() -> None:
    page = read(DONE, over(4))
    for _, attributes in page.tags:
        assert not {"src", "srcset", "style", "onclick", "onload"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    style = document.STYLE.read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert style in page.texts, "or its digest would not be that of the style element"
    assert "url(" not in style
    assert "@import" not in style


# What HTML cannot say at all: control characters, and halves of characters.
texts = st.text(st.characters(exclude_categories=["Cc", "Cs"], include_characters="\n\t"))


@given(texts, texts)
def test_any_text_is_read_as_it_was_written(inside: str, attribute: str) -> None:
    page = Reader(text_of(node("html", node("p", "a", node("b", inside), inside, title=attribute))))
    assert "".join(page.texts[1:-1]) == f"a{inside}{inside}"
    assert page.all("p") == [{"title": attribute}]


def test_contrast_is_that_of_readable_text_in_light_and_in_dark() -> None:
    """WCAG 2.2: 4.5 for text (1.4.3), 3 for what is drawn (1.4.11)."""
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", document.STYLE.read_text(), re.DOTALL)[:2]
    for block in (light, dark):
        colours = dict(re.findall(r"--([\w-]+): #([0-9a-f]{6})", block))
        for name in ("ink", "quiet", "candidate", "worse", "spoilt", "unclear"):
            assert min(contrast(colours[name], colours[on]) for on in ("paper", "wash")) >= 4.5, name
        for name in ("baseline", "second", "third", "fourth", "fifth"):
            assert contrast(colours[name], colours["paper"]) >= 3, name


def contrast(one: str, other: str) -> float:
    """Of two colours, as https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio has it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# Charts


def test_a_distribution_goes_through_the_percentiles_of_its_histogram() -> None:
    text = document.render(saved(DONE))
    for name, measured in (("stock (baseline)", SLOW), ("optimized (candidate)", FAST)):
        for q in (50, 90, 99):
            (seconds,) = Histogram.decode(measured.histogram).percentiles([q])
            assert f"{name}: p{q} {1000 * seconds:.3g} ms" in text
    assert "p99.9 " not in text, "of 672 requests none is the slowest of a thousand"


def test_marks_are_joined_where_there_would_be_too_many() -> None:
    many = 2000
    labels = ("baseline", "control", "candidate", "twin", "twin", "candidate", "control", "baseline") * many
    starts = tuple(number / 100 for number in range(len(labels)))
    blocks = Timeline(
        labels, starts, tuple(0.01 + number % 7 / 1000 for number in range(len(labels))), starts
    )
    done = replace(
        COMPARED, timeline=blocks, round_ratios=(2.0, 2.5) * (many // 2), control_ratios=(1.0,) * many
    )
    text = document.render(saved(replace(DONE, verdict=done)))
    assert "A mark is the median of several in a row" in text
    assert len(text) < 1 << 20
    assert text.count('class="mark control"') <= 2 * (figures.MOST + 1)
    assert "against stock: 2.25 x at 0.0 s, the median of 10, from 2 to 2.5" in text


def test_every_key_that_is_not_drawn_is_told() -> None:
    content = saved(DONE)
    content["machine"]["governor"] = None
    content["weather"] = {"degrees": [[0, 1], [2]], "sky": {"clear": True}}
    page = Reader(document.render(content))
    assert {"governor", "weather", "degrees", "0, 1; 2", "sky.clear", "yes"} <= set(page.texts)
    for key in ("origin.content_sha256", "measured.requests", "plan", "seed", "tensorflow"):
        assert key in page.texts
    told = dict(manifest.flat(content["runs"][0]["verdict"]["candidate"]))
    assert "measured.histogram" not in told
    assert told["urls"] == OPTIMIZED.urls[0]
    assert STOCK.urls[0] in page.texts


def test_runs_of_repeat_are_told_with_those_before() -> None:
    earlier = record.content([DONE])["repetitions"]
    page = Reader(document.render(record.content([DONE], earlier)))
    assert "With the runs before it" in page.texts
    assert any(text.startswith("optimized against stock: faster in 2 of 2 runs") for text in page.texts)
    assert "With the runs before it" not in read(DONE).texts


# Axes


positive = st.floats(1e-4, 1e6)


def well_made(axis: Axis, fewest: int, unit: float = 1) -> None:
    at = [axis.at(value) for value, _ in axis.ticks]
    assert len(at) >= fewest
    assert at == sorted(set(at))
    assert at[0] >= -1e-9
    assert at[-1] <= 1 + 1e-9
    assert len({text for _, text in axis.ticks}) == len(axis.ticks)
    for value, text in axis.ticks:
        assert float(text) == pytest.approx(value * unit, rel=1e-4, abs=1e-12)


@given(st.lists(positive, min_size=1))
def test_a_logarithmic_axis_holds_all_values_and_some_ticks(values: list[float]) -> None:
    axis = scales.logarithmic("ms", values)
    assert all(0 < axis.at(value) < 1 for value in values)
    well_made(axis, fewest=2)
    at = [axis.at(value) for value, _ in axis.ticks]
    assert all(b - a >= scales.CLOSEST - 1e-9 for a, b in pairwise(at))


@given(positive, st.booleans())
def test_a_linear_axis_begins_at_nothing_and_holds_the_largest(high: float, rounded: bool) -> None:
    axis = scales.linear("s", high, rounded)
    assert axis.at(0) == 0
    assert 0 < axis.at(high) <= 1 + 1e-9
    well_made(axis, fewest=3)


@given(st.integers(1, 10**7))
def test_a_tail_ends_at_the_slowest_request(count: int) -> None:
    axis = scales.tail("percent", count)
    well_made(axis, fewest=2, unit=100)
    if count > 1:
        assert axis.at(1 - 1 / count) == pytest.approx(1)
    if count >= 1000:
        at = {text: axis.at(share) for share, text in axis.ticks}
        assert at["99"] == pytest.approx(2 * at["90"])
        assert at["99.9"] == pytest.approx(3 * at["90"])


@given(st.sets(st.integers(1, 1000), min_size=2))
def test_an_axis_of_what_was_measured_has_no_other_ticks(counts: set[int]) -> None:
    axis = scales.chosen("connections", sorted(counts))
    assert {value for value, _ in axis.ticks} <= counts
    assert all(0 < axis.at(count) < 1 for count in counts)

"""report.html: a result as a page that needs nothing else, made from result.json's content alone."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from tasks.lib.measure.verdict import P50
from tasks.lib.results import repeatability, words
from tasks.lib.results.page import figures, manifest
from tasks.lib.results.page.markup import add, node, table, text_of
from tasks.lib.results.schema import Repetition, Result, Run

TIMES = "\N{MULTIPLICATION SIGN}"
STYLE = Path(__file__).with_name("style.css")


def render(content: Result) -> str:
    """The whole page of what record.content made."""
    style = STYLE.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    title = _title(content)
    head = node(
        "head",
        node("meta", charset="utf-8"),
        node("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # Nothing is fetched and nothing runs, whatever a name or an address in here may hold.
        node(
            "meta",
            http_equiv="Content-Security-Policy",
            content=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        ),
        node("meta", name="color-scheme", content="light dark"),
        node("meta", name="referrer", content="no-referrer"),
        node("title", title),
        node("style", style),
    )
    body = node("body", node("main", *_page(content, title)))
    return text_of(node("html", head, body, lang="en"))


def _page(content: Result, title: str) -> Iterator[Element]:
    runs = content["runs"]
    yield node(
        "header",
        node("h1", title),
        node("p", words.head(content), class_="head"),
        node("p", node("code", content["command"]), " · ", _when(content["time"]), class_="command"),
    )
    # Of a single run, that is all its notes.
    several, common = len(runs) > 1, words.common_notes(content)
    yield node(
        "section",
        *(_outcome(run, f"#run-{number}" if several else None) for number, run in enumerate(runs, 1)),
        class_="outcomes many" if len(runs) > 2 else "outcomes",
        aria_label="Outcome",
    )
    yield node("section", node("h2", "Figures"), *_figures(content, common))
    repetitions = content.get("repetitions", [])
    if repeatability.is_repeated(repetitions):
        yield node("section", node("h2", "With the runs before it"), *_repeated(repetitions))
    for number, run in enumerate(runs, 1):
        heading = node("h2", words.run_name(run, content) if several else "Charts")
        notes = [_listed([note for note in run["notes"] if note not in common])] if several else []
        if several or figures.timed(run):
            yield node("section", heading, *notes, *_charts(run), id=f"run-{number}")
    details = [node("div", *manifest.tables_of(run, content), class_="tables") for run in runs]
    if several:
        names = [node("summary", words.run_name(run, content)) for run in runs]
        details = [node("details", *both, class_="run") for both in zip(names, details, strict=True)]
    yield node(
        "section",
        node("h2", "How it was measured"),
        node(
            "p",
            "Keys are those of result.json next to this page; times in seconds, sizes in bytes.",
            class_="quiet",
        ),
        node("div", *manifest.tables(content), class_="tables"),
        *details,
    )


def _title(content: Result) -> str:
    runs = content["runs"]
    models = " and ".join(dict.fromkeys(side["model"] for run in runs for side in words.sides_of(run)))
    candidates = ", ".join(dict.fromkeys(words.sides_of(run)[-1]["name"] for run in runs))
    if runs[0]["verdict"] is None:
        return f"{models}: {candidates} alone"
    return f"{models}: {candidates} against {words.sides_of(runs[0])[0]['name']}"


def _when(time: str) -> str:
    return time.replace("T", " ").replace("+00:00", " UTC")


def _outcome(run: Run, link: str | None) -> Element:
    """The sentence, and its figure in large; `link` leads to its charts."""
    verdict = run["verdict"]
    p50 = None if verdict is None else verdict["comparisons"].get(P50)
    if verdict is None:
        [alone] = words.sides_of(run)
        shown, kind = f"{words.milliseconds(words.measured_of(alone)['p50'])} ms", "unclear"
    elif verdict["problem"] is not None or p50 is None:
        shown, kind = "≠", "spoilt"
    else:
        shown, kind = f"{p50['ratio']:.{words.interval(p50).digits}f}{TIMES}", figures.WORDS[p50["outcome"]]
        if kind == "unclear":
            shown = f"≈ {shown}"
    sentence = node("span", run["sentence"])
    if link is not None and figures.timed(run):
        add(sentence, " ", node("a", "Charts", href=link))
    return node(
        "p", node("strong", shown, class_="figure", aria_hidden="true"), sentence, class_=f"outcome {kind}"
    )


def _figures(content: Result, notes: list[str]) -> Iterator[Element]:
    rows = words.rows(content)
    heading = list(rows[0])
    cells = [["-" if row[key] is None else str(row[key]) for key in heading] for row in rows]
    yield table(heading, cells, "What was measured", numbers_from=3)
    yield _listed(notes)
    overview = (
        figures.sweep(content, "rate"),
        figures.sweep(content, "p50"),
        figures.speedups_of_all(content),
    )
    yield from _in_columns([one for one in overview if one is not None])


def _repeated(repetitions: list[Repetition]) -> Iterator[Element]:
    rows = [[str(cell) for cell in row.values()] for row in repeatability.rows(repetitions)]
    yield table(list(repeatability.COLUMNS), rows, "Each run of --repeat until this one", numbers_from=2)
    yield _listed(list(repeatability.sentences(repetitions)))


def _charts(run: Run) -> Iterator[Element]:
    if not figures.timed(run):
        return
    speedups = figures.speedups_of(run)
    drawn = [] if speedups is None else [speedups]
    drawn.append(figures.latencies(run))
    if run["verdict"] is not None:
        drawn.append(figures.ratios_in_time(run))
    drawn.append(figures.blocks_in_time(run))
    others = figures.others_in_time(run)
    if others is not None:
        drawn.append(others)
    yield from _in_columns(drawn)


def _in_columns(drawn: list[Element]) -> Iterator[Element]:
    if drawn:
        yield node("div", *drawn, class_="charts")


def _listed(notes: list[str]) -> Element:
    return node("ul", *(node("li", note) for note in notes), class_="notes")

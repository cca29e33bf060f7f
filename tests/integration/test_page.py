"""report.html in a real browser: do the charts draw, does everything fit, and is nothing fetched?"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from tests.integration import synthetic
from tests.integration.conftest import Suite

WIDE, NARROW = 1400, 360
PAPER = 718
"""A4 without a centimetre at each side, in pixels of a 96th of an inch."""
FLAGS = (
    *("--headless=new", "--no-first-run", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--disable-quic"),
    "--no-sandbox",  # root, as which CI runs, has none
)
PARTS = """
const box = (one) => { const b = one.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
const all = (root, what) => [...root.querySelectorAll(what)];
return {
  width: document.documentElement.scrollWidth,
  window: document.documentElement.clientWidth,
  background: getComputedStyle(document.body).backgroundColor,
  charts: all(document, "svg[role=img]").map((svg) => ({
    name: svg.getAttribute("aria-label"),
    box: box(svg),
    lines: all(svg, ".lines > path").map((path) => {
      const b = path.getBBox();
      return {box: [b.x, b.y, b.x + b.width, b.y + b.height], length: path.getTotalLength()};
    }),
    marks: all(svg, ".mark").map(box),
    intervals: all(svg, ".interval:not(.band)").map(box),
    across: all(svg, "text.x").map(box),
    down: all(svg, "text.y").map(box),
    texts: all(svg, "text").map(box),
  })),
  outside: all(document, "h1, h2, h3, p, li, figure, summary").filter(
    (one) => one.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5
  ).map((one) => one.textContent),
};
"""
"""What a reader would see, in pixels; a line's box in the units of its own view box, 0 to 1000."""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no browser to look with: install chromium and chromium-driver")
    options = ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")  # the driver is local, whatever the proxy is
        running = Chrome(options=options, service=Service(driver))
        yield running
        running.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """report.html of several benchmarks, as the command leaves it."""
    folder = tmp_path_factory.mktemp("pages")

    def benchmark(name: str, *words: str, code: int = 0) -> Path:
        Suite(folder / name).run("benchmark", *words, code=code)
        (page,) = (folder / name / "results").glob("*/report.html")
        return page

    with (
        synthetic.running(2.0) as slow,
        synthetic.running(1.0) as fast,
        synthetic.running(0.5, "--drop=20") as dropping,
    ):
        against = ("--baseline", slow, "--candidate")
        return {
            "one": benchmark("one", *against, fast),
            "sweep": benchmark("sweep", *against, fast, "--candidate", slow, "--connections", "1,2,4"),
            "open": benchmark("open", *against, fast, "--rate", "200"),
            "spoilt": benchmark("spoilt", *against, dropping, code=3),
            "alone": benchmark("alone", "--alone", "--candidate", fast),
        }


def look(
    browser: Chrome, page: Path, width: int, scheme: str = "light", medium: str = "screen"
) -> dict[str, Any]:
    """Open a page in a window of so many pixels and tell what is there; nothing may be amiss on the way."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    media = {"media": medium, "features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get_log("performance")  # forgets what was before
    browser.get(page.as_uri())
    seen: dict[str, Any] = browser.execute_script(PARTS)
    assert browser.get_log("browser") == []
    assert requested(browser) == [page.as_uri()]
    return seen


def requested(browser: Chrome) -> list[str]:
    """What the browser has asked for, whether it got it or not."""
    events = (json.loads(entry["message"])["message"] for entry in browser.get_log("performance"))
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


def overlapping(boxes: list[list[float]], axis: int) -> list[tuple[list[float], list[float]]]:
    """Neighbours that cover each other, along x (0) or y (1)."""
    ordered = sorted(boxes, key=lambda box: box[axis])
    return [(a, b) for a, b in pairwise(ordered) if a[axis + 2] > b[axis]]


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("name", ["one", "sweep", "open", "spoilt", "alone"])
def test_every_chart_has_drawn_and_fits(
    browser: Chrome, pages: dict[str, Path], name: str, width: int
) -> None:
    seen = look(browser, pages[name], width)
    window = seen["window"]
    assert width - 20 <= window <= width  # there may be a scroll bar
    assert seen["width"] <= window, "nothing sticks out to the side"
    assert seen["outside"] == []
    for chart in seen["charts"]:
        left, top, right, bottom = chart["box"]
        assert 200 < right - left < window, chart["name"]
        assert bottom - top >= 20, chart["name"]
        assert chart["marks"], chart["name"]
        for x0, y0, x1, y1 in chart["marks"]:
            assert left - 1 <= (x0 + x1) / 2 <= right + 1, chart["name"]
            assert top - 1 <= (y0 + y1) / 2 <= bottom + 1, chart["name"]
            assert x1 - x0 > 4, "it is not stretched away"
        for x0, _, x1, _ in chart["intervals"]:
            assert left - 1 <= x0 <= x1 <= right + 1, chart["name"]
        for line in chart["lines"]:
            assert line["length"] > 0, chart["name"]
            assert all(-1 <= end <= 1001 for end in line["box"]), chart["name"]
        assert all(x0 >= 0 and x1 <= window for x0, _, x1, _ in chart["texts"]), chart["name"]
        assert overlapping(chart["across"], 0) == [], chart["name"]
        assert overlapping(chart["down"], 1) == [], chart["name"]
    named = {chart["name"].partition(".")[0] for chart in seen["charts"]}
    assert {"Latency distribution", "Blocks in time"} <= named
    assert ("Rounds in time" in named) == (name != "alone")
    assert ("Throughput against connections" in named) == (name == "sweep")
    for chart in seen["charts"]:
        if chart["name"].startswith(("Latency", "Throughput")):
            assert len(chart["lines"]) >= 1, chart["name"]


def test_it_is_dark_where_that_is_preferred(browser: Chrome, pages: dict[str, Path]) -> None:
    light, dark = (look(browser, pages["one"], WIDE, scheme)["background"] for scheme in ("light", "dark"))
    assert light == "rgb(255, 255, 255)"
    assert dark == "rgb(17, 22, 29)"


@pytest.mark.parametrize("name", ["one", "sweep"])
def test_it_fits_on_paper(browser: Chrome, pages: dict[str, Path], name: str) -> None:
    seen = look(browser, pages[name], PAPER, "dark", "print")
    assert seen["width"] <= seen["window"]
    assert seen["background"] == "rgb(255, 255, 255)", "whatever the screen is like"


def test_the_browser_would_see_what_is_amiss(browser: Chrome, pages: dict[str, Path], tmp_path: Path) -> None:
    """So that an empty console and no request mean something: this page has both, and sticks out."""
    bad = tmp_path / "bad.html"
    page = pages["one"].read_text()
    page = page.replace("<main>", f'<main><pre>{"wide" * 500}</pre><script src="other.js"></script>')
    bad.write_text(page)
    with pytest.raises(AssertionError, match="has been blocked"):
        look(browser, bad, NARROW)
    bad.write_text(page.replace("Content-Security-Policy", "none"))
    browser.get_log("performance")
    browser.get(bad.as_uri())
    assert requested(browser) == [bad.as_uri(), (tmp_path / "other.js").as_uri()]
    assert browser.execute_script(PARTS)["width"] > 5000
    assert browser.get_log("browser") != []

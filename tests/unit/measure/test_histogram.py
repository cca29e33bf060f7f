"""tasks.lib.measure.histogram: percentiles against numpy's, and the way to text and back."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.lib.measure.histogram import LONGEST, Histogram

WANTED = [0, 1, 50, 90, 99, 99.9, 100]


def recorded(*latencies: float) -> Histogram:
    histogram = Histogram()
    histogram.record(np.array(latencies))
    return histogram


@pytest.mark.parametrize("typical", [0.0002, 0.01, 5.0])
def test_percentiles_are_right_to_three_digits(typical: float) -> None:
    latencies = np.random.default_rng(1).lognormal(np.log(typical), 0.5, 20_001)
    histogram = Histogram()
    for block in np.array_split(latencies, 7):
        histogram.record(block)
    assert len(histogram) == 20_001
    # Without interpolation, for a histogram can only give a value that it holds.
    exact = np.percentile(latencies, WANTED, method="nearest")
    np.testing.assert_allclose(histogram.percentiles(WANTED), exact, rtol=2e-3, atol=1e-6)


def test_percentiles_come_in_the_order_they_are_asked_for() -> None:
    histogram = recorded(0.001, 0.002, 0.003)
    assert histogram.percentiles([100, 0, 50, 100]) == pytest.approx([0.003, 0.001, 0.002, 0.003], rel=1e-3)


@pytest.mark.parametrize(
    ("seconds", "counts_as"), [(0.0, 1e-6), (3e-7, 1e-6), (1e-6, 1e-6), (LONGEST, LONGEST), (9999, LONGEST)]
)
def test_what_is_out_of_range_counts_as_its_end(seconds: float, counts_as: float) -> None:
    assert recorded(seconds).percentiles([50])[0] == pytest.approx(counts_as, rel=1e-3)


def test_text_and_back_is_the_same() -> None:
    histogram = Histogram()
    histogram.record(np.random.default_rng(2).lognormal(np.log(0.02), 1, 5000))
    text = histogram.encode()
    again = Histogram.decode(text)
    assert len(again) == 5000
    assert again.percentiles(WANTED) == histogram.percentiles(WANTED)
    assert again.encode() == text


def test_what_was_decoded_goes_on_recording() -> None:
    again = Histogram.decode(recorded(0.001).encode())
    again.record(np.array([LONGEST, 0.1]))
    assert len(again) == 3
    assert again.percentiles([0, 50])[0] == pytest.approx(0.001)
    assert again.percentiles([100])[0] == pytest.approx(LONGEST, rel=1e-3)


def test_nothing_can_be_recorded_encoded_and_decoded() -> None:
    histogram = Histogram()
    histogram.record(np.array([]))
    assert len(histogram) == len(Histogram.decode(histogram.encode())) == 0
    with pytest.raises(ValueError, match="no percentiles"):
        histogram.percentiles([50])


@pytest.mark.parametrize("text", ["", "no", "HISTFAAAAB54nJNpmSzMwMDAxAABzFCaEUoz2X+", "AAAA" * 50, "\u00e4"])
def test_what_is_no_histogram_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an encoded HdrHistogram"):
        Histogram.decode(text)


def test_the_other_implementations_can_read_it() -> None:
    """The V2 cookie in base64, with which every HdrHistogram log line begins."""
    assert recorded(0.001).encode().startswith("HIST")


def test_a_million_latencies_take_little_text() -> None:
    latencies = np.random.default_rng(3).lognormal(np.log(0.01), 0.5, 1_000_000)
    histogram = Histogram()
    histogram.record(latencies)
    assert len(histogram.encode()) < 20_000

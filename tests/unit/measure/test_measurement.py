"""tasks.lib.measure.measurement: what one contestant's blocks amount to."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.lib.measure.load import Block
from tasks.lib.measure.measurement import measure


def test_a_measurement_counts_failed_requests_apart() -> None:
    blocks = [Block(np.array([0.01, 0.03]), 0.5, 3, (5,)), Block(np.array([0.02]), 1.0, 0, (1,))]
    measured = measure(blocks)
    assert (measured.requests, measured.errors) == (3, 3)
    assert measured.p50 == pytest.approx(0.02)
    assert (measured.p90, measured.p99) == (None, None)
    assert measured.rate == pytest.approx(3 / 1.5)  # a failed request costs its time, too


def test_a_queue_shows_in_the_later_halves_of_blocks() -> None:
    def growth(*blocks: list[float]) -> float | None:
        return measure([Block(np.array(one), 1.0, 0, (len(one),)) for one in blocks]).growth

    assert growth([1.0, 1.0, 9.0, 3.0, 3.0], [1.0, 3.0]) == pytest.approx(3.0)  # the middle one is in neither
    assert growth([1.0], [2.0]) is None

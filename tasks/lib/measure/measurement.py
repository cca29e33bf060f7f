"""What one contestant did over all its blocks of requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.lib.measure import stats
from tasks.lib.measure.load import Block
from tasks.lib.measure.rounds import pooled

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Measurement:
    """What one contestant did over all its blocks. Times in seconds."""

    p50: float | None
    p90: float | None
    p99: float | None
    """None where there were too few requests for it (stats.MINIMUM_SAMPLES)."""
    rate: float
    """Requests per second that succeeded."""
    requests: int
    errors: int
    sent: tuple[int, ...] = ()
    """Requests that went to each replica."""
    histogram: str = ""
    """All latencies, as tasks.lib.measure.histogram encodes them."""
    growth: float | None = None
    """How many times as long the later half of a block's requests took as the earlier half, at p50.

    Around 1 where they do not wait for each other. In open loop much more says that a queue was still
    growing when the block ended: with longer blocks all latencies would be longer. None where no block had
    two requests.
    """


def measure(blocks: Sequence[Block]) -> Measurement:
    """What `blocks` amount to, pooled."""
    from tasks.lib.measure.histogram import Histogram

    latencies = pooled(blocks)
    histogram = Histogram()
    histogram.record(latencies)
    return Measurement(
        p50=stats.percentile(latencies, 50),
        p90=stats.percentile(latencies, 90),
        p99=stats.percentile(latencies, 99),
        rate=len(latencies) / sum(block.seconds for block in blocks),
        requests=len(latencies),
        errors=sum(block.errors for block in blocks),
        histogram=histogram.encode(),
        growth=_growth([block.latencies for block in blocks]),
        sent=tuple(map(sum, zip(*(block.sent for block in blocks), strict=True))),
    )


def _growth(blocks: Sequence[np.ndarray[Any, Any]]) -> float | None:
    """See Measurement.growth; each block's latencies are in the order of their answers."""
    import numpy as np

    halves = [
        (latencies[: len(latencies) // 2], latencies[-(len(latencies) // 2) :])
        for latencies in blocks
        if len(latencies) > 1
    ]
    if not halves:
        return None
    earlier, later = (float(np.median(np.concatenate(each))) for each in zip(*halves, strict=True))
    return later / earlier

"""Latencies without end in the same little memory: an HdrHistogram, and its text for result.json.

The format is HdrHistogram's own (V2, compressed, base64), which the HdrHistogram of other languages and
their plotters read. Its unit is the microsecond.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MICROSECONDS = 1_000_000
LONGEST = 600
"""Seconds. What takes longer counts as this long, what takes less than a microsecond as one."""
SIGNIFICANT_DIGITS = 3


class Histogram:
    """How often each latency came, to 3 significant digits or a microsecond, whichever is coarser."""

    def __init__(self) -> None:
        from hdrh.histogram import HdrHistogram

        self._counts = HdrHistogram(1, LONGEST * MICROSECONDS, SIGNIFICANT_DIGITS)

    def __len__(self) -> int:
        """How many latencies were recorded."""
        return int(self._counts.get_total_count())

    def record(self, latencies: np.ndarray[Any, Any]) -> None:
        """Add latencies in seconds."""
        import numpy as np

        whole = np.rint(np.asarray(latencies) * MICROSECONDS).clip(1, LONGEST * MICROSECONDS)
        # The library takes one value at a time, so each different value is given to it only once.
        for value, count in zip(*(column.tolist() for column in np.unique_counts(whole)), strict=True):
            self._counts.record_value(int(value), count)

    def percentiles(self, ranks: Sequence[float]) -> list[float]:
        """The latencies in seconds that `ranks` percent (0 to 100) of all do not exceed.

        All in one pass, so ask for a whole curve at once. Raises ValueError where nothing was recorded.
        """
        if not len(self):
            raise ValueError("an empty histogram has no percentiles")
        values = self._counts.get_percentile_to_value_dict(ranks)
        return [values[q] / MICROSECONDS for q in ranks]

    def encode(self) -> str:
        """The whole histogram as text, some thousand characters."""
        return str(self._counts.encode().decode("ascii"))

    @classmethod
    def decode(cls, text: str) -> Histogram:
        """What `encode` returned. Raises ValueError for anything else."""
        from hdrh.codec import HdrCookieException, HdrLengthException

        histogram = cls()
        try:
            histogram._counts.decode_and_add(text)
        except (HdrCookieException, HdrLengthException, zlib.error, ValueError, IndexError) as reason:
            raise ValueError(f"this is not an encoded HdrHistogram of latencies: {reason}") from reason
        return histogram

"""Waits for conditions, not for time."""

from __future__ import annotations

import time
from collections.abc import Callable

from running import PATIENCE


def wait_for(condition: Callable[[], object]) -> None:
    """Until the condition is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)

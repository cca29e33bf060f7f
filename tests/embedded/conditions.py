"""Waits for conditions, not for time, and finds out how fast this machine is."""

from __future__ import annotations

import time
from collections.abc import Callable

from running import PATIENCE, Server


def wait_for(condition: Callable[[], object]) -> None:
    """Until the condition is true."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def turns_of_a_second(server: Server, path: str) -> int:
    """As many turns of the signature `spin` as take a second or two on this machine."""
    turns = 1000
    while True:
        began = time.monotonic()
        answer = server.call("POST", path, {"signature_name": "spin", "instances": [turns]})
        assert answer == (200, {"predictions": [turns]})
        if time.monotonic() - began > 1:
            return turns
        turns *= 2

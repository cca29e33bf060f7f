"""Ways through a graph of operations, which are known by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def reached(names: Iterable[str], neighbours: Callable[[str], Iterable[str]]) -> set[str]:
    """`names` and what can be reached from them."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(neighbours(name))
    return found

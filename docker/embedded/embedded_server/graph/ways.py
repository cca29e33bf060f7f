"""Ways through a graph of operations, which are known by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def reached(names: Iterable[str], neighbours: Callable[[str], Iterable[str]]) -> set[str]:
    """`names` and what can be reached from them."""
    visited: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in visited:
            visited.add(name)
            waiting.extend(neighbours(name))
    return visited


def node_of(reference: str) -> str:
    """The node that an input such as "^a", "a:1" or "a" refers to."""
    return reference.lstrip("^").partition(":")[0]


def tensor_of(reference: str) -> str:
    """The tensor's full name, for a reference that leaves ":0" out."""
    return reference if ":" in reference else f"{reference}:0"

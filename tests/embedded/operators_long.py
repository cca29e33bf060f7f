"""Compare OpenVINO with TensorFlow for every case of every operation, and for random networks of them.

    PYTHONPATH=docker/embedded python tests/embedded/operators_long.py --minutes 10

Half of the time goes to the cases, in a random order and with new numbers each time, and half to networks.
Prints how many values were compared, by operation, and what differed.
Ends with exit code 1 if a graph differs that the rules of converting/operations.py let into a body.
`--all` also compares the cases that they keep out, and says which of those are equal: by these the list could
be extended.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import operator_cases
import operator_chains
from operator_cases import Case
from operator_comparison import PROFILES, ROWS, Graph, Result, compare_graph


@dataclass
class Totals:
    """What was compared so far."""

    values: Counter[str] = field(default_factory=Counter)
    """By operation."""
    cases: set[str] = field(default_factory=set)
    """Those that the rules let through."""
    networks: int = 0
    problems: dict[str, str] = field(default_factory=dict)
    """Case -> what differs, for what the rules let through."""
    kept_out: dict[str, str | None] = field(default_factory=dict)
    """Case that the rules keep out -> what differs; None if nothing did."""


def run(minutes: float, seed: int, pattern: str, *, everything: bool) -> Totals:
    """Compare cases whose names match the pattern for half of the time, and networks for the other half."""
    start = time.monotonic()
    totals = Totals()
    cases = [case for case in operator_cases.cases() if re.search(pattern, case.name)]
    shuffled = random.Random(seed)
    turn = 0
    while time.monotonic() < start + 30 * minutes:
        shuffled.shuffle(cases)
        for case in cases:
            if time.monotonic() > start + 30 * minutes:
                break
            _compare(case, seed + turn, totals, everything=everything)
        turn += 1
    network = 1_000_000 * seed
    while time.monotonic() < start + 60 * minutes:
        _compare_network(network, totals)
        network += 1
    return totals


def _compare_network(seed: int, totals: Totals) -> None:
    outcome = operator_chains.compare(seed)
    if outcome.refused is None:
        totals.networks += 1
        totals.values["random networks"] += outcome.values
    if outcome.problem:
        totals.problems[f"network {seed} ({' '.join(outcome.layers)})"] = outcome.problem


def _compare(case: Case, seed: int, totals: Totals, *, everything: bool) -> None:
    graph = Graph(case)
    try:
        refused = graph.refused()
        if refused is not None and not everything:
            return
        result = Result()
        try:
            graph.compile()
            compare_graph(graph, PROFILES, ROWS, seed, result)
        except Exception as error:  # TensorFlow has no kernel, or OpenVINO does not convert it
            result.problems.append(" ".join(str(error).split())[:200])
        if refused is None:
            totals.cases.add(case.name)
            totals.values[case.op] += result.values
            if result.problem:
                totals.problems[case.name] = result.problem
        elif result.problem or case.name not in totals.kept_out:
            totals.kept_out[case.name] = result.problem
    finally:
        graph.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--only", default="", metavar="PATTERN", help="cases whose names match this expression"
    )
    parser.add_argument("--all", action="store_true", help="also what the rules keep out of bodies")
    flags = parser.parse_args(argv)
    totals = run(flags.minutes, flags.seed, flags.only, everything=flags.all)
    for op, values in sorted(totals.values.items()):
        print(f"{op:28}{values:>16,}")
    for name, problem in sorted(totals.kept_out.items()):
        print(f"kept out, equal: {name}" if problem is None else f"kept out, differs: {name}: {problem}")
    for name, problem in sorted(totals.problems.items()):
        print(f"DIFFERS: {name}: {problem}")
    values = sum(totals.values.values())
    print(f"{values:,} values compared: {len(totals.cases):,} cases, {totals.networks:,} random networks")
    return 1 if totals.problems else 0


if __name__ == "__main__":
    sys.exit(main())

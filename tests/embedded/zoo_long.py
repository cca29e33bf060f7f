"""The long form of test_zoo.py: many more requests, drawn at random, to both backends over gRPC.

    PYTHONPATH=docker/embedded python tests/embedded/zoo_long.py [--requests 50] [--seed 1] [KIND ...]

Needs the embedded environment. Prints each answer that differs from TensorFlow's, and ends with exit code 1
if there is one.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from zoo import KINDS
from zoo.asking import Asked
from zoo.breaking import drawn, made_to_break
from zoo.comparing import LIMITS, difference
from zoo.kind import Kind
from zoo.servers import OPTIMIZED, STOCK, Truth, Written, described, serving, write


def compare(
    written: Written, truth: Truth, asked: Asked, kind: Kind, requests: int, seed: int
) -> tuple[int, list[str]]:
    """How many requests were compared, and a line for each answer that differs."""
    problems, count = [], 0
    for signature, inputs in [*kind.requests, *made_to_break(kind), *drawn(kind, requests, seed)]:
        count += 1
        expected = truth.answer(kind, signature, inputs)
        answer = asked.by_grpc(kind.name, signature, inputs)
        problem = difference(answer, expected, LIMITS[kind.tolerance], signature in kind.vague)
        if problem:
            problems.append(f"{kind.name} {described(signature, inputs)}: {problem}")
    return count, problems


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compares the zoo's models with TensorFlow at length.")
    parser.add_argument("--requests", type=int, default=50, help="drawn for each ordinary request")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("kinds", nargs="*", help="names; all kinds by default")
    flags = parser.parse_args(argv)
    kinds = [kind for kind in KINDS if not flags.kinds or kind.name in flags.kinds]
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        written = write(Path(folder), kinds)
        truth = Truth(written.folder)
        for name, failure in written.failures.items():
            failed = True
            print(f"{name} could not be converted: {failure}")
        for backend in (STOCK, OPTIMIZED):
            with serving(written, backend) as asked:
                for kind in written.kinds_of(backend):
                    count, problems = compare(written, truth, asked, kind, flags.requests, flags.seed)
                    failed = failed or bool(problems)
                    handed = asked.handed_over(kind.name)
                    summary = f"{count} requests, {handed} handed to TensorFlow, {len(problems)} differ"
                    print(f"{backend} {kind.name}: {summary}")
                    print(*problems, sep="\n", end="\n" if problems else "")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

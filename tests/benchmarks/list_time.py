"""What `invoke --list` takes, compared with `invoke --list` with an empty tasks.py, in alternation."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
ROUNDS = 20


def seconds(folder: Path) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "invoke", "--list"], cwd=folder, capture_output=True, check=False)
    return time.perf_counter() - started


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        empty = Path(temporary)
        (empty / "tasks.py").write_text("")
        pairs = [(seconds(empty), seconds(ROOT)) for _ in range(ROUNDS)]
    ratios = [full / bare for bare, full in pairs]
    bare, full = (float(np.median(column)) for column in zip(*pairs, strict=True))
    ratio = np.median(ratios)
    print(f"empty {bare * 1000:.0f} ms, this {full * 1000:.0f} ms: {ratio:.2f}x (median of {ROUNDS} pairs)")


if __name__ == "__main__":
    main()

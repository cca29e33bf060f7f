"""Writes models of the zoo: NAME/1/ in a folder for each of the kinds that are named, or for all.

    PYTHONPATH=docker/embedded python tests/embedded/write_zoo.py FOLDER [NAME ...]

Prints the names of those that a SavedModel can be written of.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import zoo


def main(folder: Path, names: list[str]) -> None:
    for kind in zoo.KINDS:
        if names and kind.name not in names:
            continue
        version = folder / kind.name / "1"
        if not version.exists():
            kind.write(version)
        print(kind.name, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""Makes a virtual environment for each peer, from the pinned requirements next to this file.

    python tests/benchmarks/peers/environments.py [FOLDER]

FOLDER is .state/peers by default. It takes 5 GB and some minutes; pip's cache lets the three share wheels.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
DEFAULT = HERE.parent.parent.parent / ".state" / "peers"
PEERS = ("litserve", "bentoml", "ray")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    for peer in PEERS:
        python = folder / peer / "bin" / "python"
        print(f"{peer}: {python}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", folder / peer], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--requirement", HERE / f"{peer}.txt"], check=True)


if __name__ == "__main__":
    main()

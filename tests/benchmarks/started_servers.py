"""How often `invoke benchmark` calls a variant different from itself, at the settings of invoke.yaml.

Each run is the command as a person types it: it starts five embedded servers for each side, with a small
model, measures them, and ends them. The settings are those of identical_servers.py, and so is the table.

    python tests/benchmarks/started_servers.py [--runs 20] [--setting quiet] [--keep FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tasks.lib.common import hardware, pinning
from tasks.lib.common.tables import render
from tests.benchmarks.identical_servers import (
    BUSY,
    COMPUTE,
    ROOT,
    SETTINGS,
    Run,
    programs,
    row,
    runs,
    write_model,
)

RUNS = 20
COMMAND = ("benchmark", "--model", "net", "--baseline", "stock", "--candidate", "stock", "--format", "json")
NOT_COMPARABLE = 3
"""The exit code of a benchmark without a verdict."""


def run(setting: str, seed: int, folder: Path) -> Run:
    """One benchmark of `stock` against itself."""
    paths = {f"INVOKE_PATHS_{name.upper()}": str(folder / name) for name in ("models", "state", "results")}
    environment = {
        **os.environ,
        **paths,
        "INVOKE_PATHS_ENVIRONMENT": str(ROOT / ".state" / "embedded"),
        "INVOKE_ENGINE": "local",
        "INVOKE_BENCHMARK_SEED": str(seed),
    }
    cpus = pinning.usable() or ()
    if setting.endswith("-pinned"):
        environment["INVOKE_SERVE_CPUS"] = str(cpus[1])
    with ExitStack() as stack:
        if setting.startswith("busy"):
            stack.enter_context(programs([[sys.executable, "-c", COMPUTE]] * BUSY))
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *COMMAND],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode not in (0, NOT_COMPARABLE):
        raise SystemExit(done.stderr)
    verdict = json.loads(done.stdout)["runs"][0]["verdict"]
    p50 = verdict["comparisons"]["p50"]
    others = (verdict["disturbance"] or {}).get("others")
    figures = {key: p50[key] for key in ("ratio", "low", "high", "noise", "outcome", "allowance")}
    return Run(setting, seed, True, 0.0, **figures, others=others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--setting", action="append", choices=SETTINGS)
    parser.add_argument("--keep", type=Path, metavar="FILE")
    flags = parser.parse_args()
    print(hardware.detect())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "models" / "net").mkdir(parents=True)
        write_model(folder / "models" / "net")
        for setting in flags.setting or SETTINGS:

            def one(seed: int, setting: str = setting) -> Run:
                return run(setting, seed, folder)

            print(render([row(setting, runs(setting, flags.runs, one, flags.keep))]), flush=True)


if __name__ == "__main__":
    main()

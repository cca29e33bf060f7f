"""What the embedded server adds to the engine that it runs.

    python tests/benchmarks/server_overhead.py [--rounds N]

At one connection: the optimized server's p50 and that of the same model called in a process without a server,
in alternation. At eight: its requests per second and those that OpenVINO's own benchmark_app reports for the
same model and precision. benchmark_app feeds tensors, so the time of decoding a photo, measured as well and
spread over all CPUs, is added to its time for an inference.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tasks.lib.client.inputs import photos_in, requests_for  # noqa: E402
from tasks.lib.client.rest import Client  # noqa: E402
from tasks.lib.measure.load import Block, Load  # noqa: E402
from tasks.lib.measure.rounds import turns  # noqa: E402
from tasks.lib.measure.stats import ratio_interval, t_quantile  # noqa: E402
from tests.integration.conftest import Suite  # noqa: E402

PHOTOS = ROOT / "models" / "samples"
EMBEDDED = ROOT / ".state" / "embedded" / "bin"
ONE, MANY = 96, 400
"""Requests of a block at one connection, and at eight."""
SECONDS = 5
"""Of each run of benchmark_app."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    models = Path(os.environ.get("INVOKE_PATHS_MODELS", ROOT / "models"))
    with tempfile.TemporaryDirectory() as temporary:
        suite = Suite(Path(temporary), {"INVOKE_PATHS_MODELS": str(models)})
        try:
            url = suite.run("serve", "--optimized").stdout.splitlines()[0]
            client = Client(url)
            (version,) = (one["version"] for one in client.status())
            bodies = [sample.body for sample in requests_for(client.metadata(), photos_in(PHOTOS))]
            command = [EMBEDDED / "python", ROOT / "tests/benchmarks/bare_engine.py"]
            with subprocess.Popen(
                [*command, models / "resnet", version, PHOTOS],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            ) as engine:  # fmt: skip
                try:
                    at_one(url, bodies, rounds, engine)
                    at_eight(url, bodies, rounds, engine, models / "resnet" / ".optimized" / version)
                finally:
                    engine.kill()
        finally:
            suite.run("teardown")


def ask(engine: subprocess.Popen[str], what: str, count: int) -> tuple[float, float]:
    """See bare_engine."""
    assert engine.stdin
    assert engine.stdout
    engine.stdin.write(f"{what} {count}\n")
    engine.stdin.flush()
    p50, used = map(float, engine.stdout.readline().split())
    return p50, used


def blocks(
    url: str, bodies: Sequence[bytes], connections: int, count: int
) -> tuple[Load, Callable[[], Block]]:
    """A load, and what sends one block of it."""
    load = Load([url], 60, connections)
    requests = turns([load.prepare(body) for body in bodies], count)
    load.send_closed_loop(requests)
    return load, lambda: load.send_closed_loop(requests)


def at_one(url: str, bodies: Sequence[bytes], rounds: int, engine: subprocess.Popen[str]) -> None:
    load, send = blocks(url, bodies, 1, ONE)
    with load:
        ask(engine, "run", ONE)
        added = []
        for number in range(rounds):
            server = float(np.median(send().latencies))
            bare, _ = ask(engine, "run", ONE)
            again = float(np.median(send().latencies))
            added.append(((server + again) / 2 - bare) * 1000)
            print(
                f"round {number + 1}: server {server * 1000:.2f} and {again * 1000:.2f} ms, "
                f"engine {bare * 1000:.2f} ms",
                file=sys.stderr,
            )
    spread = np.std(added, ddof=1) / np.sqrt(rounds) * t_quantile(0.975, rounds - 1)
    print(f"1 connection: the server adds {np.mean(added):.2f} ± {spread:.2f} ms at p50 (95% CI)")


def at_eight(
    url: str, bodies: Sequence[bytes], rounds: int, engine: subprocess.Popen[str], artefact: Path
) -> None:
    manifest = json.loads((artefact / "artefact.json").read_text())
    body = artefact / manifest["programs"]["serving_default"]["body"]
    cpus = len(os.sched_getaffinity(0))
    load, send = blocks(url, bodies, 8, MANY)
    ratios, reported = [], []
    with load:
        for number in range(rounds):
            block = send()
            rate = len(block.latencies) / block.seconds
            bare = benchmark_app(body, manifest["precision"])
            _, decoding = ask(engine, "front", ONE)
            possible = 1 / (1 / bare + decoding / cpus)
            ratios.append(rate / possible)
            reported.append(rate / bare)
            print(
                f"round {number + 1}: server {rate:.1f}/s, benchmark_app {bare:.1f}/s, "
                f"decoding {decoding * 1000:.2f} ms of CPU, so {possible:.1f}/s with it",
                file=sys.stderr,
            )
    for name, values in (("with decoding allowed for", ratios), ("as it is", reported)):
        interval = ratio_interval(values)
        print(f"8 connections: {interval.ratio:.3f} [{interval.low:.3f}, {interval.high:.3f}] of what "
              f"benchmark_app reports, {name}")  # fmt: skip


def benchmark_app(body: Path, precision: str) -> float:
    """Inferences per second of OpenVINO's own benchmark, in the mode for throughput."""
    shape = "[1,224,224,3]"
    command = [EMBEDDED / "benchmark_app", "-m", body, "-d", "CPU", "-hint", "throughput", "-t", str(SECONDS),
               "-infer_precision", precision, "-data_shape", shape, "-inference_only"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Throughput:\s+([\d.]+) FPS", done.stdout)
    if not found:
        raise SystemExit(f"benchmark_app failed:\n{done.stdout}{done.stderr}")
    return float(found[1])


if __name__ == "__main__":
    main()

"""How often two servers that are the same are called different, over many short runs of real ones.

Each run is a whole verdict on two servers by address, each a fresh process, with a seed of its own and
SECONDS of measuring. There are four settings: the machine quiet, or busy with programs that compute; the
servers pinned to a CPU that the client leaves, or not. The first `--real` runs of a setting are of embedded
servers with a small model, the others of synthetic ones. In every second run the server that was started
first is the candidate. Prints for each setting how many runs called the two different, how many of the
intervals exclude 1, and whether the mean log ratio prefers a role, or the server that was started second.

    python tests/benchmarks/identical_servers.py [--runs 200] [--real 50] [--setting quiet] [--keep FILE]

With --keep each run is a line of that file, and runs that it has already are not made again, so a file is
for one choice of --real and --seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tasks.lib.client.rest import Client  # noqa: E402
from tasks.lib.common import hardware, pinning  # noqa: E402
from tasks.lib.common.errors import SuiteError  # noqa: E402
from tasks.lib.common.settings import Plan  # noqa: E402
from tasks.lib.common.tables import render  # noqa: E402
from tasks.lib.measure import paired  # noqa: E402
from tasks.lib.measure.agreement import Agreement  # noqa: E402
from tasks.lib.measure.verdict import Contestant, Verdict  # noqa: E402
from tests.helpers.scripted import free_port  # noqa: E402
from tests.integration import synthetic  # noqa: E402

RUNS, REAL = 200, 50
SECONDS = 5.0
"""Of measuring: the default of benchmark.min_seconds, at which a verdict on fast servers ends."""
BUSY = 5
"""Programs that compute."""
SETTINGS = ("quiet", "quiet-pinned", "busy", "busy-pinned")
MILLISECONDS = 0.3
"""Of work for each request, of a synthetic server."""
SAME = Agreement(inputs=1, same=1, outputs=())
EMBEDDED = ROOT / ".state" / "embedded" / "bin" / "python"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT / "docker" / "embedded"), "TF_CPP_MIN_LOG_LEVEL": "2"}
PATIENCE = 120.0
"""Seconds for a server to answer."""
COMPUTE = "while True: pass"


def plan(seed: int) -> Plan:
    """Ends after the fewest rounds whose interval counts, with an interval of any width."""
    return Plan(
        ci_width=1.0,
        max_seconds=30,
        max_errors=0.01,
        block_requests=12,
        warmup_seconds=0,
        seed=seed,
        timeout=10,
    )


def judged(a: str, b: str, plan: Plan, body: bytes = b'{"instances": [[1, 2]]}') -> Verdict:
    """The verdict on two servers that answer alike."""
    sides = [Contestant(name, "net@1", (url,), "-", "-") for name, url in (("a", a), ("b", b))]
    return paired.judge(sides[0], sides[1], SAME, [body], plan)


@contextmanager
def pair(milliseconds: float, other: float, *options: str) -> Iterator[tuple[str, str]]:
    """The addresses of two synthetic servers, the second with `options`, on a CPU that the client leaves."""
    cpus = pinning.usable() or ()
    with ExitStack() as stack:
        with pinning.confined(cpus[1:2]):
            a = stack.enter_context(synthetic.running(milliseconds))
            b = stack.enter_context(synthetic.running(other, *options))
        stack.enter_context(pinning.confined(cpus[:1]))
        yield a, b


@contextmanager
def programs(commands: Sequence[Sequence[str]]) -> Iterator[None]:
    """Run them, without output, until the end."""
    with ExitStack() as stack:
        for command in commands:
            process = subprocess.Popen(
                command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
        yield


def write_model(folder: Path) -> None:
    """Two matrix products of 256 x 256: about 0.5 ms with HTTP."""
    code = "import sys, pathlib, saved_models; saved_models.write_products(pathlib.Path(sys.argv[1]))"
    where = {**ENVIRONMENT, "PYTHONPATH": f"{ROOT / 'docker' / 'embedded'}:{ROOT / 'tests' / 'embedded'}"}
    subprocess.run([EMBEDDED, "-c", code, folder / "1"], env=where, check=True, stderr=subprocess.DEVNULL)


@contextmanager
def embedded(model: Path) -> Iterator[tuple[str, str]]:
    """The addresses of two embedded servers, each a fresh process."""
    ports = [free_port() for _ in range(2)]
    urls = [f"http://127.0.0.1:{port}/v1/models/net" for port in ports]
    command = [
        str(EMBEDDED),
        "-m",
        "embedded_server",
        "--port=0",
        "--model_name=net",
        f"--model_base_path={model}",
    ]
    with programs([[*command, f"--rest_api_port={port}"] for port in ports]):
        for url in urls:
            wait_for(url)
        yield urls[0], urls[1]


def wait_for(url: str) -> None:
    """Return once the server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            Client(url, 5).metadata()
            return
        except SuiteError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@dataclass(frozen=True)
class Run:
    """What one run came to."""

    setting: str
    seed: int
    real: bool
    """Of embedded servers."""
    seconds: float
    """Of measuring."""
    ratio: float
    low: float
    high: float
    noise: float
    outcome: int
    allowance: float
    others: float | None
    """Share of the CPUs that programs used which are neither servers nor client."""

    @property
    def is_swapped(self) -> bool:
        """Whether the candidate was started first."""
        return self.seed % 2 == 1

    @property
    def excludes_one(self) -> bool:
        """Whether the interval does not contain 1."""
        return not self.low <= 1 <= self.high


def run(setting: str, seed: int, is_real: bool, seconds: float, model: Path) -> Run:
    """One verdict on two fresh processes."""
    cpus = pinning.usable() or ()
    is_pinned = setting.endswith("-pinned")
    with ExitStack() as stack:
        with pinning.confined(cpus[1:2] if is_pinned else ()):
            if is_real:
                urls = stack.enter_context(embedded(model))
                body = json.dumps({"instances": [[0.1] * 256]}).encode()
            else:
                urls = tuple(stack.enter_context(synthetic.running(MILLISECONDS)) for _ in range(2))
                body = b'{"instances": [[1, 2]]}'
        if setting.startswith("busy"):
            stack.enter_context(programs([[sys.executable, "-c", COMPUTE]] * BUSY))
        stack.enter_context(pinning.confined(cpus[:1] if is_pinned else ()))
        timed = replace(plan(seed), min_seconds=seconds, max_seconds=seconds, warmup_seconds=1.0)
        a, b = reversed(urls) if seed % 2 else urls
        verdict = judged(a, b, timed, body)
    p50 = verdict.p50
    assert p50 is not None, f"run {seed} of {setting} has too few rounds"
    others = verdict.disturbance.others if verdict.disturbance is not None else None
    interval = p50.interval
    measured = interval.ratio, interval.low, interval.high, p50.noise, p50.outcome, p50.allowance, others
    return Run(setting, seed, is_real, seconds, *measured)


def runs(setting: str, number: int, one: Callable[[int], Run], kept: Path | None) -> list[Run]:
    """So many runs in this setting, made by `one` from their seeds, less those that `kept` has."""
    lines = kept.read_text().splitlines() if kept is not None and kept.exists() else []
    done = [each for each in (Run(**json.loads(line)) for line in lines) if each.setting == setting]
    for seed in range(len(done), number):
        done.append(one(seed))
        if kept is not None:
            with kept.open("a") as file:
                print(json.dumps(asdict(done[-1])), file=file)
    return done


def mean(logs: np.ndarray) -> str:
    """With its 95 % interval."""
    stray = 1.96 * logs.std(ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.nan
    return f"{logs.mean():+.2%} ± {stray:.2%}"


def row(setting: str, done: Sequence[Run]) -> dict[str, object]:
    """What the runs of one setting amount to."""
    logs = np.log([each.ratio for each in done])
    others = [each.others for each in done if each.others is not None]
    return {
        "setting": setting,
        "runs": len(done),
        "called different": sum(each.outcome != 0 for each in done),
        "intervals without 1": sum(each.excludes_one for each in done),
        "mean log ratio": mean(logs),
        "for the one started second": mean(logs * np.where([each.is_swapped for each in done], -1, 1)),
        "interval, half": f"{np.median([math.sqrt(each.high / each.low) - 1 for each in done]):.1%}",
        "noise": f"{np.median([each.noise for each in done]):.1%}",
        "waits explain": f"{np.median([each.allowance for each in done]):.1%}",
        "others": f"{np.median(others):.0%}" if others else "not known",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--real", type=int, default=REAL)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    parser.add_argument("--setting", action="append", choices=SETTINGS)
    parser.add_argument("--keep", type=Path, metavar="FILE")
    flags = parser.parse_args()
    print(hardware.detect())
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary)
        write_model(model)
        for setting in flags.setting or SETTINGS:

            def one(seed: int, setting: str = setting) -> Run:
                return run(setting, seed, seed < flags.real, flags.seconds, model)

            rows.append(row(setting, runs(setting, flags.runs, one, flags.keep)))
            print(render(rows[-1:]), flush=True)
    print(render(rows))


if __name__ == "__main__":
    main()

"""The embedded server compared with LitServe, BentoML and Ray Serve, all with one SavedModel on this machine.

    python tests/benchmarks/against_peers.py [--rounds N] [--environments FOLDER] [--only NAME,...]

Peers serve with TensorFlow, each without batching and with batches of up to 8 photos (peers/*_app.py say
how). First all servers answer the sample photos; one that says another class than `stock` ends the run. Then
all are measured in alternation, over 1 connection and over 8, and each variant of ours is compared with the
best of the peers there. A peer is stopped (SIGSTOP) while others are measured, since LitServe's batches and
Ray take a tenth of a core each while they are idle. peers/environments.py makes the peers' environments.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import requests

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tasks.lib.client.inputs import photos_in, requests_for  # noqa: E402
from tasks.lib.client.rest import Client  # noqa: E402
from tasks.lib.common import tables  # noqa: E402
from tasks.lib.common.settings import Plan  # noqa: E402
from tasks.lib.measure import stats  # noqa: E402
from tasks.lib.measure.load import Block, Load, Prepared  # noqa: E402
from tasks.lib.measure.rounds import Instance, Rounds, medians, rates, run_rounds, turns  # noqa: E402
from tests.benchmarks.peers import contract, environments  # noqa: E402
from tests.helpers.scripted import free_port  # noqa: E402
from tests.integration.conftest import Suite  # noqa: E402

OURS = ("stock", "stock-batched", "optimized")
BLOCKS = {1: 24, 8: 8}
"""Connections -> requests over each of them in one half of a round."""
PATIENCE = 180  # seconds until a peer must have answered
SETTLE = 0.3  # seconds that a peer has to wake up
GRACE = 15  # seconds that a peer has to end by itself
APPS = ROOT / "tests" / "benchmarks" / "peers"


@dataclass(frozen=True)
class Peer:
    """A process that serves under one address or more."""

    environment: str
    command: tuple[str, ...]
    """After the environment's bin/; PORT is replaced by the port."""
    servers: Mapping[str, str]
    """Name -> what its address begins with."""


PEERS = (
    Peer("litserve", ("python", "litserve_app.py", "single"), {"litserve": ""}),
    Peer("litserve", ("python", "litserve_app.py", "batched"), {"litserve-batched": ""}),
    Peer("bentoml", ("bentoml", "serve", "bentoml_app:Single", "--port", "PORT"), {"bentoml": ""}),
    Peer("bentoml", ("bentoml", "serve", "bentoml_app:Batched", "--port", "PORT"), {"bentoml-batched": ""}),
    Peer("ray", ("python", "ray_app.py"), {"ray": "/single", "ray-batched": "/batched"}),
)


class PausedLoad(Load):
    """A load on a peer that is stopped but while a block is sent."""

    def __init__(self, process: psutil.Process, url: str, connections: int) -> None:
        super().__init__([url], PATIENCE, connections)
        self._process = process

    def send_closed_loop(self, requests: Sequence[Prepared]) -> Block:
        for process in _family(self._process):
            process.resume()
        time.sleep(SETTLE)
        try:
            return super().send_closed_loop(requests)
        finally:
            for process in _family(self._process):
                process.suspend()


def _family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


@contextlib.contextmanager
def serving(
    peer: Peer, environment: Path, model: Path, photo: Path, log: Path
) -> Iterator[tuple[psutil.Process, dict[str, str]]]:
    """Start a peer. Yields its process, and the model's addresses by name; it answers later."""
    port = str(free_port())
    added = {contract.MODEL: str(model), contract.PHOTO: str(photo), contract.PORT: port}
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "BENTOML_DO_NOT_TRACK": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    binaries = environment / peer.environment / "bin"
    program, *arguments = peer.command
    with log.open("wb") as output:
        process = subprocess.Popen(
            [binaries / program, *(port if word == "PORT" else word for word in arguments)],
            cwd=APPS,
            env={**os.environ, **added, **quiet, "PATH": f"{binaries}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        urls = {name: f"http://127.0.0.1:{port}{at}{contract.NAME}" for name, at in peer.servers.items()}
        yield psutil.Process(process.pid), urls
    finally:
        with contextlib.suppress(psutil.Error):  # it may have ended by itself
            for member in _family(psutil.Process(process.pid)):
                member.resume()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # after which Ray ends its own daemons
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def first_class(url: str, body: bytes) -> int:
    """The class of the one photo in `body`. Raises requests.RequestException where there is no answer."""
    response = requests.post(
        f"{url}:predict", body, headers={"Content-Type": "application/json"}, timeout=PATIENCE
    )
    response.raise_for_status()
    answer = response.json()
    # BentoML answers a batch by the list alone.
    return int((answer["predictions"] if isinstance(answer, dict) else answer)[0]["classes"])


def answered(name: str, url: str, bodies: Sequence[bytes], log: Path | None = None) -> list[int]:
    """The classes of all photos, once the server answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return [first_class(url, body) for body in bodies]
        except requests.RequestException as error:
            if time.monotonic() > deadline:
                said = log.read_text(errors="replace")[-3000:] if log else ""
                raise SystemExit(f"{name} does not answer: {error}\n{said}") from None
            time.sleep(0.5)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--environments", type=Path, default=environments.DEFAULT)
    parser.add_argument("--only", default="", help="names of servers, with commas between")
    options = parser.parse_args()
    wanted = {name for name in options.only.split(",") if name}
    photos = photos_in(ROOT / "models" / "samples")
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folder = Path(temporary)
        models = Path(os.environ.get("INVOKE_PATHS_MODELS", ROOT / "models"))
        suite = Suite(folder, {"INVOKE_PATHS_MODELS": str(models)})
        stack.callback(suite.run, "teardown")
        urls = {
            name: suite.run("serve", "--variant", name).stdout.splitlines()[0]
            for name in OURS
            if name == "stock" or not wanted or name in wanted
        }
        (version,) = Client(urls["stock"]).status()
        model = models / "resnet" / version["version"]
        samples = requests_for(Client(urls["stock"]).metadata(), photos)
        bodies = [sample.body for sample in samples]
        processes: dict[str, psutil.Process] = {}
        classes = answered("stock", urls["stock"], bodies)
        for number, peer in enumerate(PEERS):
            if wanted and not wanted & set(peer.servers):
                continue
            log = folder / f"peer-{number}.log"
            begun = serving(peer, options.environments, model, photos[0], log)
            process, addresses = stack.enter_context(begun)
            for name, url in addresses.items():
                if answered(name, url, bodies, log) != classes:
                    raise SystemExit(f"{name} answers other classes than stock")
                print(f"{name} answers as stock does", file=sys.stderr)
                urls[name], processes[name] = url, process
            for member in _family(process):
                member.suspend()
        for connections in BLOCKS:
            print(f"\n{connections} connection(s)")
            print(
                tables.render(table(measured(urls, processes, bodies, connections, options.rounds))),
                flush=True,
            )


def measured(
    urls: Mapping[str, str],
    processes: Mapping[str, psutil.Process],
    bodies: Sequence[bytes],
    connections: int,
    rounds: int,
) -> Rounds:
    plan = Plan(
        ci_width=0,
        max_seconds=float("inf"),
        max_errors=0,
        block_requests=BLOCKS[connections],
        warmup_seconds=0,
        seed=1,
        timeout=PATIENCE,
        connections=connections,
    )
    with ExitStack() as stack:
        loads = [
            (
                name,
                stack.enter_context(
                    PausedLoad(processes[name], url, connections)
                    if name in processes
                    else Load([url], PATIENCE, connections)
                ),
            )
            for name, url in urls.items()
        ]
        prepared = {name: [load.prepare(body) for body in bodies] for name, load in loads}
        for name, load in loads:
            load.send_closed_loop(turns(prepared[name], plan.block))
        return run_rounds([Instance(loads, prepared)], plan.block, plan, lambda done: len(done) >= rounds)


def table(rounds: Rounds) -> list[dict[str, object]]:
    """A row for each server, the fastest first; ours with their ratio to the best of the peers."""
    rate = {name: rates(rounds, [name]) for name in rounds[0]}
    by_rate = sorted(rate, key=lambda name: -float(np.median(rate[name])))
    best = next((name for name in by_rate if name not in OURS), None)
    return [
        {
            "server": name,
            "req/s": f"{np.median(rate[name]):.1f}",
            "p50 ms": f"{np.median(medians(rounds, [name])) * 1000:.1f}",
            f"req/s against {best} [95% CI]": _ratio(rate[name], rate[best])
            if name in OURS and best
            else "-",
        }
        for name in by_rate
    ]


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    interval = stats.ratio_interval([a / b for a, b in zip(ours, theirs, strict=True)])
    return f"{interval.ratio:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


if __name__ == "__main__":
    main()

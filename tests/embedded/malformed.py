"""Attack the embedded server with requests of every wrong kind, and print how it answered.

    PYTHONPATH=docker/embedded python tests/embedded/malformed.py --requests 50000

Several models, executed by TensorFlow and by OpenVINO, with batching and without; one request in five goes
to gRPC. Ends with exit code 1, and the smallest request that does it, where an answer is no JSON, is a 5xx,
does not come, or changes that of the next good request (see attacks.py). Needs the embedded environment and
hypothesis.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attacks
import saved_models
from embedded_server import convert
from hypothesis import HealthCheck, Phase, given, seed, settings
from running import PATIENCE, Server

_VARIANTS = (
    ("--backend=tensorflow",),
    ("--backend=tensorflow", "--enable_batching"),
    ("--backend=openvino", "--precision=f32"),
    ("--backend=openvino", "--precision=f32", "--enable_batching"),
)
_ROUND = 500  # requests of one run of hypothesis, which becomes slow with many


def prepare(folder: Path) -> None:
    """Make the models, and an artefact for the one that takes photos."""
    saved_models.write_module(folder / "module" / "3")
    saved_models.write_classifier(folder / "photos" / "1")
    for name, version in (("module", "3"), ("photos", "1")):
        convert.convert(folder / name / version, folder / name / ".optimized" / version, "")
    config = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }} '
        for name in ("module", "photos")
    )
    (folder / "models.config").write_text(f"model_config_list {{ {config} }}")


def goods() -> list[attacks.Good]:
    """Good requests for what `prepare` makes."""
    return [*attacks.module_requests(), *attacks.photo_requests("photos")]


def attack(target: attacks.Target, requests: int, first_seed: int) -> None:
    """Send that many requests, one in five by gRPC. Raises AssertionError."""

    def run(function: Callable[[Any], None], strategy: Any, count: int, number: int) -> None:
        bounded = settings(
            max_examples=count,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        seed(number)(bounded(given(strategy)(function)))()

    def strike(it: tuple[str, bytes]) -> None:
        target.strike(*it)

    def call(it: tuple[str, bytes]) -> None:
        target.call(*it)

    for number, start in enumerate(range(0, requests, _ROUND)):
        count = min(_ROUND, requests - start)
        run(strike, attacks.attack(target.goods), count - count // 5, first_seed + number)
        if count // 5:
            run(call, attacks.message(), count // 5, first_seed + number)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=50000, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the random requests (%(default)s)")
    flags = parser.parse_args()
    statuses: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prepare(folder)
        for number, variant in enumerate(_VARIANTS):
            began = time.monotonic()
            with Server(f"--model_config_file={folder / 'models.config'}", *variant) as server:
                target = attacks.Target(server, wait_for_models(server))
                attack(target, flags.requests // len(_VARIANTS), flags.seed + 1000 * number)
                target.close()
                assert server.stop() == 0
                server._reader.join(PATIENCE)
                log = "".join(server.log)
                assert "Traceback" not in log, log[-5000:]
            statuses += target.statuses
            print(f"{' '.join(variant)}: {time.monotonic() - began:.0f} s")
    columns = sorted({status for _, status in statuses})
    print("".ljust(14), *[column.rjust(20 if len(column) > 6 else 7) for column in columns])
    for kind in sorted({kind for kind, _ in statuses}):
        cells = [str(statuses[kind, column]).rjust(20 if len(column) > 6 else 7) for column in columns]
        print(kind.ljust(14), *cells)
    left = sum(count for (_, status), count in statuses.items() if status == "left")
    print(
        f"{flags.requests} requests, {statuses.total() - left} answers, {left} left unfinished: none a 5xx, "
        "none missing, and none that changed the next one"
    )
    return 0


def wait_for_models(server: Server) -> list[attacks.Good]:
    """The good requests, once all models are there."""
    deadline = time.monotonic() + PATIENCE
    for name in ("module", "photos"):
        while server.call("GET", f"/v1/models/{name}")[1].get("model_version_status", [{}])[0].get(
            "state"
        ) != ("AVAILABLE"):
            assert time.monotonic() < deadline, f"{name} is not available"
            time.sleep(0.1)
    return goods()


if __name__ == "__main__":
    sys.exit(main())

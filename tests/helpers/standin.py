"""A stand-in for the embedded server: its flags and its REST contract, without TensorFlow.

Run as a program it is the server; imported it gives tests the settings and the engine that use it.
What it does can be changed with --standin=BEHAVIOUR:
    die         prints three lines and exits with status 3
    silent      never listens
    stubborn    serves, and ignores SIGTERM
    parent      serves, with a child process that ignores SIGTERM; prints the child's id
    refuse-N    answers a predict with HTTP status N
"""

from __future__ import annotations

import argparse
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent

SIGNATURE = {
    "method_name": "tensorflow/serving/predict",
    "outputs": {"y": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}]}}},
}
INPUTS = {
    "numbers": {"x": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "-1"}, {"size": "2"}]}}},
    "images": {"image_bytes": {"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": "-1"}]}}},
    "pixels": {
        "x": {
            "dtype": "DT_FLOAT",
            "tensor_shape": {"dim": [{"size": "-1"}, {"size": "32"}, {"size": "32"}, {"size": "3"}]},
        }
    },
}
"""The inputs of the model by --takes: what a request holds."""


def settings(folder: Path, **serve: Any) -> Any:
    """Settings whose every folder is below `folder`; `serve` replaces fields of settings.serve."""
    from invoke.config import Config

    from tasks.lib.common.settings import Paths, read

    config = Config(project_location=str(ROOT))
    config.load_project()
    paths = Paths(ROOT, *(folder / name for name in ("models", "state", "environment", "results")))
    read_ones = read(config, ROOT)
    rest_port = free_ports()
    defaults = {"rest_port": rest_port, "grpc_port": rest_port + 1, "ready_timeout": 30.0, "stop_grace": 10.0}
    return replace(read_ones, paths=paths, serve=replace(read_ones.serve, **{**defaults, **serve}))


def free_ports() -> int:
    """The first of four free ports: two servers', REST's first and every other one, gRPC's between."""
    while True:
        with ExitStack() as stack:
            port = 0
            try:
                for step in range(4):
                    wanted = port + step if port else 0
                    listener = stack.enter_context(socket.socket())
                    listener.bind(("127.0.0.1", wanted))
                    port = port or listener.getsockname()[1]
            except (OSError, OverflowError):
                continue
            return port


def command(*behaviour: str) -> Any:
    """What LocalEngine takes as `command`."""

    def build(flags: Sequence[str]) -> tuple[list[str], Mapping[str, str]]:
        wanted = [f"--standin={each}" for each in behaviour]
        return [sys.executable, __file__, *flags, *wanted], {}

    return build


def model(folder: Path, name: str = "net", version: int = 1) -> Any:
    """A model on disk, as far as a stand-in needs one."""
    from tasks.lib.models.store import Model, Origin, content_digest

    place = folder / "models" / name / str(version)
    place.mkdir(parents=True, exist_ok=True)
    (place / "saved_model.pb").write_bytes(b"stand-in")
    origin = Origin("url", "http://example.org/net.tar.gz", None, content_digest(place))
    return Model(name, version, place, origin)


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return once `condition` holds; fail if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition has not come true"
        time.sleep(0.01)


class Checkout:
    """A person's place: a context to call tasks with, and what is in the folders behind it.

    There is one model, net@1, and the local engine runs stand-ins.
    """

    WITHOUT_GAIN = "net@1 holds no operation that OpenVINO executes faster."

    def __init__(self, folder: Path, takes: Callable[[str], None]) -> None:
        from tasks.lib.models.store import write_origin

        self.gains = True
        """Whether optimizing the model succeeds."""
        self.attempts = 0
        """How often that was tried."""

        self.settings = settings(folder)
        self.takes = takes
        """Changes what the model of the next server takes: a key of INPUTS."""
        self.model = model(folder)
        write_origin(self.model.folder, self.model.origin)

    def context(self, dry: bool = False) -> Any:
        from invoke.config import Config
        from invoke.context import Context

        names = ("models", "state", "environment", "results")
        overrides: dict[str, Any] = {
            "model": "net",
            "paths": {name: str(getattr(self.settings.paths, name)) for name in names},
            "serve": {
                "rest_port": str(self.settings.serve.rest_port),
                "grpc_port": str(self.settings.serve.grpc_port),
                "ready_timeout": "30",
            },
            "run": {"dry": dry},
        }
        config = Config(overrides=overrides, project_location=str(ROOT))
        config.load_project()
        return Context(config)

    def processes(self) -> list[Any]:
        from tasks.lib.common import processes

        return processes.carriers(processes.marker(self.settings.paths.state, "server", ""))


@contextmanager
def checkout_with_standin(folder: Path, monkeypatch: Any) -> Iterator[Checkout]:
    """A checkout at which every LocalEngine starts stand-ins. No server is left behind."""
    from tasks.lib.common import processes
    from tasks.lib.common.errors import CannotGain
    from tasks.lib.engines.local import engine
    from tasks.lib.optimize import optimize

    wanted = ["numbers"]

    class StandinEngine(engine.LocalEngine):
        def __init__(self, settings: Any) -> None:
            super().__init__(settings, extra_flags=[f"--takes={wanted[-1]}"], command=command())

    def resolve(settings: Any, model: Any, variant: Any) -> Any:
        if not variant.needs_artefact:
            return variant
        checkout.attempts += 1
        if not checkout.gains:
            raise CannotGain(Checkout.WITHOUT_GAIN, "Serve it with `invoke serve`.")
        return replace(variant, precision="bf16")

    monkeypatch.setattr(engine, "LocalEngine", StandinEngine)
    monkeypatch.setattr(optimize, "resolve", resolve)
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    checkout = Checkout(folder, wanted.append)
    yield checkout
    for process in checkout.processes():
        processes.terminate(process, 0)


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag in (
        "rest_api_host",
        "grpc_host",
        "model_name",
        "model_base_path",
        "backend",
        "precision",
        "shutdown_grace_seconds",
    ):
        parser.add_argument(f"--{flag}")
    parser.add_argument("--port", type=int)
    parser.add_argument("--rest_api_port", type=int)
    parser.add_argument("--model_version", type=int)
    parser.add_argument("--standin", default="")
    parser.add_argument("--takes", choices=INPUTS, default="numbers")
    flags = parser.parse_args()
    behaviour = flags.standin
    print("stand-in: loading", file=sys.stderr, flush=True)
    if behaviour == "die":
        print("stand-in: cannot read the model\nstand-in: giving up", file=sys.stderr)
        raise SystemExit(3)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if behaviour == "silent":
        time.sleep(600)
    if behaviour == "parent":
        stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", stubborn])
        print(f"child {child.pid}", file=sys.stderr, flush=True)
    handler = type("Handler", (_Handler,), {"flags": flags})
    ThreadingHTTPServer((flags.rest_api_host, flags.rest_api_port), handler).serve_forever()


class _Handler(BaseHTTPRequestHandler):
    flags: argparse.Namespace

    def do_GET(self) -> None:
        if self.path.endswith("/metadata"):
            signature = {**SIGNATURE, "inputs": INPUTS[self.flags.takes]}
            spec = {"name": self.flags.model_name, "version": str(self.flags.model_version)}
            signatures = {"signature_def": {"signature_def": {"serving_default": signature}}}
            self._answer(200, {"model_spec": spec, "metadata": signatures})
        else:
            version = {"version": str(self.flags.model_version), "state": "AVAILABLE"}
            self._answer(200, {"model_version_status": [version]})

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        behaviour, _, status = self.flags.standin.partition("-")
        if behaviour == "refuse":
            self._answer(int(status), {"error": "the stand-in refuses"})
        else:
            self._answer(200, {"predictions": [len(str(each)) for each in request["instances"]]})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


if __name__ == "__main__":
    main()

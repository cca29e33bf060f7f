"""Good clients together with bad, slow and broken ones, on a server whose model is replaced again and again.

    PYTHONPATH=docker/embedded python tests/embedded/soak.py --seconds 600

Good requests (REST on kept and on new connections, gRPC) must all be answered, byte for byte as in the
beginning; the server's memory must not grow; and SIGTERM in the middle of it must lose nothing: each request
that was sent in full on a connection that the server accepted gets its answer. Prints what was done and how
it ended; exit code 1 where something of this is not so. Needs the embedded environment and hypothesis.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import attacks
import grpc
import numpy as np
import saved_models
from hypothesis import HealthCheck, Phase, given, seed, settings
from raw import Raw, ask, request
from running import PATIENCE, Server
from tensorflow_serving.apis import predict_pb2

_CLIENT_TIMEOUT = 3  # seconds that the server gives its clients, so that slow ones meet their end often
_MAX_REQUEST = 200_000  # bytes
_GROWTH = 0.05  # by how much memory may be more in the last quarter than in the second one
_JUDGED = 60  # seconds from which on memory is judged; before that, caches and threads are still coming
_NOT_TAKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)  # calls that come as the server ends
_REPLACED = attacks.Good("adder", {"instances": [[1.0], [2.5]]})
_SLOW = attacks.Good("adder", {"signature_name": "slow", "instances": [3000]})  # some 50 ms


@dataclass
class Load:
    """What all clients share."""

    server: Server
    goods: Sequence[attacks.Good]
    bad: Sequence[bytes]
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    resting: threading.Event = field(default_factory=threading.Event)  # set: bad clients go home
    leaving: threading.Event = field(default_factory=threading.Event)  # set: the server was told to end
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, client: str, outcome: str) -> None:
        with self._lock:
            self.outcomes[client, outcome] += 1

    def fail(self, client: str, what: str) -> None:
        self.count(client, "FAILED")
        with self._lock:
            self.failures.append(f"{client}: {what}")


# -------------------------------------------------------------------------------------- clients


def good_client(load: Load, number: int, kept: bool) -> None:
    """In a closed loop, until the server accepts no connection any more."""
    name = "good, kept" if kept else "good, new"
    expected: dict[int, bytes] = {}
    turn = number
    while True:
        try:
            client = Raw(load.server.port)
        except ConnectionRefusedError:
            if not load.leaving.is_set():
                load.fail(name, "refused before the server was to end")
            return
        with client:
            while True:
                turn = (turn + 1) % len(load.goods)
                try:
                    client.send(load.goods[turn].data)
                    response = client.response()
                except OSError as error:
                    load.fail(name, repr(error))
                    return
                if response is None or response.status != 200:
                    load.fail(name, f"{load.goods[turn].document}: {response}")
                    return
                if response.body != expected.setdefault(turn, response.body):
                    load.fail(name, f"{load.goods[turn].document} changed to {response.body!r}")
                    return
                load.count(name, "answered while leaving" if load.leaving.is_set() else "answered")
                if not kept or response.headers.get("connection") == "close":
                    break


def grpc_client(load: Load) -> None:
    """In a closed loop, until the server accepts no call any more."""
    message = predict_pb2.PredictRequest()
    message.model_spec.name = "adder"
    message.inputs["x"].CopyFrom(attacks.tf.make_tensor_proto(np.array([[1.0]], np.float32)))
    expected = None
    with grpc.insecure_channel(f"127.0.0.1:{load.server.grpc_port}") as channel:
        predict = channel.unary_unary(
            attacks.PREDICT,
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )
        while True:
            try:
                answer = list(predict(message, timeout=PATIENCE).outputs["y"].float_val)
            except grpc.RpcError as error:
                if load.leaving.is_set() and error.code() in _NOT_TAKEN:
                    load.count("good, gRPC", "not taken any more")
                else:
                    load.fail("good, gRPC", f"{error.code()}: {error.details()}")
                return
            expected = expected or answer
            if answer != expected:
                load.fail("good, gRPC", f"changed to {answer}")
                return
            load.count("good, gRPC", "answered while leaving" if load.leaving.is_set() else "answered")


def bad_client(load: Load, number: int) -> None:
    """One malformed request after the other."""
    choice = random.Random(number)
    while not load.resting.is_set():
        with contextlib.suppress(OSError), Raw(load.server.port) as client:
            client.socket.settimeout(0.2)  # for those that are incomplete
            client.send(choice.choice(load.bad))
            response = client.response()
            load.count("bad", str(response.status) if response else "closed")


def slow_client(load: Load, number: int) -> None:
    """Sends half a request, or reads half an answer, and waits until it is thrown out."""
    choice = random.Random(number)
    body = b" " * (_MAX_REQUEST - 1)
    large = attacks.Good("module", {"signature_name": "text", "instances": ["a" * 60_000]})
    while not load.resting.is_set():
        with (
            contextlib.suppress(ConnectionRefusedError),
            Raw(load.server.port, receive_buffer=4096) as client,
        ):
            if choice.random() < 0.7:
                data = request("POST", _REPLACED.path, body)
                client.send(data[: choice.choice([1, 30, 300, len(data) - 1])])
                response = client.response()
                load.count("slow to send", str(response.status) if response else "closed")
                continue
            with contextlib.suppress(OSError):
                while True:
                    client.send(large.data)
            load.count("slow to read", "thrown out")


def broken_client(load: Load, number: int) -> None:
    """Goes away at any moment: rudely or not, before, in or after its request."""
    choice = random.Random(number)
    large = request("POST", _REPLACED.path, b" " * (2 * _MAX_REQUEST))
    while not load.resting.is_set():
        data = choice.choice([_REPLACED.data, _SLOW.data, large, *load.bad])
        with contextlib.suppress(OSError):
            client = Raw(load.server.port)
            client.send(data[: choice.randint(0, len(data))])
            if choice.random() < 0.5:
                client.reset()
            client.socket.close()
            load.count("broken", "gone")
        time.sleep(0.005)


# -------------------------------------------------------------------------------------- the server


def replace(load: Load, base: Path, seconds: float) -> None:
    """Put the next version next to the current one, wait until it serves, and take the old one away."""
    version = 1
    while not load.resting.wait(seconds):
        shutil.copytree(base / str(version), base / ".next")
        (base / ".next").rename(base / str(version + 1))
        deadline = time.monotonic() + PATIENCE
        while not is_available(load.server.port, version + 1):
            if load.leaving.is_set():
                return
            if time.monotonic() > deadline:
                load.fail("replaced", f"version {version + 1} is not available")
                return
            time.sleep(0.1)
        shutil.rmtree(base / str(version))
        version += 1
        load.count("replaced", "available")


def is_available(port: int, version: int) -> bool:
    with contextlib.suppress(ConnectionRefusedError):
        response = ask(port, request("GET", f"/v1/models/adder/versions/{version}"))
        return response.status == 200 and '"AVAILABLE"' in response.body.decode()
    return False


def resident(process: int) -> int:
    """Bytes of memory that a process holds."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * 4096


def prepare(folder: Path) -> str:
    """Make the models. Returns the server's flag."""
    saved_models.write_module(folder / "module" / "3")
    saved_models.write_adder(folder / "adder" / "1", 7)
    config = "".join(
        f'config {{ name: "{name}" base_path: "{folder / name}" model_platform: "tensorflow" }} '
        for name in ("module", "adder")
    )
    (folder / "models.config").write_text(f"model_config_list {{ {config} }}")
    return f"--model_config_file={folder / 'models.config'}"


def malformed_requests(goods: Sequence[attacks.Good], count: int) -> list[bytes]:
    found: list[bytes] = []
    bounded = settings(
        max_examples=count, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )  # fmt: skip
    seed(1)(bounded(given(attacks.attack(goods))(lambda it: found.append(it[1]))))()
    return found


def run(seconds: float, reload_seconds: float) -> bool:
    """Load a server for that long, and end it. Prints; returns whether all was well."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        flags = (
            prepare(folder),
            f"--client_timeout_seconds={_CLIENT_TIMEOUT}",
            f"--max_request_bytes={_MAX_REQUEST}",
            f"--max_total_request_bytes={100 * _MAX_REQUEST}",
        )
        with Server(*flags) as server:
            for name in ("module", "adder"):
                while server.call("GET", f"/v1/models/{name}/metadata")[0] != 200:
                    time.sleep(0.1)
            goods = [*attacks.module_requests(), _REPLACED, _SLOW]
            load = Load(server, goods, malformed_requests(attacks.module_requests(), 500))
            plan: list[tuple[Callable[..., None], tuple[object, ...]]] = [
                *[(good_client, (load, number, number % 2 == 0)) for number in range(4)],
                (grpc_client, (load,)),
                (bad_client, (load, 1)),
                *[(slow_client, (load, number)) for number in range(4)],
                (broken_client, (load, 1)),
                (replace, (load, folder / "adder", reload_seconds)),
            ]
            threads = [threading.Thread(target=function, args=given) for function, given in plan]
            for thread in threads:
                thread.start()
            samples = []
            end = time.monotonic() + seconds
            while time.monotonic() < end and not load.failures:
                samples.append(resident(server.process.pid))
                time.sleep(min(1.0, seconds / 100))
            load.leaving.set()
            code = server.stop()
            load.resting.set()
            for thread in threads:
                thread.join(PATIENCE)
            server._reader.join(PATIENCE)
            log = "".join(server.log)
    return report(load, samples, seconds, code, log)


def report(load: Load, samples: Sequence[int], seconds: float, code: int, log: str) -> bool:
    """Print what happened. Returns whether all was well."""
    for (client, outcome), count in sorted(load.outcomes.items()):
        print(f"{client:14} {outcome:24} {count:8}")
    quarter = max(len(samples) // 4, 1)
    second, last = (statistics.median(part) for part in (samples[quarter : 2 * quarter], samples[-quarter:]))
    later = samples[len(samples) // 2 :]
    slope = (
        float(np.polyfit(np.linspace(0, seconds / 120, len(later)), later, 1)[0]) if len(later) > 1 else 0.0
    )
    print(
        f"memory: {second / 2**20:.0f} MiB in the second quarter, {last / 2**20:.0f} MiB in the last one; "
        f"slope over the second half {slope / 2**20:+.2f} MiB a minute"
    )
    wrong = list(load.failures)
    if seconds >= _JUDGED and last > second * (1 + _GROWTH):
        wrong.append(f"memory grew by more than {_GROWTH:.0%}")
    if code != 0:
        wrong.append(f"the server ended with {code}: requests were cut off")
    if "Traceback" in log:
        wrong.append(f"a traceback in the log: {log[log.index('Traceback') :][:2000]}")
    for line in wrong:
        print(f"WRONG: {line}")
    print("failed" if wrong else "passed: no good request failed, and the end lost none")
    return not wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="how long (%(default)s)")
    parser.add_argument("--reload-seconds", type=float, default=60, help="between versions (%(default)s)")
    flags = parser.parse_args()
    return 0 if run(flags.seconds, flags.reload_seconds) else 1


if __name__ == "__main__":
    sys.exit(main())

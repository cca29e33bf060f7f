"""Real parts for the Docker tests: a daemon, a registry and a base image of their own, as processes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

RELEASE = "bookworm"
INCLUDE = "python3-minimal,libpython3-stdlib,ca-certificates"
NEEDED = ("dockerd", "iptables", "ip")


def missing() -> str | None:
    """Why no daemon can be started here; None if one can."""
    if os.geteuid() != 0:
        return "no Docker Engine answers, and only root can start one"
    absent = [program for program in NEEDED if shutil.which(program) is None]
    return f"not installed: {', '.join(absent)} (Debian: docker.io, iptables, iproute2)" if absent else None


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Return once `condition` holds; fail if it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition has not come true"
        time.sleep(0.05)


def free_port() -> int:
    """A port that is free, and so are the one below and the two above it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        try:
            for near in (port - 1, port, port + 1, port + 2):
                with socket.socket() as trial:
                    trial.bind(("127.0.0.1", near))
        except (OSError, OverflowError):
            continue
        return port


def end(process: subprocess.Popen[bytes], grace: float = 20) -> None:
    """End a process that was started here."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@contextmanager
def daemon(folder: Path) -> Iterator[str]:
    """A Docker Engine with everything of its own in `folder`; yields the address of its socket.

    It has a bridge of its own too: daemons that share docker0 take each other's addresses away.
    """
    bridge, subnet = _bridge()
    # Not below `folder`, whose path may be longer than a socket's can be.
    run = Path(tempfile.mkdtemp(prefix="serving-suite-dockerd-"))
    address = f"unix://{run}/docker.sock"
    options = {
        "data-root": folder / "data",
        "exec-root": run / "exec",
        "pidfile": run / "pid",
        "host": address,
        "bridge": bridge,
        "fixed-cidr": subnet,
        # Containers end with their daemon, however that ends.
        "live-restore": "false",
    }
    log = folder / "dockerd.log"
    process = None
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["dockerd", *(f"--{name}={value}" for name, value in options.items())],
                stdout=output,
                stderr=output,
                env={**os.environ, "TMPDIR": "/tmp"},
            )
        wait_for(lambda: answers(address) or process.poll() is not None)
        assert answers(address), log.read_text()[-2000:]
        yield address
    finally:
        if process is not None:
            end(process)
        subprocess.run(["ip", "link", "delete", bridge], check=False)
        shutil.rmtree(run, ignore_errors=True)
        shutil.rmtree(folder / "data", ignore_errors=True)


def _bridge() -> tuple[str, str]:
    """Make a bridge on a subnet that this machine has no address in."""
    import psutil

    addresses = [a.address for each in psutil.net_if_addrs().values() for a in each]
    for number in range(210, 250):
        if any(address.startswith(f"10.{number}.0.") for address in addresses):
            continue
        name = f"suite{os.getpid() % 100000}-{number}"[:15]
        made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=False)
        if made.returncode == 0:
            subprocess.run(["ip", "addr", "add", f"10.{number}.0.1/24", "dev", name], check=True)
            subprocess.run(["ip", "link", "set", name, "up"], check=True)
            return name, f"10.{number}.0.0/24"
    raise AssertionError("no subnet is free for a bridge")


def answers(address: str) -> bool:
    """Whether a daemon answers there."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.settimeout(5)
            probe.connect(address.removeprefix("unix://"))
            probe.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
            return b"200 OK" in probe.recv(100)
        except OSError:
            return False


USER, PASSWORD = "suite", "correct horse"
HTPASSWD = f"{USER}:$2b$04$IDi1QKbyYr1EBNs2fWrDdeNspBHlwWINKKtBVG4LHclgrf9biGXpG\n"
"""The same, as htpasswd -B writes it."""


@contextmanager
def registry(folder: Path, secured: bool = False) -> Iterator[str]:
    """A registry on loopback, which lets only USER in if it is `secured`; yields HOST:PORT."""
    port = free_port()
    auth = ""
    if secured:
        (folder / "htpasswd").write_text(HTPASSWD)
        auth = f"auth: {{htpasswd: {{realm: suite, path: '{folder}/htpasswd'}}}}\n"
    (folder / "config.yml").write_text(
        f"version: 0.1\nlog: {{level: warn}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n{auth}"
        f"storage: {{filesystem: {{rootdirectory: '{folder}/registry'}}}}\n"
    )
    with (folder / "registry.log").open("wb") as output:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(folder / "config.yml")], stdout=output, stderr=output
        )
    try:
        wait_for(lambda: accepts(port) or process.poll() is not None)
        assert process.poll() is None, (folder / "registry.log").read_text()[-2000:]
        yield f"127.0.0.1:{port}"
    finally:
        end(process)


def accepts(port: int) -> bool:
    """Whether something listens on the port."""
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def base_tarball() -> Path:
    """A small Debian as a tar archive, made once for each release and kept in the user's cache folder."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tensorflow-serving-suite"
    cache.mkdir(parents=True, exist_ok=True)
    kept = cache / f"{RELEASE}-python.tar"
    if not kept.exists():
        with tempfile.TemporaryDirectory(prefix="debootstrap-") as folder:
            command = ["debootstrap", "--variant=minbase", f"--include={INCLUDE}", RELEASE, f"{folder}/root"]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            assert made.returncode == 0, made.stdout[-2000:]
            partial = kept.with_suffix(f".{os.getpid()}")
            left_out = ("./var/cache/apt", "./var/lib/apt/lists", "./usr/share/doc", "./usr/share/locale")
            subprocess.run(
                [
                    "tar",
                    "-C",
                    f"{folder}/root",
                    *(f"--exclude={each}/*" for each in left_out),
                    "-cf",
                    partial,
                    ".",
                ],
                check=True,
            )
            partial.replace(kept)
    return kept


def environment(address: str) -> dict[str, str]:
    """What makes the docker command talk to the daemon at `address`."""
    return {**os.environ, **({"DOCKER_HOST": address} if address else {})}


def docker(address: str, *words: str, **added: str) -> str:
    """Run the docker command, with this added to its environment, and return what it printed."""
    done = subprocess.run(
        ["docker", *words],
        env=environment(address) | added,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"docker {' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


def builder(wanted: str) -> dict[str, str]:
    """What chooses the builder, "0" the classic one or "1" BuildKit, with a docker command that has it."""
    return {"DOCKER_BUILDKIT": wanted, "PATH": f"{old_docker().parent}:{os.environ['PATH']}"}


def old_docker() -> Path:
    """Debian's docker command speaks BuildKit itself; newer ones need a plugin for it."""
    debians = Path("/usr/bin/docker")
    return debians if debians.exists() else Path(str(shutil.which("docker")))

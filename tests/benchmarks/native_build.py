"""How much faster a server is that was compiled for this CPU, with a stand-in for TensorFlow Serving.

Runs the chain of the README on a Docker Engine, as tests/integration/docker/test_chain.py does: it compiles
the stand-in twice, as the published image is and with --config=nativeopt, and compares the two. Prints the
benchmark's table and verdict. Needs root, and Debian's docker.io, docker-registry, debootstrap, iptables and
iproute2. The first run makes the base images, which takes some minutes.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from tests.integration.docker import engine, upstream

CHAIN = "download build.devel build.optimized serve --optimized benchmark teardown"
MEASURING = {
    "INVOKE_BENCHMARK_MAX_SECONDS": "120",
    "INVOKE_BENCHMARK_BLOCK_REQUESTS": "24",
    "INVOKE_BENCHMARK_BLOCK_SECONDS": "1",
    "INVOKE_BENCHMARK_WARMUP_SECONDS": "20",
}


@contextmanager
def docker_engine(folder: Path) -> Iterator[str]:
    """The address of the Docker Engine that answers, or else of one in `folder`."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if address.startswith("unix://") and engine.answers(address):
        yield address
        return
    folder.mkdir()
    with engine.daemon(folder) as started:
        yield started


def main() -> None:
    absent = [name for name in ("docker-registry", "debootstrap") if shutil.which(name) is None]
    reason = f"not installed: {', '.join(absent)}" if absent else engine.missing()
    if reason is not None:
        sys.exit(reason)
    with tempfile.TemporaryDirectory(prefix="native-build-") as temporary:
        folder = Path(temporary)
        for name in ("docker-config", "registry", "source", "chain"):
            (folder / name).mkdir()
        os.environ["DOCKER_CONFIG"] = str(folder / "docker-config")  # `docker login` of no one
        with (
            docker_engine(folder / "daemon") as host,
            engine.registry(folder / "registry") as registry,
            upstream.places(host, registry, folder / "source") as places,
            upstream.chain(places, folder / "chain", f"native-build-{os.getpid()}", **MEASURING) as suite,
        ):
            print(suite.run(*CHAIN.split()).stdout)


if __name__ == "__main__":
    main()

"""Make the base images that the Docker tests build from: `python make_base.py [--cache FOLDER] [NAME...]`.

No registry can be reached where the tests run, so Debian's packages take the place of published images:

    standin/slim      debootstrap's minimal Debian         for ubuntu:22.04 in docker/Dockerfile
    standin/builder   slim, a C++ compiler, git, Bazel     for ubuntu:22.04 in docker/Dockerfile.devel
    standin/python    slim, Python with pip and venv       for python:3.12-slim in docker/Dockerfile.embedded

Each carries this machine's CA bundle and sets PIP_CERT, as a company's own base image would. The images are
kept in the cache folder as `docker save` wrote them, under a name that says what they were made from: the
first time takes two minutes, every further time seconds. Needs root, debootstrap, and a Docker daemon
(DOCKER_HOST says which).
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

CACHE = Path("/var/cache/tensorflow-serving-suite")
SUITE = "bookworm"
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
# The stand-in server links one library that a minimal system lacks.
SLIM_PACKAGES = ("ca-certificates", "libcpp-httplib0.11")
# Debian's Bazel looks for these workspaces on the internet unless it is told where they are; its own
# bazel-rules-cc is too new for it, so rules_cc is a handful of lines that lead to the built-in rules.
BUILDER_PACKAGES = (
    "git", "build-essential", "python3", "bazel-bootstrap", "bazel-platforms", "bazel-skylib",
    "bazel-rules-java", "bazel-rules-proto", "libcpp-httplib-dev", "nlohmann-json3-dev",
)  # fmt: skip
REPOSITORIES = {
    "rules_cc": "/usr/local/share/rules_cc",
    "rules_java": "/usr/share/bazel/rules/java",
    "rules_proto": "/usr/share/bazel/rules/proto",
    "bazel_skylib": "/usr/share/bazel/tools/skylib",
    "platforms": "/usr/share/bazel/tools/platforms",
}
RULES_CC = Path(__file__).parent / "rules_cc"
PYTHON_PACKAGES = ("python3", "python3-venv", "python3-pip")
NAMES = ("slim", "builder", "python")


def make(name: str, cache: Path = CACHE) -> str:
    """See to it that the daemon has the base image `name`, and return its full name.

    Raises subprocess.CalledProcessError, OSError.
    """
    image = f"standin/{name}"
    saved = cache / f"{name}-{_fingerprint(name)}.tar"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / ".lock"):
        if saved.exists():
            _run("docker", "load", "--quiet", "--input", str(saved))
            return image
        if name == "slim":
            _make_slim(image)
        else:
            slim = cache / f"slim-{_fingerprint('slim')}.tar"
            if slim.exists():
                _run("docker", "load", "--quiet", "--input", str(slim))
            else:
                _make_slim("standin/slim")
                _save("standin/slim", slim)
            _make_further(name, image)
        _save(image, saved)
    return image


def _save(image: str, saved: Path) -> None:
    partial = saved.with_suffix(".partial")
    _run("docker", "save", "--output", str(partial), image)
    partial.rename(saved)
    for old in saved.parent.glob(f"{saved.name.split('-')[0]}-*.tar"):
        if old != saved:
            old.unlink()


def _make_slim(image: str) -> None:
    with tempfile.TemporaryDirectory(prefix="standin-base-") as temporary:
        root = Path(temporary) / "root"
        packages = ",".join(SLIM_PACKAGES)
        _run("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, str(root))
        shutil.copyfile(CA_BUNDLE, root / "etc/ssl/certs/ca-certificates.crt")
        for waste in ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / waste, ignore_errors=True)
        tar = Path(temporary) / "root.tar"
        _run("tar", "-C", str(root), "-cf", str(tar), ".")
        changes = ("ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt", 'CMD ["bash"]')
        options = [word for change in changes for word in ("--change", change)]
        _run("docker", "import", *options, str(tar), image)


def _make_further(name: str, image: str) -> None:
    with tempfile.TemporaryDirectory(prefix="standin-base-") as temporary:
        context = Path(temporary)
        (context / "Dockerfile").write_text(_dockerfile(name))
        shutil.copytree(RULES_CC, context / "rules_cc")
        _run("docker", "build", "--network=host", "--tag", image, str(context))


def _dockerfile(name: str) -> str:
    packages = BUILDER_PACKAGES if name == "builder" else PYTHON_PACKAGES
    lines = [
        "FROM standin/slim",
        "ARG DEBIAN_FRONTEND=noninteractive",
        "RUN apt-get update \\",
        f" && apt-get install --yes --no-install-recommends {' '.join(packages)} \\",
        " && apt-get clean && rm -rf /var/lib/apt/lists/* /usr/share/doc/*",
    ]
    if name == "builder":
        overrides = "".join(f"build --override_repository={k}={v}\\n" for k, v in REPOSITORIES.items())
        lines += [
            f"COPY rules_cc {REPOSITORIES['rules_cc']}",
            f"RUN printf '{overrides}' > /etc/bazel.bazelrc",
        ]
    return "\n".join(lines) + "\n"


def _fingerprint(name: str) -> str:
    """What an image is made from: this file, and the CA bundle."""
    parts = [SUITE, ",".join(SLIM_PACKAGES), _sha256(CA_BUNDLE.read_bytes())]
    if name != "slim":
        parts.append(_dockerfile(name))
    if name == "builder":
        parts += [_sha256(p.read_bytes()) for p in sorted(RULES_CC.rglob("*")) if p.is_file()]
    return _sha256("\0".join(parts).encode())[:12]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(*argv: str) -> None:
    # Whatever the caller's shell has set for pip, Python or Docker's builder must not reach in.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, env=environment)


def main(arguments: Sequence[str] | None = None) -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="Make the base images of the Docker tests.")
    parser.add_argument(
        "names", nargs="*", default=NAMES, choices=NAMES, metavar="NAME", help=", ".join(NAMES)
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder to keep images in (%(default)s)")
    options = parser.parse_args(arguments)
    for name in options.names:
        print(make(name, options.cache))


if __name__ == "__main__":
    main()

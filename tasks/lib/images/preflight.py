"""Before an image is built: is there all that the build needs, and how much of the machine may it use?"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lib.common import console
from tasks.lib.common.errors import DockerError, ImageBuildError
from tasks.lib.common.settings import Build

MB = 1024**2
GB = 1024**3

MINIMUM_MB = 4096
"""With less, TensorFlow Serving's largest files do not compile."""
TYPICAL_MB = 12288
"""What the compilation takes when nothing holds it back."""
MARGIN_MB = 1024
"""Left to the rest of the machine, at least; and a tenth of what is free."""
ROUND_MB = 1024
"""The amount is a build argument: rounded, it stays the same from call to call, and so does the cache."""
MB_PER_JOB = 2048
"""One compiler on TensorFlow's larger files."""
DISK_GB = {"optimized": 2.0, "embedded": 6.0}
"""What the other images need: base image, layers, and the copy that is made while they are written."""
PLATFORMS = {"x86_64": "x86-64", "amd64": "x86-64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class Limits:
    """How much of the machine a compilation may use."""

    memory_mb: int
    jobs: int


def limits(build: Build, free_mb: int, processors: int) -> Limits:
    """The settings' own, or what the machine has left.

    Raises ImageBuildError if that is less than the compilation takes; what was set by hand is used as it is.
    """
    memory = build.memory_mb
    if memory is None:
        margin = max(MARGIN_MB, free_mb // 10)
        memory = (free_mb - margin) // ROUND_MB * ROUND_MB
        if memory < MINIMUM_MB:
            raise ImageBuildError(
                f"Compiling TensorFlow Serving takes at least {MINIMUM_MB} MB of memory, and {free_mb} MB "
                f"are free (of them {margin} MB stay with the system).",
                "End other programs or add memory or swap; INVOKE_BUILD_MEMORY_MB=... goes on regardless.",
            )
    jobs = build.jobs or max(1, min(processors, memory // MB_PER_JOB))
    return Limits(memory, jobs)


def check_command() -> None:
    """Raises DockerError if the docker command is not there, which builds the images."""
    if shutil.which("docker") is None:
        raise DockerError(
            "The docker command is not on your PATH, and images are built with it.",
            "Install Docker's command line (on Debian and Ubuntu: apt install docker.io or docker-ce-cli).",
        )


def check_platform(info: Mapping[str, Any], kind: str) -> None:
    """Raises DockerError if the daemon is no Linux, or if TensorFlow Serving does not exist for its CPU.

    `info` is what the daemon tells of itself.
    """
    system, cpu = str(info.get("OSType", "")), str(info.get("Architecture", ""))
    platform = PLATFORMS.get(cpu, cpu)
    if system != "linux":
        raise DockerError(
            f"This Docker Engine runs {system or 'unknown'} containers, and the images are for Linux.",
            "Switch it to Linux containers, or use --engine local.",
        )
    if platform != "x86-64" and kind != "embedded":
        raise DockerError(
            f"TensorFlow Serving exists for x86-64 only, and this Docker Engine runs on {platform}.",
            "Use the embedded server there: `invoke build.embedded`, or --engine local.",
        )


def check_disk(info: Mapping[str, Any], kind: str, needed: float) -> None:
    """Raises ImageBuildError if Docker's data folder has not `needed` GB left; says what it has.

    The folder can be out of sight, with Docker Desktop for one; then nothing is checked.
    """
    folder = Path(str(info.get("DockerRootDir") or ""))
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        console.note(f"disk: {folder} cannot be looked at; the build needs {needed:g} GB there")
        return
    if free < needed * GB:
        asked = "; INVOKE_BUILD_DISK_GB=... changes what is asked for" if kind == "devel" else ""
        raise ImageBuildError(
            f"build.{kind} needs {needed:g} GB at Docker's data folder {folder}, and "
            f"{console.size(free)} are free.",
            "Free disk space (`docker system df` shows what Docker itself holds, `docker builder prune` "
            f"removes its cache){asked}.",
        )
    console.note(f"disk: {console.size(free)} free at {folder}; the build needs {needed:g} GB")


def disk_needed(build: Build, kind: str) -> float:
    """GB that building this kind of image takes."""
    return build.disk_gb if kind == "devel" else DISK_GB[kind]


def free_memory_mb(info: Mapping[str, Any]) -> int:
    """MB that a build can have: what is free here, or what the daemon has at all if that is less."""
    import psutil

    total = int(info.get("MemTotal") or 0) or psutil.virtual_memory().total
    return int(min(total, psutil.virtual_memory().available)) // MB

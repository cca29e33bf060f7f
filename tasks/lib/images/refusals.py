"""What the Docker Engine and registries refuse, in sentences."""

from __future__ import annotations

import re

from tasks.lib.common import console
from tasks.lib.common.errors import DockerError

_ROOM = (
    "Free disk space where Docker keeps its data (`docker info` names it; `docker system prune` removes "
    "leftovers)."
)
_PLATFORM = "TensorFlow Serving's images exist for x86-64 only: use --engine local on other processors."

_PULLING = (
    # (what the daemon says, what is wrong, what to do)
    (r"no space left on device", "There is no space left for the image {image}.", _ROOM),
    (
        r"no matching manifest|does not match the (specified|expected) platform|"
        r"cannot be used on this platform",
        "The image {image} does not exist for this machine's processor.",
        _PLATFORM,
    ),
    (
        r"toomanyrequests|rate limit",
        "The registry of {image} limits pulls, and the limit is reached.",
        "Wait, or log in: docker login {registry}.",
    ),
    (
        r"access denied|repository does not exist",
        "The registry has no image {image}, or it is private.",
        "Check its name, or log in: docker login {registry}.",
    ),
    (
        r"unauthorized|no basic auth|authentication required|denied|forbidden|incorrect username",
        "The registry refuses to hand out {image}: the credentials are missing or wrong.",
        "Log in: docker login {registry}.",
    ),
    (
        r"manifest unknown|not found|name unknown|invalid reference",
        "The registry has no image {image}.",
        "Check its name and tag (the setting docker.image, or the variant's image in invoke.yaml).",
    ),
    (
        r"dial tcp|no such host|connection refused|timeout|timed out|deadline exceeded|TLS|x509|EOF|"
        r"server gave HTTP|unreachable",
        "The registry of {image} cannot be reached ({why}).",
        "Check the network and Docker's proxy settings, load the image with `docker load`, or use "
        "--engine local.",
    ),
)
_RUNNING = (
    (r"no space left on device", "There is no space left for a container of {image}.", _ROOM),
    (r"exec format error", "The image {image} is for another processor than this machine's.", _PLATFORM),
    (
        r"bind source path does not exist|invalid mount config",
        "The Docker Engine does not find the model's folder ({why}).",
        "Check that it is still there, and that the Docker Engine sees this machine's files.",
    ),
    (
        r"Requested CPUs are not available|cpuset",
        "The Docker Engine does not have all the CPUs that are asked for ({why}).",
        "Change the setting serve.cpus.",
    ),
    (
        r"Minimum memory limit|memory limit",
        "The Docker Engine refuses the memory limit ({why}).",
        "Change the setting docker.memory.",
    ),
    (
        r"No such image",
        "The image {image} was removed in the meantime.",
        "Try again: the image is then pulled or built.",
    ),
    (
        r"executable file not found|no such file or directory|No command specified",
        "The image {image} is not a server image: it has no program to start ({why}).",
        "Check the variant's image in invoke.yaml.",
    ),
)
_GOING = re.compile(
    r"removal of container .* is already in progress|marked for removal|is not running|No such container"
)
_TAKEN = re.compile(r"port is already allocated|address already in use")


def pulling(image: str, why: str) -> DockerError:
    """What went wrong when `image` was looked for or pulled; `why` is what the daemon said."""
    return _explained(_PULLING, image, why, f"The image {image} cannot be pulled")


def running(image: str, why: str) -> DockerError:
    """What went wrong when a container of `image` was made or started."""
    return _explained(_RUNNING, image, why, f"No container of {image} can be started")


def anything(why: str) -> DockerError:
    """What went wrong with a container that is there already."""
    return DockerError(
        f"The Docker Engine refuses or does not answer: {_short(why)}.",
        "Look at `docker info` and the log of the Docker Engine, and try again.",
    )


def is_going(why: str) -> bool:
    """Whether a container is being removed, or has ended, while something else was to be done to it."""
    return _GOING.search(why) is not None


def is_port_taken(why: str) -> bool:
    """Whether the daemon could not publish a port."""
    return _TAKEN.search(why) is not None


def registry(image: str) -> str:
    """The registry that an image's name means; empty for Docker Hub, as `docker login` takes it."""
    from docker.auth import INDEX_NAME, resolve_repository_name
    from docker.errors import InvalidRepository

    try:
        name, _ = resolve_repository_name(image)
    except InvalidRepository:
        return ""
    return "" if name == INDEX_NAME else name


def said(error: Exception) -> str:
    """What the daemon said, without what the library puts around it."""
    return str(getattr(error, "explanation", None) or error)


def _explained(table: tuple[tuple[str, str, str], ...], image: str, why: str, otherwise: str) -> DockerError:
    short = _short(why)
    for pattern, problem, remedy in table:
        if re.search(pattern, why, re.IGNORECASE):
            fields = {"image": image, "why": short, "registry": registry(image)}
            return DockerError(problem.format(**fields), remedy.format(**fields).replace(" .", "."))
    return DockerError(f"{otherwise}: {short}.", "Look at `docker info` and the log of the Docker Engine.")


def _short(why: str) -> str:
    return console.shortened(why.rstrip(". \n"))

"""Images: there already, in a registry, or on their way from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks.lib.common import console
from tasks.lib.common.errors import DockerError
from tasks.lib.common.hardware import cpu_flags
from tasks.lib.images import daemon, refusals
from tasks.lib.images.recipe import INSTRUCTION_SETS

if TYPE_CHECKING:
    from docker import DockerClient
    from docker.models.images import Image

REGISTRY_TIMEOUT = 15.0
"""Seconds that a registry has to tell whether it has an image, before another engine is taken."""


def find(client: DockerClient, image: str) -> Image | None:
    """The image, if the daemon has it. Raises DockerError if its name cannot be one."""
    from docker.errors import APIError, ImageNotFound

    try:
        return client.images.get(image)
    except ImageNotFound:
        return None
    except APIError as error:
        raise refusals.pulling(image, refusals.said(error)) from error


def check_registry(image: str) -> None:
    """Raises DockerError if the registry does not offer `image` for this machine."""
    with _asking(image, REGISTRY_TIMEOUT) as client:
        offered = client.images.get_registry_data(image)
        architecture = str(client.version().get("Arch", ""))
        platforms = [str(platform.get("architecture")) for platform in offered.attrs.get("Platforms") or []]
        if platforms and architecture not in platforms:
            raise refusals.pulling(image, "no matching manifest")


def pull(image: str, timeout: float) -> None:
    """Pull the image, showing progress; after `timeout` seconds without news it counts as broken.

    Raises DockerError. However this is left, the daemon stops pulling: it does when no one listens.
    """
    repository, tag = _repository_and_tag(image)
    console.command(["docker", "pull", image])
    with _asking(image, timeout) as client, console.progress(f"pulling {image}", None) as bar:
        layers = _Layers(bar)
        for event in client.api.pull(repository, tag=tag, stream=True, decode=True):
            if "error" in event:
                raise refusals.pulling(image, str(event["error"]))
            layers.take(event)


@contextmanager
def _asking(image: str, timeout: float) -> Iterator[DockerClient]:
    """A client whose daemon asks a registry for `image`; what either refuses is a DockerError."""
    import requests
    from docker.errors import DockerException

    client = daemon.connect(timeout)
    try:
        yield client
    except requests.Timeout as error:
        raise refusals.pulling(image, "timeout") from error
    except (DockerException, requests.RequestException) as error:
        raise refusals.pulling(image, refusals.said(error)) from error
    finally:
        client.close()


class _Layers:
    """Adds up what the layers of one image report."""

    def __init__(self, bar: console.Bar) -> None:
        self._bar = bar
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def take(self, event: dict[str, Any]) -> None:
        if event.get("status") not in ("Downloading", "Download complete"):
            return
        layer, detail = str(event.get("id")), event.get("progressDetail") or {}
        if "total" in detail:
            self._total[layer] = detail["total"]
        # Small layers come without numbers, and a large one's last event too.
        current = detail.get("current", self._total.get(layer, 0))
        news = current - self._done.get(layer, 0)
        self._done[layer] = current
        self._bar.total = sum(self._total.values())
        if news > 0:
            self._bar.update(news)


def _repository_and_tag(image: str) -> tuple[str, str]:
    """Repository and tag, or digest. Without a tag the daemon would pull all of them."""
    from docker.utils import parse_repository_tag

    repository, tag = parse_repository_tag(image)
    return repository, tag or "latest"


def check_fits(client: DockerClient, image: Image, name: str) -> None:
    """Raises DockerError if this machine cannot execute what is in the image."""
    architecture, ours = str(image.attrs.get("Architecture", "")), str(client.version().get("Arch", ""))
    if architecture and ours and architecture != ours:
        raise refusals.pulling(name, "no matching manifest")
    needed = (image.labels or {}).get(INSTRUCTION_SETS, "").split()
    flags = cpu_flags()
    missing = [name_of_set for name_of_set in needed if flags and name_of_set not in flags]
    if missing:
        raise DockerError(
            f"The image {name} was compiled for another CPU: this one has no {', '.join(missing)}.",
            "Compile it here with `invoke build.devel build.optimized`, or serve stock: `invoke serve`.",
        )

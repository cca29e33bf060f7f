"""Removes the images that this suite built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.lib.common import console
from tasks.lib.common.errors import DockerError
from tasks.lib.common.settings import Settings
from tasks.lib.images import daemon, recipe, refusals

if TYPE_CHECKING:
    from docker.client import DockerClient


@dataclass(frozen=True)
class Leftover:
    """One name of an image of ours."""

    name: str
    """What `docker rmi` takes."""
    size: int
    """Bytes; layers that images share count for each."""


def find(client: DockerClient, settings: Settings) -> list[Leftover]:
    """What there is to remove, sorted by name.

    An image made FROM ours inherits its labels; it is ours only if it is called so. Those
    that have lost their name to a newer one got another when that was built. Raises DockerError.
    """
    import requests
    from docker.errors import DockerException

    ours = tuple(f"{recipe.user(settings)}/{repository}:" for repository in recipe.REPOSITORIES.values())
    leftovers = []
    try:
        for image in client.images.list(filters={"label": f"{recipe.LABEL}.kind"}):
            names = [tag for tag in image.tags if tag.startswith(ours)]
            leftovers += [Leftover(name, image.attrs["Size"]) for name in names]
    except (DockerException, requests.RequestException) as error:
        raise refusals.anything(refusals.said(error)) from error
    return sorted(leftovers, key=lambda one: one.name)


def remove(client: DockerClient, leftovers: Sequence[Leftover]) -> list[Leftover]:
    """Remove them, and return those that are gone; one that a container uses stays, and is said."""
    import requests
    from docker.errors import DockerException, ImageNotFound

    gone = []
    for leftover in leftovers:
        try:
            client.images.remove(leftover.name)
        except ImageNotFound:
            pass
        except (DockerException, requests.RequestException) as error:
            console.note(f"{leftover.name} stays: {refusals.said(error)}")
            continue
        gone.append(leftover)
    return gone


def remove_all(settings: Settings) -> None:
    """Remove every image that the suite built, and print which; without a Docker Engine, say so."""
    try:
        client = daemon.connect()
    except DockerError as error:
        console.note(error.problem)
        console.result("no images to remove")
        return
    leftovers = find(client, settings)
    described = ", ".join(f"{image.name} ({console.size(image.size)})" for image in leftovers)
    if not leftovers:
        console.result("no images to remove")
    elif settings.dry:
        console.note(f"would remove images: {described}")
    else:
        console.note(f"removing images: {described}")
        gone = remove(client, leftovers)
        console.result(f"removed images: {', '.join(image.name for image in gone) or 'none'}")

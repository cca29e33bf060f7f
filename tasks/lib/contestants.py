"""The contestants of a benchmark: what a person names, and the servers that it means.

Servers that run already are used, others are started, and those that are nobody's of this suite are
asked as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tasks.lib import processes, servers, store, variants
from tasks.lib.client import Client
from tasks.lib.engines.base import Conditions, Engine, Server
from tasks.lib.errors import ServerError, SettingError
from tasks.lib.settings import Settings
from tasks.lib.store import Model
from tasks.lib.verdict import Contestant

UNKNOWN = "-"
"""The backend and the precision of a server that this suite did not start."""


@dataclass(frozen=True)
class Asked:
    """A contestant as a person names it."""

    name: str
    """As it is called in the table and the sentence."""
    variant: str = ""
    """Of this suite; empty for an address."""
    reference: str | None = None
    """NAME@VERSION; None for the model that the benchmark is of."""
    urls: tuple[str, ...] = ()
    """Addresses of a model on servers of anybody, without ":predict"; several are replicas."""


def parse(text: str) -> Asked:
    """VARIANT, NAME@VERSION, NAME@VERSION:VARIANT, or addresses of a model on any server.

    Raises SettingError for what is none of these.
    """
    if "://" in text:
        return _address(text)
    if "@" not in text:
        return Asked(text, text)
    reference, _, variant = text.partition(":")
    if store.parse(reference).version is None:
        raise SettingError(f"{text!r} names no version.", "Give NAME@VERSION, such as resnet@2.")
    return Asked(text, variant or "stock", reference)


def _address(text: str) -> Asked:
    urls = [part.strip().rstrip("/").removesuffix(":predict") for part in text.split(",")]
    for url in urls:
        try:
            parts = urlsplit(url)
            usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or "/v1/models/" not in url:
            raise SettingError(
                f"{url!r} is not the address of a model on a server.",
                "Give one such as http://127.0.0.1:8501/v1/models/resnet, or several with commas between.",
            )
    first = urlsplit(urls[0])
    more = f" and {len(urls) - 1} more" if len(urls) > 1 else ""
    return Asked(first.netloc + first.path.replace("/v1/models/", "/") + more, urls=tuple(urls))


@contextmanager
def up(settings: Settings, asked: Asked, engine: Engine | None, model: Model | None) -> Iterator[Contestant]:
    """The contestant that is asked for, answering. If its server was started here, it is stopped again.

    `engine` and `model` are None where an address is asked for.
    """
    if engine is None or model is None:
        yield _theirs(settings, asked)
        return
    variant = variants.find(settings, asked.variant, engine.name)
    server, is_new = servers.bring_up(settings, engine, model, variant, temporary=True)
    try:
        yield _ours(asked, server, model, engine.conditions(server))
    finally:
        if is_new:
            processes.finish(engine.stop, server, settings.serve.stop_grace)


def _ours(asked: Asked, server: Server, model: Model, conditions: Conditions) -> Contestant:
    return Contestant(
        name=asked.name,
        model=str(model),
        urls=(server.url,),
        backend=variants.BACKENDS[server.variant.backend],
        precision=server.variant.precision,
        origin=model.origin,
        image=server.image,
        image_id=server.image_id,
        conditions=conditions,
    )


def _theirs(settings: Settings, asked: Asked) -> Contestant:
    models = {_served(url, settings.benchmark.plan.timeout) for url in asked.urls}
    if len(models) > 1:
        raise ServerError(
            f"The replicas serve different models: {', '.join(sorted(models))}.",
            "Give addresses of one model, in one version.",
        )
    return Contestant(asked.name, models.pop(), asked.urls, UNKNOWN, UNKNOWN)


def _served(url: str, timeout: float) -> str:
    try:
        spec = Client(url, timeout).metadata()["model_spec"]
        return f"{spec['name']}@{int(spec['version'])}"
    except (KeyError, TypeError, ValueError):
        raise ServerError(
            f"{url} does not say which model it serves.",
            "Give the address of a model on a server with TensorFlow Serving's REST API.",
        ) from None

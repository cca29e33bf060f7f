"""The contestants of a benchmark: what a person names, and the servers that it means.

Running servers are used, others are started. Servers that this suite did not start are used as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from tasks.lib.client.rest import client_for, protocol_of
from tasks.lib.common import processes, variants
from tasks.lib.common.errors import ServerError, SettingError
from tasks.lib.common.settings import GRPC, REST, Settings
from tasks.lib.engines.base import Conditions, Engine, Server
from tasks.lib.measure.verdict import Contestant
from tasks.lib.models import store
from tasks.lib.models.http_file import public
from tasks.lib.models.store import Model
from tasks.lib.serving import start

UNKNOWN = "-"
"""The backend and the precision of a server that this suite did not start."""


SCHEMES = {REST: "http", GRPC: "grpc"}
"""What a model's address begins with, by what it is asked over."""


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
    """Addresses of a model on any servers, without ":predict"; several are replicas."""

    @property
    def protocol(self) -> str | None:
        """What its addresses are asked over; None where it has none."""
        return protocol_of(self.urls[0]) if self.urls else None


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
            usable = parts.scheme in SCHEMES.values() and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if usable and parts.username is not None:
            raise SettingError(
                f"The address of {parts.hostname} contains a user name, and benchmarks do not log in.",
                "Give an address that needs no login, such as one behind the proxy.",
            )
        if url.startswith("https://"):
            raise SettingError(
                f"{public(url)!r} is encrypted, and benchmarks measure plain HTTP.",
                "Give the server's own http:// address, behind the TLS proxy.",
            )
        if not usable or "/v1/models/" not in url:
            raise SettingError(
                f"{public(url)!r} is not the address of a model on a server.",
                "Give one such as http://127.0.0.1:8501/v1/models/resnet (REST) or "
                "grpc://127.0.0.1:8500/v1/models/resnet, or several with commas between.",
            )
    if len({protocol_of(url) for url in urls}) > 1:
        raise SettingError(
            f"{public(text)!r} names replicas by REST and by gRPC addresses.",
            "Give all of them in the same way, or compare the two as baseline and candidate.",
        )
    first = urlsplit(urls[0])
    more = f" and {len(urls) - 1} more" if len(urls) > 1 else ""
    scheme = "grpc://" if first.scheme == "grpc" else ""
    name = scheme + first.netloc + first.path.replace("/v1/models/", "/") + more
    return Asked(name, urls=tuple(urls))


def protocol(asked: Sequence[Asked], chosen: str | None) -> str:
    """What servers of this suite are asked over: what is wanted, else what all addresses are asked over.

    Raises SettingError for an address that is not asked over what is wanted.
    """
    theirs = {entry.protocol for entry in asked if entry.protocol is not None}
    if chosen is None:
        return GRPC if theirs == {GRPC} else REST
    for entry in asked:
        if entry.protocol not in (None, chosen):
            raise SettingError(
                f"{entry.urls[0]} is not asked over {chosen}.",
                f"Give its {SCHEMES[chosen]}:// address, or leave --protocol out.",
            )
    return chosen


@contextmanager
def up(
    settings: Settings,
    asked: Asked,
    engine: Engine | None,
    model: Model | None,
    protocol: str,
    *,
    another: bool = False,
) -> Iterator[Contestant]:
    """The contestant that is asked for, answering. If its server was started here, it is stopped again.

    `engine` and `model` are None where an address is asked for; a server of this suite is asked over
    `protocol`. With `another` a further process is started, although one is up.
    """
    if engine is None or model is None:
        yield _theirs(settings, asked)
        return
    variant = variants.find(settings, asked.variant, engine.name)
    server, is_new = start.bring_up(settings, engine, model, variant, temporary=True, another=another)
    try:
        url = server.grpc_url if protocol == GRPC else server.url
        yield _ours(asked, server, url, model, engine.conditions(server))
    finally:
        if is_new:
            processes.finish(engine.stop, server, settings.serve.stop_grace)


def _ours(asked: Asked, server: Server, url: str, model: Model, conditions: Conditions) -> Contestant:
    return Contestant(
        name=asked.name,
        model=str(model),
        urls=(url,),
        backend=variants.BACKENDS[server.variant.backend],
        precision=server.variant.precision,
        origin=model.origin,
        image=server.image,
        image_id=server.image_id,
        conditions=conditions,
    )


def _theirs(settings: Settings, asked: Asked) -> Contestant:
    models = {served(url, settings.benchmark.plan.timeout) for url in asked.urls}
    if len(models) > 1:
        raise ServerError(
            f"The replicas serve different models: {', '.join(sorted(models))}.",
            "Give addresses of one model, in one version.",
        )
    return Contestant(asked.name, models.pop(), asked.urls, UNKNOWN, UNKNOWN)


def served(url: str, timeout: float) -> str:
    """NAME@VERSION of what a server serves at an address of a model. Raises ServerError."""
    try:
        spec = client_for(url, timeout).metadata()["model_spec"]
        name = str(spec["name"])
        if not name.isprintable():
            raise ValueError("a name with control characters")
        return f"{name}@{int(spec['version'])}"
    except (KeyError, TypeError, ValueError):
        raise ServerError(
            f"{url} does not say which model it serves.",
            "Give the address of a model on a server with TensorFlow Serving's API.",
        ) from None

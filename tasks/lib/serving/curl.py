"""The line for the shell that sends a server a request."""

from __future__ import annotations

import base64
import shlex
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from tasks.lib.client import inputs
from tasks.lib.client.inputs import Sample
from tasks.lib.client.rest import Client
from tasks.lib.client.signature import Signature, default_signature, named_signature
from tasks.lib.common import disk
from tasks.lib.common.errors import SuiteError
from tasks.lib.common.settings import Settings
from tasks.lib.engines.base import Server
from tasks.lib.models import samples, user_requests

_LONGEST = 1000
"""Characters of a request that are printed; a longer one is put into a file."""


def check_place(place: Path) -> Path:
    """`place` if it holds photos or requests. Raises SuiteError otherwise, before anything is started."""
    inputs.given_at(place)
    return place


def line(settings: Settings, server: Server, place: Path | None = None, signature_name: str = "") -> str:
    """A curl line, typed at the project's root, that sends the server its first request of `place`.

    Without `place` it is the photo of a cat, or the shortest of the model's samples. Where no request can be
    made up, the line asks for the model's metadata. Raises SuiteError for a place or a signature that does
    not fit.
    """
    curl = f"curl {_no_proxy(server)}"
    asked = place is not None or bool(signature_name)
    try:
        metadata = Client(server.url, settings.benchmark.plan.timeout).metadata()
        signature = (
            named_signature(metadata, signature_name) if signature_name else default_signature(metadata)
        )
        if place is not None and place.suffix.lower() in inputs.REQUEST_SUFFIXES and not signature_name:
            name = inputs.signature_of(inputs.requests_in(place)[0].body, signature.name)
            signature = named_signature(metadata, name)
        made = samples.of_server(settings, server.model, server.version, make=True)
        photo, sample = _request(settings, made, signature, place)
    except SuiteError:
        if asked:
            raise
        return f"{curl}{server.url}/metadata"
    body = inputs.naming(sample.body, signature.name)
    encoded = base64.b64encode(photo.read_bytes()) if photo is not None else b""
    if photo is not None and body.count(encoded) == 1:
        head, _, tail = body.decode().partition(encoded.decode())
        # Not `base64 -w0 FILE`: macOS has no -w, and GNU breaks lines without it.
        printed = f"base64 < {shlex.quote(settings.paths.shown(photo))} | tr -d '\\n'"
        return f"(printf %s '{head}'; {printed}; printf %s '{tail}') | {curl}-d @- {server.url}:predict"
    if len(body) <= _LONGEST:
        return f"{curl}-d {shlex.quote(body.decode())} {server.url}:predict"
    request = settings.paths.state / "requests" / f"{server.model}.json"
    disk.make_folder(request.parent)
    disk.write_text(request, body.decode())
    return f"{curl}-d @{shlex.quote(settings.paths.shown(request))} {server.url}:predict"


def _request(
    settings: Settings, made: samples.Samples | None, signature: Signature, place: Path | None
) -> tuple[Path | None, Sample]:
    """The request, and the photo in it if there is one."""
    if place is not None:
        given = inputs.given_at(place)
        mine = user_requests.given_for(
            replace(given, photos=given.photos[:1]), made, signature, signature.name
        )
        if given.requests and mine:
            return None, mine[0]
        photo = inputs.photos_in(place)[0]
    else:
        if made is not None and not made.is_photo(signature):
            return None, min(made.of(signature), key=lambda one: len(one.body))
        of_suite = inputs.sample_photos(settings.paths)
        photo = next((photo for photo in of_suite if photo.stem == "cat"), of_suite[0])
        if made is None and not inputs.takes_photos(signature):
            return None, inputs.requests_of(signature, [photo])[0]
    return photo, user_requests.requests_for(made, signature, [photo])[0]


def _no_proxy(server: Server) -> str:
    """What keeps curl from asking a proxy for a server on this machine; nothing where none is set."""
    host = urlsplit(server.url).hostname or ""
    proxies = getproxies_environment()
    asks_proxy = ("http" in proxies or "all" in proxies) and not proxy_bypass(host)
    return f"--noproxy {host} " if asks_proxy else ""

"""Serves models: starts servers, lists them, shows what they write, and stops them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Collection, Context

from tasks.edge import settings, task

if TYPE_CHECKING:
    from tasks.lib.common.settings import Settings
    from tasks.lib.common.variants import Variant
    from tasks.lib.engines.base import Engine, Server
    from tasks.lib.models.store import Model

MODEL_HELP = "NAME or NAME@VERSION"
LOG_LINES = "50"
STATUS_TIMEOUT = 5.0
"""Seconds that a server has to tell its state."""


@task(
    default=True,
    name="start",
    help={
        "optimized": "serve the variant compiled for this CPU; short for --variant optimized",
        "variant": "a variant of invoke.yaml; default: stock",
        "model": f"{MODEL_HELP}; default: the setting `model`",
        "engine": "where it runs, auto, local or docker; default: the setting `engine`",
        "port": "the REST port; default: the setting serve.rest_port, or the next free one",
        "inputs": "a photo, or a file of JSON requests, whose first one the printed line sends",
        "signature": "the one that the printed line asks; default: serving_default, or the first one",
    },
)
def serve(
    c: Context,
    optimized: bool = False,
    variant: str = "",
    model: str = "",
    engine: str = "",
    port: str = "",
    inputs: str = "",
    signature: str = "",
) -> None:
    """Serve a model; returns once the server has answered a real predict.

    The server runs on until `invoke serve.stop` or `invoke teardown`. What is missing is made first:
    the model is downloaded, the embedded environment and the optimized model are built; on Docker the
    published image is pulled. A server of the same variant and model version that is up already is
    used. Prints the model's URL and a curl line that sends it a request.
    """
    from pathlib import Path

    from tasks.lib.common import console, values, variants
    from tasks.lib.common.errors import CannotGain
    from tasks.lib.engines.choose import choose
    from tasks.lib.models import obtain
    from tasks.lib.serving import curl, start

    its = settings(c)
    place = curl.check_place(Path(inputs).expanduser()) if inputs else None
    name = _variant_name(optimized, variant)
    variants.check(its, name)  # a misspelt one is told before an engine is looked for
    wanted_port = values.port(port) if port else None
    where = choose(its, engine or None, [name])
    wanted = variants.find(its, name, where.name)
    found = obtain.ensure(its, model or its.model)
    if its.dry:
        _say_what_would_be_done(its, where, found, model or its.model, wanted, wanted_port)
        return
    assert found is not None
    try:
        server, _ = start.bring_up(its, where, found, wanted, wanted_port)
    except CannotGain as error:
        stock = f"invoke serve --model {model or its.model}"
        raise CannotGain(error.problem, f"Serve it as it is with `{stock}`.") from error
    if found.origin.warning:
        console.note(found.origin.warning)
    if server.grpc_port:
        console.note(f"over gRPC: {server.grpc_url}")
    console.result(server.url)
    console.result(curl.line(its, server, place, signature))


@task(
    help={
        "variant": "only servers of this variant",
        "model": f"only servers of this model, {MODEL_HELP}",
        "format": "text, markdown, csv or json",
    }
)
def status(c: Context, variant: str = "", model: str = "", format: str = "text") -> None:
    """List the servers that run."""
    from tasks.lib.common import console
    from tasks.lib.common.tables import check_format, render

    its = settings(c)
    check_format(format)
    rows = [_row(server) for _, server in _matching(its, variant, model)]
    if not rows:
        console.note(_nothing(variant, model))
    if rows or format == "json":  # an empty JSON list can be read; an empty table says nothing
        console.result(render(rows, format))


@task(
    help={
        "variant": "only servers of this variant",
        "model": f"only servers of this model, {MODEL_HELP}",
        "lines": f"how many of the last lines, or all; default: {LOG_LINES}",
    }
)
def logs(c: Context, variant: str = "", model: str = "", lines: str = LOG_LINES) -> None:
    """Show what the servers have written.

    The last logs of servers that ended by themselves are kept in .state/servers/ended/.
    """
    from tasks.lib.common import console
    from tasks.lib.common.values import whole_number

    its = settings(c)
    wanted = None if lines == "all" else whole_number(lines, "--lines", 1)
    found = _matching(its, variant, model)
    if not found:
        console.note(_nothing(variant, model))
    for engine, server in found:
        console.note(f"{server}:")
        console.result(engine.logs(server, wanted))


@task(
    help={
        "variant": "only servers of this variant",
        "model": f"only servers of this model, {MODEL_HELP}",
    }
)
def stop(c: Context, variant: str = "", model: str = "") -> None:
    """Stop servers: all that this suite started, or those of a variant or a model.

    The embedded server finishes the requests in flight first, for as long as the setting
    serve.stop_grace allows; TensorFlow Serving has no such way of ending.
    """
    from tasks.lib.common import console

    its = settings(c)
    found = _matching(its, variant, model)
    if not found:
        console.result(_nothing(variant, model))
    for engine, server in found:
        if its.dry:
            console.note(f"would stop {server}")
        else:
            engine.stop(server, its.serve.stop_grace)
            console.result(f"stopped {server}")


def _nothing(variant: str, model: str) -> str:
    """What is said where no server fits the flags."""
    wanted = " ".join(word for word in (variant, model) if word)
    return f"no server of {wanted} is running" if wanted else "nothing is running"


def _variant_name(optimized: bool, variant: str) -> str:
    from tasks.lib.common.errors import SettingError

    if optimized and variant not in ("", "optimized"):
        raise SettingError(
            f"--optimized and --variant {variant} name different variants.", "Give one of the two flags."
        )
    return variant or ("optimized" if optimized else "stock")


def _say_what_would_be_done(
    its: Settings, where: Engine, model: Model | None, reference: str, variant: Variant, port: int | None
) -> None:
    from tasks.lib.common import console
    from tasks.lib.embedded import environment
    from tasks.lib.models import artefact

    if where.name == "local" and not environment.is_built(its):
        environment.ensure(its)
    if model is None:
        console.note(f"would serve {variant.name} {reference}")
        return
    if variant.needs_artefact and artefact.read(its, model) is None:
        console.note(f"would build the optimized {model} for this machine")
    where.start(model, variant, port)


def _matching(its: Settings, variant: str, model: str) -> list[tuple[Engine, Server]]:
    """The running servers that the flags mean, with their engines. Raises SuiteError for a wrong flag."""
    from tasks.lib.common import variants
    from tasks.lib.engines.choose import all_engines
    from tasks.lib.models import store

    wanted = store.parse(model) if model else None
    found = [
        (engine, server)
        for engine in all_engines(its)
        for server in engine.servers()
        if variant in ("", server.variant.name)
        and (wanted is None or (wanted.name == server.model and wanted.version in (None, server.version)))
    ]
    if variant and not found:
        # A variant that invoke.yaml no longer has can still be running; a misspelt one never is.
        variants.check(its, variant)
    return found


def _row(server: Server) -> dict[str, object]:
    from tasks.lib.common.variants import BACKENDS

    return {
        "model": f"{server.model}@{server.version}",
        "variant": server.variant.name,
        "backend": BACKENDS[server.variant.backend],
        "precision": server.variant.precision,
        "engine": server.engine,
        "port": server.rest_port,
        "grpc port": server.grpc_port or "-",
        "url": server.url,
        "up since": server.started,
        "state": _state(server),
    }


def _state(server: Server) -> str:
    from tasks.lib.client.rest import Client
    from tasks.lib.common.errors import ServerError

    try:
        versions = Client(server.url, STATUS_TIMEOUT).status()
    except ServerError:
        return "not ready"
    return "ready" if any(version.get("state") == "AVAILABLE" for version in versions) else "not ready"


ns = Collection("serve", serve, status, logs, stop)

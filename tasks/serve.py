"""Serves models: starts servers, lists them, shows what they write, and stops them."""

from __future__ import annotations

from invoke import Collection, Context

from tasks.edge import read_settings, task

MODEL_HELP = "NAME or NAME@VERSION"
LOG_LINES = "50"
WHICH = {
    "variant": "only servers of this variant",
    "model": f"only servers of this model, {MODEL_HELP}",
}


@task(
    default=True,
    name="start",
    help={
        "optimized": "serve the variant compiled for this CPU; short for --variant optimized",
        "variant": "a variant of invoke.yaml; default: stock",
        "model": f"{MODEL_HELP}; default: the setting `model`",
        "engine": "where it runs, auto, local or docker; default: the setting `engine`",
        "port": "the REST port; default: the setting serve.rest_port, or the next free one",
        "inputs": "a photo, or a file of JSON requests; the printed line sends the first one",
        "signature": "the signature in the printed line; default: serving_default, or the first one",
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

    from tasks.lib.common import values
    from tasks.lib.models import choice
    from tasks.lib.serving import serve as serving

    settings = read_settings(c)
    serving.serve(
        settings,
        choice.choose(settings, model).model,
        serving.variant_name(optimized, variant),
        engine,
        values.port(port) if port else None,
        Path(inputs) if inputs else None,
        signature,
    )


@task(help={**WHICH, "format": "text, markdown, csv or json"})
def status(c: Context, variant: str = "", model: str = "", format: str = "text") -> None:
    """List the servers that run."""
    from tasks.lib.common import console
    from tasks.lib.common.tables import render
    from tasks.lib.serving import servers

    settings = read_settings(c, format)
    rows = [servers.row(server) for _, server in servers.matching(settings, variant, model)]
    if not rows:
        console.note(servers.none_running(variant, model))
    if rows or format == "json":  # an empty JSON list can be read; an empty table says nothing
        console.result(render(rows, format))


@task(help={**WHICH, "lines": f"how many of the last lines, or all; default: {LOG_LINES}"})
def logs(c: Context, variant: str = "", model: str = "", lines: str = LOG_LINES) -> None:
    """Show what the servers have written.

    The last logs of servers that ended by themselves are kept in .state/servers/ended/.
    """
    from tasks.lib.common import console
    from tasks.lib.common.values import whole_number
    from tasks.lib.serving import servers

    settings = read_settings(c)
    limit = None if lines == "all" else whole_number(lines, "--lines", 1)
    running = servers.matching(settings, variant, model)
    if not running:
        console.note(servers.none_running(variant, model))
    for engine, server in running:
        console.note(f"{server}:")
        console.result(engine.logs(server, limit))


@task(help=WHICH)
def stop(c: Context, variant: str = "", model: str = "") -> None:
    """Stop servers: all that this suite started, or those of a variant or a model.

    The embedded server finishes the requests in flight first, for as long as the setting
    serve.stop_grace allows; TensorFlow Serving has no such way of ending.
    """
    from tasks.lib.common import console
    from tasks.lib.serving import servers

    settings = read_settings(c)
    running = servers.matching(settings, variant, model)
    if not running:
        console.result(servers.none_running(variant, model))
    servers.stop(settings, running)


ns = Collection("serve", serve, status, logs, stop)

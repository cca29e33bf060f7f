"""`invoke serve`: a model's server with all that it needs, and the line that asks it."""

from __future__ import annotations

from pathlib import Path

from tasks.lib.common import console, variants
from tasks.lib.common.errors import CannotGain, SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.embedded import environment
from tasks.lib.engines.base import Engine, Server
from tasks.lib.engines.choose import choose
from tasks.lib.models import artefact, obtain
from tasks.lib.models.store import Model
from tasks.lib.serving import curl, start


def variant_name(optimized: bool, variant: str) -> str:
    """The variant that --optimized and --variant mean. Raises SettingError if they contradict each other."""
    if optimized and variant not in ("", "optimized"):
        raise SettingError(
            f"--optimized and --variant {variant} name different variants.", "Give one of the two flags."
        )
    return variant or ("optimized" if optimized else "stock")


def serve(
    settings: Settings,
    reference: str,
    variant: str,
    engine: str = "",
    port: int | None = None,
    inputs: Path | None = None,
    signature: str = "",
) -> Server | None:
    """Serve a model, and print its URL and a curl line that sends it a request.

    `reference` is NAME or NAME@VERSION. `inputs` is a photo or a file of requests for the curl line. What is
    missing is downloaded and built first. Returns None on --dry, which prints what would be done. Raises
    CannotGain, naming the command that serves stock, if the model cannot be optimized, and SuiteError as the
    steps do.
    """
    given = curl.check_place(inputs.expanduser()) if inputs else None
    variants.check(settings, variant)  # a misspelt one is reported before an engine is looked for
    where = choose(settings, engine or None, [variant])
    chosen = variants.find(settings, variant, where.name)
    model = obtain.ensure(settings, reference)
    if settings.dry:
        _preview(settings, where, model, reference, chosen, port)
        return None
    assert model is not None
    try:
        server, _ = start.bring_up(settings, where, model, chosen, port)
    except CannotGain as error:
        stock = f"invoke serve --model {reference}"
        raise CannotGain(error.problem, f"Serve it as it is with `{stock}`.") from error
    if model.origin.warning:
        console.note(model.origin.warning)
    if server.grpc_port:
        console.note(f"over gRPC: {server.grpc_url}")
    console.result(server.url)
    console.result(curl.line(settings, server, given, signature))
    return server


def _preview(
    settings: Settings,
    engine: Engine,
    model: Model | None,
    reference: str,
    variant: Variant,
    port: int | None,
) -> None:
    if engine.name == "local" and not environment.is_built(settings):
        environment.ensure(settings)  # on --dry it prints what it would do
    if model is None:
        console.note(f"would serve {variant.name} {reference}")
        return
    if variant.needs_artefact and artefact.read(settings, model) is None:
        console.note(f"would build the optimized {model} for this machine")
    engine.preview(model, variant, port)

"""From a photo to the names of its classes, through a running server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.lib import agreement, catalog, inputs, samples, store, variants
from tasks.lib.client import Client
from tasks.lib.engines.base import Server
from tasks.lib.engines.choose import all_engines
from tasks.lib.errors import ModelError, ServerError
from tasks.lib.settings import Settings
from tasks.lib.signature import Signature, default_signature

UNKNOWN_RANGE = (
    "the model does not tell in which range it expects pixels: they were sent in 0..1; "
    "`invoke build.optimized --pixels 0..255` says another one"
)
ASK_WITH_CURL = "Ask it with curl; `invoke serve` prints a line to begin with."


def server_to_ask(settings: Settings, reference: str, variant: str | None) -> Server:
    """The running server of this model (and variant) that was started last.

    Raises ServerError if there is none, SettingError for a variant that cannot be.
    """
    wanted = store.parse(reference)
    running = [server for engine in all_engines(settings) for server in engine.servers()]
    running.sort(key=lambda server: server.started)
    for server in reversed(running):
        if server.model != wanted.name or wanted.version not in (None, server.version) or server.temporary:
            continue
        if variant in (None, server.variant.name):
            return server
    if variant is not None:
        variants.check(settings, variant)
    what = f"{variant} {reference}" if variant else reference
    flag = "--optimized" if variant in (None, "optimized") else f"--variant {variant}"
    model = "" if reference == settings.model else f" --model {reference}"
    raise ServerError(f"No server of {what} is running.", f"Start one with `invoke serve {flag}{model}`.")


def can_classify(signature: Signature) -> bool:
    """Whether the model takes a photo and scores its class, as `invoke predict` needs it."""
    return inputs.takes_photos(signature) and agreement.scores_output(signature) is not None


def top_classes(
    settings: Settings, server: Server, photos: Sequence[Path], count: int
) -> tuple[list[dict[str, object]], str | None]:
    """The `count` best classes of each photo, a row each, and what has to be said about them.

    Raises ModelError if the model has no output that scores classes.
    """
    client = Client(server.url)
    metadata = client.metadata()
    signature = default_signature(metadata)
    scores = agreement.scores_output(signature)
    made = samples.of_server(settings, server.model, server.version, make=True)
    if not inputs.takes_photos(signature) or (made is not None and not made.takes_photos(signature.name)):
        takes = ", ".join(f"{t.name} {t.dtype}" for t in signature.inputs)
        raise ModelError(f"{server.model} takes no photos (it takes: {takes}).", ASK_WITH_CURL)
    if scores is None:
        names = ", ".join(f"{t.name} {t.dtype}" for t in signature.outputs)
        raise ModelError(
            f"{server.model} has no output with a score for each class (it has: {names}).", ASK_WITH_CURL
        )
    labels = _labels(settings, server.model)
    rows: list[dict[str, object]] = []
    pixels = made.pixels(signature.name) if made is not None else None
    for sample in inputs.requests_of(signature, photos, pixels):
        (values,) = agreement.answer(client, signature, sample.body)[scores.name]
        best = sorted(range(len(values)), key=lambda index: -values[index])[:count]
        for index in best:
            rows.append(
                {
                    "photo": sample.name,
                    "class": str(index),
                    "name": labels[index] if index < len(labels) else "-",
                    "probability": f"{values[index]:.4f}",
                }
            )
    warnings = [store.find(settings.paths, f"{server.model}@{server.version}").origin.warning]
    if made is not None and made.lacks_range(signature.name):
        warnings.append(UNKNOWN_RANGE)
    return rows, "\n".join(filter(None, warnings)) or None


def _labels(settings: Settings, name: str) -> list[str]:
    """The label names of a catalogue model, by class number; none for any other."""
    entry = catalog.find(settings.paths, name)
    if entry is None or entry.labels is None or not entry.labels.is_file():
        return []
    return entry.labels.read_text(encoding="utf-8").splitlines()

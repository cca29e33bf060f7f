"""Asks a running server what is on a photo."""

from __future__ import annotations

from invoke import Context

from tasks.edge import settings, task

TOP = 5


@task(
    help={
        "photo": "a photo, or a folder of photos",
        "model": "NAME or NAME@VERSION; default: the setting `model`",
        "variant": "which of the running servers to ask; default: the one started last",
        "format": "text, markdown, csv or json",
    }
)
def predict(c: Context, photo: str, model: str = "", variant: str = "", format: str = "text") -> None:
    """Classify a photo: the five best classes with their names and probabilities.

    A running server of the model is asked; `invoke serve --optimized` starts one.
    """
    from pathlib import Path

    from tasks.lib import classify, console, inputs
    from tasks.lib.report import check_format, render

    its = settings(c)
    check_format(format)
    photos = inputs.photos_in(Path(photo))
    if its.dry:
        console.note(f"would send {len(photos)} photo(s) to a running server and show its {TOP} best classes")
        return
    server = classify.server_to_ask(its, model or its.model, variant or None)
    console.note(f"asking {server}")
    rows, warning = classify.top_classes(its, server, photos, TOP)
    console.result(render(rows, format))
    if warning:
        console.note(warning)

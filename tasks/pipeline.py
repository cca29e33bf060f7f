"""The main job, from download to a measured comparison."""

from __future__ import annotations

from invoke import Context

from tasks.edge import read_settings, task


@task(
    interruption="interrupted: everything that this pipeline started has been taken down.",
    help={
        "model": "NAME or NAME@VERSION; default: the setting `model`",
        "engine": "auto, local or docker; default: the setting `engine`",
        "format": "how the comparison is printed: text, markdown, csv or json",
    },
)
def pipeline(c: Context, model: str = "", engine: str = "", format: str = "text") -> None:
    """Do everything: download, build, serve stock and optimized, benchmark, teardown.

    Whatever happens, an error or Ctrl-C included, nothing is left running: servers that were up before
    are stopped too. The first run installs the embedded environment and takes some minutes; later ones
    take about two. A model that cannot be optimized, or does not gain by it, is measured as stock alone.
    """
    from tasks.lib.benchmark import pipeline as steps

    settings = read_settings(c, format)
    steps.run(settings, model, engine, format)

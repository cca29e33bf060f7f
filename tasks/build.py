"""Builds what the chosen engine serves from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Collection, Context

from tasks.edge import inside, settings, task

if TYPE_CHECKING:
    from tasks.lib.common.settings import Settings
    from tasks.lib.models.store import Model
    from tasks.lib.optimize.candidates import Outcome

MODEL_HELP = "NAME or NAME@VERSION; default: the setting `model`"
ENGINE_HELP = "auto, local or docker; default: the setting `engine`"


@task(
    help={
        "precision": "auto (measured), f32 or bf16; local engine only",
        "model": f"{MODEL_HELP}; local engine only",
        "inputs": "compare over these too: a photo, a file of JSON requests (.jsonl), or a folder of either",
        "signature": "the one that --inputs are for where they name none; default: serving_default",
        "pixels": "range of the pixels that the model expects: 0..1, 0..255 or -1..1; default: told by it",
        "engine": ENGINE_HELP,
    }
)
def optimized(
    c: Context,
    precision: str = "",
    model: str = "",
    inputs: str = "",
    signature: str = "",
    pixels: str = "",
    engine: str = "",
) -> None:
    """Build what `serve --optimized` serves: an image on Docker, a compiled model on the local engine.

    On Docker the server that build.devel compiled for this CPU is put onto a slim base image, for any
    model. On auto that is done where the image of build.devel is there.

    On the local engine the SavedModel is converted: OpenVINO executes what is proven to answer alike,
    TensorFlow the rest. Every signature is compared with stock in every precision that this CPU computes
    natively, over ordinary and made-to-break inputs (and yours with --inputs), and timed. `auto` keeps
    the fastest precision; a signature that differs by more than the limit in invoke.yaml, or is slower
    than stock, is executed by TensorFlow. The table shows what was decided and why. What is known for
    the same inputs is not found out twice.
    """
    from pathlib import Path

    from tasks.lib.client.inputs import given_at
    from tasks.lib.common import console
    from tasks.lib.images import docker_build
    from tasks.lib.models import artefact, obtain, samples
    from tasks.lib.optimize import optimize

    its = settings(c)
    wanted = optimize.check_precision(precision or its.optimize.precision)
    if docker_build.engine(its, "optimized", engine) == "docker":
        if precision or inputs:
            console.note(
                "--precision and --inputs are for the local engine: an image serves models as they are"
            )
        _make_image(its, "optimized")
        return
    wanted_pixels = samples.check_pixels(pixels)
    given = given_at(Path(inputs).expanduser(), signature) if inputs else None
    found = obtain.ensure(its, model or its.model)
    current = None
    if found is not None and given is None and wanted_pixels is None:
        optimize.raise_if_refused(its, found, wanted)
        current = artefact.read(its, found)
    if found is None or current is None or not current.answers(wanted):
        if its.dry or found is None:
            _say_what_would_be_done(found)
            return
        outcome = optimize.build(its, found, wanted, given, _print_table, wanted_pixels)
        if outcome is not None:
            _print_outcome(outcome, found)
            return
        current = artefact.read(its, found)  # another call was quicker
    assert current is not None
    folder = its.paths.shown(current.folder)
    console.result(f"optimized {found}: {current.precision}, in {folder} (already built for this machine)")


@task(help={"engine": ENGINE_HELP})
def embedded(c: Context, engine: str = "") -> None:
    """Make the embedded server: TensorFlow, OpenVINO and the server, as an environment or as an image.

    The virtual environment takes about a minute and 2 GB, once; a second call is instant, and one that
    was cut short is made anew. `--engine docker` makes the image.
    """
    from tasks.lib.common import console
    from tasks.lib.embedded import environment
    from tasks.lib.images import docker_build

    its = settings(c)
    if docker_build.engine(its, "embedded", engine) == "docker":
        console.note("build.embedded makes the embedded server's image")
        _make_image(its, "embedded")
        return
    console.note("build.embedded makes the local engine's virtual environment")
    python = environment.ensure(its)
    if not its.dry:
        console.result(f"embedded environment: {its.paths.shown(python.parent.parent)}")


@task(help={"engine": ENGINE_HELP})
def devel(c: Context, engine: str = "") -> None:
    """Compile TensorFlow Serving for this CPU, into an image; the local engine needs none.

    It takes hours, and gigabytes of memory and disk: what there is and what it needs is said first. With
    no Docker Engine it has nothing to do, so that the same chain of tasks works on every engine.
    """
    from tasks.lib.common import console
    from tasks.lib.images import docker_build

    its = settings(c)
    if docker_build.engine(its, "devel", engine) == "docker":
        _make_image(its, "devel")
        return
    console.note(
        "build.devel: nothing to do on the local engine (it compiles models, not TensorFlow Serving)"
    )


@task(default=True, name="all", help={"model": MODEL_HELP, "engine": ENGINE_HELP})
def build(c: Context, model: str = "", engine: str = "") -> None:
    """Build what the chosen engine needs for `serve --optimized`; never starts a compilation of hours."""
    from tasks.lib.images import docker_build

    chosen = docker_build.engine(settings(c), "optimized", engine)
    if chosen == "local":
        inside(embedded)(c, engine=chosen)
    inside(optimized)(c, model=model, engine=chosen)


def _make_image(its: Settings, kind: str) -> None:
    from tasks.lib.common import console
    from tasks.lib.images import docker_build

    made = docker_build.build(its, kind)
    if made is not None:
        there = ": already built from the same inputs" if made.was_there else ""
        console.result(f"{kind} image: {made}{there}")


def _say_what_would_be_done(model: Model | None) -> None:
    from tasks.lib.common import console

    console.note(
        f"would convert {model or 'the model'} for OpenVINO, compare every signature and precision with "
        "stock, and store the fastest that agrees next to the model"
    )


def _print_table(outcome: Outcome) -> None:
    from tasks.lib.common import console
    from tasks.lib.common.tables import render
    from tasks.lib.optimize.candidates import table

    console.result(render(table(outcome)))


def _print_outcome(outcome: Outcome, model: Model) -> None:
    from tasks.lib.common import console

    if model.origin.warning:
        console.note(model.origin.warning)
    console.result(f"optimized {model}: {outcome.precision}")


ns = Collection("build", build, embedded, devel, optimized)

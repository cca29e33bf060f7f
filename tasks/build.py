"""Builds what the chosen engine serves from."""

from __future__ import annotations

from invoke import Collection, Context

from tasks.edge import read_settings, task

MODEL_HELP = "NAME or NAME@VERSION; default: the setting `model`"
ENGINE_HELP = "auto, local or docker; default: the setting `engine`"


@task(
    help={
        "precision": "auto (measured), f32 or bf16; local engine only",
        "model": f"{MODEL_HELP}; local engine only",
        "inputs": "compare over these too: a photo, a file of JSON requests (.jsonl), or a folder of either",
        "signature": "the one that --inputs are for if they name none; default: serving_default",
        "pixels": "pixel range of the model: 0..1, 0..255 or -1..1; default: read from the model",
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
    from tasks.lib.common import console
    from tasks.lib.images import docker_build
    from tasks.lib.models import choice
    from tasks.lib.optimize import build as building
    from tasks.lib.optimize import optimize

    settings = read_settings(c)
    chosen = optimize.check_precision(precision or settings.optimize.precision)
    if docker_build.engine(settings, "optimized", engine) == "docker":
        if precision or inputs:
            console.note(
                "--precision and --inputs are for the local engine: an image serves models as they are"
            )
        docker_build.report(settings, "optimized")
        return
    building.artefact_of(settings, choice.choose(settings, model).model, chosen, inputs, signature, pixels)


@task(help={"engine": ENGINE_HELP})
def embedded(c: Context, engine: str = "") -> None:
    """Make the embedded server: TensorFlow, OpenVINO and the server, as an environment or as an image.

    The virtual environment takes about a minute and 2 GB, once; a second call is instant, and one that
    was interrupted is made again. `--engine docker` makes the image.
    """
    from tasks.lib.common import console
    from tasks.lib.images import docker_build
    from tasks.lib.optimize import build as building

    settings = read_settings(c)
    if docker_build.engine(settings, "embedded", engine) == "docker":
        console.note("build.embedded makes the embedded server's image")
        docker_build.report(settings, "embedded")
    else:
        building.embedded_environment(settings)


@task(help={"engine": ENGINE_HELP})
def devel(c: Context, engine: str = "") -> None:
    """Compile TensorFlow Serving for this CPU, into an image; the local engine needs none.

    It takes hours, and gigabytes of memory and disk: what there is and what it needs is said first. With
    no Docker Engine it has nothing to do, so that the same chain of tasks works on every engine.
    """
    from tasks.lib.common import console
    from tasks.lib.images import docker_build

    settings = read_settings(c)
    if docker_build.engine(settings, "devel", engine) == "docker":
        docker_build.report(settings, "devel")
        return
    console.note(
        "build.devel: nothing to do on the local engine (it compiles models, not TensorFlow Serving)"
    )


@task(default=True, name="all", help={"model": MODEL_HELP, "engine": ENGINE_HELP})
def build(c: Context, model: str = "", engine: str = "") -> None:
    """Build what the chosen engine needs for `serve --optimized`; never starts a compilation of hours."""
    from tasks.lib.images import docker_build
    from tasks.lib.models import choice
    from tasks.lib.optimize import build as building

    settings = read_settings(c)
    building.everything(
        settings, choice.choose(settings, model).model, docker_build.engine(settings, "optimized", engine)
    )


ns = Collection("build", build, embedded, devel, optimized)

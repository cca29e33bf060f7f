"""Builds what the chosen engine serves from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke import Collection, Context

from tasks.edge import inside, settings, task

if TYPE_CHECKING:
    from tasks.lib.optimize import Outcome
    from tasks.lib.store import Model

MODEL_HELP = "NAME or NAME@VERSION; default: the setting `model`"


@task(help={"precision": "auto (measured), f32 or bf16", "model": MODEL_HELP})
def optimized(c: Context, precision: str = "", model: str = "") -> None:
    """Compile the model for this machine's CPU, and prove that it answers like stock.

    On the local engine the SavedModel is converted with OpenVINO. Every precision that this CPU
    computes natively answers the sample photos through REST beside stock; `auto` keeps the fastest
    whose first class agrees on all of them and whose largest probability difference is under the
    limit in invoke.yaml. The table shows what it was decided from. An artefact that is there for the
    same inputs is not built again.
    """
    from tasks.lib import artefact, console, obtain, optimize

    its = settings(c)
    wanted = optimize.check_precision(precision or its.optimize.precision)
    found = obtain.ensure(its, model or its.model)
    there = artefact.read(its, found) if found is not None else None
    if found is None or there is None or not there.answers(wanted):
        if its.dry or found is None:
            _say_what_would_be_done(found)
            return
        outcome = optimize.build(its, found, wanted)
        if outcome is not None:
            _print_outcome(outcome, found)
            return
        there = artefact.read(its, found)  # another call was quicker
    assert there is not None
    folder = its.paths.shown(there.folder)
    console.result(f"optimized {found}: {there.precision}, in {folder} (already built for this machine)")


@task()
def embedded(c: Context) -> None:
    """Make the embedded server's virtual environment: TensorFlow, OpenVINO and the server.

    It takes about a minute and 2 GB, once; a second call is instant, and one that was cut short is
    made anew.
    """
    from tasks.lib import console, environment

    its = settings(c)
    console.note("build.embedded makes the local engine's virtual environment")
    python = environment.ensure(its)
    if not its.dry:
        console.result(f"embedded environment: {its.paths.shown(python.parent.parent)}")


@task()
def devel(c: Context) -> None:
    """Build the TensorFlow Serving development image; the local engine needs none.

    It has nothing to do there, so that the same chain of tasks works on every engine.
    """
    from tasks.lib import console

    console.note(
        "build.devel: nothing to do on the local engine (it compiles models, not TensorFlow Serving)"
    )


@task(default=True, name="all", help={"model": MODEL_HELP})
def build(c: Context, model: str = "") -> None:
    """Build what the chosen engine needs for `serve --optimized`."""
    inside(embedded)(c)
    inside(optimized)(c, model=model)


def _say_what_would_be_done(model: Model | None) -> None:
    from tasks.lib import console

    console.note(
        f"would convert {model or 'the model'} with OpenVINO, compare every precision with stock over the "
        "sample photos, and store the fastest that agrees beside the model"
    )


def _print_outcome(outcome: Outcome, model: Model) -> None:
    from tasks.lib import console
    from tasks.lib.optimize import table
    from tasks.lib.report import render

    console.result(render(table(outcome)))
    if model.origin.warning:
        console.note(model.origin.warning)
    console.result(f"optimized {model}: {outcome.precision}")


ns = Collection("build", build, embedded, devel, optimized)

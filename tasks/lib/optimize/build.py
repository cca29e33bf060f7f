"""`invoke build.optimized`: builds what `serve --optimized` serves, an image or an artefact."""

from __future__ import annotations

from pathlib import Path

from tasks.lib.client.inputs import given_at
from tasks.lib.common import console
from tasks.lib.common.settings import Settings
from tasks.lib.common.tables import render
from tasks.lib.embedded import environment
from tasks.lib.images import docker_build
from tasks.lib.models import artefact, obtain, samples
from tasks.lib.models.store import Model
from tasks.lib.optimize import candidates, optimize
from tasks.lib.optimize.candidates import Outcome


def everything(settings: Settings, reference: str, engine: str) -> None:
    """Build what `engine`, local or docker, needs to serve the optimized variant of a model.

    Raises CannotGain if the model cannot be optimized, and SuiteError as the steps do.
    """
    if engine == "local":
        embedded_environment(settings)
        artefact_of(settings, reference, settings.optimize.precision)
    else:
        docker_build.report(settings, "optimized")


def embedded_environment(settings: Settings) -> None:
    """Build the embedded environment if it is missing, and print where it is."""
    console.note("build.embedded makes the local engine's virtual environment")
    python = environment.ensure(settings)
    if not settings.dry:
        console.result(f"embedded environment: {settings.paths.shown(python.parent.parent)}")


def artefact_of(
    settings: Settings,
    reference: str,
    precision: str,
    inputs: str = "",
    signature: str = "",
    pixels: str = "",
) -> None:
    """Build the optimized artefact of a model unless there is one for the same inputs; print what was chosen.

    `precision`, `inputs`, `signature` and `pixels` are flags of `invoke build.optimized`. Raises SettingError
    for those that are wrong, CannotGain and OptimizeError as optimize.build does.
    """
    chosen = optimize.check_precision(precision)
    pixel_range = samples.check_pixels(pixels)
    given = given_at(Path(inputs).expanduser(), signature) if inputs else None
    model = obtain.ensure(settings, reference)
    current = None
    if model is not None and given is None and pixel_range is None:
        optimize.raise_if_refused(settings, model, chosen)
        current = artefact.read(settings, model)
    if model is None or current is None or not current.answers(chosen):
        if settings.dry or model is None:
            console.note(
                f"would convert {model or 'the model'} for OpenVINO, compare every signature and precision "
                "with stock, and store the fastest that agrees next to the model"
            )
            return
        outcome = optimize.build(settings, model, chosen, given, _print_table, pixel_range)
        if outcome is not None:
            _print_outcome(outcome, model)
            return
        current = artefact.read(settings, model)  # another call was quicker
    assert current is not None
    folder = settings.paths.shown(current.folder)
    console.result(f"optimized {model}: {current.precision}, in {folder} (already built for this machine)")


def _print_table(outcome: Outcome) -> None:
    console.result(render(candidates.table(outcome)))


def _print_outcome(outcome: Outcome, model: Model) -> None:
    if model.origin.warning:
        console.note(model.origin.warning)
    console.result(f"optimized {model}: {outcome.precision}")

"""`invoke pipeline`: download, build, serve stock and optimized, benchmark, tear down."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial

from tasks.lib.benchmark import run as benchmark
from tasks.lib.benchmark.contest import Contest
from tasks.lib.common import console, hardware, pinning, processes, variants
from tasks.lib.common.errors import CannotGain
from tasks.lib.common.settings import Settings
from tasks.lib.engines.choose import choose
from tasks.lib.models import bring, choice
from tasks.lib.optimize import build
from tasks.lib.serving import serve, servers

STEPS = 5


def run(settings: Settings, model: str, engine: str, format: str) -> None:
    """Do everything, and stop every server of this suite at the end, also after an error or Ctrl-C.

    `model` is NAME or NAME@VERSION; an empty one, and an empty `engine`, are those in the settings. A model
    that cannot be optimized, or does not gain by it, is measured as stock alone. Raises SuiteError as the
    steps do.
    """
    names = [settings.benchmark.baseline, settings.benchmark.candidate]
    for variant in names:
        variants.check(settings, variant)  # a misspelt one is reported now, not after minutes
    # Chosen once for both: for each step by itself, auto could answer differently.
    engine = choose(settings, engine or None, names).name
    pinned = pinning.plan(settings.serve.cpus, hardware.cores())
    # The servers are started to be measured: on the CPUs of the benchmark from the beginning.
    apart = replace(settings.serve, cpus=pinned.servers) if pinned.is_apart else settings.serve
    pinned_settings = replace(settings, serve=apart)
    try:
        # The comparison is this task's result; what the other steps print is only progress here.
        with redirect_stdout(sys.stderr):
            _say(1, "download")
            bring.download(settings, model)
            chosen = choice.choose(settings, model, tells=False)
            reference = chosen.model
            _say(2, "build")
            without_gain = _attempt(partial(build.everything, pinned_settings, reference, engine))
            _say(3, "serve both")
            left_out = _serve(pinned_settings, reference, engine, names, without_gain)
            _say(4, "benchmark")
        plan = settings.benchmark.plan
        asked = Contest(reference, names[0], names[1:], engine, plan, left_out=left_out, why=chosen.why)
        benchmark.measure(pinned_settings, asked, format)
    finally:
        # A second Ctrl-C must not stop what the first one asked for.
        with processes.uninterrupted(), redirect_stdout(sys.stderr):
            _say(5, "teardown")
            servers.tear_down(settings)


def _attempt(step: Callable[[], object]) -> CannotGain | None:
    """Take a step. If the model does not gain, say why and return that; stock can still be measured."""
    try:
        step()
    except CannotGain as error:
        console.note(error.problem)
        return error
    return None


def _serve(
    settings: Settings, reference: str, engine: str, names: list[str], without_gain: CannotGain | None
) -> dict[str, CannotGain]:
    """Serve the variants `names`; returns those that are left out because the model does not gain.

    `without_gain` is what the build step ended with: what failed there is not tried again.
    """
    left_out = {}
    for name in dict.fromkeys(names):
        reason = without_gain if variants.find(settings, name, engine).needs_artefact else None
        if reason is None:
            reason = _attempt(partial(serve.serve, settings, reference, name, engine))
        if reason is not None:
            left_out[name] = reason
    return left_out


def _say(number: int, step: str) -> None:
    console.note(f"\n[{number}/{STEPS}] {step}")

"""The main job, from download to a measured comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from invoke import Context

from tasks.edge import inside, settings, task

if TYPE_CHECKING:
    from tasks.lib.common.errors import CannotGain


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
    import sys
    from contextlib import redirect_stdout

    from tasks.benchmark import measure
    from tasks.build import build
    from tasks.download import download
    from tasks.lib.benchmark.contest import Contest
    from tasks.lib.common import hardware, pinning, variants
    from tasks.lib.common.processes import uninterrupted
    from tasks.lib.common.tables import check_format
    from tasks.lib.engines.choose import choose
    from tasks.teardown import teardown

    its = settings(c)
    check_format(format)
    names = [its.benchmark.baseline, its.benchmark.candidate]
    for variant in names:
        variants.check(its, variant)  # a wrong word is told now, not after minutes
    # Chosen once for both: for each step by itself, auto could answer differently.
    engine = choose(its, engine or None, names).name
    reference = model or its.model
    pinned = pinning.plan(its.serve.cpus, hardware.cores())
    if pinned.is_apart:
        # These servers are there to be measured: on the CPUs of the benchmark from the beginning.
        c.config.serve.cpus = pinning.listed(pinned.servers)
    try:
        # The comparison is this task's result; what the other steps print is only progress here.
        with redirect_stdout(sys.stderr):
            _say(1, "download")
            inside(download)(c, model=reference)
            _say(2, "build")
            without_gain = _attempt(partial(inside(build), c, model=reference, engine=engine))
            _say(3, "serve both")
            left_out = _serve(c, reference, engine, names, without_gain)
            _say(4, "benchmark")
        asked = Contest(reference, names[0], names[1:], engine, its.benchmark.plan, left_out=left_out)
        measure(settings(c), asked, format)
    finally:
        # A second Ctrl-C must not stop what the first one asked for.
        with uninterrupted(), redirect_stdout(sys.stderr):
            _say(5, "teardown")
            inside(teardown)(c)


def _attempt(step: Callable[[], None]) -> CannotGain | None:
    """Take a step. If the model does not gain, say why and return that; stock can still be measured."""
    from tasks.lib.common import console
    from tasks.lib.common.errors import CannotGain

    try:
        step()
    except CannotGain as error:
        console.note(error.problem)
        return error
    return None


def _serve(
    c: Context, model: str, engine: str, names: Sequence[str], without_gain: CannotGain | None
) -> dict[str, CannotGain]:
    """Serve the variants `names`; returns those that are left out because the model does not gain.

    `without_gain` is what the build step ended with: what failed there is not tried again.
    """
    from tasks.lib.common import variants
    from tasks.serve import serve

    left_out = {}
    for name in dict.fromkeys(names):
        reason = without_gain if variants.find(settings(c), name, engine).needs_artefact else None
        if reason is None:
            reason = _attempt(partial(inside(serve), c, model=model, engine=engine, variant=name))
        if reason is not None:
            left_out[name] = reason
    return left_out


def _say(number: int, step: str) -> None:
    from tasks.lib.common import console

    console.note(f"\n[{number}/5] {step}")

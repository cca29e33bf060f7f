"""The main job, from download to a measured comparison."""

from __future__ import annotations

from invoke import Context

from tasks.edge import inside, settings, task


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
    take about two.
    """
    import sys
    from contextlib import redirect_stdout

    from tasks.benchmark import benchmark
    from tasks.build import build
    from tasks.download import download
    from tasks.lib import hardware, pinning, variants
    from tasks.lib.engines.choose import choose
    from tasks.lib.processes import uninterrupted
    from tasks.lib.report import check_format
    from tasks.serve import serve
    from tasks.teardown import teardown

    its = settings(c)
    check_format(format)
    names = [its.benchmark.baseline, its.benchmark.candidate]
    for variant in names:
        variants.check(its, variant)  # a wrong word is told now, not after minutes
    # Chosen once for both: asked for each step anew, auto could answer differently.
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
            inside(build)(c, model=reference, engine=engine)
            _say(3, "serve both")
            inside(serve)(c, model=reference, engine=engine, variant=its.benchmark.baseline)
            inside(serve)(c, model=reference, engine=engine, variant=its.benchmark.candidate)
            _say(4, "benchmark")
        inside(benchmark)(c, model=reference, engine=engine, format=format)
    finally:
        # A second Ctrl-C must not stop what the first one asked for.
        with uninterrupted(), redirect_stdout(sys.stderr):
            _say(5, "teardown")
            inside(teardown)(c)


def _say(number: int, step: str) -> None:
    from tasks.lib import console

    console.note(f"\n[{number}/5] {step}")

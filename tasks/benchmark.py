"""Measures servers, and compares them."""

from __future__ import annotations

from collections.abc import Sequence

from invoke import Collection, Context

from tasks.edge import read_settings, task

FORMATS = "text, markdown, csv or json"
RESULT = "a folder in results/"
CONTESTANT = "a variant, NAME@VERSION[:VARIANT], or URLs of a model on any servers (a,b: replicas)"


@task(
    default=True,
    name="run",
    iterable=["candidate", "max_difference", "rtol"],
    help={
        "baseline": f"{CONTESTANT}; default: the setting benchmark.baseline (stock)",
        "candidate": "what is compared with it; may be repeated; default: the setting benchmark.candidate",
        "alone": "measure the candidate by itself",
        "model": "NAME or NAME@VERSION; default: the setting `model`",
        "engine": "auto, local or docker; default: the setting `engine`",
        "inputs": "a folder of photos, or a file of JSON requests, one a line; default: the model's samples",
        "signature": "the model's signature to use; default: serving_default, or the first one",
        "pixels": "pixel range of the model: 0..1, 0..255 or -1..1; default: read from the model",
        "protocol": "rest or grpc; default: as addresses say (http:// or grpc://), or rest",
        "connections": "requests in flight at the same time; a list (1,4,16) is measured in turn",
        "rate": "open loop: requests per second, sent on schedule; default: closed loop",
        "ci-width": "measure until the interval is this narrow; default: the setting benchmark.ci_width (2%)",
        "max-seconds": "but no longer than this; default: the setting benchmark.max_seconds",
        "instances": "processes of each server that is started; default: the setting benchmark.instances",
        "repeat": "run the whole comparison so many times, and tell how often it comes to the same outcome",
        "restart-baseline": "a shell command that restarts a baseline given by address, between its parts",
        "restart-candidate": "the same for the candidate",
        "min-ratio": "exit with 2 if the candidate is reliably less than this many times as fast",
        "max-difference": "allowed between answers: NUMBER or OUTPUT=NUMBER; default: that of optimize",
        "rtol": "allowed relative to the baseline: |a-b| <= max-difference + rtol|a|",
        "allow-different": "time them even if they answer differently",
        "format": FORMATS,
    },
)
def benchmark(
    c: Context,
    baseline: str = "",
    candidate: Sequence[str] | None = None,  # Invoke would take another default for the flag's type
    alone: bool = False,
    model: str = "",
    engine: str = "",
    inputs: str = "",
    signature: str = "",
    pixels: str = "",
    protocol: str = "",
    connections: str = "",
    rate: str = "",
    ci_width: str = "",
    max_seconds: str = "",
    instances: str = "",
    repeat: str = "",
    restart_baseline: str = "",
    restart_candidate: str = "",
    min_ratio: str = "",
    max_difference: Sequence[str] | None = None,
    rtol: Sequence[str] | None = None,
    allow_different: bool = False,
    format: str = "text",
) -> None:
    """Compare two servers: the same answers first, then their speed, paired and in alternation.

    Running servers are used; others are started, and stopped again. Blocks of requests alternate between the
    two, and the baseline is also compared with itself: only a larger difference counts. With --rate, latency
    counts from the time at which a request was due. A model that cannot be optimized is measured as stock
    alone. Exit code 2: the candidate is below --min-ratio. 3: there is no verdict.
    """
    from tasks.lib.benchmark import flags, run

    settings = read_settings(c, format)
    contest = flags.contest(
        settings,
        baseline=baseline,
        candidates=candidate or [],
        alone=alone,
        model=model,
        engine=engine,
        inputs=inputs,
        signature=signature,
        pixels=pixels,
        plan=flags.plan(settings, rate, ci_width, max_seconds, instances),
        protocol=protocol,
        connections=flags.connections(connections, open_loop=bool(rate)),
        max_difference=max_difference or [],
        rtol=rtol or [],
        allow_different=allow_different,
        restart={"baseline": restart_baseline, "candidate": restart_candidate},
    )
    run.measure(settings, contest, format, flags.gate(min_ratio, alone), flags.repeats(repeat, alone))


@task(positional=["result"], help={"result": RESULT, "format": FORMATS})
def show(c: Context, result: str, format: str = "text") -> None:
    """Print a saved benchmark again."""
    from tasks.lib.results import shown

    read_settings(c, format)
    shown.show_saved(result, format)


@task(positional=["first", "second"], help={"first": RESULT, "second": "another one", "format": FORMATS})
def compare(c: Context, first: str, second: str, format: str = "text") -> None:
    """Set two saved benchmarks side by side, and say what makes them hard to compare."""
    from tasks.lib.results import shown

    read_settings(c, format)
    shown.compare(first, second, format)


ns = Collection("benchmark", benchmark, show, compare)

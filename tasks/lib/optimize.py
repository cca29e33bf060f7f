"""The optimized artefact on the local engine: convert, check against stock, choose, store.

The check runs real servers: stock and one for each precision that this CPU computes natively answer
the same photos through REST, and what does not agree is never chosen. The artefact is renamed into
place as the last step, so whatever stands there has passed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lib import artefact, console, disk, environment, inputs, locks, processes, verdict
from tasks.lib.agreement import Agreement, compare
from tasks.lib.artefact import Artefact
from tasks.lib.client import Client
from tasks.lib.engines.base import Server
from tasks.lib.errors import OptimizeError, SettingError
from tasks.lib.load import Load
from tasks.lib.placing import PARTIAL
from tasks.lib.rounds import Rounds, run_rounds, warmed_up
from tasks.lib.settings import PRECISIONS, Settings
from tasks.lib.signature import default_signature
from tasks.lib.store import Model
from tasks.lib.tolerance import Tolerances
from tasks.lib.variants import Variant

if TYPE_CHECKING:
    from tasks.lib.engines.local import LocalEngine

NOT_NATIVE = "this CPU does not compute it natively"
MEASURED_ROUNDS = 4
"""Rounds over all photos: enough to rank precisions, which differ by tens of percents."""
MEASURED_SECONDS = 30.0
"""No round is begun after so long; on a slow machine two rounds have to do."""


@dataclass(frozen=True)
class Candidate:
    """One precision that was tried, or not."""

    precision: str
    p50: float | None = None
    """Seconds; None where it was not run."""
    speedup: float | None = None
    """Against stock, by p50."""
    agreement: Agreement | None = None
    limit: float | None = None
    """Of the difference (Agreement.difference)."""
    refused: str | None = None
    """Why it cannot be chosen."""


@dataclass(frozen=True)
class Outcome:
    """What build.optimized decided, and from what."""

    precision: str
    stock_p50: float
    """Seconds."""
    candidates: tuple[Candidate, ...]


def ensure(settings: Settings, model: Model) -> Artefact:
    """The artefact of this model version; it is built if it is missing or stale."""
    there = artefact.read(settings, model)
    if there is not None and settings.optimize.precision in (artefact.AUTO, *there.accepted):
        return there
    console.note(f"{model} has no optimized artefact for this machine yet: building it takes about a minute.")
    build(settings, model, settings.optimize.precision)
    built = artefact.read(settings, model)
    assert built is not None
    return built


def resolve(settings: Settings, model: Model, variant: Variant) -> Variant:
    """`variant` ready to be served: its artefact is there, and its precision is no longer "auto".

    Raises OptimizeError if the variant names a precision that does not answer like stock.
    """
    if not variant.needs_artefact:
        return variant
    there = ensure(settings, model)
    if variant.precision == artefact.AUTO:
        wanted = settings.optimize.precision  # which `ensure` has found, or made, acceptable
        return replace(variant, precision=there.precision if wanted == artefact.AUTO else wanted)
    if variant.precision not in there.accepted:
        raise OptimizeError(
            f"The variant {variant.name!r} wants {variant.precision}, which {model} was not found to answer "
            f"like stock in (it was in: {', '.join(there.accepted)}).",
            "Build it anew with `invoke build.optimized`, whose table says why a precision is refused.",
        )
    return variant


def build(settings: Settings, model: Model, asked: str) -> Outcome | None:
    """Make the artefact anew, choosing among the precisions (or trying the one that is asked for).

    Returns None if another call has meanwhile made what is asked for. Raises OptimizeError if the model
    cannot be converted or no precision agrees with stock; an older artefact then stays as it was.
    """
    environment.ensure(settings)
    waiting_for = f"it is optimizing {model.name}"
    with locks.held(settings.paths, f"optimize-{model.name}", waiting_for):
        there = artefact.read(settings, model)
        if there is not None and there.answers(asked):
            return None
        try:
            with _workplace(model) as workplace:
                return _build(settings, model, asked, workplace)
        except OSError as error:
            raise disk.unwritable(settings.paths.shown(model.base), error) from error


def _build(settings: Settings, model: Model, asked: str, workplace: Path) -> Outcome:
    converted = workplace / str(model.version)
    native = convert(settings, model, converted)
    wanted = PRECISIONS if asked == artefact.AUTO else (asked,)
    missing = tuple(Candidate(p, refused=NOT_NATIVE) for p in wanted if p not in native)
    tried = [p for p in wanted if p in native]
    stock_p50, candidates = check(settings, model, workplace, tried) if tried else (0.0, ())
    agreeing = [c for c in candidates if c.refused is None]
    candidates = (*candidates, *missing)
    if not agreeing:
        reasons = "; ".join(f"{c.precision}: {c.refused}" for c in candidates)
        raise OptimizeError(
            f"No precision of the optimized {model} can be trusted ({reasons}).",
            "Serve it with `invoke serve`, or raise optimize.max_difference in invoke.yaml.",
        )
    best = min(agreeing, key=lambda c: c.p50 or 0.0)
    artefact.write_decision(converted, best.precision, asked, tuple(c.precision for c in agreeing))
    _put_in_place(converted, artefact.folder_of(model))
    return Outcome(best.precision, stock_p50, candidates)


def convert(settings: Settings, model: Model, target: Path) -> list[str]:
    """Write the artefact, without a chosen precision, and return what this CPU computes natively.

    Raises OptimizeError if OpenVINO cannot execute the model.
    """
    arguments = [
        f"--model={model.folder}",
        f"--output={target}",
        f"--fingerprint={artefact.fingerprint(settings, model)}",
    ]
    label = f"converting {model} for OpenVINO"
    return environment.run(
        settings, "embedded_server.convert", arguments, label, OptimizeError, model.name
    ).split()


def check(
    settings: Settings, model: Model, artefacts: Path, precisions: Sequence[str]
) -> tuple[float, tuple[Candidate, ...]]:
    """Serve stock and each precision of the artefact in `artefacts`, and compare answers and speed.

    Returns stock's p50 in seconds and a candidate for each precision; those that do not agree with
    stock are refused.
    """
    from tasks.lib.engines.local import LocalEngine

    # The artefact is not in its place yet: that is what passing this check is for.
    engine = LocalEngine(settings, extra_flags=[f"--optimized_base_path={artefacts}"])
    photos = inputs.sample_photos(settings.paths)
    with ExitStack() as stack:
        stock = _up(stack, engine, model, Variant("check-stock", "tensorflow", "f32"), settings)
        servers = {
            p: _up(stack, engine, model, Variant(f"check-{p}", "openvino", p), settings) for p in precisions
        }
        client = Client(stock.url, settings.benchmark.plan.timeout)
        metadata = client.metadata()
        samples = inputs.requests_for(metadata, photos)
        agreements = {
            precision: compare(
                client,
                Client(server.url, settings.benchmark.plan.timeout),
                default_signature(metadata),
                samples,
                Tolerances(settings.optimize.max_difference[precision]),
            )
            for precision, server in servers.items()
        }
        p50 = _speeds({"stock": stock, **servers}, [sample.body for sample in samples], settings)
    candidates = tuple(
        Candidate(
            precision,
            p50[precision],
            p50["stock"] / p50[precision],
            agreement,
            settings.optimize.max_difference[precision],
            None if agreement.holds else agreement.problem,
        )
        for precision, agreement in agreements.items()
    )
    return p50["stock"], candidates


def _up(stack: ExitStack, engine: LocalEngine, model: Model, variant: Variant, settings: Settings) -> Server:
    """Start a server that is stopped when `stack` is left; its variant is nobody else's."""
    server = engine.start(model, variant, temporary=True)
    stack.callback(processes.finish, engine.stop, server, settings.serve.stop_grace)
    return server


def _speeds(servers: dict[str, Server], bodies: Sequence[bytes], settings: Settings) -> dict[str, float]:
    """The p50 of each server in seconds, measured in alternation."""
    plan = replace(
        settings.benchmark.plan,
        max_seconds=MEASURED_SECONDS,
    )
    with ExitStack() as stack:
        connections = [
            (name, stack.enter_context(Load([server.url], plan.timeout))) for name, server in servers.items()
        ]
        requests = {name: [connection.prepare(body) for body in bodies] for name, connection in connections}
        warmed_up({name: [load] for name, load in connections}, bodies, plan)
        with console.progress("measuring precisions", MEASURED_ROUNDS, unit="round") as bar:

            def enough(done: Rounds) -> bool:
                return len(done) >= MEASURED_ROUNDS

            rounds = run_rounds(connections, requests, len(bodies), plan, enough, lambda _: bar.update(1))
    measured = {name: verdict.measure([b for one in rounds for b in one[name]]).p50 for name in servers}
    return {name: p50 for name, p50 in measured.items() if p50 is not None}


def _put_in_place(made: Path, target: Path) -> None:
    """Rename the finished artefact to `target`; an older one there gives way only now."""
    if target.exists():
        target.rename(made.with_name(f"{made.name}.old"))
    made.rename(target)


@contextmanager
def _workplace(model: Model) -> Iterator[Path]:
    """A folder beside the artefact, on the same file system, that is removed however this ends.

    What a killed call left there is removed as well: the lock is held.
    """
    base = model.base / artefact.FOLDER
    base.mkdir(exist_ok=True)
    for leftover in base.glob(f"{PARTIAL}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=base))
    workplace.chmod(0o755)
    try:
        yield workplace
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
        if not any(base.iterdir()):
            base.rmdir()


def check_precision(name: str) -> str:
    """`name` if build.optimized can be asked for it. Raises SettingError otherwise."""
    choices = ("auto", *PRECISIONS)
    if name not in choices:
        raise SettingError(f"There is no precision {name!r}.", f"Choose one of: {', '.join(choices)}.")
    return name


def table(outcome: Outcome) -> list[dict[str, object]]:
    """What the choice was made from, one row for each precision."""
    stock: dict[str, object] = {
        "variant": "stock", "precision": "f32", "p50 ms": f"{outcome.stock_p50 * 1000:.1f}",
        "speed-up": "1.00", "same top-1": "-", "max |dp|": "-", "limit": "-", "decision": "-",
    }  # fmt: skip
    return [stock, *(_row(candidate, outcome.precision) for candidate in outcome.candidates)]


def _row(candidate: Candidate, chosen: str) -> dict[str, object]:
    agreement = candidate.agreement
    return {
        "variant": "optimized",
        "precision": candidate.precision,
        "p50 ms": "-" if candidate.p50 is None else f"{candidate.p50 * 1000:.1f}",
        "speed-up": "-" if candidate.speedup is None else f"{candidate.speedup:.2f}",
        "same top-1": "-" if agreement is None else agreement.percent,
        "max |dp|": "-" if agreement is None else f"{agreement.difference:.2g}",
        "limit": "-" if candidate.limit is None else f"{candidate.limit:g}",
        "decision": candidate.refused or ("chosen" if candidate.precision == chosen else "agrees, slower"),
    }

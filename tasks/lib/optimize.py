"""The optimized artefact on the local engine: convert, check against stock, choose, store.

The check runs real servers: stock and one for each precision that this CPU computes natively answer
the same photos through REST, and what does not agree is never chosen. The artefact is renamed into
place as the last step, so whatever stands there has passed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lib import console, environment, inputs, locks, verdict
from tasks.lib.agreement import Agreement, compare
from tasks.lib.client import Client
from tasks.lib.engines.base import Server
from tasks.lib.errors import OptimizeError, SettingError
from tasks.lib.hardware import detect
from tasks.lib.load import Connection
from tasks.lib.settings import PRECISIONS, Settings
from tasks.lib.signature import default_signature
from tasks.lib.store import Model, content_digest
from tasks.lib.variants import Variant

if TYPE_CHECKING:
    from tasks.lib.engines.local import LocalEngine

FOLDER = ".optimized"
"""Beside the versions. Not a number, so TensorFlow Serving passes it by."""
MANIFEST = "artefact.json"
CONVERTER = ("artefact.py", "convert.py")
"""The sources that decide what an artefact holds."""
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
    refused: str | None = None
    """Why it cannot be chosen."""


@dataclass(frozen=True)
class Outcome:
    """What build.optimized decided, and from what."""

    folder: Path
    precision: str
    stock_p50: float
    """Seconds."""
    candidates: tuple[Candidate, ...]


def artefact_folder(model: Model) -> Path:
    """Where the artefact of this model version stands."""
    return model.base / FOLDER / str(model.version)


def chosen_precision(settings: Settings, model: Model) -> str | None:
    """The precision of the artefact that is there and fresh; None if one has to be built."""
    try:
        manifest = json.loads((artefact_folder(model) / MANIFEST).read_text())
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("fingerprint") != fingerprint(settings, model):
        return None
    precision = manifest.get("precision")
    return precision if precision in PRECISIONS else None


def check_undamaged(settings: Settings, model: Model) -> None:
    """Raises OptimizeError if a file of the artefact is not what was written."""
    folder = artefact_folder(model)
    for name, expected in json.loads((folder / MANIFEST).read_text())["files"].items():
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise OptimizeError(
                f"The optimized artefact of {model} is damaged: {settings.paths.shown(path)} has changed.",
                f"Remove {settings.paths.shown(folder)} and build it again with `invoke build.optimized`.",
            )


def fingerprint(settings: Settings, model: Model) -> str:
    """Of everything that decides what the artefact is: model, converter, limits, and this CPU."""
    digest = hashlib.sha256(content_digest(model.folder).encode())
    root = settings.paths.root
    for path in (
        root / environment.LOCK,
        *(root / environment.SOURCES / "embedded_server" / n for n in CONVERTER),
    ):
        digest.update(path.read_bytes())
    # Another CPU may compute other precisions natively, and rank them differently.
    machine = detect()
    digest.update(repr((machine.cpu, machine.instruction_sets)).encode())
    digest.update(repr(sorted(settings.optimize.max_difference.items())).encode())
    return digest.hexdigest()


def ensure(settings: Settings, model: Model) -> str:
    """The artefact's precision; builds the artefact if it is missing or stale."""
    precision = chosen_precision(settings, model)
    if precision is not None:
        check_undamaged(settings, model)
        return precision
    console.note(f"{model} has no optimized artefact for this machine yet: building it takes about a minute.")
    return build(settings, model, settings.optimize.precision).precision


def resolve(settings: Settings, model: Model, variant: Variant) -> Variant:
    """`variant` ready to be served: its artefact is there, and its precision is no longer "auto"."""
    if not variant.is_optimized:
        return variant
    precision = ensure(settings, model)
    return variant if variant.precision != "auto" else replace(variant, precision=precision)


def build(settings: Settings, model: Model, precision: str) -> Outcome:
    """Make the artefact anew, choosing among the precisions (or trying the one that is named).

    Raises OptimizeError if the model cannot be converted or no precision agrees with stock; an older
    artefact then stays as it was.
    """
    environment.ensure(settings)
    waiting_for = f"it is optimizing {model.name}"
    with locks.held(settings.paths, f"optimize-{model.name}", waiting_for), _workplace(model) as workplace:
        converted = workplace / str(model.version)
        native = convert(settings, model, converted)
        wanted = PRECISIONS if precision == "auto" else (precision,)
        missing = tuple(
            Candidate(p, refused="this CPU does not compute it natively") for p in wanted if p not in native
        )
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
        _record_choice(converted, best.precision)
        _put_in_place(converted, artefact_folder(model))
    return Outcome(artefact_folder(model), best.precision, stock_p50, candidates)


def convert(settings: Settings, model: Model, target: Path) -> list[str]:
    """Write the artefact, without a chosen precision, and return what this CPU computes natively.

    Raises OptimizeError if OpenVINO cannot execute the model.
    """
    arguments = [
        f"--model={model.folder}",
        f"--output={target}",
        f"--fingerprint={fingerprint(settings, model)}",
    ]
    label = f"converting {model} for OpenVINO"
    return environment.run(settings, "embedded_server.convert", arguments, label, OptimizeError).split()


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
        client = Client(stock.url, settings.benchmark.timeout)
        metadata = client.metadata()
        samples = inputs.requests_for(metadata, photos)
        agreements = {
            precision: compare(
                client,
                Client(server.url, settings.benchmark.timeout),
                default_signature(metadata),
                samples,
                settings.optimize.max_difference[precision],
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
            None if agreement.holds else agreement.problem,
        )
        for precision, agreement in agreements.items()
    )
    return p50["stock"], candidates


def _up(stack: ExitStack, engine: LocalEngine, model: Model, variant: Variant, settings: Settings) -> Server:
    """Start a server that is stopped when `stack` is left; its variant is nobody else's."""
    server = engine.start(model, variant)
    stack.callback(engine.stop, server, settings.serve.stop_grace)
    return server


def _speeds(servers: dict[str, Server], bodies: Sequence[bytes], settings: Settings) -> dict[str, float]:
    """The p50 of each server in seconds, measured in alternation."""
    plan = verdict.Plan(
        rounds=MEASURED_ROUNDS,
        max_seconds=MEASURED_SECONDS,
        block_requests=len(bodies),
        warmup_requests=len(bodies),
        seed=settings.benchmark.seed,
        timeout=settings.benchmark.timeout,
    )
    with ExitStack() as stack:
        connections = [
            (name, stack.enter_context(Connection(server.url, plan.timeout)))
            for name, server in servers.items()
        ]
        requests = {name: [connection.prepare(body) for body in bodies] for name, connection in connections}
        with console.progress("measuring precisions", plan.rounds, unit="round") as bar:
            rounds = verdict.run_rounds(connections, requests, plan, bar.update)
    measured = {name: verdict.measure([b for one in rounds for b in one[name]]).p50 for name in servers}
    return {name: p50 for name, p50 in measured.items() if p50 is not None}


def _record_choice(folder: Path, precision: str) -> None:
    """Write the chosen precision into the manifest."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["precision"] = precision
    path.write_text(json.dumps(manifest, indent=1) + "\n")


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
    base = model.base / FOLDER
    base.mkdir(exist_ok=True)
    for leftover in base.glob(".partial-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    workplace = Path(tempfile.mkdtemp(prefix=".partial-", dir=base))
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
        "limit": "-" if agreement is None else f"{agreement.limit:g}",
        "decision": candidate.refused or ("chosen" if candidate.precision == chosen else "agrees, slower"),
    }

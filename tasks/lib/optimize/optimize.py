"""The optimized artefact on the local engine: convert, prove, check against stock, choose, store.

Every converted signature is compared with stock before it may be chosen: in one process over ordinary and
made-to-break inputs, then on real servers over REST, where it is also timed. The artefact is renamed into
place as the last step, so what is there has passed. What cannot be optimized is remembered with its
reason.
"""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tasks.lib.client import inputs
from tasks.lib.client.inputs import Given
from tasks.lib.common import console, disk, locks
from tasks.lib.common.errors import OptimizeError, SettingError
from tasks.lib.common.settings import PRECISIONS, Settings
from tasks.lib.common.variants import Variant
from tasks.lib.embedded import environment
from tasks.lib.models import artefact, samples
from tasks.lib.models.artefact import Artefact, Refusal
from tasks.lib.models.publish import PARTIAL
from tasks.lib.models.store import Model
from tasks.lib.optimize import against_stock, candidates
from tasks.lib.optimize.candidates import Candidate, Group, Outcome, Proof

CANNOT_CONVERT = 3
"""The exit status of embedded_server.convert if OpenVINO can execute no signature; its last line says why."""


def ensure(settings: Settings, model: Model) -> Artefact:
    """The artefact of this model version; it is built if it is missing or stale.

    Raises CannotGain if the model cannot be optimized.
    """
    precision = settings.optimize.precision
    raise_if_refused(settings, model, precision)
    current = artefact.read(settings, model)
    if current is not None and precision in (artefact.AUTO, *current.accepted):
        return current
    console.note(f"{model} has no optimized artefact for this machine yet: building it takes about a minute.")
    build(settings, model, precision)
    built = artefact.read(settings, model)
    if built is None:
        raise OptimizeError(
            f"{model}, the converter or the limits were changed while the model was being optimized.",
            "Try again.",
        )
    return built


def resolve(settings: Settings, model: Model, variant: Variant) -> Variant:
    """`variant` ready to be served: its artefact is there, and its precision is no longer "auto".

    Raises CannotGain if the model cannot be optimized, OptimizeError if the variant names a precision in
    which no signature answers like stock.
    """
    if not variant.needs_artefact:
        return variant
    current = ensure(settings, model)
    if variant.precision == artefact.AUTO:
        precision = settings.optimize.precision  # `ensure` has checked that it is accepted
        return replace(variant, precision=current.precision if precision == artefact.AUTO else precision)
    if variant.precision not in current.accepted:
        raise OptimizeError(
            f"The variant {variant.name!r} needs {variant.precision}, which {model} was not found to answer "
            f"like stock in (it was in: {', '.join(current.accepted)}).",
            f"`invoke build.optimized --model {model} --precision {variant.precision}` says why.",
        )
    return variant


def _no_report(outcome: Outcome) -> None:
    pass


def build(
    settings: Settings,
    model: Model,
    asked: str,
    given: Given | None = None,
    report: Callable[[Outcome], object] = _no_report,
    pixels: str | None = None,
) -> Outcome | None:
    """Make the artefact, choosing among the precisions (or trying the one that is asked for).

    pixels: in which range the model expects them (samples.PIXEL_RANGES), if a person says it.

    With `given`, a person's own requests, everything is compared again; without, what is known already is
    not found out twice. `report` is told what was found, before an error is raised for it too.

    Returns None if another call has meanwhile made what is asked for. Raises CannotGain if the model cannot
    be converted, does not answer like stock, or is slower than stock; OptimizeError if that cannot be found
    out. An older artefact then stays as it was.
    """
    is_new = given is not None or pixels is not None
    if not is_new:
        raise_if_refused(settings, model, asked)
    environment.ensure(settings)
    waiting_for = f"it is optimizing {model.name}"
    with locks.held(settings.paths, f"optimize-{model.name}", waiting_for):
        if not is_new:
            raise_if_refused(settings, model, asked)
            current = artefact.read(settings, model)
            if current is not None and current.answers(asked):
                return None
        try:
            with _workplace(model) as workplace:
                outcome = _Build(settings, model, asked, given, pixels, workplace).run(report)
            artefact.forget_refusals(settings, model, (asked, *outcome.accepted))
            return outcome
        except OSError as error:
            raise disk.unwritable(settings.paths.shown(model.base), error) from error


def raise_if_refused(settings: Settings, model: Model, asked: str) -> None:
    """Raises CannotGain if it is known that the model cannot be optimized with the precision `asked` for."""
    known = artefact.refusal(settings, model, asked)
    if known is not None:
        raise known.error()


class _Build:
    """One build, with its lock held."""

    def __init__(
        self,
        settings: Settings,
        model: Model,
        asked: str,
        given: Given | None,
        pixels: str | None,
        workplace: Path,
    ) -> None:
        self._pixels = pixels
        self._settings = settings
        self._model = model
        self._asked = asked
        self._given = given
        self._workplace = workplace
        self._folder = workplace / str(model.version)

    def run(self, report: Callable[[Outcome], object]) -> Outcome:
        if self._pixels is not None:  # it is part of the artefact's fingerprint
            samples.ensure(self._settings, self._model, self._pixels)
        native = self._converted()
        self._samples = samples.ensure(self._settings, self._model, self._pixels)
        self._notes: tuple[str, ...] = self._samples.notes
        precisions = PRECISIONS if self._asked == artefact.AUTO else (self._asked,)
        outcome = self._outcome(
            [p for p in precisions if p in native], [p for p in precisions if p not in native]
        )
        report(outcome)
        for note in self._notes:
            console.note(note)
        if outcome.precision is None:
            self._refuse(outcome)
        else:
            artefact.write_decision(self._folder, outcome.precision, self._asked, outcome.accepted)
            _put_in_place(self._folder, artefact.folder_of(self._model))
        return outcome

    def _converted(self) -> list[str]:
        """Convert, and return what this CPU computes natively; remember if that cannot be done."""
        try:
            return convert(self._settings, self._model, self._folder)
        except CannotConvert as error:
            why = Refusal(
                f"{self._model} cannot be optimized: {error}.",
                f"{candidates.serve_as_it_is(str(self._model))}.",
            )
            artefact.remember_refusal(self._settings, self._model, artefact.ANY, why)
            raise why.error() from None

    def _refuse(self, outcome: Outcome) -> None:
        why = candidates.refusal(str(self._model), outcome)
        if not outcome.rests_on_time:
            artefact.remember_refusal(self._settings, self._model, self._asked, why)
        raise why.error()

    def _outcome(self, precisions: Sequence[str], lacking: Sequence[str]) -> Outcome:
        """Prove, compare and time every signature in `precisions`, and decide."""
        converted = artefact.converted(self._folder)
        groups = candidates.groups(converted)
        proofs = self._proofs(groups, precisions) if precisions else {}
        tried = [[self._candidate(group, p, proofs.get(p, {})) for p in precisions] for group in groups]
        proven = [p for p in precisions if any(one.refused is None for one in _of(tried, p))]

        def decided(tried: Sequence[Sequence[Candidate]], stock: Mapping[str, float]) -> Outcome:
            every = [one for group in tried for one in group]
            return candidates.decide(self._asked, every, stock, lacking, converted.unconverted)

        if not proven:
            return decided(tried, {})
        self._execute({p: [one.group for one in _of(tried, p) if one.refused is None] for p in proven})
        with against_stock.serving(
            self._settings, self._model, self._workplace, proven, self._given, self._samples
        ) as bench:
            agreeing = [[one for one in group if one.refused is None] for group in tried]
            seen = bench.observed([group for group in agreeing if group])
            self._notes += tuple(one.hollow for one in seen if one.hollow is not None)
            known = {(one.group, one.precision): one for group in seen for one in group.candidates}
            tried = [[known.get((one.group, one.precision), one) for one in group] for group in tried]
            stock = {
                group.candidates[0].group.signatures[0]: group.stock_p50
                for group in seen
                if group.stock_p50 is not None
            }
            outcome = decided(tried, stock)
            if outcome.precision is None:
                return outcome
            served = [one.group for one in _of(tried, outcome.precision) if one.refused is None]
            return replace(outcome, memory=bench.memory(outcome.precision, served))

    def _execute(self, groups: Mapping[str, Sequence[Group]]) -> None:
        """Let OpenVINO execute the groups of each precision from now on, until it is decided which ones."""
        accepted = {
            precision: {name: precision for group in those for name in group.signatures}
            for precision, those in groups.items()
        }
        artefact.write_decision(self._folder, next(iter(groups)), self._asked, accepted)

    def _proofs(self, groups: Sequence[Group], precisions: Sequence[str]) -> dict[str, dict[str, Proof]]:
        self._execute(dict.fromkeys(precisions, groups))
        seconds = max(LEAST_PROOF_SECONDS, PROOF_SECONDS / (len(groups) * len(precisions)))
        arguments = [f"--seconds={seconds:g}", *self._proof_inputs()]
        return prove(self._settings, self._model, self._folder, precisions, arguments)

    def _candidate(self, group: Group, precision: str, proofs: Mapping[str, Proof]) -> Candidate:
        proof = Proof.joined(proofs.get(name, NOT_PROVEN) for name in group.signatures)
        return Candidate(group, precision, self._settings.optimize.max_difference[precision], proof)

    def _proof_inputs(self) -> list[str]:
        """The arguments of the proof that name requests and photos."""
        given = self._given or Given()
        photos = self._settings.paths.root / inputs.SAMPLES
        if given.photos:
            photos = self._workplace / "photos"
            photos.mkdir()
            for number, photo in enumerate(given.photos, start=1):
                (photos / f"{number:05}.jpg").write_bytes(inputs.as_jpeg(photo))
        arguments = [f"--photos={photos}"]
        requests = (*given.requests, *self._samples.requests)
        if requests:
            file = self._workplace / "requests.jsonl"
            file.write_bytes(b"".join(request.body + b"\n" for request in requests))
            arguments.append(f"--requests={file}")
        return arguments


PROOF_SECONDS = 15.0
"""For all signatures in all precisions together, of which none has less than LEAST_PROOF_SECONDS."""
LEAST_PROOF_SECONDS = 2.0
NOT_PROVEN = Proof(0, 0.0, "it was not compared with stock")


def _of(tried: Sequence[Sequence[Candidate]], precision: str) -> list[Candidate]:
    return [one for group in tried for one in group if one.precision == precision]


_CRASHES = frozenset({signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGSEGV})
"""Signals that a process is ended by for what it does; it is not asked to do that again."""


class CannotConvert(Exception):
    """OpenVINO can execute no signature of the model; the message says why, as part of a sentence."""


def convert(settings: Settings, model: Model, target: Path) -> list[str]:
    """Write the artefact, without a chosen precision, and return what this CPU computes natively.

    Raises CannotConvert if OpenVINO can execute no signature, OptimizeError if the model cannot be loaded.
    """
    arguments = [
        f"--model={model.folder}",
        f"--output={target}",
        f"--fingerprint={artefact.fingerprint(settings, model)}",
    ]
    label = f"converting {model} for OpenVINO"
    ended = environment.execute(settings, "embedded_server.convert", arguments, label, model.name)
    if ended.status == CANNOT_CONVERT:
        raise CannotConvert(ended.last_line.rstrip(".?! ") or "OpenVINO can execute no signature of it")
    if -ended.status in _CRASHES:
        name = signal.Signals(-ended.status).name
        raise CannotConvert(f"OpenVINO ends the process that compiles it, with {name}")
    if ended.status != 0:
        raise environment.failure(settings, ended, label, OptimizeError)
    return ended.output.split()


def prove(
    settings: Settings, model: Model, folder: Path, precisions: Sequence[str], arguments: Sequence[str]
) -> dict[str, dict[str, Proof]]:
    """Compare every signature of the artefact in `folder` with stock, in one process.

    `arguments` are further ones of the program: what to compare over, and for how long.

    Returns proofs by precision and signature. Raises OptimizeError if the program fails.
    """
    limits = {precision: settings.optimize.max_difference[precision] for precision in precisions}
    arguments = [
        *arguments,
        f"--model={model.folder}",
        f"--artefact={folder}",
        f"--precisions={','.join(precisions)}",
        f"--limits={json.dumps(limits)}",
    ]
    label = f"comparing the optimized {model} with stock"
    output = environment.run(settings, "embedded_server.prove", arguments, label, OptimizeError, model.name)
    return {
        precision: {
            name: Proof(int(one["requests"]), float(one["difference"]), one["problem"])
            for name, one in signatures.items()
        }
        for precision, signatures in json.loads(output).items()
    }


def _put_in_place(made: Path, target: Path) -> None:
    """Rename the finished artefact to `target`; an older one there gives way only now."""
    if target.exists():
        target.rename(made.with_name(f"{made.name}.old"))
    made.rename(target)


@contextmanager
def _workplace(model: Model) -> Iterator[Path]:
    """A folder next to the artefact, on the same file system, that is removed however this ends.

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

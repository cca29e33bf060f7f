"""Proves that an optimized artefact answers like TensorFlow, signature by signature.

    python -m embedded_server.prove --model VERSION_FOLDER --artefact DIR --precisions f32,bf16
        --limits '{"f32": 0.0005, "bf16": 0.05}' [--requests FILE.jsonl] [--photos FOLDER] [--seconds N]

It prints one JSON object on stdout:

    {"f32": {"serving_default": {"requests": 57, "difference": 1e-06, "problem": null}}, "bf16": {...}}

`problem` is a clause if a precision disagrees, and null if it agrees. A line of progress for each signature
and precision goes to stderr. The exit status is 0 if the JSON was printed, whatever it says.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import Connection
from pathlib import Path

from embedded_server.execution import artefact
from embedded_server.proving.proof import OPTIMIZED, Finding
from embedded_server.proving.worker import Asking, Failed, Job, Proven, work

_LOADING_SECONDS = 900.0
"""After which a process that loads a model is given up."""
_ANSWER_SECONDS = 120.0
"""As well, one that answers a request, in addition to the time of a proof."""
_MOST_RESTARTS = 20

Findings = dict[str, dict[str, Finding]]
"""By precision and signature."""
Target = Callable[[Job, Connection], None]


class CannotProve(Exception):
    """Nothing can be proven; the message is one sentence."""


def groups_of(programs: Mapping[str, artefact.Program]) -> tuple[tuple[str, ...], ...]:
    """The signatures in groups that are one program."""
    groups: list[list[str]] = []
    for name in sorted(programs):
        for group in groups:
            if programs[group[0]] == programs[name]:
                group.append(name)
                break
        else:
            groups.append([name])
    return tuple(map(tuple, groups))


def prove_all(job: Job, target: Target = work) -> Findings:
    """Prove every group of signatures in every precision, in processes that execute `target`.

    Raises CannotProve.
    """
    findings: Findings = {precision: {} for precision in job.limits}
    for _ in range(_MOST_RESTARTS):
        last = _Process(job, findings, target).run()
        job = replace(job, proven=_proven(job, findings))
        if last is None or not _left(job, findings):
            return findings
        if last.who != OPTIMIZED and last.signature is None:
            raise CannotProve(f"TensorFlow cannot load the SavedModel in {job.model}: its process ended")
        if last.who != OPTIMIZED:
            job = replace(job, skipped=job.skipped | {(str(last.signature), last.label)})
    raise CannotProve("the process that proves the signatures ended again and again")


def _proven(job: Job, findings: Findings) -> frozenset[tuple[str, str]]:
    return frozenset((precision, name) for precision, names in findings.items() for name in names)


def _left(job: Job, findings: Findings) -> bool:
    return any(name not in proven for proven in findings.values() for group in job.groups for name in group)


class _Process:
    """One process at work; what it finds goes into `findings`."""

    def __init__(self, job: Job, findings: Findings, target: Target) -> None:
        self._target = target
        self._job = job
        self._findings = findings

    def run(self) -> Asking | None:
        """None if the process came to its end, and what it did last if it ended before.

        Raises CannotProve.
        """
        # Not a fork: TensorFlow and OpenVINO start threads.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=self._target, args=(self._job, theirs), daemon=True)
        process.start()
        theirs.close()
        last: Asking | None = None
        try:
            while True:
                patience = _LOADING_SECONDS
                if last is not None and last.signature is not None:
                    patience = _ANSWER_SECONDS + 2 * self._job.seconds
                if not ours.poll(patience):
                    process.kill()
                    self._blame(last, f"there is no answer within {patience:.0f} s")
                    return last
                message = ours.recv()
                if isinstance(message, Failed):
                    raise CannotProve(message.text)
                if isinstance(message, Proven):
                    self._note(message)
                elif isinstance(message, Asking):
                    last = message
        except EOFError:
            process.join()
            if process.exitcode == 0:
                return None
            self._blame(last, f"the process ends with {_ended(process.exitcode or 0)}")
            return last
        finally:
            ours.close()  # which ends the process, if it is still there
            process.join()

    def _blame(self, last: Asking | None, what: str) -> None:
        if last is None:
            raise CannotProve(f"nothing can be proven: {what}")
        if last.who == OPTIMIZED:
            problem = f"{what} ({last.label})"
            self._note(Proven(last.precision, last.signature, Finding(0, 0.0, problem)))

    def _note(self, proven: Proven) -> None:
        """Once for each signature: a process may end badly when all is proven."""
        finding = self._findings[proven.precision]
        for group in self._job.groups:
            if proven.signature in (group[0], None) and group[0] not in finding:
                finding.update(dict.fromkeys(group, proven.finding))
                _say(proven.precision, group, proven.finding)


def _ended(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _say(precision: str, group: Sequence[str], finding: Finding) -> None:
    what = f"largest difference {finding.difference:.2g}" if finding.problem is None else finding.problem
    print(
        f"proof in {precision}: {', '.join(group)}: {finding.requests} requests, {what}",
        file=sys.stderr,
        flush=True,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embedded_server.prove")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--artefact", type=Path, required=True)
    parser.add_argument("--precisions", required=True, help="separated by commas")
    parser.add_argument(
        "--limits", type=json.loads, required=True, help="JSON: precision -> largest difference"
    )
    parser.add_argument("--requests", type=Path, help="predict bodies, one a line")
    parser.add_argument("--photos", type=Path, help="a folder of JPEG files")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each signature and precision")
    flags = parser.parse_args(argv)
    precisions = flags.precisions.split(",")
    for precision in precisions:
        if precision not in flags.limits:
            parser.error(f"--limits has no limit for {precision}")
    try:
        programs = artefact.read(flags.artefact).programs
        findings = prove_all(
            Job(
                flags.model,
                flags.artefact,
                groups_of(programs),
                {precision: float(flags.limits[precision]) for precision in precisions},
                flags.requests,
                flags.photos,
                flags.seconds,
            )
        )
    except (artefact.BadArtefact, CannotProve) as error:
        print(error, file=sys.stderr)
        return 1
    document = {
        precision: {name: asdict(finding) for name, finding in sorted(of_signatures.items())}
        for precision, of_signatures in findings.items()
    }
    print(json.dumps(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())

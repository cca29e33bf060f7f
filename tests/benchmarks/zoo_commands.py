"""Kinds of models that people bring, through the commands that they type, with no flag but --model.

    python tests/benchmarks/zoo_commands.py [--work DIR] [--only NAME,...] [--max-seconds 10]

Writes the models of the zoo (tests/embedded/zoo) in the embedded environment, and types for each of them
`invoke download --path`, `build.optimized`, `serve` (whose curl line is pasted into a shell), `predict
--samples`, and `benchmark` over REST and over gRPC. Prints a table of what came of each: the verdict, or that
stock was measured alone, with the reason. The exit code is 1 if one of them ended otherwise.

Models, records and results go to DIR (a temporary folder if it is not given); what is in its table already
(DIR/outcomes.jsonl) is not done again. The embedded environment is the project's.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tasks.lib.common.tables import render  # noqa: E402

DONE, FAILED, NOT_COMPARABLE = 0, 1, 3
_PATIENCE = 600
"""Seconds for one command."""


@dataclass(frozen=True)
class Outcome:
    """What came of one kind of model."""

    kind: str
    build: str
    """chosen in f32, stays with TensorFlow, ..."""
    curl: str
    predict: str
    rest: str
    grpc: str
    problem: str = ""
    """What ended otherwise than it should."""


class Shell:
    """The command line of this checkout, with folders of its own."""

    def __init__(self, work: Path, max_seconds: float) -> None:
        self._work = work
        paths = {f"INVOKE_PATHS_{n.upper()}": str(work / n) for n in ("models", "state", "results")}
        self._environment = {
            **os.environ,
            **paths,
            "INVOKE_PATHS_ENVIRONMENT": str(ROOT / ".state" / "embedded"),
            "INVOKE_ENGINE": "local",
            "INVOKE_BENCHMARK_MAX_SECONDS": str(max_seconds),
        }

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self._run([sys.executable, "-m", "invoke", *words])

    def paste(self, line: str) -> subprocess.CompletedProcess[str]:
        return self._run(["sh", "-c", line])

    def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                timeout=_PATIENCE,
                check=False,
            )
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, out.read(), err.read())


def run(shell: Shell, kind: str, folder: Path) -> Outcome:
    """Type all commands for one kind."""
    problems: list[str] = []

    def check(what: str, done: subprocess.CompletedProcess[str], *codes: int) -> str:
        if done.returncode not in codes or "Traceback" in done.stderr:
            problems.append(f"{what} ends with {done.returncode}: {_last_error(done.stderr)}")
        return _last_error(done.stderr) if done.returncode else ""

    try:
        check("download", shell.invoke("download", "--model", kind, "--path", str(folder)), DONE)
        built = shell.invoke("build.optimized", "--model", kind)
        # Exit code 1 with a sentence is a model that cannot gain.
        reason = check("build.optimized", built, DONE, FAILED)
        served = shell.invoke("serve", "--model", kind)
        check("serve", served, DONE)
        curl = _pasted(shell, served, problems)
        predicted = shell.invoke("predict", "--samples", "--model", kind, "--format", "json")
        check("predict", predicted, DONE)
        benchmarks = [
            _verdict(shell.invoke("benchmark", "--model", kind, *more), check)
            for more in ((), ("--protocol", "grpc"))
        ]
        rows = len(json.loads(predicted.stdout)) if predicted.returncode == DONE else 0
        return Outcome(
            kind, _decision(built.stdout) or reason, curl, f"{rows} answers", *benchmarks, "; ".join(problems)
        )
    finally:
        shell.invoke("teardown")


def _pasted(shell: Shell, served: subprocess.CompletedProcess[str], problems: list[str]) -> str:
    """What the printed line is answered with: predictions, outputs, or only metadata."""
    lines = [line for line in served.stdout.splitlines() if "curl " in line]
    if not lines:
        problems.append("serve prints no curl line")
        return "-"
    done = shell.paste(lines[-1])
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {}
    form = next((key for key in ("predictions", "outputs") if key in answer), "")
    if not form:
        problems.append(f"the curl line gets {done.stdout[:200]!r}")
    return form or "-"


def _verdict(done: subprocess.CompletedProcess[str], check: object) -> str:
    """The verdict, or that stock was measured alone."""
    assert callable(check)
    check("benchmark", done, DONE, NOT_COMPARABLE)
    sentence = next(
        (line for line in reversed(done.stdout.splitlines()) if re.search(r"stock|answers?", line)), ""
    )
    if done.returncode == NOT_COMPARABLE:
        return _last_error(done.stderr)
    return sentence.strip()


def _decision(table: str) -> str:
    """How many signatures are optimized, by the table of build.optimized."""
    lines = table.splitlines()
    chosen = [line for line in lines if "chosen" in line]
    if len(chosen) > 1:
        return f"{len(chosen)} signatures optimized"
    return " ".join(chosen[0].split()[2:]) if chosen else (lines[-1].strip()[-120:] if lines else "")


def _last_error(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    return lines[-1].removeprefix("error: ") if lines else ""


def _written(folder: Path, only: Sequence[str]) -> list[str]:
    command = [ROOT / ".state" / "embedded" / "bin" / "python", ROOT / "tests" / "embedded" / "write_zoo.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "docker" / "embedded")}
    done = subprocess.run(
        [*command, folder, *only], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def outcomes(work: Path, only: Sequence[str], max_seconds: float) -> Iterator[Outcome]:
    """Of each kind, as soon as it is known; kept in the folder."""
    file = work / "outcomes.jsonl"
    known = [Outcome(**json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []
    done = {one.kind: one for one in known}
    shell = Shell(work, max_seconds)
    for kind in _written(work / "zoo", only):
        if kind not in done:
            done[kind] = run(shell, kind, work / "zoo" / kind)
            with file.open("a") as table:
                table.write(json.dumps(asdict(done[kind])) + "\n")
        yield done[kind]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", default="", metavar="NAME,...")
    parser.add_argument("--max-seconds", type=float, default=10)
    flags = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        work = (flags.work or Path(temporary)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        found = []
        for one in outcomes(work, [name for name in flags.only.split(",") if name], flags.max_seconds):
            found.append(one)
            print(f"{one.kind}: {one.problem or one.rest}", file=sys.stderr, flush=True)
    print(render([asdict(one) for one in found]))
    bad = [one.kind for one in found if one.problem]
    print(f"{len(found) - len(bad)} of {len(found)} kinds end as they should")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())

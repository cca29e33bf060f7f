"""tasks.lib.models.samples: making, keeping and reading a model's sample requests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.client.inputs import Sample
from tasks.lib.client.signature import Signature, Tensor
from tasks.lib.common.errors import ModelError, OptimizeError, SuiteError
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import environment
from tasks.lib.embedded.environment import Ended
from tasks.lib.models import samples, store
from tasks.lib.models.samples import Samples
from tasks.lib.models.store import Model

REQUESTS = b'{"signature_name":"a","instances":[1]}\n{"signature_name":"b","inputs":[2]}\n'
ABOUT: dict[str, Any] = {
    "a": {"inputs": {"x": {"kind": "pixels", "pixels": None}}, "random": False, "problem": None},
    "b": {"inputs": {"x": {"kind": "text"}}, "random": True, "problem": None},
    "c": {"inputs": {}, "random": False, "problem": "TensorFlow refuses every request (no)"},
}


class Program:
    """A stand-in for the embedded environment's program."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.ran: list[str | None] = []
        self.status = 0

    def execute(
        self, settings: Settings, module: str, args: Sequence[str], label: str, about: str = ""
    ) -> Ended:
        flags = dict(word.removeprefix("--").split("=", 1) for word in args)
        self.ran.append(flags.get("pixels"))
        self.log.write_text("it cannot be loaded\n")
        output = Path(flags["output"])
        output.mkdir()
        (output / samples.REQUESTS).write_bytes(REQUESTS)
        told = {
            "format": samples.FORMAT,
            "fingerprint": flags["fingerprint"],
            "requests": hashlib.sha256(REQUESTS).hexdigest(),
            "signatures": ABOUT,
        }
        (output / samples.ABOUT).write_text(json.dumps(told))
        return Ended(self.status, "", self.log)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    made = Program(tmp_path)
    monkeypatch.setattr(environment, "execute", made.execute)
    monkeypatch.setattr(environment, "ensure", lambda settings: Path("python"))
    return made


@pytest.fixture
def model(settings: Settings) -> Model:
    folder = settings.paths.models / "net" / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"a model")
    return store.find(settings.paths, "net")


def signature(name: str) -> Signature:
    return Signature(name, (Tensor("x", "DT_FLOAT", (None,)),), ())


def test_they_are_made_once(program: Program, settings: Settings, model: Model) -> None:
    first = samples.ensure(settings, model)
    assert samples.ensure(settings, model) == first
    assert program.ran == [None]
    assert [one.body for one in first.of(signature("b"))] == [b'{"signature_name":"b","inputs":[2]}']
    assert [path.name for path in (model.base / samples.FOLDER).iterdir()] == ["1"]


def test_another_model_has_others(program: Program, settings: Settings, model: Model) -> None:
    samples.ensure(settings, model)
    (model.folder / "saved_model.pb").write_bytes(b"another one")
    samples.ensure(settings, model)
    assert program.ran == [None, None]


def test_a_range_of_pixels_is_kept(program: Program, settings: Settings, model: Model) -> None:
    samples.ensure(settings, model, "0..1")
    samples.ensure(settings, model)
    assert program.ran == ["0..1"]
    (model.folder / "saved_model.pb").write_bytes(b"another one")
    samples.ensure(settings, model)
    assert samples.decided(model) == "0..1"
    samples.ensure(settings, model, "0..255")
    assert samples.decided(model) == "0..255"
    assert program.ran == ["0..1", "0..1", "0..255"]


def test_what_a_person_has_edited_is_used(
    program: Program, settings: Settings, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    file = samples.ensure(settings, model).file
    assert samples.decided(model) == ""
    file.write_bytes(b'{"signature_name":"a","instances":[7]}\n')
    (model.folder / "saved_model.pb").write_bytes(b"another one")
    found = samples.ensure(settings, model)
    assert found.is_edited
    assert [one.body for one in found.of(signature("a"))] == [b'{"signature_name":"a","instances":[7]}']
    assert program.ran == [None]
    assert samples.decided(model) == hashlib.sha256(file.read_bytes()).hexdigest()
    assert "as you have edited them" in capsys.readouterr().err


def test_a_damaged_description_is_made_again(program: Program, settings: Settings, model: Model) -> None:
    file = samples.ensure(settings, model).file
    file.with_name(samples.ABOUT).write_text("{")
    samples.ensure(settings, model)
    assert program.ran == [None, None]


def test_a_program_that_fails_leaves_nothing(program: Program, settings: Settings, model: Model) -> None:
    program.status = 1
    with pytest.raises(OptimizeError, match="it cannot be loaded"):
        samples.ensure(settings, model)
    assert not (model.base / samples.FOLDER).exists()


def test_where_they_are_not_needed_a_failure_is_only_said(
    program: Program,
    settings: Settings,
    model: Model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert samples.if_possible(settings, model) is None, "there is no environment"
    assert program.ran == []
    monkeypatch.setattr(environment, "is_built", lambda settings: True)
    program.status = 1
    assert samples.if_possible(settings, model) is None
    assert "no samples of net@1: making sample requests for net@1 failed: it cannot be loaded" in (
        capsys.readouterr().err
    )
    program.status = 0
    assert samples.of_server(settings, "net", 1, make=True) == samples.ensure(settings, model)
    assert samples.of_server(settings, "another", 1, make=True) is None


def test_what_they_tell(program: Program, settings: Settings, model: Model) -> None:
    made = samples.ensure(settings, model)
    assert made.takes_photos("a")
    assert made.lacks_range("a")
    assert made.notes == (samples.UNKNOWN_RANGE,)
    assert not made.takes_photos("b")
    assert made.is_random("b")
    unnamed = replace(made, requests=(Sample("line-1", b'{"instances":[1]}'),))
    assert unnamed.of(signature("serving_default")) == list(unnamed.requests)
    with pytest.raises(ModelError, match=r"for the signature 'c': TensorFlow refuses every request \(no\)\."):
        made.of(signature("c"))


def test_encoded_photos() -> None:
    kinds = {"a": "photo", "b": "base64 photo"}
    about = {"signatures": {name: {"inputs": {"x": {"kind": kind}}} for name, kind in kinds.items()}}
    made = Samples(Path("requests.jsonl"), (), about, is_edited=False)
    assert made.is_photo(signature("a"))
    assert not made.is_photo(signature("b"))
    assert made.takes_photos("b")


def test_ranges_of_pixels() -> None:
    assert samples.check_pixels("") is None
    assert samples.check_pixels("0..255") == "0..255"
    with pytest.raises(SuiteError, match="is not a range of pixels"):
        samples.check_pixels("0..2")

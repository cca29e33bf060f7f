"""tasks.lib.models.artefact: what is on disk of an optimized model, and when it counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.common import hardware
from tasks.lib.common.errors import CannotGain, OptimizeError
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import environment
from tasks.lib.models import artefact
from tasks.lib.models.artefact import ANY, AUTO, Program, Refusal
from tasks.lib.models.store import Model
from tests.helpers import standin
from tests.helpers.commandline import ROOT

SOURCES = {
    "embedded_server/__init__.py": "",
    "embedded_server/convert.py": "from embedded_server.converting import cut\n",
    "embedded_server/prove.py": "from embedded_server import backend\n",
    "embedded_server/backend.py": "",
    "embedded_server/converting/__init__.py": "",
    "embedded_server/converting/cut.py": "from .operations import LIST\n",
    "embedded_server/converting/operations.py": "LIST = ()\n",
    "embedded_server/grpc/services.py": "from embedded_server import convert\n",
}


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    """With a project of its own."""
    root = tmp_path / "project"
    for name, text in SOURCES.items():
        path = root / environment.SOURCES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / environment.LOCK).write_text("tensorflow==2.21.0\n")
    return replace(settings, paths=replace(settings.paths, root=root))


@pytest.fixture
def model(tmp_path: Path) -> Model:
    made: Model = standin.model(tmp_path)
    return made


def put(settings: Settings, model: Model, **changed: Any) -> Path:
    """An artefact as the converter and the decision leave it."""
    folder = artefact.folder_of(model)
    folder.mkdir(parents=True)
    (folder / "body-0.bin").write_bytes(b"weights")
    program = {"body": "body-0.xml", "share": 0.995, "multiplications": 12}
    manifest = {
        "format": 2,
        "fingerprint": artefact.fingerprint(settings, model),
        "programs": {"predict": program, "serving_default": program, "score": {**program, "share": 1.0}},
        "unconverted": {"count": "it changes the variable counter"},
        "files": {"body-0.bin": sha256(b"weights").hexdigest()},
        "precision": None,
        "asked": None,
        "accepted": {},
        **changed,
    }
    (folder / artefact.MANIFEST).write_text(json.dumps(manifest))
    return folder


def test_what_was_decided_is_read_again(settings: Settings, model: Model) -> None:
    folder = put(settings, model)
    accepted = {"bf16": {"serving_default": "bf16", "score": "f32"}, "f32": {"score": "f32"}}
    artefact.write_decision(folder, "bf16", AUTO, accepted)
    read = artefact.read(settings, model)
    assert read == artefact.Artefact(folder, "bf16", AUTO, accepted)
    assert read.answers(AUTO)
    assert read.answers("bf16")
    assert not read.answers("f32")
    assert json.loads((folder / artefact.MANIFEST).read_text())["unconverted"]


def test_what_the_converter_made(settings: Settings, model: Model) -> None:
    converted = artefact.converted(put(settings, model))
    assert converted.unconverted == {"count": "it changes the variable counter"}
    default, alias, score = (converted.programs[name] for name in ("serving_default", "predict", "score"))
    assert default == alias
    assert default == Program(0.995, 12, default.digest)
    assert score.digest != default.digest


@pytest.mark.parametrize("changed", [{"format": 1}, {"fingerprint": "of another"}])
def test_one_of_something_else_is_none(settings: Settings, model: Model, changed: dict[str, Any]) -> None:
    put(settings, model, precision="f32", asked=AUTO, accepted={"f32": {}}, **changed)
    assert artefact.read(settings, model) is None


def test_there_is_none(settings: Settings, model: Model) -> None:
    assert artefact.read(settings, model) is None


def spoil_weights(folder: Path) -> None:
    (folder / "body-0.bin").write_bytes(b"weighty")


def lose_weights(folder: Path) -> None:
    (folder / "body-0.bin").unlink()


def spoil_manifest(folder: Path) -> None:
    (folder / artefact.MANIFEST).write_text("{")


def spoil_decision(folder: Path) -> None:
    content = json.loads((folder / artefact.MANIFEST).read_text())
    (folder / artefact.MANIFEST).write_text(json.dumps({**content, "accepted": ["f32"]}))


@pytest.mark.parametrize("spoil", [spoil_weights, lose_weights, spoil_manifest, spoil_decision])
def test_a_damaged_one_is_told(settings: Settings, model: Model, spoil: Callable[[Path], None]) -> None:
    folder = put(settings, model, precision="f32", asked=AUTO, accepted={"f32": {}})
    spoil(folder)
    with pytest.raises(OptimizeError, match="is damaged") as told:
        artefact.read(settings, model)
    assert "invoke build.optimized" in told.value.remedy


# The fingerprint


@pytest.mark.parametrize("name", [*SOURCES, "requirements.lock", "limits", "cpu", "model"])
def test_what_changes_the_fingerprint(
    settings: Settings, model: Model, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before = artefact.fingerprint(settings, model)
    if name == "limits":
        limits = replace(settings.optimize, max_difference={"f32": 1, "bf16": 2})
        settings = replace(settings, optimize=limits)
    elif name == "cpu":
        machine = replace(hardware.detect(), cpu="another")
        monkeypatch.setattr(artefact, "detect", lambda: machine)
    elif name == "model":
        (model.folder / "more").write_text("a file")
    else:
        with (settings.paths.root / environment.SOURCES / name).open("a") as file:
            file.write("# changed\n")
    changed = artefact.fingerprint(settings, model) != before
    # The server's gRPC interface imports the converter, and not the other way round.
    assert changed == (name != "embedded_server/grpc/services.py")


def test_a_module_that_a_subpackage_imports_counts(settings: Settings, model: Model) -> None:
    folder = settings.paths.root / environment.SOURCES / "embedded_server"
    (folder / "lately.py").write_text("")
    before = artefact.fingerprint(settings, model)
    (folder / "converting" / "operations.py").write_text("from ..lately import nothing\n")
    imported = artefact.fingerprint(settings, model)
    (folder / "lately.py").write_text("nothing = None\n")
    assert len({before, imported, artefact.fingerprint(settings, model)}) == 3


def test_a_server_of_another_source_in_a_subpackage_is_another(settings: Settings) -> None:
    before = environment.program(settings)
    folder = settings.paths.root / environment.SOURCES / "embedded_server"
    (folder / "converting" / "cut.py").write_text("# changed\n")
    assert environment.program(settings) != before


# What is remembered

WHY = Refusal("net@1 cannot be optimized: it changes the variable 'n'.", "Serve it as it is.")


def test_a_refusal_is_remembered_for_what_was_asked(settings: Settings, model: Model) -> None:
    assert artefact.refusal(settings, model, "bf16") is None
    artefact.remember_refusal(settings, model, "bf16", WHY)
    assert artefact.refusal(settings, model, "bf16") == WHY
    assert artefact.refusal(settings, model, "f32") is None
    assert artefact.refusal(settings, model, AUTO) is None
    error = WHY.error()
    assert isinstance(error, CannotGain)
    assert (error.problem, error.remedy, error.exit_code) == (WHY.problem, WHY.remedy, 1)


def test_one_for_any_precision_holds_for_all(settings: Settings, model: Model) -> None:
    artefact.remember_refusal(settings, model, ANY, WHY)
    assert all(artefact.refusal(settings, model, asked) == WHY for asked in (AUTO, "f32", "bf16"))


def test_several_are_kept_next_to_the_artefact(settings: Settings, model: Model) -> None:
    artefact.remember_refusal(settings, model, "bf16", WHY)
    artefact.remember_refusal(settings, model, AUTO, replace(WHY, remedy="another"))
    assert artefact.refusal(settings, model, "bf16") == WHY
    assert [path.name for path in (model.base / artefact.FOLDER).iterdir()] == ["1.refused.json"]
    artefact.forget_refusals(settings, model, ["f32"])
    assert artefact.refusal(settings, model, "bf16") == WHY
    assert artefact.refusal(settings, model, AUTO) is None
    artefact.forget_refusals(settings, model, ["bf16"])
    assert list((model.base / artefact.FOLDER).iterdir()) == []
    artefact.forget_refusals(settings, model, ["bf16"])


def test_it_ends_with_what_it_rests_on(settings: Settings, model: Model) -> None:
    artefact.remember_refusal(settings, model, ANY, WHY)
    (settings.paths.root / environment.SOURCES / "embedded_server/converting/operations.py").write_text("\n")
    assert artefact.refusal(settings, model, AUTO) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fingerprint": 1, "refused": {"auto": "no"}}'])
def test_what_cannot_be_read_is_found_out_again(settings: Settings, model: Model, text: str) -> None:
    (model.base / artefact.FOLDER).mkdir()
    (model.base / artefact.FOLDER / "1.refused.json").write_text(text)
    assert artefact.refusal(settings, model, AUTO) is None


def test_every_version_has_its_own(settings: Settings, model: Model, tmp_path: Path) -> None:
    artefact.remember_refusal(settings, model, ANY, WHY)
    second = standin.model(tmp_path, version=2)
    assert artefact.refusal(settings, second, AUTO) is None
    shutil.rmtree(second.folder)


def test_the_format_is_the_converters() -> None:
    """Two programs in two environments read one manifest."""
    text = (ROOT / environment.SOURCES / "embedded_server" / "execution" / "artefact.py").read_text()
    assert f"\nFORMAT = {artefact.FORMAT}\n" in text

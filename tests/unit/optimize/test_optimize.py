"""tasks.lib.optimize.optimize: a build, with stand-ins for converter, proof and servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.lib.client.inputs import given_at
from tasks.lib.common.errors import CannotGain, OptimizeError
from tasks.lib.common.settings import Settings
from tasks.lib.models import artefact
from tasks.lib.models.artefact import AUTO
from tasks.lib.models.store import Model
from tasks.lib.optimize import optimize
from tasks.lib.optimize.candidates import Memory, Outcome
from tests.helpers.commandline import ROOT
from tests.helpers.workshop import FAR, Workshop, left


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

"""tasks.lib.optimize.optimize: models that cannot be optimized, and what is remembered of them."""

from __future__ import annotations

import signal

import pytest

from tasks.lib.client.inputs import Given
from tasks.lib.common.errors import CannotGain, OptimizeError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.models import artefact
from tasks.lib.models.artefact import AUTO
from tasks.lib.models.store import Model
from tasks.lib.optimize import optimize
from tasks.lib.optimize.candidates import Outcome
from tests.helpers.workshop import FAR, FINE, Workshop, left


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

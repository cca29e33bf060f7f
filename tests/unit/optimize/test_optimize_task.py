"""tasks.lib.optimize.optimize: the precision that a variant gets, and what build.optimized prints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from invoke import Exit

from tasks import build
from tasks.lib.common.errors import OptimizeError, SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.models import artefact, samples
from tasks.lib.models.artefact import AUTO
from tasks.lib.models.store import Model
from tasks.lib.optimize import optimize
from tests.helpers import standin
from tests.helpers.commandline import ROOT
from tests.helpers.workshop import FAR, Workshop


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

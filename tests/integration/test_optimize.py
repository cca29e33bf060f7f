"""An artefact that does not answer like stock is never served as if it did."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from invoke import Config

from tasks.lib.client.inputs import given_at
from tasks.lib.common.errors import CannotGain
from tasks.lib.common.settings import Settings, read
from tasks.lib.models import store
from tasks.lib.models.artefact import refusal
from tasks.lib.models.store import Model
from tasks.lib.optimize import against_stock, candidates, optimize
from tasks.lib.optimize.against_stock import Bench
from tests.integration.conftest import ROOT, Suite


def artefact(suite: Suite) -> Path:
    return suite.folder / "models" / "resnet" / ".optimized" / "1"


def scale_a_weight(folder: Path) -> None:
    """Scale one weight tensor by 1.5 and make the manifest agree, as a faulty converter would.

    It is the matrix that makes scores of features: the order of the others differs from one conversion to
    the next, and deep inside a network in bfloat16 one of them may change less than its rounding does.
    """
    manifest = json.loads((folder / "artefact.json").read_text())
    # Signatures that compute the same do not always come to share a body.
    body = folder / manifest["programs"]["serving_default"]["body"]
    values = body.with_suffix(".bin")
    layers = ElementTree.parse(body).iter("layer")
    constants = [layer.find("data") for layer in layers if layer.get("type") == "Const"]
    matrices = [c for c in constants if c is not None and len(c.get("shape", "").split(",")) == 2]
    data = max(matrices, key=lambda c: int(c.get("size", "")))
    offset, size = int(data.get("offset", "")), int(data.get("size", ""))
    weights = np.memmap(values, dtype=np.float32, mode="r+", offset=offset, shape=(size // 4,))
    weights *= 1.5
    weights.flush()
    del weights
    manifest["files"][values.name] = hashlib.sha256(values.read_bytes()).hexdigest()
    (folder / "artefact.json").write_text(json.dumps(manifest))


@pytest.fixture
def kept(resnet: Suite) -> Iterator[Suite]:
    """The suite with the ResNet; its artefact is put back afterwards."""
    copy = resnet.folder / "artefact-copy"
    shutil.copytree(artefact(resnet), copy)
    yield resnet
    resnet.run("teardown")
    shutil.rmtree(artefact(resnet), ignore_errors=True)
    copy.rename(artefact(resnet))


def test_a_flipped_byte_is_refused(kept: Suite) -> None:
    with (artefact(kept) / "body-0.bin").open("r+b") as file:
        file.seek(1000)
        byte = file.read(1)
        file.seek(1000)
        file.write(bytes([byte[0] ^ 0xFF]))
    for words in (["serve", "--optimized"], ["build.optimized"], ["benchmark"]):
        done = kept.run(*words, code=1)
        assert "is damaged: " in done.stderr
        assert "invoke build.optimized" in done.stderr
    assert kept.servers() == []


def test_a_scaled_weight_is_caught_before_anything_is_timed(kept: Suite) -> None:
    scale_a_weight(artefact(kept))
    done = kept.run("benchmark", code=3)
    assert "optimized and stock are not comparable: " in done.stdout
    assert "answers differently from stock" in done.stderr
    optimized = next(line for line in done.stdout.splitlines() if line.startswith("optimized "))
    assert re.search(r"optimized +OpenVINO +\w+ +- +- +- +- ", optimized)
    assert kept.servers() == []


def test_a_conversion_that_goes_wrong_is_refused(stale: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement check is between converting and choosing: here the converter scales a weight."""
    real = optimize.convert

    def faulty(settings: Settings, model: Model, target: Path) -> list[str]:
        native = real(settings, model, target)
        scale_a_weight(target)
        return native

    monkeypatch.setattr(optimize, "convert", faulty)
    settings = settings_of(stale, monkeypatch)
    before = manifest_of(stale).read_text()
    model = store.find(settings.paths, "tf1")
    with pytest.raises(CannotGain, match=r"cannot be optimized: in f32 '"):
        optimize.build(settings, model, "f32")
    assert manifest_of(stale).read_text() == before
    # It is remembered, and a person's own requests are compared all the same.
    monkeypatch.setattr(optimize, "convert", None)
    with pytest.raises(CannotGain, match=r"cannot be optimized: in f32 '"):
        optimize.build(settings, model, "f32")
    monkeypatch.setattr(optimize, "convert", real)
    assert optimize.build(settings, model, "f32", given_at(ROOT / "models" / "samples")) is not None
    assert refusal(settings, model, "f32") is None
    assert stale.servers() == []


def test_a_precision_that_this_cpu_lacks_is_named(stale: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without AVX-512 BF16, where converting finds f32 alone."""
    real = optimize.convert

    def without_bf16(settings: Settings, model: Model, target: Path) -> list[str]:
        return [precision for precision in real(settings, model, target) if precision != "bf16"]

    monkeypatch.setattr(optimize, "convert", without_bf16)
    # Whether so small a model gains depends on the CPU.
    monkeypatch.setattr(Bench, "_timed", lambda *_: against_stock.NOT_TIMED)
    settings = settings_of(stale, monkeypatch)
    outcome = optimize.build(settings, store.find(settings.paths, "tf1"), "auto")
    assert outcome is not None
    _stock, f32, bf16 = candidates.table(outcome)
    assert (f32["precision"], f32["decision"]) == ("f32", "chosen")
    assert (bf16["precision"], bf16["decision"]) == ("bf16", "this CPU does not compute it natively")
    assert bf16["p50 ms"] == "-"


def test_an_artefact_of_something_else_is_built_again(stale: Suite) -> None:
    done = stale.run("build.optimized", "--precision", "f32")
    assert "converting tf1@1538687457" in done.stderr
    assert "optimized tf1@1538687457: f32" in done.stdout


def manifest_of(suite: Suite) -> Path:
    return suite.folder / "models" / "tf1" / ".optimized" / "1538687457" / "artefact.json"


@pytest.fixture
def stale(tf1: Suite) -> Iterator[Suite]:
    """A suite whose artefact says that it was made from something else."""
    manifest = manifest_of(tf1)
    good = manifest.read_text()
    bad = json.dumps({**json.loads(good), "fingerprint": "of another"})
    manifest.write_text(bad)
    yield tf1
    if manifest.read_text() == bad:
        manifest.write_text(good)


def settings_of(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings that `suite` runs with, for calling the library directly."""
    for name, value in suite.environment.items():
        if name.startswith("INVOKE_"):
            monkeypatch.setenv(name, value)
    config = Config(project_location=str(ROOT))
    config.load_project()
    config.load_shell_env()
    return read(config, ROOT)

"""The pipeline of a model that does not gain, with a stand-in for the embedded server."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import invoke
import pytest

from tasks.lib.common.errors import CannotGain
from tasks.lib.embedded import environment
from tasks.lib.optimize import optimize
from tasks.pipeline import pipeline
from tests.helpers.standin import ROOT, Checkout, checkout_with_standin

BENCHMARK = {"max_seconds": "0", "instances": "1", "block_requests": "2", "warmup_seconds": "0"}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    """A checkout where nothing has to be installed, and where building tells whether the model gains."""

    def build(*_: object, **__: object) -> None:
        if not one.gains:
            raise CannotGain(Checkout.WITHOUT_GAIN, "Serve it with `invoke serve`.")

    monkeypatch.setattr(environment, "ensure", lambda settings: settings.paths.environment / "bin" / "python")
    monkeypatch.setattr(optimize, "build", build)
    with checkout_with_standin(tmp_path, monkeypatch) as one:
        shutil.copytree(ROOT / "models" / "samples", one.settings.paths.models / "samples")
        one.gains = False
        yield one


def context(checkout: Checkout, **benchmark: str) -> Any:
    c = checkout.context()
    for key, value in (BENCHMARK | benchmark).items():
        c.config.benchmark[key] = value
    return c


def test_it_ends_with_stock_measured_alone(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    pipeline(context(checkout), engine="local", format="json")
    shown = capsys.readouterr()
    content = json.loads(shown.out)
    [run] = content["runs"]
    assert run["verdict"] is None
    assert run["alone"]["name"] == "stock"
    assert content["left_out"] == [{"name": "optimized", "reason": Checkout.WITHOUT_GAIN}]
    assert shown.err.count("starting stock net@1") == 1, "the server that was started first is measured"
    assert "starting optimized" not in shown.err
    assert f"optimized was left out: {Checkout.WITHOUT_GAIN}" in shown.err
    assert "[5/5] teardown" in shown.err
    assert checkout.attempts == 0, "what failed while building is not tried again"
    assert checkout.processes() == []


def test_with_nothing_to_measure_it_fails(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(invoke.Exit) as ended:
        pipeline(context(checkout, baseline="optimized"), engine="local")
    assert ended.value.code == 1
    assert Checkout.WITHOUT_GAIN in str(ended.value.message)
    assert "[5/5] teardown" in capsys.readouterr().err
    assert checkout.processes() == []

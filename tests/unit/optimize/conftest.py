"""Fixtures of the tests of optimize: stand-ins for what a build starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.lib.embedded import environment
from tasks.lib.models.store import Model
from tasks.lib.optimize import against_stock
from tests.helpers import standin
from tests.helpers.workshop import Workshop


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

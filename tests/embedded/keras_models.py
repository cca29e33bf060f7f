"""Keras files to export."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import pytest
from embedded_server import export
from embedded_server.execution.tensorflow_backend import TensorFlowBackend

layers = keras.layers
Change = Callable[[dict[str, Any]], object]


def unpacked(file: Path) -> Path:
    """What the task runner hands over: a .keras file as a folder (it refuses unsafe zip archives itself)."""
    folder = file.with_suffix(".unpacked")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder)
    return folder


def saved(model: keras.Model, folder: Path, change: Change = lambda described: None) -> Path:
    """`model` as an unpacked .keras file whose configuration went through `change`."""
    model.save(folder / "model.keras")
    source = unpacked(folder / "model.keras")
    described = json.loads((source / "config.json").read_bytes())
    change(described)
    (source / "config.json").write_text(json.dumps(described))
    return source


def saved_h5(model: keras.Model, folder: Path, change: Change = lambda described: None) -> Path:
    """`model` as an .h5 file whose configuration went through `change`."""
    file = folder / "model.h5"
    model.save(file)
    with h5py.File(file, "r+") as content:
        described = json.loads(content.attrs["model_config"])
        change(described)
        content.attrs["model_config"] = json.dumps(described)
    return file


forms = pytest.mark.parametrize("form", [saved, saved_h5], ids=["keras", "h5"])


def exported(source: Path, folder: Path) -> TensorFlowBackend:
    export.export(source, folder / "1")
    return TensorFlowBackend.load(folder / "1")


def refused(source: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence that the program says; nothing is written."""
    capsys.readouterr()
    assert export.main([f"--keras={source}", f"--output={folder / 'out'}"]) == export.REFUSED
    said = capsys.readouterr()
    assert said.out == ""
    assert "Traceback" not in said.err
    assert not (folder / "out").exists()
    return said.err.splitlines()[-1]


def ran(marker: Path) -> bool:
    """Whether the payload has run; it counts once."""
    there = marker.exists()
    marker.unlink(missing_ok=True)
    return there


def small(*middle: Any) -> keras.Model:
    return keras.Sequential([keras.Input((4,), name="x"), *middle, layers.Dense(2, name="last")])


def last(described: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the layer named last."""
    config: dict[str, Any] = described["config"]["layers"][-1]["config"]
    assert config["name"] == "last"
    return config


def instance(module: str | None, name: Any, config: Any = None, **more: Any) -> dict[str, Any]:
    return {"class_name": name, "module": module, "config": config or {}, "registered_name": None, **more}

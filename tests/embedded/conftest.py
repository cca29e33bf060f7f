"""Tests of the embedded server. They run in its own environment (TensorFlow, no task runner)."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PACKAGE_FOLDER = Path(__file__).resolve().parents[2] / "docker" / "embedded"
sys.path[:0] = [str(PACKAGE_FOLDER), str(Path(__file__).parent)]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# The task runner's environment has no TensorFlow, and its run of the suite does not look in here.
collect_ignore_glob = [] if importlib.util.find_spec("tensorflow") else ["test_*.py"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the base paths of all models in saved_models.py."""
    import saved_models

    folder = tmp_path_factory.mktemp("models")
    saved_models.write_module(folder / "module" / "3")
    saved_models.write_tf1_photos(folder / "photos" / "1538687457")
    saved_models.write_keras_export(folder / "keras" / "1")
    saved_models.write_keras_in_module(folder / "wrapped" / "1")
    return folder


@pytest.fixture(scope="session")
def module_server(models: Path) -> Iterator[object]:
    """A server of the model with many signatures."""
    from running import Server

    with Server("--model_name=module", f"--model_base_path={models / 'module'}") as server:
        yield server


@pytest.fixture(scope="session")
def photo_server(models: Path) -> Iterator[object]:
    """A server of the TF 1 style model that takes JPEGs."""
    from running import Server

    with Server("--model_name=photos", f"--model_base_path={models / 'photos'}") as server:
        yield server


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What a payload creates."""
    return tmp_path / "marker"


@pytest.fixture
def hostile(marker: Path) -> Iterator[type]:
    """A custom layer that Keras knows, so that only the export refuses it."""
    import keras

    with keras.saving.CustomObjectScope({}):
        known = keras.saving.get_custom_objects()
        before = dict(known)

        @keras.saving.register_keras_serializable("Custom", "Hostile")
        class Hostile(keras.layers.Layer):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                marker.touch()

            def call(self, x: Any) -> Any:
                return x

        yield Hostile
        known.clear()
        known.update(before)


@pytest.fixture(scope="module")
def adders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1, 2 and 3 of a model that adds its version."""
    import saved_models
    from embedded_server.config.flags import parse_flags
    from embedded_server.lifecycle.loading import prepare

    prepare(parse_flags(["--model_base_path=/none"]))
    folder = tmp_path_factory.mktemp("adders")
    for number in (1, 2, 3):
        saved_models.write_adder(folder / str(number), number)
    return folder


@pytest.fixture
def served(tmp_path: Path, adders: Path) -> Iterator[object]:
    """A manager to start in this process."""
    from managed import Served

    served = Served(tmp_path, adders)
    yield served
    if served.manager is not None:
        served.manager.stop()

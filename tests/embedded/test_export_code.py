"""Keras files that could run code are refused unrun.

Hostile files have a payload that creates the file `marker`. That the payload works is asserted first, so that
a refusal is not taken for a file that was broken anyway.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from embedded_server.exporting.known import UNSAFE
from keras.src.saving import serialization_lib
from keras_models import forms, instance, last, layers, ran, refused, saved, saved_h5, small

# Keras warns of what it does itself, such as how it makes NumPy arrays, and of files in the form of Keras 2.
pytestmark = pytest.mark.filterwarnings("ignore")


def payload(marker: Path) -> Callable[[Any], Any]:
    # All that a marshalled function takes along are constants: imports and the path are inside.
    return eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]")  # type: ignore[no-any-return]


@forms
def test_a_lambda_layer(
    tmp_path: Path, marker: Path, form: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """CVE-2025-9905: Keras let it run in .h5 files even in safe mode."""
    source = form(small(layers.Lambda(payload(marker), output_shape=(4,), name="evil")), tmp_path)
    ran(marker)
    keras.saving.load_model(source, safe_mode=False, compile=False)(np.zeros((1, 4)))
    assert ran(marker)
    reason = refused(source, tmp_path, capsys)
    assert reason == "the layer 'evil' is a Lambda layer, which holds Python code"
    assert not ran(marker)


@forms
def test_a_lambda_layer_inside_other_layers(
    tmp_path: Path, marker: Path, form: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    evil = layers.Lambda(payload(marker), output_shape=(4,), name="evil")
    inner = keras.Sequential([keras.Input((1, 4)), layers.TimeDistributed(evil, name="outer")], name="inner")
    source = form(small(layers.Reshape((1, 4)), inner), tmp_path)
    ran(marker)
    keras.saving.load_model(source, safe_mode=False, compile=False)(np.zeros((1, 4)))
    assert ran(marker)
    reason = refused(source, tmp_path, capsys)
    assert reason == "the layer 'outer' holds a Lambda layer, which holds Python code"
    assert not ran(marker)


def test_a_lambda_as_an_activation(tmp_path: Path, marker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = layers.Lambda(payload(marker)).get_config()["function"]
    assert code["class_name"] == "__lambda__"

    def change(described: dict[str, Any]) -> None:
        last(described)["activation"] = code

    source = saved(small(), tmp_path, change)
    assert "the layer 'last' has a lambda, which is Python code" in refused(source, tmp_path, capsys)
    assert not ran(marker)


@forms
def test_a_custom_layer(
    tmp_path: Path, marker: Path, hostile: type, form: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    source = form(small(hostile(name="evil")), tmp_path)
    ran(marker)
    keras.saving.load_model(source)
    assert ran(marker)
    reason = refused(source, tmp_path, capsys)
    assert "needs the custom object 'Custom>Hostile', which is Python code" in reason
    assert reason.startswith(("the layer 'evil' ", "a layer 'Hostile' ", "a layer 'Custom>Hostile' "))
    assert not ran(marker)


def test_a_custom_object_under_the_name_of_a_keras_layer(
    tmp_path: Path, marker: Path, hostile: type, capsys: pytest.CaptureFixture[str]
) -> None:
    keras.saving.get_custom_objects()["hidden"] = hostile

    def change(described: dict[str, Any]) -> None:
        described["config"]["layers"][-1]["registered_name"] = "hidden"

    assert "needs the custom object 'hidden'" in refused(saved(small(), tmp_path, change), tmp_path, capsys)
    assert not ran(marker)


@pytest.fixture
def hostile_module(tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that is the payload, where Python finds it."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "hostile_module.py").write_text(
        f"import pathlib, keras\npathlib.Path({str(marker)!r}).touch()\n"
        "class Evil(keras.layers.Layer): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "modules")
    importlib.import_module("hostile_module")
    assert ran(marker)
    del sys.modules["hostile_module"]
    return "hostile_module"


def function(module: str | None, name: Any, registered: Any = "function") -> dict[str, Any]:
    return {"class_name": "function", "module": module, "config": name, "registered_name": registered}


PLACES = ("activation", "kernel_initializer", "bias_regularizer", "kernel_constraint", "dtype", "anything")


@forms
@pytest.mark.parametrize("place", PLACES)
def test_a_module_that_is_not_of_keras_is_not_imported(
    tmp_path: Path,
    marker: Path,
    hostile_module: str,
    place: str,
    form: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """CVE-2025-1550: Keras imported any module that a configuration named."""

    def change(described: dict[str, Any]) -> None:
        last(described)[place] = {"deep": [[instance(hostile_module, "Evil")]]}

    reason = refused(form(small(), tmp_path, change), tmp_path, capsys)
    assert reason == (
        "the layer 'last' needs 'Evil' of the Python module 'hostile_module', which is not part of Keras"
    )
    assert not ran(marker)


@pytest.mark.parametrize(
    ("described", "why"),
    [
        (function("keras.config", "enable_unsafe_deserialization"), "of 'keras.config', which is not one of"),
        (function("keras.utils", "get_file"), "of 'keras.utils', which is not one of"),
        (function("keras.saving", "load_model"), "of 'keras.saving', which is not one of"),
        (function("keras.models", "load_model"), "of 'keras.models', which is not one of"),
        (function("keras.activations", "deserialize"), "needs the function 'deserialize'"),
        (function("keras.src.utils.python_utils", "func_load"), "needs the function 'func_load'"),
        (function("builtins", "exec"), "needs the function 'exec' of 'builtins'"),
        (function("builtins", "function"), "needs the function 'function' of 'builtins'"),
        (function("os", "system"), "needs the function 'system' of 'os'"),
        (function("keras.activations", "relu", "system"), "needs the function 'system'"),
        (function(None, "relu"), "needs the function 'relu'"),
        (function("keras.activations", ["relu"]), "needs the function ['relu']"),
        (instance("keras.config", "enable_unsafe_deserialization"), "of 'keras.config', which is not one of"),
        (instance("keras.utils", "FeatureSpace"), "'FeatureSpace' of 'keras.utils', which is not one of"),
        (instance("keras.layers", "deserialize"), "needs the class 'deserialize' of 'keras.layers'"),
        (instance("keras.src.layers.core.lambda_layer", "Lambda"), "holds a Lambda layer"),
        (instance("keras.src.saving.saving_lib", "DiskIOStore"), "needs the class 'DiskIOStore'"),
        (instance("keras_hub.layers", "Anything"), "of the Python module 'keras_hub.layers'"),
        (instance("kerasx", "Dense"), "of the Python module 'kerasx', which is not part of Keras"),
        (instance("", "Dense"), "of the Python module ''"),
        (instance(None, "Custom>Evil"), "needs the custom object 'Custom>Evil'"),
        (instance(None, "Evil"), "needs the class 'Evil', which is not one of Keras' own"),
        (instance(None, ["Dense"]), "has an object whose class is ['Dense']"),
        (instance(["keras"], "Dense"), "has an object whose class is 'Dense' of ['keras']"),
        (instance("os", "__numpy__"), "has a constant '__numpy__' that names a Python module"),
        ({"class_name": "__typespec__", "spec_name": "x", "module": "os", "config": []}, "'__typespec__'"),
        ({"class_name": "TypeSpec", "type_spec": "x", "serialized": []}, "needs the class 'TypeSpec'"),
        ({"class_name": "CompositeTensor", "spec": {}, "tensors": []}, "needs the class 'CompositeTensor'"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value,
)
@forms
def test_what_a_configuration_may_not_name(
    tmp_path: Path,
    described: dict[str, Any],
    why: str,
    form: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """CVE-2025-9906 and what is like it."""

    def change(whole: dict[str, Any]) -> None:
        last(whole)["kernel_initializer"] = described

    reason = refused(form(small(), tmp_path, change), tmp_path, capsys)
    assert reason.startswith("the layer 'last' ")
    assert why in reason
    assert serialization_lib.in_safe_mode() is None  # which enable_unsafe_deserialization makes False


@pytest.mark.parametrize("name", UNSAFE)
@forms
def test_layers_of_keras_that_bring_code_or_read_files(
    tmp_path: Path, name: str, form: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    def change(described: dict[str, Any]) -> None:
        evil = instance("keras.layers", name, {"name": "evil", "filepath": "/elsewhere"})
        described["config"]["layers"].insert(1, evil)

    reason = refused(form(small(), tmp_path, change), tmp_path, capsys)
    assert reason == f"the layer 'evil' is a {name} layer, which {UNSAFE[name]}"


@pytest.mark.parametrize("kind", ["StringLookup", "IntegerLookup", "TextVectorization"])
@pytest.mark.parametrize("where", ["a file", "https://example.org/words.txt", "file:///etc/hostname"])
@forms
def test_a_vocabulary_that_is_in_another_file(
    tmp_path: Path, kind: str, where: str, form: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Keras would make the file's lines a part of the model, for everyone who can ask it."""
    secret = tmp_path / "secret.txt"
    secret.write_text("1\n2\n")
    place = str(secret) if where == "a file" else where
    words = [1, 2] if kind == "IntegerLookup" else ["1", "2"]
    dtype = "int64" if kind == "IntegerLookup" else "string"
    model = keras.Sequential(
        [keras.Input((1,), dtype=dtype), getattr(layers, kind)(vocabulary=words, name="words")]
    )

    def change(described: dict[str, Any]) -> None:
        described["config"]["layers"][-1]["config"]["vocabulary"] = place

    source = form(model, tmp_path, change)
    if where == "a file":
        loaded = keras.saving.load_model(source, safe_mode=False)
        assert [str(word) for word in loaded.get_layer("words").get_vocabulary()[-2:]] == ["1", "2"]
    reason = refused(source, tmp_path, capsys)
    assert reason == f"the layer 'words' reads its vocabulary from another file, {place!r}"[: len(reason)]


def test_a_saved_model_from_another_place(
    tmp_path: Path, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A SavedModel is a program too: TensorFlow has operations that write files."""

    class Evil(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 4])])
        def serve(self, x: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([tf.io.write_file(str(marker), "")]):
                return tf.identity(x)

    evil = Evil()
    tf.saved_model.save(evil, str(tmp_path / "elsewhere"), signatures={"serving_default": evil.serve})
    layer = layers.TFSMLayer(str(tmp_path / "elsewhere"), call_endpoint="serving_default", name="evil")
    source = saved(keras.Sequential([keras.Input((4,)), layer]), tmp_path)
    keras.saving.load_model(source, safe_mode=False)(np.zeros((1, 4), np.float32))
    assert ran(marker)
    assert "the layer 'evil' is a TFSMLayer layer" in refused(source, tmp_path, capsys)
    assert not ran(marker)


def test_a_lambda_as_keras_2_wrote_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(described: dict[str, Any]) -> None:
        config = {"name": "evil", "function": ["4wEAAAA=", None, None], "function_type": "lambda"}
        described["config"]["layers"].insert(1, {"class_name": "Lambda", "config": config})

    reason = refused(saved_h5(small(), tmp_path, change), tmp_path, capsys)
    assert reason == "the layer 'evil' is a Lambda layer, which holds Python code"


def test_a_sequential_as_keras_2_0_wrote_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its configuration is the list of its layers."""

    def change(described: dict[str, Any]) -> None:
        described["config"] = [{"class_name": "Lambda", "config": {"name": "evil"}}]

    assert "the layer 'evil' is a Lambda" in refused(saved_h5(small(), tmp_path, change), tmp_path, capsys)

"""Keras files become SavedModels that answer as Keras does; a file that could run code is refused unrun.

Hostile files have a payload that creates the file `marker`. That the payload works is asserted first, so that
a refusal is not taken for a file that was broken anyway.
"""

from __future__ import annotations

import importlib
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from embedded_server import export
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.exporting import configuration
from embedded_server.exporting.known import UNSAFE
from keras.src.saving import serialization_lib

# Keras warns of what it does itself, such as how it makes NumPy arrays, and of files in the form of Keras 2.
pytestmark = pytest.mark.filterwarnings("ignore")
layers = keras.layers
FILES = Path(__file__).parent / "keras_files"
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


def answers(backend: TensorFlowBackend, **inputs: Any) -> np.ndarray[Any, Any]:
    outputs = backend.run("serving_default", {name: np.asarray(value) for name, value in inputs.items()})
    assert len(outputs) == 1
    return np.asarray(next(iter(outputs.values())))


# Good files


def cnn() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), name="picture"),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(3, activation="softmax", kernel_constraint=keras.constraints.MaxNorm(2)),
        ]
    )


def several_inputs() -> keras.Model:
    first, second = keras.Input((4,), name="first"), keras.Input((3,), name="second")
    x = layers.Concatenate()([layers.Dense(2)(first), layers.Dense(2, activation="gelu")(second)])
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4)], name="inner")
    inner.compile("adam", "mse")
    x = layers.Add()([inner(x), layers.Activation("tanh")(x)])
    return keras.Model([first, second], x)


def operations() -> keras.Model:
    first = keras.Input((4,), name="first")
    x = keras.ops.relu(first[:, :2] * 3.0 + keras.ops.mean(first, axis=1, keepdims=True))
    return keras.Model(first, layers.Dense(2, activation=keras.activations.silu)(x))


def recurrent() -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((5,), dtype="int32", name="words"),
            layers.Embedding(10, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
            layers.TimeDistributed(layers.Dense(2)),
            layers.RNN([layers.GRUCell(3), layers.SimpleRNNCell(2)]),
        ]
    )


def mixed() -> keras.Model:
    policy = keras.dtype_policies.DTypePolicy("mixed_bfloat16")
    return keras.Sequential([keras.Input((4,), name="first"), layers.Dense(3, dtype=policy)])


def scaled() -> keras.Model:
    """With a layer that keras.applications has for itself, as its ConvNeXt models have."""
    from keras.src.applications.convnext import LayerScale

    return keras.Sequential([keras.Input((4,), name="first"), LayerScale(0.5, 4), layers.Dense(2)])


RANDOM = np.random.default_rng(3)
INPUTS: dict[Callable[[], keras.Model], dict[str, Any]] = {
    cnn: {"picture": RANDOM.uniform(0, 255, (2, 8, 8, 3)).astype(np.float32)},
    several_inputs: {
        "first": RANDOM.normal(size=(3, 4)).astype(np.float32),
        "second": RANDOM.normal(size=(3, 3)).astype(np.float32),
    },
    operations: {"first": RANDOM.normal(size=(3, 4)).astype(np.float32)},
    recurrent: {"words": np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 9]], np.int32)},
    scaled: {"first": RANDOM.normal(size=(3, 4)).astype(np.float32)},
    mixed: {"first": RANDOM.normal(size=(3, 4)).astype(np.float32)},
}


@pytest.mark.parametrize(
    ("make", "form"),
    # Keras itself cannot load operations and such layers from an .h5 file.
    [
        (make, form)
        for make in INPUTS
        for form in (saved, saved_h5)
        if form is saved or make not in (operations, scaled)
    ],
    ids=lambda value: value.__name__,
)
def test_the_saved_model_answers_as_keras_does(
    tmp_path: Path, make: Callable[[], keras.Model], form: Callable[..., Path]
) -> None:
    model, inputs = make(), INPUTS[make]
    expected = model.predict(list(inputs.values()), verbose=0)
    backend = exported(form(model, tmp_path), tmp_path)
    assert set(backend.signatures["serving_default"].inputs) == set(inputs)
    np.testing.assert_allclose(answers(backend, **inputs), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("vocabulary", [["cat", "dog"], None], ids=["in the configuration", "as an asset"])
def test_words_are_looked_up_as_keras_does(tmp_path: Path, vocabulary: list[str] | None) -> None:
    vectorization = layers.TextVectorization(vocabulary=vocabulary, output_sequence_length=4)
    if vocabulary is None:
        vectorization.adapt(["a cat", "a dog", "a cat and a dog"])
    model = keras.Sequential(
        [keras.Input((1,), dtype="string", name="text"), vectorization, layers.Embedding(9, 3)]
    )
    texts = tf.constant([["a cat"], ["Dog! Bird"]])
    source = saved(model, tmp_path)
    assert any((source / "assets").rglob("*")) == (vocabulary is None)
    backend = exported(source, tmp_path)
    np.testing.assert_allclose(
        answers(backend, text=texts.numpy()), model.predict(texts, verbose=0), rtol=1e-6
    )


def test_a_file_of_tf_keras_2(tmp_path: Path) -> None:
    """tf_keras_2.h5 was written by the version of tf_keras that the .json names, which says its answers."""
    told = json.loads((FILES / "tf_keras_2.json").read_text())
    picture, numbers = (np.array(told[name], np.float32) for name in ("picture", "numbers"))
    backend = exported(FILES / "tf_keras_2.h5", tmp_path)
    np.testing.assert_allclose(
        answers(backend, picture=picture, numbers=numbers), told["classes"], rtol=1e-4, atol=1e-6
    )


def test_the_name_of_an_hdf5_file_does_not_matter(tmp_path: Path) -> None:
    saved_h5(mixed(), tmp_path).rename(tmp_path / "received")
    assert exported(tmp_path / "received", tmp_path).signatures


def test_how_a_model_was_compiled_does_not_matter(tmp_path: Path, marker: Path, hostile: type) -> None:
    """A custom loss is common, and no obstacle: it is removed before Keras reads the configuration."""
    model, loss = several_inputs(), hostile_loss(marker)
    model.get_layer("inner").compile("adam", loss)
    model.compile("adam", loss)
    source = saved(model, tmp_path)
    assert "Custom>" in (source / "config.json").read_text()
    keras.saving.load_model(source)
    assert ran(marker)
    assert exported(source, tmp_path).signatures
    assert not ran(marker)
    assert "Custom>" not in (source / "config.json").read_text()


# Files that could run code


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What a payload creates."""
    return tmp_path / "marker"


def ran(marker: Path) -> bool:
    """Whether the payload has run; it counts once."""
    there = marker.exists()
    marker.unlink(missing_ok=True)
    return there


def hostile_loss(marker: Path) -> Callable[..., Any]:
    @keras.saving.register_keras_serializable("Custom", "hostile_loss")
    class Loss(keras.losses.Loss):
        def __init__(self, **options: Any) -> None:
            super().__init__(name="hostile_loss")
            marker.touch()

        def call(self, y_true: Any, y_pred: Any) -> Any:
            return y_pred

    made = Loss()
    marker.unlink()
    return made  # type: ignore[return-value]


@pytest.fixture
def hostile(marker: Path) -> Iterator[type]:
    """A custom layer that Keras knows, so that only the export refuses it."""
    with keras.saving.CustomObjectScope({}):
        known = keras.saving.get_custom_objects()
        before = dict(known)

        @keras.saving.register_keras_serializable("Custom", "Hostile")
        class Hostile(layers.Layer):
            def __init__(self, **options: Any) -> None:
                super().__init__(**options)
                marker.touch()

            def call(self, x: Any) -> Any:
                return x

        yield Hostile
        known.clear()
        known.update(before)


def small(*middle: Any) -> keras.Model:
    return keras.Sequential([keras.Input((4,), name="x"), *middle, layers.Dense(2, name="last")])


def payload(marker: Path) -> Callable[[Any], Any]:
    # All that a marshalled function takes along are constants: imports and the path are inside.
    return eval(f"lambda x: (__import__('pathlib').Path({str(marker)!r}).touch(), x)[1]")  # type: ignore[no-any-return]


def last(described: dict[str, Any]) -> dict[str, Any]:
    """The configuration of the layer named last."""
    config: dict[str, Any] = described["config"]["layers"][-1]["config"]
    assert config["name"] == "last"
    return config


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


def instance(module: str | None, name: Any, config: Any = None, **more: Any) -> dict[str, Any]:
    return {"class_name": name, "module": module, "config": config or {}, "registered_name": None, **more}


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


# Files that are damaged, lie, or lead elsewhere


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "its configuration is not JSON"),
        ("[" * 100_000, "its configuration is not JSON"),
        ("[]", "its configuration describes no model"),
        ("{}", "its configuration describes no model"),
        ('"text"', "its configuration describes no model"),
    ],
    ids=["cut", "deep", "list", "empty", "text"],
)
def test_a_configuration_that_is_none(
    tmp_path: Path, text: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(small(), tmp_path)
    (source / "config.json").write_text(text)
    assert why in refused(source, tmp_path, capsys)
    file = saved_h5(small(), tmp_path)
    with h5py.File(file, "r+") as content:
        content.attrs["model_config"] = text[:1000]
    assert "its configuration" in refused(file, tmp_path, capsys)


def test_depth_is_no_way_round(tmp_path: Path) -> None:
    described: dict[str, Any] = instance("os", "system")
    for _ in range(50_000):
        described = {"x": [described]}
    with pytest.raises(configuration.Refused, match="of the Python module 'os'"):
        configuration.check(described)


@pytest.mark.parametrize("missing", ["config.json", "model.weights.h5"])
def test_a_part_is_missing(tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]) -> None:
    source = saved(small(), tmp_path)
    (source / missing).unlink()
    assert refused(source, tmp_path, capsys) == f"it holds no {missing}, as .keras files do"


def test_weights_without_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small().save_weights(tmp_path / "model.weights.h5")
    assert "it holds no model, only weights" in refused(tmp_path / "model.weights.h5", tmp_path, capsys)


@pytest.mark.parametrize("size", [0, 7, 8, 500, 5000])
def test_an_hdf5_file_that_is_cut_short(
    tmp_path: Path, size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    file = saved_h5(small(), tmp_path)
    file.write_bytes(file.read_bytes()[:size])
    assert "cannot be read" in refused(file, tmp_path, capsys)


def external_link(group: h5py.Group, secret: Path) -> None:
    group["evil"] = h5py.ExternalLink(str(secret), "/data")
    assert group["evil"][0] == 42


def soft_link(group: h5py.Group, secret: Path) -> None:
    group["evil"] = h5py.SoftLink("/")


def external_storage(group: h5py.Group, secret: Path) -> None:
    raw = secret.with_suffix(".raw")
    raw.write_bytes(np.array([42.0], np.float32).tobytes())
    data = group.create_dataset("evil", (1,), np.float32, external=[(str(raw), 0, 4)])
    assert data[0] == 42


def virtual_dataset(group: h5py.Group, secret: Path) -> None:
    layout = h5py.VirtualLayout((1,), np.float32)
    layout[:] = h5py.VirtualSource(str(secret), "data", (1,))
    assert group.create_virtual_dataset("evil", layout)[0] == 42


def strange_filter(group: h5py.Group, secret: Path) -> None:
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1,))
    properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    space = h5py.h5s.create_simple((1,))
    h5py.h5d.create(group.id, b"evil", h5py.h5t.IEEE_F32LE, space, properties)


def bomb(group: h5py.Group, secret: Path) -> None:
    data = group.create_dataset("evil", (1 << 40,), np.float32, chunks=(1 << 20,), compression="gzip")
    assert data.id.get_storage_size() == 0


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (external_link, "/evil' in it is a link to the file "),
        (soft_link, "/evil' in it is a link, which Keras does not write"),
        (external_storage, "/evil' in it has its data in the file "),
        (virtual_dataset, "/evil' in it has its data in other files (a virtual dataset)"),
        (strange_filter, "/evil' in it needs the HDF5 filter 32015"),
        (bomb, "its weights would take 4398046"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
@forms
def test_weights_that_lead_out_of_the_file(
    tmp_path: Path,
    make: Callable[[h5py.Group, Path], None],
    why: str,
    form: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as other:
        other["data"] = np.array([42.0], np.float32)
    source = form(small(), tmp_path)
    weights = source / "model.weights.h5" if source.is_dir() else source
    with h5py.File(weights, "r+") as content:
        make(content.create_group("deep/er"), secret)
    assert why in refused(source, tmp_path, capsys)


def test_a_group_that_holds_itself(tmp_path: Path) -> None:
    file = saved_h5(small(), tmp_path)
    with h5py.File(file, "r+") as content:
        content["model_weights/itself"] = content["model_weights"]
    assert exported(file, tmp_path).signatures


def test_what_keras_cannot_load_is_told_in_its_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change(described: dict[str, Any]) -> None:
        last(described)["time_major"] = False

    for form in (saved, saved_h5):
        reason = refused(form(small(), tmp_path, change), tmp_path, capsys)
        assert reason.startswith(f"Keras {keras.__version__} cannot load it: Unrecognized keyword argument")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ValueError"),
        ("first\n\n  last line.  \n", "last line."),
        ("Unknown layer: 'X'. Please ensure you are using a scope", "Unknown layer: 'X'."),
        ("It failed.\n\nException encountered: really", "really"),
        ("\x1b[1mIt failed.\x1b[0m\n\nArguments received by Dense.call():\n  x", "It failed."),
        ("a name \x1b]0;title\x07 of the file", "a name ]0;title of the file"),
        ("x" * 1000, "x" * 397 + "..."),
    ],
)
def test_the_reason_is_one_short_line(text: str, reason: str) -> None:
    assert export._reason(ValueError(text)) == reason


def test_an_unbuilt_model_is_told_in_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = keras.Sequential([layers.Dense(2)])
    source = saved(model, tmp_path)
    assert f"Keras {keras.__version__} cannot export it" in refused(source, tmp_path, capsys)

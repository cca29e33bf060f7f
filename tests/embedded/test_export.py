"""python -m embedded_server.export: Keras files become SavedModels, and nothing in them is executed."""

from __future__ import annotations

import json
import marshal
import zipfile
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from embedded_server import export
from embedded_server.errors import StartError
from embedded_server.keras_files import CONFIG, check
from keras import layers

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

FLOAT = {
    "module": "keras",
    "class_name": "DTypePolicy",
    "config": {"name": "float32"},
    "registered_name": None,
}


def network() -> Any:
    image, scale = keras.Input((8, 8, 3), name="image"), keras.Input((1,), name="scale")
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(4, activation=layers.LeakyReLU(negative_slope=0.1), kernel_constraint="max_norm")(x)
    x = keras.ops.mean(x, axis=[1, 2]) * scale
    return keras.Model(
        [image, scale], {"p": layers.Dense(3, "softmax", kernel_initializer="he_normal")(x), "x": x}
    )


def sequential() -> Any:
    kernel = layers.Dense(3, activation=keras.activations.gelu, activity_regularizer="l1")
    return keras.Sequential([keras.Input((4,)), kernel, layers.Dropout(0.5), layers.Dense(1)])


def recurrent() -> Any:
    cell = layers.Bidirectional(layers.LSTM(3, return_sequences=True))
    return keras.Sequential(
        [keras.Input((5, 4)), cell, layers.TimeDistributed(layers.Dense(2)), layers.Flatten()]
    )


def words() -> Any:
    vectorize = layers.TextVectorization(max_tokens=20, output_sequence_length=4)
    vectorize.adapt(["a few words", "and more of them"])
    parts = [
        keras.Input((1,), dtype="string"),
        vectorize,
        layers.Embedding(20, 4),
        layers.GlobalAveragePooling1D(),
    ]
    return keras.Sequential([*parts, layers.Dense(2)])


def own_loss(wanted: Any, found: Any) -> Any:
    return keras.ops.mean(wanted - found)


def trained() -> Any:
    """How it was trained is kept in its file too, and not loaded."""
    model = sequential()
    model.compile("adam", loss=own_loss, metrics=["mae"])
    model.fit(np.ones((4, 4)), np.ones((4, 1)), verbose=0)
    return model


ASKED: Mapping[Callable[[], Any], Any] = {
    network: {"image": np.linspace(0, 255, 384).reshape(2, 8, 8, 3), "scale": np.array([[0.5], [2.0]])},
    sequential: np.linspace(-1, 1, 8).reshape(2, 4),
    recurrent: np.linspace(-1, 1, 40).reshape(2, 5, 4),
    words: np.array([["a few"], ["more of other words"]], object),
    trained: np.linspace(-1, 1, 8).reshape(2, 4),
}


@pytest.mark.parametrize(
    ("build", "suffix"),
    [
        (build, suffix)
        for build in ASKED
        for suffix in (".keras", ".h5")
        # Keras 3 writes neither vocabularies nor operations into HDF5 files.
        if suffix == ".keras" or build not in (words, network)
    ],
    ids=lambda one: one if isinstance(one, str) else one.__name__,
)
def test_the_saved_model_answers_as_keras_does(tmp_path: Path, build: Callable[[], Any], suffix: str) -> None:
    model = build()
    model.save(tmp_path / f"model{suffix}")
    export.export(tmp_path / f"model{suffix}", tmp_path / "out")
    given = ASKED[build]
    tensors = {k: tf.constant(v, tf.float32) for k, v in given.items()} if isinstance(given, dict) else given
    expected = model(tensors if isinstance(given, dict) else tf.constant(given))
    signature = tf.saved_model.load(str(tmp_path / "out")).signatures["serving_default"]
    if isinstance(given, dict):
        found = signature(**tensors)
    else:
        (name,) = signature.structured_input_signature[1]
        dtype = signature.structured_input_signature[1][name].dtype
        found = signature(**{name: tf.constant(given, dtype)})
    wanted = expected if isinstance(expected, dict) else {next(iter(found)): expected}
    assert found.keys() == wanted.keys()
    for output in wanted:
        np.testing.assert_allclose(found[output], wanted[output], 1e-5, 1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"model{suffix}", "out"]


# Hostile files


def touching(marker: Path) -> str:
    """Code of a function that would make the file `marker`, as Keras keeps it in a Lambda layer."""
    source = f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]"
    return b64encode(marshal.dumps(eval(source).__code__)).decode()


def layer(
    class_name: str, module: str | None = "keras.layers", registered: str | None = None, **config: Any
) -> dict[str, Any]:
    described = {
        "class_name": class_name,
        "config": {"name": "evil", "trainable": True, "dtype": FLOAT, **config},
        "registered_name": registered,
        "build_config": {"input_shape": [None, 4]},
    }
    return described if module is None else {"module": module, **described}


def keras_file(path: Path, *added: dict[str, Any], **changed: Any) -> Path:
    """A good .keras file with these layers put at its end, and its configuration changed."""
    good = path.parent / "good.keras"
    sequential().save(good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == CONFIG:
                config = json.loads(content)
                config["config"]["layers"].extend(added)
                content = json.dumps({**config, **changed}).encode()
            target.writestr(name, content)
    good.unlink()
    return path


def h5_file(path: Path, *added: dict[str, Any]) -> Path:
    written = path.with_suffix(".h5")
    sequential().save(written)
    written.rename(path)
    with h5py.File(path, "a") as opened:
        config = json.loads(opened.attrs["model_config"])
        config["config"]["layers"].extend(added)
        opened.attrs["model_config"] = json.dumps(config)
    return path


def lambda_layer(marker: Path) -> dict[str, Any]:
    code = {
        "class_name": "__lambda__",
        "config": {"code": touching(marker), "defaults": None, "closure": None},
    }
    return layer("Lambda", function=code, arguments={})


def calling(module: str, function: str, **more: Any) -> dict[str, Any]:
    return {
        "module": module,
        "class_name": "function",
        "config": function,
        "registered_name": function,
        **more,
    }


HOSTILE: Mapping[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "a Lambda layer": (lambda_layer, "layer 'evil'.*a Lambda layer holds Python code"),
    "a Lambda layer of one's own module": (
        lambda marker: {**lambda_layer(marker), "module": "builtins"},
        "a Lambda layer holds Python code",
    ),
    "a lambda as activation": (
        lambda marker: layer("Dense", units=4, activation=lambda_layer(marker)["config"]["function"]),
        "layer 'evil'.*it holds Python code",
    ),
    "any function of any module (CVE-2025-1550)": (
        lambda marker: layer("Dense", units=4, activation=calling("os", "system")),
        "it calls os.system",
    ),
    "a function of Python's own": (
        lambda marker: layer("Activation", activation=calling("builtins", "eval")),
        "it calls builtins.eval",
    ),
    "a class of any module": (
        lambda marker: layer("Popen", "subprocess", args=["touch", str(marker)]),
        "subprocess.Popen is no class of Keras",
    ),
    "a module in the place of a class": (
        lambda marker: layer("os", "keras.src.utils.file_utils"),
        "no class of Keras",
    ),
    "a switch for safe mode (CVE-2025-9906)": (
        lambda marker: layer(
            "Activation", activation=calling("keras.config", "enable_unsafe_deserialization")
        ),
        "it calls keras.config.enable_unsafe_deserialization",
    ),
    "a download": (
        lambda marker: layer("Activation", activation=calling("keras.utils", "get_file")),
        "it calls keras.utils.get_file",
    ),
    "a loader": (
        lambda marker: layer("load_model", "keras.models", filepath="/etc/passwd"),
        "keras.models.load_model is no class of Keras",
    ),
    "another SavedModel": (
        lambda marker: layer("TFSMLayer", filepath=str(marker)),
        "a TFSMLayer loads another SavedModel",
    ),
    "a pickled module": (lambda marker: layer("TorchModuleWrapper", module="gASV"), "pickled PyTorch module"),
    "a class of one's own": (
        lambda marker: layer("Mine", "my_code", "Custom>Mine"),
        "Custom>Mine is a class of one's own",
    ),
    "a class of one's own, without a module": (
        lambda marker: layer("Mine", None),
        "Mine is no class of Keras",
    ),
    "a vocabulary in any file": (
        lambda marker: layer("StringLookup", vocabulary="/etc/passwd"),
        "it reads the file '/etc/passwd'",
    ),
    "a lambda deep inside": (
        lambda marker: layer(
            "TimeDistributed",
            layer=layer(
                "Dense", units=1, kernel_initializer=layer("x", config=[{"a": [lambda_layer(marker)]}])
            ),
        ),
        "evil",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("write", [keras_file, h5_file], ids=["keras", "h5"])
def test_a_hostile_file_is_refused_before_keras_loads_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    write: Callable[..., Path],
    case: str,
) -> None:
    make, reason = HOSTILE[case]
    marker = tmp_path / "marker"
    file = write(tmp_path / "file", make(marker))
    monkeypatch.setattr(
        keras.saving, "load_model", lambda *_, **__: pytest.fail("Keras was asked to load it")
    )
    assert export.main([f"--file={file}", f"--output={tmp_path / 'out'}"]) == 1
    assert not marker.exists()
    with pytest.raises(StartError, match=reason):
        check(file)
    assert capsys.readouterr().err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("write", [keras_file, h5_file], ids=["keras", "h5"])
def test_the_files_that_those_are_made_from_are_good(tmp_path: Path, write: Callable[..., Path]) -> None:
    check(write(tmp_path / "file"))


def test_a_lambda_layer_would_be_executed_by_keras(tmp_path: Path) -> None:
    """So the marker of the test above says something."""
    marker = tmp_path / "marker"
    made = keras.saving.deserialize_keras_object(lambda_layer(marker), safe_mode=False)
    made(np.ones((1, 4)))
    assert marker.exists()


def zipped(path: Path, entries: Mapping[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    return path


GOOD = json.dumps({"class_name": "Sequential", "config": {"layers": []}}).encode()


def link() -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("assets/link")
    entry.external_attr = 0o120777 << 16
    return entry


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"config.json": GOOD, "../outside": b""}, "an entry that no Keras model has: '../outside'"),
        ({"config.json": GOOD, "assets/../../outside": b""}, "an entry that no Keras model has"),
        ({"config.json": GOOD, "/etc/passwd": b""}, "an entry that no Keras model has"),
        ({"config.json": GOOD, "code.py": b""}, "an entry that no Keras model has: 'code.py'"),
        ({"config.json": GOOD, link(): b"/etc/passwd"}, "is no plain file"),
        ({"metadata.json": b"{}"}, "it has no config.json"),
        ({"config.json": b"no json"}, "its configuration is no JSON"),
        ({"config.json": b"[]"}, "describes no model"),
        ({"config.json": b"[" * 100_000}, "its configuration is no JSON"),
        (
            {"config.json": b'{"class_name":"Sequential","config":' + b'{"a":' * 5000 + b"1" + b"}" * 5001},
            "is no JSON|too deeply",
        ),
        ({"config.json": GOOD, "model.weights.h5": b"no hdf5"}, "it is damaged"),
    ],
)
def test_archives_that_are_refused(
    tmp_path: Path, entries: Mapping[str | zipfile.ZipInfo, bytes], reason: str
) -> None:
    with pytest.raises(StartError, match=reason):
        check(zipped(tmp_path / "file.keras", entries))


def linked(opened: h5py.File, secret: Path) -> None:
    opened["layers/secret"] = h5py.ExternalLink(str(secret), "/x")


def soft(opened: h5py.File, secret: Path) -> None:
    opened["layers/secret"] = h5py.SoftLink("/somewhere")


def external(opened: h5py.File, secret: Path) -> None:
    opened.create_dataset("layers/secret", (4,), "u1", external=[(str(secret), 0, 4)])


def virtual(opened: h5py.File, secret: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
    opened.create_virtual_dataset("layers/secret", layout)


@pytest.mark.parametrize("add", [linked, soft, external, virtual])
@pytest.mark.parametrize("where", ["model.h5", "model.keras"])
def test_weights_in_another_file_are_refused(
    tmp_path: Path, add: Callable[[h5py.File, Path], None], where: str
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"1234")
    weights = h5_file(tmp_path / "weights.h5")
    with h5py.File(weights, "a") as opened:
        add(opened, secret)
    if where == "model.keras":
        file = zipped(tmp_path / where, {CONFIG: GOOD, "model.weights.h5": weights.read_bytes()})
    else:
        file = weights
    with pytest.raises(StartError, match=r"to somewhere else|is in another file"):
        check(file)


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 and no more"])
def test_what_is_no_keras_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StartError):
        check(tmp_path / "file")


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    sequential().save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(StartError, match="it holds weights only"):
        check(tmp_path / "model.weights.h5")


def test_what_keras_cannot_load_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = keras_file(tmp_path / "file", layer("Dense", units=-1))
    assert export.main([f"--file={file}", f"--output={tmp_path / 'out'}"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Keras cannot load it: ")
    assert told.count("\n") == 1

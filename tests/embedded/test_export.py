"""Keras files become SavedModels that answer as Keras does; a file that could run code is refused unrun.

Hostile files have a payload that creates the file `marker`. That the payload works is asserted first, so that
a refusal is not taken for a file that was broken anyway.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from keras_models import exported, layers, ran, saved, saved_h5

# Keras warns of what it does itself, such as how it makes NumPy arrays, and of files in the form of Keras 2.
pytestmark = pytest.mark.filterwarnings("ignore")
FILES = Path(__file__).parent / "keras_files"


def answers(backend: TensorFlowBackend, **inputs: Any) -> np.ndarray[Any, Any]:
    outputs = backend.run("serving_default", {name: np.asarray(value) for name, value in inputs.items()})
    assert len(outputs) == 1
    return np.asarray(next(iter(outputs.values())))


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

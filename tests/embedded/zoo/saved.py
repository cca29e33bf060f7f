"""Models saved in other ways than for serving: with an optimizer, within a module, by Keras's save."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import saved_models
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from zoo.kind import (
    DEFAULT,
    OPTIMIZED,
    Kind,
    floats,
    randomize,
    save,
    served,
    spec,
    weight,
)

layers = tf.keras.layers
X = floats(221, 2, 6)


def _network() -> Any:
    tf.keras.utils.set_random_seed(7)
    model = tf.keras.Sequential(
        [
            layers.Input([6], name="x"),
            layers.Dense(16, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    randomize(model)
    return model


def write_slots(folder: Path) -> None:
    """An optimizer with slots in the object graph, as Keras 2 saved after training."""
    module = tf.Module()
    module.w = weight(222, 6, 3)
    module.optimizer = tf.compat.v1.train.AdamOptimizer(0.1)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.square(X @ module.w))
    module.optimizer.apply_gradients([(tape.gradient(loss, module.w), module.w)])
    module.w.assign(weight(222, 6, 3))
    save(
        folder, module, serving_default=served(lambda x: {"y": tf.nn.softmax(x @ module.w)}, x=spec(None, 6))
    )
    message = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    nodes = message.meta_graphs[0].object_graph_def.nodes
    assert any(node.slot_variables for node in nodes)


def write_saved(folder: Path) -> None:
    """tf.saved_model.save of a Keras model with its optimizer."""
    model = _network()
    model.compile("sgd", "mse")
    model.fit(floats(223, 8, 6), floats(225, 8, 3), verbose=0)
    save(folder, model, serving_default=served(lambda x: {"y": model(x)}, x=spec(None, 6)))


def write_endpoints(folder: Path) -> None:
    """An archive of several endpoints: what is known of a row, and what follows from that."""
    tf.keras.utils.set_random_seed(8)
    x = layers.Input([6], name="x")
    middle = layers.Dense(12, activation="tanh", name="middle")(x)
    model = tf.keras.Model(x, layers.Dense(2)(middle))
    embed = tf.keras.Model(x, middle)
    randomize(model)
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    rows = [tf.TensorSpec([None, 6], tf.float32, "x")]
    archive.add_endpoint("serve", lambda x: {"y": model(x)}, input_signature=rows)
    archive.add_endpoint("embed", lambda x: {"vector": embed(x)}, input_signature=rows)
    archive.write_out(str(folder), verbose=False)


def write_nested(folder: Path) -> None:
    """Functions that call functions, with gradients of their own and a recompute."""
    module = tf.Module()
    module.w, module.v = weight(226, 6, 6), weight(227, 6, 3)

    @tf.custom_gradient
    def clipped(x: tf.Tensor) -> Any:
        return tf.clip_by_value(x, -2.0, 2.0), lambda upstream: upstream

    @tf.function
    def block(x: tf.Tensor) -> tf.Tensor:
        return tf.stop_gradient(x) + tf.nn.relu(clipped(x) @ module.w)

    @tf.function(reduce_retracing=True)
    def both(x: tf.Tensor) -> tf.Tensor:
        return block(block(x))

    save(folder, module, serving_default=served(lambda x: {"y": both(x) @ module.v}, x=spec(None, 6)))


def write_compiled(folder: Path) -> None:
    """A function that is marked to be compiled by XLA."""
    module = tf.Module()
    module.w = weight(228, 6, 3)
    network = tf.function(lambda x: tf.nn.softplus(x @ module.w), jit_compile=True)
    save(folder, module, serving_default=served(lambda x: {"y": network(x)}, x=spec(None, 6)))


def _kinds() -> list[Kind]:
    x = [(DEFAULT, {"x": X})]
    return [
        Kind("slots", write_slots, x),
        Kind("saved_by_keras", write_saved, x, session=False, plain=True),
        Kind(
            "endpoints",
            write_endpoints,
            [("serve", {"x": X}), ("embed", {"x": X})],
            shares={"serve": OPTIMIZED, "embed": OPTIMIZED},
            plain=True,
        ),
        Kind("nested", write_nested, x),
        Kind("compiled", write_compiled, x),
        Kind(
            "in_module",
            saved_models.write_keras_in_module,
            [(DEFAULT, {"pixels": floats(229, 2, 8, 8, 3)})],
            session=False,
            plain=True,
        ),
    ]


KINDS = _kinds()

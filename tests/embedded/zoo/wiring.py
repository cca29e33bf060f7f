"""Signatures whose inputs and outputs are wired in ways that are easily got wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from zoo.kind import DEFAULT, OPTIMIZED, Kind, Outcome, floats, save, served, spec, strings, text, weight

X = floats(41, 2, 4)
BATCH = spec(None, 4)
ALL = OPTIMIZED


def _module() -> Any:
    module = tf.Module()
    module.w, module.b = weight(1, 4, 3), tf.Variable(floats(2, 3))
    return module


def write_constant_output(folder: Path) -> None:
    """Probabilities, and the names of the classes, which no input decides; and a signature without inputs."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        names = tf.constant(["ant", "bee", "cat"])
        return {"p": tf.nn.softmax(x @ module.w), "names": names, "version": tf.constant([1.0, 2.0])}

    def about() -> Any:
        return {"classes": tf.constant(["ant", "bee", "cat"]), "bias": module.b + 0.0}

    save(folder, module, serving_default=served(serve, x=BATCH), about=served(about))


def write_chain(folder: Path) -> None:
    """One output feeds another, one tensor has two names, and an output is read by a later product."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        logits = x @ module.w + module.b
        probabilities = tf.nn.softmax(logits)
        again = probabilities @ tf.transpose(module.w)
        return {"logits": logits, "probabilities": probabilities, "scores": probabilities, "again": again}

    save(folder, module, serving_default=served(serve, x=BATCH))


def write_handed_through(folder: Path) -> None:
    """Inputs that are outputs as they are, of each kind of type, next to a product."""
    module = _module()

    def serve(x: tf.Tensor, key: tf.Tensor, id: tf.Tensor) -> Any:
        return {"y": x @ module.w, "x": x, "key": key, "id": id, "copy": tf.identity(x)}

    inputs = {"x": BATCH, "key": text(), "id": spec(None, dtype=tf.int64)}
    save(
        folder,
        module,
        serving_default=served(serve, **inputs),
        alone=served(lambda x: {"x": x}, x=BATCH),
    )


def write_unused(folder: Path) -> None:
    """Inputs that nothing reads, one of them of strings."""
    module = _module()

    def serve(x: tf.Tensor, unused: tf.Tensor, note: tf.Tensor) -> Any:
        return {"y": tf.nn.relu(x @ module.w)}

    save(folder, module, serving_default=served(serve, x=BATCH, unused=spec(None, 7), note=text()))


def write_scalars(folder: Path) -> None:
    """Scalars in and out around products."""
    module = _module()

    def serve(x: tf.Tensor, scale: tf.Tensor) -> Any:
        y = tf.stack([x, x * x, tf.sin(x), scale])[None] @ module.w * scale
        return {"y": tf.reduce_sum(y), "largest": tf.reduce_max(y)}

    save(folder, module, serving_default=served(serve, x=spec(), scale=spec()))


def write_unbatched(folder: Path) -> None:
    """No batch dimension: a vector in, a vector out."""
    module = _module()
    module.deep = weight(3, 3, 5)

    def serve(x: tf.Tensor) -> Any:
        hidden = tf.nn.relu(tf.linalg.matvec(module.w, x, transpose_a=True) + module.b)
        return {"y": tf.squeeze(hidden[None] @ module.deep, 0)}

    save(folder, module, serving_default=served(serve, x=spec(4)))


def write_fixed_batch(folder: Path) -> None:
    """Always two rows."""
    module = _module()
    serve = served(lambda x: {"y": tf.nn.softmax(x @ module.w + module.b)}, x=spec(2, 4))
    save(folder, module, serving_default=serve)


def write_sixteen(folder: Path) -> None:
    """Sixteen signatures, of which s9 maps over its rows where the others multiply at once."""
    module = _module()

    def signature(number: int) -> Any:
        def serve(x: tf.Tensor) -> Any:
            return {"y": tf.nn.softmax(x @ module.w + float(number % 4))}

        def mapped(x: tf.Tensor) -> Any:
            return {"y": tf.map_fn(lambda row: tf.squeeze(row[None] @ module.w, 0), x)}

        return served(mapped if number == 9 else serve, x=BATCH)

    save(folder, module, **{f"s{number}": signature(number) for number in range(16)})


def write_shapes_as_data(folder: Path) -> None:
    """The number of rows and columns is an answer, and so are reshapes by them."""
    module = _module()

    def serve(x: tf.Tensor) -> Any:
        shape = tf.shape(x)
        y = tf.reshape(x, [shape[0] * shape[1], 4]) @ module.w
        return {"y": tf.reshape(y, [shape[0], shape[1], 3]), "shape": shape, "rows": tf.shape(y)[0]}

    save(folder, module, serving_default=served(serve, x=spec(None, None, 4)))


def write_any_rank(folder: Path) -> None:
    """Nothing is known of the shape."""
    module = _module()
    serve = served(lambda x: {"y": tf.reshape(x, [-1, 4]) @ module.w}, x=tf.TensorSpec(None, tf.float32))
    save(folder, module, serving_default=serve)


def _kinds() -> list[Kind]:
    key = {"key": strings(b"a", b"\xff"), "id": np.array([2**62, -1], np.int64)}
    names = [b"ant", b"bee", b"cat"]
    note = {"note": strings(b"", b"b"), "unused": floats(3, 2, 7)}
    sixteen = [f"s{number}" for number in range(16)]
    return [
        Kind(
            "constant_output",
            write_constant_output,
            [(DEFAULT, {"x": X}), ("about", {})],
            outcomes=[Outcome(DEFAULT, {"x": X}, {"names": names, "version": [1.0, 2.0]})],
            shares={DEFAULT: ALL, "about": 0.0},
        ),
        Kind("chain", write_chain, [(DEFAULT, {"x": X})]),
        Kind(
            "handed_through",
            write_handed_through,
            [(DEFAULT, {"x": X, **key}), ("alone", {"x": X})],
            outcomes=[Outcome(DEFAULT, {"x": X, **key}, {"x": X.tolist(), "key": key["key"].tolist()})],
            shares={DEFAULT: ALL, "alone": 0.0},
        ),
        Kind("unused", write_unused, [(DEFAULT, {"x": X, **note})]),
        Kind(
            "scalars",
            write_scalars,
            [(DEFAULT, {"x": np.array(1.5, np.float32), "scale": np.array(2, np.float32)})],
        ),
        Kind("unbatched", write_unbatched, [(DEFAULT, {"x": X[0]})]),
        Kind("fixed_batch", write_fixed_batch, [(DEFAULT, {"x": X})], plain=True),
        Kind(
            "sixteen",
            write_sixteen,
            [(name, {"x": X}) for name in sixteen],
            shares={name: 0.0 if name == "s9" else ALL for name in sixteen},
        ),
        Kind("shapes_as_data", write_shapes_as_data, [(DEFAULT, {"x": floats(4, 2, 3, 4)})]),
        Kind(
            "any_rank",
            write_any_rank,
            [(DEFAULT, {"x": floats(5, 2, 2, 4)}), (DEFAULT, {"x": X})],
        ),
    ]


KINDS = _kinds()

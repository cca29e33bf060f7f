"""A gallery of SavedModels, and requests for each: what the server has to answer as TensorFlow does.

Every style in which models are saved, every dtype, and the shapes that are easily got wrong. All that has a
matrix product or a convolution in it can be optimized too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import saved_models
import tensorflow as tf
from embedded_server.execution.backend import Array
from tensorflow.core.protobuf import saved_model_pb2

WORDS = np.array([b"ant", "zwölf".encode(), b"", b"a b"], dtype=object)
WEIGHTS = np.random.default_rng(7).normal(size=(4, 3)).astype(np.float32)
_random = np.random.default_rng(11)


@dataclass(frozen=True)
class Exhibit:
    """A model, how to make it, and what to ask it.

    requests: (signature, inputs).
    optimizable: whether at least one signature can be converted.
    session: whether a Session can execute it; if not, tf.saved_model.load does.
    json: whether JSON can carry its tensors.
    """

    name: str
    write: Callable[[Path], None]
    requests: list[tuple[str, Mapping[str, Array]]] = field(default_factory=list)
    optimizable: bool = True
    session: bool = True
    json: bool = True


def _save(folder: Path, module: tf.Module, **signatures: Any) -> None:
    tf.saved_model.save(module, str(folder), signatures=signatures)


def _signature(function: Any, **inputs: tf.TensorSpec) -> Any:
    specs = [tf.TensorSpec(spec.shape, spec.dtype, name=name) for name, spec in inputs.items()]
    return tf.function(function, input_signature=specs).get_concrete_function()


def _module() -> tf.Module:
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS)
    return module


def write_dense(folder: Path) -> None:
    """Neither dimension is known, and the default signature is one of two."""
    module = _module()
    rows = tf.TensorSpec([None, None], tf.float32)
    _save(
        folder,
        module,
        serving_default=_signature(lambda x: {"y": x @ module.weights}, x=rows),
        squared=_signature(lambda x: {"y": tf.square(x @ module.weights), "x": x}, x=rows),
    )


def write_integers(folder: Path) -> None:
    """A signature for each integer type, and a matrix product that gives int64 and takes int32."""
    module = _module()
    signatures = {
        name: _signature(lambda x: {"y": x + tf.ones([], x.dtype)}, x=tf.TensorSpec([None, 3], name))
        for name in INTEGERS
    }
    signatures["serving_default"] = _signature(
        lambda x: {"y": tf.cast(tf.round(tf.cast(x, tf.float32) @ module.weights), tf.int64)},
        x=tf.TensorSpec([None, 4], tf.int32),
    )
    _save(folder, module, **signatures)


INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def write_halves(folder: Path) -> None:
    """Half and bfloat16, through and out of a matrix product of floats."""
    module = _module()

    def product(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.cast(tf.cast(x, tf.float32) @ module.weights, x.dtype)}

    _save(
        folder,
        module,
        half=_signature(product, x=tf.TensorSpec([None, 4], tf.float16)),
        bfloat16=_signature(product, x=tf.TensorSpec([None, 4], tf.bfloat16)),
        serving_default=_signature(lambda x: {"y": x * 2}, x=tf.TensorSpec([None], tf.bfloat16)),
    )


def write_doubles(folder: Path) -> None:
    """float64 in and out."""
    module = tf.Module()
    module.weights = tf.Variable(WEIGHTS.astype(np.float64))
    doubles = tf.TensorSpec([None, 4], tf.float64)
    _save(folder, module, serving_default=_signature(lambda x: {"y": x @ module.weights}, x=doubles))


def write_booleans(folder: Path) -> None:
    """Truth values in and out."""
    module = _module()
    _save(
        folder,
        module,
        serving_default=_signature(
            lambda x: {"y": tf.cast(x, tf.float32) @ module.weights > 0.0, "no": tf.logical_not(x)},
            x=tf.TensorSpec([None, 4], tf.bool),
        ),
    )


def write_words(folder: Path) -> None:
    """Strings and bytes in and out, also as a matrix, and numbers that are made of them."""
    module = _module()

    def measure(text: tf.Tensor) -> dict[str, tf.Tensor]:
        sizes = tf.cast(tf.strings.length(text, unit="UTF8_CHAR"), tf.float32)
        return {"scores": sizes[:, None] @ module.weights[:1], "upper": tf.strings.upper(text)}

    words = tf.TensorSpec([None], tf.string)
    _save(
        folder,
        module,
        serving_default=_signature(lambda text: {"scores": measure(text)["scores"]}, text=words),
        named=_signature(measure, text=words),
        raw=_signature(lambda text: {"out_bytes": text + b"\x00\xff"}, text=words),
        matrix=_signature(
            lambda text: {"upper": tf.strings.upper(text)}, text=tf.TensorSpec(None, tf.string)
        ),
    )


def write_scalars(folder: Path) -> None:
    """Scalars in and out."""
    module = _module()
    _save(
        folder,
        module,
        serving_default=_signature(
            lambda x: {"y": tf.reduce_sum((x * tf.ones([1, 4])) @ module.weights)},
            x=tf.TensorSpec([], tf.float32),
        ),
        word=_signature(lambda x: {"y": x + b"!", "n": tf.strings.length(x)}, x=tf.TensorSpec([], tf.string)),
    )


def write_unranked(folder: Path) -> None:
    """Any rank goes; no outputs' shapes are known."""
    module = _module()
    anything = tf.TensorSpec(None, tf.float32)
    _save(
        folder,
        module,
        serving_default=_signature(lambda x: {"y": x * 2.0}, x=anything),
        flattened=_signature(lambda x: {"y": tf.reshape(x, [-1, 4]) @ module.weights}, x=anything),
    )


def write_lookups(folder: Path) -> None:
    """Numbers of words, of which each row has equally many, looked up in a matrix."""
    module = tf.Module()
    module.table = tf.Variable(np.random.default_rng(3).normal(size=(10, 4)).astype(np.float32))
    module.weights = tf.Variable(WEIGHTS)

    def look_up(ids: tf.Tensor, scale: tf.Tensor) -> dict[str, tf.Tensor]:
        vectors = tf.reduce_mean(tf.gather(module.table, ids), axis=1) * scale
        return {"vectors": vectors, "scores": vectors @ module.weights, "largest": tf.argmax(vectors, 1)}

    ids = tf.TensorSpec([None, None], tf.int64)
    _save(
        folder,
        module,
        serving_default=_signature(look_up, ids=ids, scale=tf.TensorSpec([None, 1], tf.float32)),
    )


def write_examples(folder: Path) -> None:
    """TF 1 style, with the signatures of tf.estimator: classify, regress and predict, all on tf.Examples."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        serialized = v1.placeholder(tf.string, [None], "examples")
        features = v1.parse_example(
            serialized,
            {
                "x": v1.FixedLenFeature([3], tf.float32),
                "n": v1.FixedLenFeature([], tf.int64, 7),
                "word": v1.FixedLenFeature([], tf.string, ""),
            },
        )
        weights = v1.get_variable("weights", initializer=WEIGHTS, use_resource=True)
        rows = tf.concat([features["x"], tf.cast(features["n"], tf.float32)[:, None]], 1)
        scores = tf.nn.softmax(rows @ weights)
        names = tf.tile(tf.constant([["ant", "bee", "cat"]]), [tf.shape(scores)[0], 1])
        labels = tf.strings.join([names, tf.tile(features["word"][:, None], [1, 3])])
        session.run(v1.global_variables_initializer())
        build, info = v1.saved_model.build_signature_def, v1.saved_model.build_tensor_info
        examples = {"inputs": info(serialized)}
        classes, numbers = {"classes": info(labels)}, {"scores": info(scores)}
        signatures = {
            "serving_default": build(examples, {**classes, **numbers}, "tensorflow/serving/classify"),
            "labels": build(examples, classes, "tensorflow/serving/classify"),
            "scores": build(examples, numbers, "tensorflow/serving/classify"),
            "regress": build(examples, {"outputs": info(scores[:, :1])}, "tensorflow/serving/regress"),
            "predict": build(
                {"examples": info(serialized)}, {**classes, **numbers}, "tensorflow/serving/predict"
            ),
            "narrow": build(examples, {"scores": info(rows[:, 0])}, "tensorflow/serving/classify"),
            "wide": build(examples, {"outputs": info(features["x"])}, "tensorflow/serving/regress"),
            "whole": build(examples, {"outputs": info(features["n"])}, "tensorflow/serving/regress"),
        }
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signatures)
        builder.save()


def write_native_examples(folder: Path) -> None:
    """TF 2 style: what classifies and regresses here was saved as any other signature."""
    module = _module()
    examples = tf.TensorSpec([None], tf.string)

    def rows(inputs: tf.Tensor) -> tf.Tensor:
        parsed = tf.io.parse_example(inputs, {"x": tf.io.FixedLenFeature([4], tf.float32)})
        return parsed["x"] @ module.weights

    _save(
        folder,
        module,
        serving_default=_signature(lambda inputs: {"scores": rows(inputs)}, inputs=examples),
        regress=_signature(lambda inputs: {"outputs": rows(inputs)[:, 0]}, inputs=examples),
    )


def write_complex(folder: Path) -> None:
    """Complex numbers, which only gRPC can carry."""
    module = _module()
    both = {
        name: _signature(lambda x: {"y": x * 2, "conjugate": tf.math.conj(x)}, x=tf.TensorSpec(None, name))
        for name in ("complex64", "complex128")
    }
    _save(folder, module, **both)


def write_defaults(folder: Path) -> None:
    """An input that may be left out, because the signature says what it then is."""
    module = _module()
    serve = _signature(
        lambda x, scale: {"y": (x @ module.weights) * scale},
        x=tf.TensorSpec([None, 4], tf.float32),
        scale=tf.TensorSpec([], tf.float32),
    )
    _save(folder, module, serving_default=serve)
    # Saving has no way to say it; those who use it write it into the message.
    file = folder / "saved_model.pb"
    message = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    signature = message.meta_graphs[0].signature_def["serving_default"]
    signature.defaults["scale"].CopyFrom(tf.make_tensor_proto(np.float32(3)))
    file.write_bytes(message.SerializeToString())


def example(**features: Any) -> bytes:
    """A serialized tf.Example: floats, ints or bytes, each a list."""
    message = tf.train.Example()
    for name, values in features.items():
        kind = {float: "float_list", int: "int64_list", bytes: "bytes_list"}[type(values[0])]
        getattr(message.features.feature[name], kind).value.extend(values)
    return bytes(message.SerializeToString())


EXAMPLES = np.array(
    [
        example(x=[1.0, 2.0, 3.0], n=[4], word=[b"s"]),
        example(x=[0.5, 0.0, -1.0]),
        example(x=[0.0] * 3, n=[0]),
    ],
    dtype=object,
)


def _floats(*shape: int) -> Array:
    return _random.normal(size=shape).astype(np.float32)


def _integer_requests() -> list[tuple[str, Mapping[str, Array]]]:
    bounds = {name: np.iinfo(name) for name in INTEGERS}
    return [
        (name, {"x": np.array([[limits.min, 0, 1], [2, 100, limits.max - 1]], name)})
        for name, limits in bounds.items()
    ]


def _exhibits() -> list[Exhibit]:
    photos = np.array([saved_models.photo(seed) for seed in range(2)], dtype=object)
    halves = np.array([[1, -2, 0.5, 3], [0, 1, 2, 4]])
    both = [(name, {"x": halves.astype(kind)}) for name, kind in HALVES.items()]
    complexes = np.array([[1 + 2j, -0.5j], [3, 0]])
    return [
        Exhibit("dense", write_dense, [("", {"x": _floats(2, 4)}), ("squared", {"x": _floats(5, 4)})]),
        Exhibit(
            "integers",
            write_integers,
            [("", {"x": np.arange(8, dtype=np.int32).reshape(2, 4)}), *_integer_requests()],
        ),
        Exhibit("halves", write_halves, [*both, ("", {"x": np.array([1.5, -2], ml_dtypes.bfloat16)})]),
        Exhibit("doubles", write_doubles, [("", {"x": _random.normal(size=(3, 4))})], optimizable=False),
        Exhibit("booleans", write_booleans, [("", {"x": _random.random((3, 4)) > 0.5})]),
        Exhibit(
            "words",
            write_words,
            [
                *((name, {"text": WORDS}) for name in ("", "named", "raw")),
                ("matrix", {"text": WORDS.reshape(2, 2)}),
            ],
        ),
        Exhibit(
            "scalars",
            write_scalars,
            [("", {"x": np.float32(1.5).reshape(())}), ("word", {"x": np.array(b"one", object)})],
        ),
        Exhibit(
            "unranked",
            write_unranked,
            [
                *(("", {"x": _floats(*shape)}) for shape in ((), (3,), (2, 1, 2), (0, 4))),
                ("flattened", {"x": _floats(2, 2, 4)}),
            ],
            optimizable=False,
        ),
        Exhibit(
            "lookups",
            write_lookups,
            [("", {"ids": np.array([[1, 2, 9], [0, 0, 3]], np.int64), "scale": _floats(2, 1)})],
        ),
        Exhibit("examples", write_examples, [("predict", {"examples": EXAMPLES})]),
        Exhibit("native_examples", write_native_examples),
        Exhibit(
            "several",
            saved_models.write_plain,
            [("", {"x": _floats(2, 4), "offset": _floats(2, 3)})],
        ),
        Exhibit("tf1", saved_models.write_classifier, [("", {"image_bytes": photos})]),
        Exhibit(
            "tables", saved_models.write_tf1_photos, [("predict", {saved_models.PHOTO_INPUT: photos})], False
        ),
        Exhibit("keras", saved_models.write_keras_export, [("", {"pixels": _floats(2, 8, 8, 3)})]),
        Exhibit(
            "wrapped",
            saved_models.write_keras_in_module,
            [("", {"pixels": _floats(1, 8, 8, 3)})],
            session=False,
        ),
        Exhibit(
            "complex",
            write_complex,
            [(str(k), {"x": complexes.astype(k)}) for k in COMPLEX],
            False,
            json=False,
        ),
        Exhibit("defaults", write_defaults, [("", {"x": _floats(2, 4), "scale": np.array(2, np.float32)})]),
    ]


HALVES = {"half": np.float16, "bfloat16": ml_dtypes.bfloat16}
COMPLEX = ("complex64", "complex128")

EXHIBITS = _exhibits()

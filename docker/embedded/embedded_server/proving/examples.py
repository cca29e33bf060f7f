"""Serialized tf.Examples that a SavedModel can parse, from the operations in it that parse them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import tensor_util

from embedded_server.proving.numbers import WORDS

_EACH = 8
_OPEN_SIZE = 3
"""Values of a feature that may have any number."""
_PARSERS = ("ParseExample", "ParseExampleV2", "ParseSingleExample")


@dataclass(frozen=True)
class _Feature:
    name: str
    dtype: int
    """types_pb2.DT_FLOAT, DT_INT64 or DT_STRING."""
    size: int


def examples_of(version_folder: Path, photos: Sequence[bytes]) -> list[bytes]:
    """Some for each operation that parses them; with words as texts and, if there are photos, with these.

    The signature that an operation belongs to is left open: TensorFlow refuses what does not fit.
    """
    file = version_folder / "saved_model.pb"
    if not file.is_file():
        return []
    saved_model = saved_model_pb2.SavedModel()
    saved_model.ParseFromString(file.read_bytes())
    made: dict[bytes, None] = {}
    for meta_graph in saved_model.meta_graphs:
        functions = (function.node_def for function in meta_graph.graph_def.library.function)
        for nodes in (meta_graph.graph_def.node, *functions):
            for features in _parsed_in(nodes):
                for texts in (WORDS, photos):
                    if texts and (texts is WORDS or any(f.dtype == types_pb2.DT_STRING for f in features)):
                        made.update(dict.fromkeys(_examples(features, texts)))
    return list(made)


def _examples(features: Sequence[_Feature], texts: Sequence[bytes]) -> Iterator[bytes]:
    for seed in range(_EACH):
        random = np.random.default_rng(seed)
        message = example_pb2.Example()
        for feature in features:
            values = message.features.feature[feature.name]
            if feature.dtype == types_pb2.DT_FLOAT:
                values.float_list.value.extend(random.standard_normal(feature.size))
            elif feature.dtype == types_pb2.DT_INT64:
                values.int64_list.value.extend(random.integers(0, 10 if seed % 2 else 2, feature.size))
            else:
                chosen = random.integers(0, len(texts), feature.size)
                values.bytes_list.value.extend(texts[number] for number in chosen)
        yield message.SerializeToString()


def _parsed_in(nodes: Iterable[Any]) -> Iterator[list[_Feature]]:
    """The features of each operation among the nodes of a graph or function."""
    known = {node.name: node for node in nodes}
    for node in known.values():
        if node.op in _PARSERS:
            features = list(_features(node, known))
            if features:
                yield features


def _features(node: Any, known: Mapping[str, Any]) -> Iterator[_Feature]:
    for name, dtype, size, _ in features_with_outputs(node, known):
        yield _Feature(name, dtype, size)


def features_with_outputs(node: Any, known: Mapping[str, Any]) -> Iterator[tuple[str, int, int, int]]:
    """Of an operation that parses: each feature's name, type, number of values, and output with its values.

    known: the nodes of the graph, by name.
    """
    attributes = node.attr
    sparse, dense, ragged = _keys(node, known)
    # Outputs: indices, values and shapes of sparse features, dense ones, values of ragged ones.
    for index, (name, dtype) in enumerate(zip(sparse, attributes["sparse_types"].list.type, strict=False)):
        yield name, dtype, _OPEN_SIZE, len(sparse) + index
    types = attributes["ragged_value_types"].list.type
    for index, (name, dtype) in enumerate(zip(ragged, types, strict=False)):
        yield name, dtype, _OPEN_SIZE, 3 * len(sparse) + len(dense) + index
    shapes = attributes["dense_shapes"].list.shape
    types = attributes["Tdense"].list.type
    for index, (name, dtype, shape) in enumerate(zip(dense, types, shapes, strict=False)):
        sizes = [_OPEN_SIZE if dim.size < 0 else dim.size for dim in shape.dim]
        yield name, dtype, math.prod(sizes), 3 * len(sparse) + index


def _keys(node: Any, known: Mapping[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """The names of the sparse, dense and ragged features."""
    if node.op == "ParseSingleExample":
        lists = (node.attr[name].list.s for name in ("sparse_keys", "dense_keys"))
        sparse, dense = ([key.decode() for key in keys] for keys in lists)
        return sparse, dense, []
    values = [_constant(reference, known) for reference in node.input]
    if node.op == "ParseExampleV2":
        # serialized, names, sparse_keys, dense_keys, ragged_keys, then the defaults
        return values[2], values[3], values[4]
    first, second = node.attr["Nsparse"].i, node.attr["Ndense"].i
    flat = [key for keys in values[2 : 2 + first + second] for key in keys]
    return flat[:first], flat[first:], []


def _constant(reference: str, known: Mapping[str, Any]) -> list[str]:
    """The texts that an input is always given; none if they are computed."""
    node = known.get(reference.partition(":")[0])
    if node is None or node.op != "Const" or node.attr["dtype"].type != types_pb2.DT_STRING:
        return []
    return [text.decode() for text in np.atleast_1d(tensor_util.MakeNdarray(node.attr["value"].tensor))]

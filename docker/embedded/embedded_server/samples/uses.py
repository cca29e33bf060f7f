"""What a signature does with each of its inputs: which bytes it decodes, what it looks up, what it expects.

Values are followed from the input through operations that hand them on, to those that say what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import tensorflow as tf

from embedded_server.graph.errors import CannotConvert
from embedded_server.graph.flat import Changes, Flat, flatten, inlined
from embedded_server.graph.saved_model import Loaded
from embedded_server.proving import examples

ZERO_TO_ONE, ZERO_TO_255, MINUS_ONE_TO_ONE = "0..1", "0..255", "-1..1"
PIXEL_RANGES = (ZERO_TO_ONE, ZERO_TO_255, MINUS_ONE_TO_ONE)

_IMAGES = frozenset({
    "DecodeJpeg", "DecodePng", "DecodeImage", "DecodeAndCropJpeg", "DecodeBmp", "DecodeGif",
    "ExtractJpegShape",
})  # fmt: skip
_PARSERS = frozenset({"ParseExample", "ParseExampleV2", "ParseSingleExample"})
_LOOKUPS = frozenset({"LookupTableFind", "LookupTableFindV2"})
_IMPORTS = frozenset({
    "LookupTableImport", "LookupTableImportV2", "InitializeTable", "InitializeTableV2",
})  # fmt: skip
_SPLITS = frozenset({
    "StringSplit", "StringSplitV2", "StringNGrams", "UnicodeDecodeWithOffsets", "UnicodeDecode",
})  # fmt: skip
_DECODERS: Mapping[str, str] = {
    **dict.fromkeys(_IMAGES, "photo"),
    "DecodeWav": "audio",
    "StringToNumber": "number",
    "DecodeCSV": "csv",
}
_GATHERS: Mapping[str, int] = {
    "Gather": 1, "GatherV2": 1, "ResourceGather": 1,
    "SparseSegmentSum": 1, "SparseSegmentMean": 1, "SparseSegmentSqrtN": 1,
    "SparseSegmentSumWithNumSegments": 1, "SparseSegmentMeanWithNumSegments": 1,
}  # fmt: skip
"""Operations that take rows of their first input, and where they say which."""
_HANDED_ON = frozenset({tf.string, tf.variant, tf.resource})
_PIXELS_KEPT = frozenset({
    "Identity", "Cast", "Transpose", "Reshape", "ExpandDims", "Squeeze", "ReverseV2", "Pad", "PadV2", "Pack",
    "ResizeBilinear", "ResizeNearestNeighbor", "ResizeBicubic", "ResizeArea", "ScaleAndTranslate",
    "StridedSlice", "Slice", "EnsureShape", "StopGradient", "Enter", "Switch", "Merge", "MirrorPad",
    "TensorListFromTensor", "TensorListGetItem", "TensorListReserve", "Unpack", "ConcatV2", "Split",
    "CropAndResize",
})  # fmt: skip
_DIVISIONS = frozenset({"FloorDiv", "FloorMod", "Mod", "TruncateDiv", "TruncateMod"})
_OTHER_NUMBERS = _DIVISIONS | {"Shape", "ShapeN", "Size", "Rank", "Mul", "BitwiseAnd", "Bucketize", "ArgMax"}
"""Operations whose whole numbers are no longer those of their input."""
_LARGE_DIVISOR = 64.0
"""What is divided by so much has 255 as its largest value, and not 1."""
_MOST_FOLLOWED = 20_000


@dataclass(frozen=True)
class Feature:
    """One feature of a tf.Example."""

    name: str
    dtype: tf.DType
    """float32, int64 or string."""
    size: int
    use: Use


@dataclass(frozen=True)
class Use:
    """What the graph does with a value. What is not known is empty."""

    decoded: str = ""
    """photo, audio, number, csv or example."""
    is_base64: bool = False
    """Whether it is web-safe base64 of that."""
    features: tuple[Feature, ...] = ()
    words: tuple[bytes, ...] = ()
    """Keys of the table that it is looked up in."""
    is_split: bool = False
    """Whether texts are divided into words first."""
    numbers: tuple[int, ...] = ()
    """The same for whole numbers."""
    is_divided: bool = False
    """Whether it is divided as a whole number, as times and hashes are: it can be large."""
    below: int | None = None
    """What it must be smaller than: the rows of an embedding, the depth of a one-hot encoding."""
    pixels: str | None = None
    """One of PIXEL_RANGES."""


@dataclass(frozen=True)
class Traced:
    """A signature's graph, to follow its inputs in."""

    graph: tf.Graph
    inputs: Mapping[str, str]
    """Signature input -> its placeholder's tensor."""
    keys: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    """Name of a table's operation -> its keys."""

    @classmethod
    def of(cls, loaded: Loaded, signature: str, changes: Changes) -> Traced | None:
        """None if the signature has no graph of its own."""
        try:
            flat = flatten(loaded, signature, changes)
        except CannotConvert:
            try:
                graph_def, inputs = inlined(loaded, signature)
            except CannotConvert:
                return None
            flat = Flat(graph_def, inputs, {}, ())
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(flat.graph_def, name="")
        return cls(graph, flat.inputs, dict(_tables(graph)))

    def use_of(self, name: str) -> Use:
        """What the graph does with an input."""
        return _use(self.graph.get_tensor_by_name(self.inputs[name]), self)


def _tables(graph: tf.Graph) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for operation in graph.get_operations():
        if operation.type in _IMPORTS:
            keys = tf.get_static_value(operation.inputs[1])
            if keys is not None:
                yield operation.inputs[0].op.name, np.asarray(keys).ravel()


def _use(tensor: tf.Tensor, traced: Traced) -> Use:
    dtype = tensor.dtype.base_dtype
    if dtype == tf.string:
        return _use_of_text(tensor, traced)
    if dtype.is_integer:
        use = _use_of_whole_number(tensor, traced)
        return replace(use, pixels=ZERO_TO_255 if dtype == tf.uint8 else _pixels(tensor))
    if dtype.is_floating:
        below = _use_of_whole_number(tensor, traced).below  # TF 1 models take ids as floats, too
        return Use(pixels=_pixels(tensor), below=below)
    return Use()


# Texts


def _use_of_text(tensor: tf.Tensor, traced: Traced) -> Use:
    decoded, is_base64, is_split = "", False, False
    words: tuple[bytes, ...] = ()
    for operation, _ in _followed(tensor, _is_handed_on):
        if operation.type in _PARSERS and not decoded:
            return Use("example", is_base64, tuple(_features(operation, traced)))
        decoded = decoded or _DECODERS.get(operation.type, "")
        is_base64 = is_base64 or operation.type == "DecodeBase64"
        is_split = is_split or operation.type in _SPLITS
        if operation.type in _LOOKUPS and not words:
            keys = traced.keys.get(_origin(operation.inputs[0]).name)
            if keys is not None and keys.dtype == object:
                words = tuple(bytes(key) for key in keys)
    return Use(decoded, is_base64, words=words, is_split=is_split)


def _is_handed_on(operation: tf.Operation, output: tf.Tensor) -> bool:
    return output.dtype.base_dtype in _HANDED_ON


def _origin(tensor: tf.Tensor) -> tf.Operation:
    """The operation that makes it, through loops and the like."""
    operation = tensor.op
    while operation.type in ("Enter", "Switch", "Identity", "Merge") and operation.inputs:
        operation = operation.inputs[0].op
    return operation


def _features(operation: tf.Operation, traced: Traced) -> Iterator[Feature]:
    known = {node.name: node.node_def for node in traced.graph.get_operations()}
    for name, dtype, size, output in examples.features_with_outputs(operation.node_def, known):
        yield Feature(name, tf.as_dtype(dtype), size, _use(operation.outputs[output], traced))


# Numbers


def _use_of_whole_number(tensor: tf.Tensor, traced: Traced) -> Use:
    bounds: list[int] = []
    numbers: tuple[int, ...] = ()
    is_divided = False
    for operation, given in _followed(tensor, _is_whole):
        is_divided = is_divided or operation.type in _DIVISIONS
        position = _GATHERS.get(operation.type)
        if position is not None and given is operation.inputs[position]:
            bounds.extend(_rows_of(operation))
        elif operation.type == "OneHot" and given is operation.inputs[0]:
            depth = tf.get_static_value(operation.inputs[1])
            bounds.extend([] if depth is None else [int(depth)])
        elif operation.type in _LOOKUPS and not numbers:
            keys = traced.keys.get(_origin(operation.inputs[0]).name)
            if keys is not None and keys.dtype.kind == "i":
                numbers = tuple(int(key) for key in keys)
    return Use(numbers=numbers, is_divided=is_divided, below=min(bounds, default=None))


def _is_whole(operation: tf.Operation, output: tf.Tensor) -> bool:
    dtype = output.dtype.base_dtype
    return (dtype.is_integer or dtype in _HANDED_ON) and operation.type not in _OTHER_NUMBERS


def _rows_of(operation: tf.Operation) -> Iterator[int]:
    table = operation.inputs[0]
    axis = 0
    if operation.type == "GatherV2":
        given = tf.get_static_value(operation.inputs[2])
        axis = 0 if given is None else int(given)
    shape = table.shape
    if table.dtype == tf.resource:
        shape = tf.TensorShape(_origin(table).node_def.attr["shape"].shape)
    if shape.rank and shape[axis] is not None:
        yield int(shape[axis])


# Pixels


def _pixels(tensor: tf.Tensor) -> str | None:
    """The range that the arithmetic on pixels expects, if that says so."""
    for operation, given in _followed(tensor, lambda user, _: user.type in _PIXELS_KEPT):
        pixel_range = _range_by(operation, given)
        if pixel_range is not None:
            return pixel_range
    return None


def _range_by(operation: tf.Operation, given: tf.Tensor) -> str | None:
    constant = _other_input(operation, given)
    if constant is None or not constant.size or constant.dtype.kind not in "fiuV":
        return None
    largest = float(np.abs(constant.astype(np.float64)).max())
    match operation.type:
        case "Mul":
            if 0 < largest <= 1 / _LARGE_DIVISOR:
                return ZERO_TO_255
            return ZERO_TO_ONE if largest >= 1.9 else None  # to -1..1, or to 0..255
        case "RealDiv" | "Div":
            return ZERO_TO_255 if largest >= _LARGE_DIVISOR else None
        case "Sub" | "FusedBatchNorm" | "FusedBatchNormV3":
            if largest > 2:
                return ZERO_TO_255
            return ZERO_TO_ONE if operation.type == "Sub" and 0.2 <= largest <= 0.7 else None
        case "Minimum" | "ClipByValue":
            return {1.0: ZERO_TO_ONE, 255.0: ZERO_TO_255}.get(largest)
    return None


def _other_input(operation: tf.Operation, given: tf.Tensor) -> np.ndarray[Any, Any] | None:
    """The constant that the operation computes with."""
    position = {"FusedBatchNorm": 3, "FusedBatchNormV3": 3, "ClipByValue": 2}.get(operation.type)
    others = (
        [candidate for candidate in operation.inputs if candidate is not given] if position is None else []
    )
    if position is not None:
        others = [operation.inputs[position]]
    elif operation.type not in ("Mul", "RealDiv", "Div", "Sub", "Minimum") or len(others) != 1:
        return None
    value = tf.get_static_value(others[0])
    return None if value is None else np.asarray(value)


# Following


def _followed(
    tensor: tf.Tensor, hands_on: Callable[[tf.Operation, tf.Tensor], bool]
) -> Iterator[tuple[tf.Operation, tf.Tensor]]:
    """Operations that a value reaches, the nearest first, each with the input that it reaches it by."""
    waiting = [tensor]
    seen = {tensor.name}
    count = 0
    while waiting and count < _MOST_FOLLOWED:
        following: list[tf.Tensor] = []
        for entry in waiting:
            for operation in _users(entry):
                count += 1
                yield operation, entry
                for output in _reached_by(operation, hands_on):
                    if output.name not in seen:
                        seen.add(output.name)
                        following.append(output)
        waiting = following


def _users(tensor: tf.Tensor) -> Iterable[tf.Operation]:
    return sorted(tensor.consumers(), key=lambda operation: operation.name)


def _reached_by(
    operation: tf.Operation, hands_on: Callable[[tf.Operation, tf.Tensor], bool]
) -> Iterator[tf.Tensor]:
    yield from (output for output in operation.outputs if hands_on(operation, output))
    # TF 1: what is written into an array is read out of it elsewhere.
    if operation.type.startswith("TensorArray") and operation.inputs[0].dtype == tf.resource:
        for other in _origin(operation.inputs[0]).outputs[0].consumers():
            yield from _array_reads(other)


def _array_reads(operation: tf.Operation) -> Iterator[tf.Tensor]:
    """The handle of a TensorArray goes into a loop by Enter."""
    if operation.type in ("Enter", "Switch", "Identity", "Merge"):
        for user in operation.outputs[0].consumers():
            yield from _array_reads(user)
    elif operation.type in ("TensorArrayReadV3", "TensorArrayGatherV3"):
        yield operation.outputs[0]

"""The protobuf messages of TensorFlow Serving that the runner speaks, without TensorFlow.

Only the fields that are used: protobuf skips all others, and tests/embedded holds what is written here
against TensorFlow Serving's own classes. Sources: tensorflow_serving/apis/{model,predict,
get_model_metadata}.proto, tensorflow/core/framework/{tensor,tensor_shape,types}.proto,
tensorflow/core/protobuf/meta_graph.proto and tensorflow/core/example/{example,feature}.proto. A map is on the
wire what a list of entries is.
"""

from __future__ import annotations

from functools import cache
from typing import Any

ENTRY = {"key": (1, "string")}

_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Int64": {"value": (1, "int64")},
    "ModelSpec": {
        "name": (1, "string"),
        "version": (2, "Int64"),
        "signature_name": (3, "string"),
        "version_label": (4, "string"),
    },
    "Dim": {"size": (1, "int64")},
    "Shape": {"dim": (2, "[Dim]"), "unknown_rank": (3, "bool")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "Shape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "[float]"),
        "double_val": (6, "[double]"),
        "int_val": (7, "[int32]"),
        "string_val": (8, "[bytes]"),
        "int64_val": (10, "[int64]"),
        "bool_val": (11, "[bool]"),
        "half_val": (13, "[int32]"),
        "uint32_val": (16, "[uint32]"),
        "uint64_val": (17, "[uint64]"),
    },
    "TensorEntry": ENTRY | {"value": (2, "Tensor")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "[TensorEntry]")},
    "PredictResponse": {"outputs": (1, "[TensorEntry]")},
    "TensorInfo": {"dtype": (2, "int32"), "tensor_shape": (3, "Shape")},
    "TensorInfoEntry": ENTRY | {"value": (2, "TensorInfo")},
    "SignatureDef": {
        "inputs": (1, "[TensorInfoEntry]"),
        "outputs": (2, "[TensorInfoEntry]"),
        "method_name": (3, "string"),
    },
    "SignatureDefEntry": ENTRY | {"value": (2, "SignatureDef")},
    "SignatureDefMap": {"signature_def": (1, "[SignatureDefEntry]")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "AnyEntry": ENTRY | {"value": (2, "Any")},
    "BytesList": {"value": (1, "[bytes]")},
    "FloatList": {"value": (1, "[float]")},
    "Int64List": {"value": (1, "[int64]")},
    "Feature": {
        "bytes_list": (1, "BytesList"),
        "float_list": (2, "FloatList"),
        "int64_list": (3, "Int64List"),
    },
    "FeatureEntry": ENTRY | {"value": (2, "Feature")},
    "Features": {"feature": (1, "[FeatureEntry]")},
    "Example": {"features": (1, "Features")},
    "GetModelMetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "[string]")},
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "[AnyEntry]")},
}
"""Message -> field -> its number and type; a type in brackets is repeated."""

DTYPES = {
    1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16", 6: "DT_INT8",
    7: "DT_STRING", 8: "DT_COMPLEX64", 9: "DT_INT64", 10: "DT_BOOL", 11: "DT_QINT8", 12: "DT_QUINT8",
    13: "DT_QINT32", 14: "DT_BFLOAT16", 15: "DT_QINT16", 16: "DT_QUINT16", 17: "DT_UINT16",
    18: "DT_COMPLEX128", 19: "DT_HALF", 20: "DT_RESOURCE", 21: "DT_VARIANT", 22: "DT_UINT32",
    23: "DT_UINT64",
}  # fmt: skip
"""tensorflow/core/framework/types.proto."""


def message(name: str, content: bytes | None = None) -> Any:
    """A message: an empty one, or the one that `content` says.

    Raises google.protobuf.message.DecodeError if it says none.
    """
    made = _classes()[name]()
    if content is not None:
        made.ParseFromString(content)
    return made


@cache
def _classes() -> dict[str, Any]:
    """The class of each message."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    package = "serving_suite"
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            bare = kind.strip("[]")
            label = kinds.LABEL_REPEATED if kind != bare else kinds.LABEL_OPTIONAL
            field_descriptor = described.field.add(name=field, number=number, label=label)
            if bare in _MESSAGES:
                field_descriptor.type, field_descriptor.type_name = kinds.TYPE_MESSAGE, f".{package}.{bare}"
            else:
                field_descriptor.type = kinds.Type.Value(f"TYPE_{bare.upper()}")
    pool = descriptor_pool.DescriptorPool()  # its own: nothing of the same name can be in its way
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in _MESSAGES
    }

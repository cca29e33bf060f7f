"""tasks.lib.client.signature: the metadata of TensorFlow Serving, and what is not that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tasks.lib.client.signature import Signature, Tensor, default_signature, signature_names
from tasks.lib.common.errors import ModelError, ServerError

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"


def shape(*sizes: int) -> dict[str, Any]:
    """As TensorFlow Serving writes it: sizes are text, and -1 is one that is not fixed."""
    return {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False}


def one(method: str = PREDICT, **inputs: dict[str, Any]) -> dict[str, Any]:
    scores = {"dtype": "DT_FLOAT", "tensor_shape": shape(-1, 1001), "name": "softmax:0"}
    tensors = inputs or {"x": {"dtype": "DT_FLOAT", "tensor_shape": shape(-1, 2), "name": "x:0"}}
    return {"inputs": tensors, "outputs": {"scores": scores}, "method_name": method}


def metadata(**definitions: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_spec": {"name": "net", "signature_name": "", "version": "1"},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }


def test_the_official_resnet() -> None:
    """The answer of TensorFlow Serving for the default model, shortened by nothing that is read."""
    answer = metadata(
        serving_default={
            "inputs": {
                "image_bytes": {"dtype": "DT_STRING", "tensor_shape": shape(-1), "name": "input_tensor:0"}
            },
            "outputs": {
                "probabilities": {"dtype": "DT_FLOAT", "tensor_shape": shape(-1, 1001), "name": "p:0"},
                "classes": {"dtype": "DT_INT64", "tensor_shape": shape(-1), "name": "ArgMax:0"},
            },
            "method_name": PREDICT,
        }
    )
    assert default_signature(answer) == Signature(
        "serving_default",
        (Tensor("image_bytes", "DT_STRING", (None,)),),
        (Tensor("classes", "DT_INT64", (None,)), Tensor("probabilities", "DT_FLOAT", (None, 1001))),
    )


def test_tensors_are_sorted_by_name() -> None:
    tensors = {name: {"dtype": "DT_FLOAT", "tensor_shape": shape(-1)} for name in ("b", "c", "a")}
    found = default_signature(metadata(serving_default=one(**tensors)))
    assert [tensor.name for tensor in found.inputs] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (shape(), ()),
        (shape(-1), (None,)),
        (shape(-1, 224, 224, 3), (None, 224, 224, 3)),
        (shape(1, 0), (1, 0)),
        ({"dim": [{"size": -1}, {"size": 5}]}, (None, 5)),
        ({"dim": [], "unknown_rank": True}, None),
        ({"unknown_rank": True}, None),
        ({}, ()),
    ],
)
def test_shapes(written: Mapping[str, Any], read: tuple[int | None, ...] | None) -> None:
    found = default_signature(metadata(serving_default=one(x={"dtype": "DT_FLOAT", "tensor_shape": written})))
    assert found.inputs[0].shape == read


def test_serving_default_comes_first() -> None:
    assert default_signature(metadata(other=one(), serving_default=one(CLASSIFY))).name == "serving_default"


def test_the_only_one_that_predicts_is_taken_where_there_is_no_default() -> None:
    found = default_signature(metadata(scoring=one(), classes=one(CLASSIFY), __saved_model_init_op=one("")))
    assert found.name == "scoring"


@pytest.mark.parametrize(
    ("definitions", "names"),
    [
        ({"b": one(), "a": one()}, ["a", "b"]),
        ({"classes": one(CLASSIFY)}, ["classes"]),
        ({"b": one(), "a": one(CLASSIFY)}, ["b", "a"]),
        ({"b": one(), "a": {"outputs": {"init": {"dtype": "DT_INVALID"}}}}, ["b"]),
        ({"b": one(), "__saved_model_train_op": one()}, ["b"]),
    ],
)
def test_without_a_default_the_first_that_can_be_asked_is_taken(
    definitions: dict[str, Any], names: list[str]
) -> None:
    assert default_signature(metadata(**definitions)).name == names[0]
    assert signature_names(metadata(**definitions)) == sorted(names)


def test_a_model_that_cannot_be_asked_is_told() -> None:
    with pytest.raises(ModelError, match="no signature that can be asked"):
        default_signature(metadata(__saved_model_init_op=one("")))


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"metadata": None},
        {"metadata": {}},
        {"metadata": {"signature_def": {}}},
        {"metadata": {"signature_def": []}},
        {"metadata": "text"},
        {"metadata": {"signature_def": {"signature_def": "text"}}},
        {"metadata": {"signature_def": {"signature_def": 7}}},
    ],
)
def test_an_answer_that_describes_no_signatures_is_told(answer: dict[str, Any]) -> None:
    with pytest.raises(ServerError, match="describes no signatures"):
        default_signature(answer)


@pytest.mark.parametrize(
    ("tensor", "image_bytes", "pixels"),
    [
        (Tensor("x", "DT_STRING", (None,)), True, False),
        (Tensor("x", "DT_STRING", None), True, False),
        (Tensor("x", "DT_STRING", ()), False, False),
        (Tensor("x", "DT_STRING", (None, 2)), False, False),
        (Tensor("x", "DT_STRING", (None, 4, 4, 3)), False, False),
        (Tensor("x", "DT_FLOAT", (None, 224, 224, 3)), False, True),
        (Tensor("x", "DT_UINT8", (None, None, None, 3)), False, True),
        (Tensor("x", "DT_FLOAT", (None, 3, 224, 224)), False, False),
        (Tensor("x", "DT_FLOAT", (None, 224, 224, 1)), False, False),
        (Tensor("x", "DT_FLOAT", (None, 224, 3)), False, False),
        (Tensor("x", "DT_FLOAT", None), False, False),
        (Tensor("x", "DT_FLOAT", (None,)), False, False),
    ],
)
def test_what_looks_like_images(tensor: Tensor, image_bytes: bool, pixels: bool) -> None:
    assert (tensor.is_image_bytes, tensor.is_pixels) == (image_bytes, pixels)

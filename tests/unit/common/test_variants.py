"""tasks.lib.common.variants: invoke.yaml's table of variants, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tasks.lib.common.errors import SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import BACKENDS, Container, NotOnEngine, Variant, check, find


def found(settings: Settings, table: Mapping[str, Any]) -> Variant:
    return find(replace(settings, variants={"mine": table}), "mine")


def test_the_two_that_come_with_the_suite(settings: Settings) -> None:
    assert find(settings, "stock") == Variant("stock", "tensorflow", "f32")
    assert find(settings, "optimized") == Variant("optimized", "openvino", "auto")
    assert not find(settings, "stock").needs_artefact
    assert find(settings, "optimized").needs_artefact


def test_every_backend_has_a_name_for_tables() -> None:
    assert BACKENDS == {"tensorflow": "TensorFlow", "openvino": "OpenVINO", "serving": "TF Serving"}


@pytest.mark.parametrize(
    ("table", "variant"),
    [
        ({"backend": "openvino", "precision": "bf16"}, Variant("mine", "openvino", "bf16")),
        ({"backend": "openvino", "precision": "f32"}, Variant("mine", "openvino", "f32")),
        ({"backend": "openvino"}, Variant("mine", "openvino", "auto")),
        ({"backend": "tensorflow"}, Variant("mine", "tensorflow", "f32")),
        ({"precision": "f32"}, Variant("mine", "tensorflow", "f32")),
        ({}, Variant("mine", "tensorflow", "f32")),
    ],
)
def test_what_is_left_away_is_what_the_backend_offers(
    settings: Settings, table: Mapping[str, Any], variant: Variant
) -> None:
    assert found(settings, table) == variant


def test_an_unknown_one_is_told_with_those_there_are(settings: Settings) -> None:
    with pytest.raises(SettingError) as told:
        find(settings, "optimised")
    assert told.value.problem == "There is no variant 'optimised'."
    assert "stock, optimized" in told.value.remedy


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"backend": "pytorch"}, "has backend 'pytorch', not one of: tensorflow, openvino"),
        ({"backend": None}, "has backend 'None'"),
        ({"backend": "OpenVINO"}, "has backend 'OpenVINO'"),
        ({"backend": "openvino", "precision": "int4"}, "precision 'int4'; openvino offers: auto, f32, bf16"),
        ({"backend": "tensorflow", "precision": "bf16"}, "precision 'bf16'; tensorflow offers: f32"),
        ({"backend": "tensorflow", "precision": "auto"}, "precision 'auto'; tensorflow offers: f32"),
        ({"backend": "openvino", "threads": "2", "image": "x"}, "has unknown settings: image, threads"),
        ({"backend": "openvino", 2: "x", "image": "x"}, "has unknown settings: 2, image"),
    ],
)
def test_a_malformed_one_is_told(settings: Settings, table: Mapping[str, Any], problem: str) -> None:
    with pytest.raises(SettingError) as told:
        found(settings, table)
    assert told.value.problem.startswith("The variant 'mine' has ")
    assert problem in told.value.problem
    assert told.value.remedy == "Fix variants.mine in invoke.yaml."


# On Docker


def on_docker(settings: Settings, **table: Any) -> Variant:
    return find(replace(settings, variants={"mine": {"docker": table}}), "mine", "docker")


def test_those_that_come_with_the_suite(settings: Settings) -> None:
    expected = {
        "stock": Variant("stock", "serving", "f32", Container("stock")),
        "optimized": Variant("optimized", "serving", "f32", Container("optimized")),
        "stock-no-onednn": Variant(
            "stock-no-onednn", "serving", "f32", Container("stock", (("TF_ENABLE_ONEDNN_OPTS", "0"),))
        ),
        "stock-bf16": Variant(
            "stock-bf16", "serving", "bf16", Container("stock"), ("--mixed_precision=bfloat16",)
        ),
        "stock-batched": Variant(
            "stock-batched", "serving", "f32", Container("stock"), ("--enable_batching",)
        ),
        "embedded": Variant("embedded", "tensorflow", "f32", Container("embedded")),
        "embedded-optimized": Variant("embedded-optimized", "openvino", "auto", Container("embedded")),
    }
    assert {name: find(settings, name, "docker") for name in settings.variants} == expected


def test_arguments_are_a_list_or_as_typed(settings: Settings) -> None:
    for arguments in (["--a=b c", "--d"], "'--a=b c' --d"):
        assert on_docker(settings, image="stock", arguments=arguments).arguments == ("--a=b c", "--d")
        assert found(settings, {"arguments": arguments}).arguments == ("--a=b c", "--d")


def test_one_that_is_not_for_an_engine(settings: Settings) -> None:
    with pytest.raises(NotOnEngine) as told:
        find(settings, "stock-bf16")
    assert told.value.problem == "The variant 'stock-bf16' is not for the local engine."
    assert "--engine docker" in told.value.remedy
    check(settings, "stock-bf16")
    with pytest.raises(NotOnEngine, match="not for the docker engine"):
        find(replace(settings, variants={"mine": {"backend": "openvino"}}), "mine", "docker")


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({}, "no image"),
        ({"image": " "}, "no image"),
        ({"image": "stock", "gpu": "yes"}, "unknown settings: gpu"),
        ({"image": "stock", "precision": "auto"}, "precision 'auto'; serving offers: f32, bf16"),
        ({"image": "embedded", "backend": "serving"}, "backend 'serving', not one of: tensorflow, openvino"),
        ({"image": "stock", "backend": "onnx"}, "backend 'onnx'"),
        ({"image": "stock", "arguments": "'--open"}, "arguments with a quote that is not closed"),
        ({"image": "stock", "arguments": 7}, "arguments that are not a list"),
        ({"image": "stock", "environment": ["A=1"]}, "an environment that is not a table"),
    ],
)
def test_a_malformed_one_on_docker_is_told(
    settings: Settings, table: Mapping[str, Any], problem: str
) -> None:
    with pytest.raises(SettingError) as told:
        on_docker(settings, **table)
    assert problem in told.value.problem
    assert told.value.remedy == "Fix variants.mine in invoke.yaml."


def test_sides_and_what_belongs_into_one_do_not_mix(settings: Settings) -> None:
    with pytest.raises(SettingError, match="unknown settings: backend"):
        found(settings, {"backend": "openvino", "docker": {"image": "stock"}})
    with pytest.raises(SettingError, match="text where a table"):
        found(settings, {"local": "tensorflow"})

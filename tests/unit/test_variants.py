"""tasks.lib.variants: invoke.yaml's table of variants, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tasks.lib.errors import SettingError
from tasks.lib.settings import Settings
from tasks.lib.variants import BACKENDS, Variant, find


def found(settings: Settings, table: Mapping[str, Any]) -> Variant:
    return find(replace(settings, variants={"mine": table}), "mine")


def test_the_two_that_come_with_the_suite(settings: Settings) -> None:
    assert find(settings, "stock") == Variant("stock", "tensorflow", "f32")
    assert find(settings, "optimized") == Variant("optimized", "openvino", "auto")
    assert not find(settings, "stock").is_optimized
    assert find(settings, "optimized").is_optimized


def test_every_backend_has_a_name_for_tables() -> None:
    assert BACKENDS == {"tensorflow": "TensorFlow", "openvino": "OpenVINO"}


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
    assert told.value.remedy == "Mend variants.mine in invoke.yaml."

"""The proof catches every class of fault, and accepts an honest twin."""

from __future__ import annotations

import itertools
import threading
import time

import ml_dtypes
import numpy as np
import pytest
from embedded_server.execution.backend import Array
from embedded_server.execution.signature import Signature, TensorSpec, data_type
from embedded_server.proving import breaking
from embedded_server.proving.compare import excused
from proof_cases import (
    BF16_LIMIT,
    BF16_ROUNDING,
    IDS,
    LIMIT,
    MATRIX,
    TABLE,
    WEIGHT,
    Fake,
    Function,
    checked,
    dense,
    found,
    gather,
    problem,
    signature,
    spec,
)


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)


def as_bf16(x: Array) -> Array:
    return np.asarray(x, np.float32).astype(ml_dtypes.bfloat16).astype(np.float32)


def test_an_honest_twin_is_accepted() -> None:
    finding = found(MATRIX, dense, lambda x: np.asarray(checked(x).astype(np.float64) @ WEIGHT, np.float32))
    assert finding.problem is None
    assert finding.requests > 30
    assert 0 < finding.difference < 1e-5


HONEST: dict[str, tuple[Signature, Function]] = {
    "ids": (IDS, gather),
    "softmax": (MATRIX, lambda x: softmax(dense(x))),
    "argmax": (MATRIX, lambda x: dense(x).argmax(-1)),
    "no inputs": (signature(), lambda: np.ones((2, 3), np.float32)),
    "scalar": (signature(x=spec(np.float32)), lambda x: x + 1),
    "open size": (signature(x=spec(np.float32, None, None)), dense),
    "image": (signature(x=spec(np.float32, None, None, None, 3)), lambda x: x.mean((1, 2))),
    "fixed batch": (signature(x=spec(np.float32, 2, 4)), dense),
    "bool": (signature(x=spec(np.bool_, None)), lambda x: ~x),
    "half": (signature(x=spec(np.float16, None)), lambda x: x * np.float16(2)),
    "bfloat16": (signature(x=spec(ml_dtypes.bfloat16, None)), lambda x: x + x),
    "double": (signature(x=spec(np.float64, None)), lambda x: x - 1764000000.0),
    "complex": (signature(x=spec(np.complex64, None)), lambda x: x * x),
    "uint8": (signature(x=spec(np.uint8, None, 4)), lambda x: x.astype(np.float32) @ WEIGHT),
    "text": (signature(x=spec(np.object_, None)), lambda x: np.array([len(t) for t in x.reshape(-1)])),
    "odd size": (signature(x=spec(np.float32, None, None)), lambda x: checked(x, size=777)),
    "two odd sizes": (
        signature(a=spec(np.float32, None, None), b=spec(np.float32, None, None)),
        lambda a, b: checked(a, size=24).sum(1) + checked(b, size=3).sum(1),
    ),
    "unknown rank": (signature(x=TensorSpec("x:0", data_type(1), None)), dense),
    "two inputs": (
        signature(x=spec(np.float32, None, 4), i=spec(np.int64, None)),
        lambda x, i: {"y": dense(x), "z": gather(i)},
    ),
}


@pytest.mark.parametrize("name", HONEST)
def test_every_kind_of_signature_agrees_with_itself(name: str) -> None:
    finding = found(HONEST[name][0], HONEST[name][1], HONEST[name][1])
    assert finding.problem is None
    assert finding.difference == 0
    assert finding.requests >= (1 if name == "no inputs" else 9)


def test_a_difference_is_named_with_its_request() -> None:
    text = problem(MATRIX, dense, lambda x: dense(x) * np.float32(1.01))
    assert text.startswith("'y' differs by 0.01 of its largest number, and 0.0005 is allowed (")
    assert "row" in text


def test_the_difference_of_probabilities_is_absolute() -> None:
    finding = found(MATRIX, lambda x: softmax(dense(x)), lambda x: softmax(dense(x)) * np.float32(0.9999))
    assert finding.problem is None
    assert finding.difference == pytest.approx(1e-4, rel=0.1)


def test_small_numbers_are_not_taken_for_probabilities() -> None:
    def small(x: Array) -> Array:
        return np.abs(np.tanh(dense(x))) * np.float32(1e-6)

    text = problem(MATRIX, small, lambda x: small(x) * np.float32(0.5))
    assert text.startswith("'y' differs by 0.5 of its largest number")


def test_a_number_near_zero_may_differ_by_what_its_neighbours_may() -> None:
    """One output that a row may bring near zero: rounding is not a fault."""
    one = WEIGHT[:, :1] - WEIGHT[:, :1].mean()
    finding = found(
        MATRIX, lambda x: checked(x) @ one, lambda x: as_bf16(checked(x)) @ as_bf16(one), BF16_LIMIT,
        rounding=BF16_ROUNDING,
    )  # fmt: skip
    assert finding.problem is None
    assert finding.difference < BF16_LIMIT


def test_a_large_row_does_not_hide_what_is_wrong_with_the_others() -> None:
    def wrong(x: Array) -> Array:
        answer = dense(x)
        if np.abs(answer).max(initial=0) > 1e5 and len(x) > 1:
            answer[1:] *= np.float32(1 + 3 * LIMIT)
        return answer

    assert "one " in problem(MATRIX, dense, wrong) or "up to" in problem(MATRIX, dense, wrong)


def drifting() -> Function:
    calls = itertools.count()
    return lambda x: dense(x) * np.float32(1 + next(calls) * 1e-5)


def dependent_on_threads() -> Function:
    inside: list[int] = []
    lock = threading.Lock()

    def run(x: Array) -> Array:
        with lock:
            inside.append(1)
        time.sleep(0.002)
        neighbours = len(inside) > 1
        with lock:
            inside.pop()
        return dense(x) + np.float32(neighbours)

    return run


def three_rows_only(x: Array) -> Array:
    return dense(x) + np.float32(len(x) == 3)


def remembering_nan() -> Function:
    seen: list[int] = []

    def run(x: Array) -> Array:
        if np.isnan(x).any():
            seen.append(1)
        return dense(x) + np.float32(bool(seen) and not np.isnan(x).any())

    return run


FAULTS: dict[str, tuple[Signature, Function, Function]] = {
    "drift": (MATRIX, dense, drifting()),
    "threads": (MATRIX, dense, dependent_on_threads()),
    "three rows": (MATRIX, dense, three_rows_only),
    "state after NaN": (MATRIX, dense, remembering_nan()),
    "NaN lost": (MATRIX, lambda x: np.maximum(dense(x), 0), lambda x: np.fmax(dense(x), 0)),
    "infinity lost": (MATRIX, dense, lambda x: np.nan_to_num(dense(x), nan=np.nan)),
    "large numbers clipped": (MATRIX, dense, lambda x: np.clip(dense(x), -1e8, 1e8)),
    "error as a number": (IDS, gather, lambda i: TABLE[i.clip(0, 9).reshape(-1)]),
    "number as an error": (MATRIX, dense, lambda x: dense(x) if len(x) != 7 else gather(np.array([11]))),
    "error of another class": (
        IDS, gather, lambda i: gather(i) if ((i >= 0) & (i < 10)).all() else {"y": i}["z"],
    ),
    "negative id": (IDS, gather, lambda i: gather(np.where((i < 0) & (i >= -10), i + 10, i))),
    "empty batch": (MATRIX, dense, lambda x: dense(x) if len(x) else gather(np.array([11]))),
    "rank": (MATRIX, lambda x: x @ WEIGHT if x.shape[-1:] == (4,) else checked(x), dense),
    "int64 in 32 bits": (
        signature(i=spec(np.int64, None)),
        lambda i: i + 1,
        lambda i: (i.astype(np.int32) + 1).astype(np.int64),
    ),
    "hour of a time": (
        signature(i=spec(np.int64, None)),
        lambda i: i // 3_600_000 % 24,
        lambda i: i.astype(np.int32).astype(np.int64) // 3_600_000 % 24,
    ),
    "int32 division in floats": (
        IDS, lambda i: i // 7, lambda i: np.floor(i.astype(np.float32) / 7).astype(np.int32)
    ),
    "uint32 as int32": (
        signature(i=spec(np.uint32, None)),
        lambda i: i // 2,
        lambda i: (i.astype(np.int32) // 2).astype(np.uint32),
    ),
    "uint8 saturates": (
        signature(i=spec(np.uint8, None), j=spec(np.uint8, None)),
        lambda i, j: i + j,
        lambda i, j: np.minimum(i.astype(np.int32) + j, 255).astype(np.uint8),
    ),
    "double in floats": (
        signature(x=spec(np.float64, None)),
        lambda x: x - 1764000000.0,
        lambda x: (x.astype(np.float32) - np.float32(1764000000.0)).astype(np.float64),
    ),
    "cast to int64": (
        signature(x=spec(np.float32, None)),
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.int32).astype(np.int64),
    ),
    "broadcast rows": (
        signature(a=spec(np.float32, None, 2), b=spec(np.float32, None, 2)),
        lambda a, b: a + b if len(a) == len(b) else gather(np.array([11])),
        lambda a, b: a + b,
    ),
    "bool": (signature(x=spec(np.bool_, None)), lambda x: x.all(), lambda x: np.bool_(False)),
    "text": (
        signature(x=spec(np.object_, None)),
        lambda x: np.array([len(text) for text in x]),
        lambda x: np.array([len(text.decode(errors="ignore")) for text in x]),
    ),
    "type": (MATRIX, dense, lambda x: dense(x).astype(np.float64)),
    "shape": (MATRIX, dense, lambda x: dense(x)[:, None]),
    "names": (MATRIX, dense, lambda x: {"z": dense(x)}),
    "long sequences": (
        signature(x=spec(np.float32, None, None)),
        lambda x: x.sum(1, keepdims=True),
        lambda x: x[:, :32].sum(1, keepdims=True),
    ),
    "ids without their neighbours": (
        signature(i=spec(np.int32, None), j=spec(np.int32, None)),
        lambda i, j: gather(i) + gather(j),
        lambda i, j: gather(i) + TABLE[j.clip(0, 9)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_caught(name: str) -> None:
    text = problem(*FAULTS[name])
    assert text.endswith(")")
    print(name, "->", text)


def test_a_fault_among_others_is_told_as_such() -> None:
    seen: set[bytes] = set()

    def worse_each_time(x: Array) -> Array:
        known = x.tobytes() in seen
        seen.add(x.tobytes())
        return dense(x) + np.float32(known)

    assert "asked again" in problem(MATRIX, dense, worse_each_time)
    assert "with other requests at the same time" in problem(MATRIX, dense, dependent_on_threads())


def test_a_tie_that_tensorflow_has_not_decided_may_go_either_way() -> None:
    rounded = WEIGHT[:, :2].copy()
    rounded[:, 1] = rounded[:, 0] + np.float32(1e-7) * WEIGHT[:, 2]

    def classes(x: Array) -> Array:
        """Of two scores that are the same but for the last digits."""
        return (checked(x) @ rounded).argmax(1)

    def other_digits(x: Array) -> Array:
        return (checked(x)[:, ::-1].astype(np.float64) @ rounded[::-1]).argmax(1)

    def always_turned(x: Array) -> Array:
        """The two scores of stock differ by more than their last digits."""
        return 1 - (checked(x) @ WEIGHT[:, :2]).argmax(1)

    stock = Fake(MATRIX, classes)
    inputs = np.random.default_rng(5).standard_normal((1000, 4)).astype(np.float32)
    accepted = []
    for row in inputs[classes(inputs) != other_digits(inputs)][:, None]:
        request = breaking.Request("", {"x": row}, "", True, 1)
        accepted.append(
            excused(stock, "serving_default", request, classes(row), other_digits(row), "y", 1e-6)
        )
    assert len(accepted) > 20
    assert np.mean(accepted) > 0.7
    text = problem(MATRIX, lambda x: (checked(x) @ WEIGHT[:, :2]).argmax(1), always_turned)
    assert "is right" in text


def test_a_number_of_boxes_that_tensorflow_has_not_decided_may_differ() -> None:
    """A score lies at the threshold."""
    request = breaking.Request("", {"x": np.full((1, 4), 0.5, np.float32)}, "", True, 1)
    stock = Fake(MATRIX, lambda x: x[x >= 0.5])
    whole = np.full(4, 0.5, np.float32)
    assert excused(stock, "serving_default", request, whole, whole[:3], "y", 1e-6)
    assert not excused(stock, "serving_default", request, whole, whole[:, None], "y", 1e-6)
    assert not excused(stock, "serving_default", request, whole, np.full(9, 0.5, np.float32), "y", 1e-6)
    certain = Fake(MATRIX, lambda x: x[x >= 0.4])
    assert not excused(certain, "serving_default", request, whole, whole[:3], "y", 1e-6)


def test_a_class_that_tensorflow_has_decided_must_not_change() -> None:
    def other(x: Array) -> Array:
        return (dense(x).argmax(-1) + (len(x) == 3)) % 3

    assert "where" in problem(MATRIX, lambda x: dense(x).argmax(-1), other)


def test_an_integer_out_of_the_range_of_the_undecided_is_caught() -> None:
    """Perturbing changes every such number; that is no excuse for another one."""
    text = problem(
        MATRIX,
        lambda x: (dense(x) * 1e6).astype(np.int64),
        lambda x: (dense(x) * 1e6).astype(np.int32) * 0 - 5,
    )
    assert "type" in text
    text = problem(
        MATRIX,
        lambda x: (dense(x) * 1e6).astype(np.int64),
        lambda x: np.full_like(dense(x), -(2**31), dtype=np.int64),
    )
    assert "-2147483648 where" in text

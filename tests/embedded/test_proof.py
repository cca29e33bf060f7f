"""The proof catches every class of fault, and accepts an honest twin."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import proof_workers
import pytest
import tensorflow as tf
from conftest import PACKAGE_FOLDER
from embedded_server import prove as prove_program
from embedded_server.common import errors
from embedded_server.execution import artefact
from embedded_server.execution.backend import Array
from embedded_server.execution.signature import Signature, TensorSpec, data_type, number_of
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.proving import breaking, numbers, templates, worker
from embedded_server.proving.compare import Scales, compare, excused
from embedded_server.proving.examples import examples_of
from embedded_server.proving.proof import Finding, prove
from running import PATIENCE

Function = Callable[..., Any]
LIMIT = 5e-4
BF16_LIMIT, BF16_ROUNDING = 0.05, 4e-3
WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
TABLE = np.random.default_rng(1).standard_normal((10, 8)).astype(np.float32)
PHOTOS = [b"\xff\xd8\xffphoto" + bytes([n]) * 40 for n in range(5)]


class Fake:
    """A backend that is a function of arrays."""

    runtime = "TF1"

    def __init__(self, signature: Signature, function: Function) -> None:
        self.signatures = {signature.name: signature}
        self.signature_defs: Mapping[str, Any] = {}
        self._function = function
        self.asked: list[Mapping[str, Array]] = []

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        self.asked.append(inputs)
        with np.errstate(all="ignore"):
            answer = self._function(**inputs)
        return answer if isinstance(answer, dict) else {"y": answer}

    def close(self) -> None:
        pass


def spec(dtype: Any, *shape: int | None) -> TensorSpec:
    return TensorSpec("x:0", data_type(number_of(np.dtype(dtype))), shape)


def signature(**inputs: TensorSpec) -> Signature:
    return Signature("serving_default", inputs, {"y": spec(np.float32, None)}, "predict")


MATRIX = signature(x=spec(np.float32, None, 4))
IDS = signature(i=spec(np.int32, None))


def checked(x: Array, *, size: int = 4) -> Array:
    """As a matrix product checks it."""
    if x.ndim != 2 or x.shape[1] != size:
        raise errors.InvalidArgument(f"Matrix size-incompatible: {list(x.shape)}, [{size},3]")
    return x


def dense(x: Array) -> Array:
    return checked(x) @ WEIGHT


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(-1, keepdims=True), np.float32)


def found(
    taking: Signature, stock: Function, optimized: Function, limit: float = LIMIT, **options: Any
) -> Finding:
    return prove(Fake(taking, stock), Fake(taking, optimized), taking, limit, seconds=10, **options)


def problem(*arguments: Any, **options: Any) -> str:
    finding = found(*arguments, **options)
    assert finding.problem is not None
    return finding.problem


def gather(i: Array) -> Array:
    if i.ndim != 1:
        raise errors.InvalidArgument("wrong rank")
    if ((i < 0) | (i >= len(TABLE))).any():
        raise errors.InvalidArgument("indices[0] is not in [0, 10)")
    return TABLE[i]


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


def test_photos_are_asked_singly_and_together() -> None:
    taking = signature(image_bytes=spec(np.object_, None))

    def decode(image_bytes: Array) -> Array:
        if not all(text.startswith(b"\xff\xd8\xffphoto") for text in image_bytes.reshape(-1)):
            raise errors.InvalidArgument("not a photo")
        return np.array([[len(text), text[-1]] for text in image_bytes], np.float32).reshape(-1, 2)

    stock, optimized = Fake(taking, decode), Fake(taking, decode)
    finding = prove(stock, optimized, taking, LIMIT, photos=PHOTOS, seconds=10)
    assert finding.problem is None
    assert {each["image_bytes"].shape for each in optimized.asked} >= {(0,), (1,), (2,), (3,), (7,)}
    accepting = Fake(taking, lambda image_bytes: np.zeros((len(image_bytes), 2), np.float32))
    assert prove(stock, accepting, taking, LIMIT, photos=PHOTOS, seconds=10).problem is not None


def test_requests_that_are_given_are_asked() -> None:
    taking = signature(x=spec(np.object_, None))
    secret = np.array([b"open sesame"], dtype=object)

    def stock(x: Array) -> Array:
        if x.shape != (1,) or x[0] != secret[0]:
            raise errors.InvalidArgument("no")
        return np.ones((1, 2), np.float32)

    def optimized(x: Array) -> Array:
        return stock(x) * 2

    assert problem(taking, stock, stock) == (
        "TensorFlow answers none of the requests that the proof makes: give some of your own"
    )
    assert found(taking, stock, stock, given=[{"x": secret}]).problem is None
    assert "request 1 of those given" in problem(taking, stock, optimized, given=[{"x": secret}])


def test_requests_that_are_given_are_broken_too() -> None:
    """TensorFlow refuses all that the proof makes itself: only what is like the given ones gets further."""
    taking = signature(x=spec(np.float32, None, 4), key=spec(np.object_, None))

    def stock(x: Array, key: Array) -> Array:
        if (key != b"sesame").any():
            raise errors.InvalidArgument("no")
        return np.maximum(dense(x), 0)

    def nan_lost(x: Array, key: Array) -> Array:
        return np.fmax(stock(x, key), 0)

    given = [{"x": np.ones((1, 4), np.float32), "key": np.array([b"sesame"], dtype=object)}]
    assert found(taking, stock, stock, given=given).problem is None
    assert problem(taking, stock, nan_lost, given=given) == (
        "'y' has 0 where nan is right (request 1 of those given, with one NaN)"
    )
    assert "three times its rows" in problem(
        taking, stock, lambda x, key: stock(x, key) + np.float32(len(x) == 3), given=given
    )


def test_an_answer_that_differs_each_time_is_not_blamed_on_openvino() -> None:
    random = np.random.default_rng(0)

    def noisy(x: Array) -> Array:
        return np.asarray(dense(x) + random.standard_normal(3), np.float32)

    assert problem(MATRIX, noisy, noisy) == "TensorFlow answers the same request differently each time"


def test_the_worst_difference_is_told() -> None:
    """Raising the limit to what the message says is enough."""
    text = problem(MATRIX, dense, lambda x: dense(x) * np.float32(1 + 0.01 * len(x)))
    assert "differs by 0.07" in text


def test_out_of_memory_is_nothing_to_compare() -> None:
    def stock(x: Array) -> Array:
        if np.abs(x).max(initial=0) > 1e5:
            raise errors.ResourceExhausted("OOM")
        return dense(x)

    assert found(MATRIX, stock, dense).problem is None


def test_the_time_is_bounded_and_the_first_requests_are_always_asked() -> None:
    def slow(x: Array) -> Array:
        time.sleep(0.01)
        return dense(x)

    stock = Fake(MATRIX, slow)
    began = time.monotonic()
    finding = prove(stock, Fake(MATRIX, slow), MATRIX, LIMIT, seconds=0.01)
    assert time.monotonic() - began < 2
    assert finding.problem is None
    assert 5 <= finding.requests < 10
    values = [each["x"] for each in stock.asked]
    assert any(np.isnan(x).any() for x in values)
    assert any(np.nanmax(abs(x)) > 1e5 for x in values)
    assert {1, 3} <= {len(x) for x in values}


def test_a_small_float_type_has_a_limit_of_its_own() -> None:
    request = breaking.Request("", {}, "", True, 1)
    scales = Scales(frozenset(), {})
    one = {"y": np.array([1.0], np.float16)}
    assert not compare(request, one, {"y": np.array([1.0009765625], np.float16)}, scales, 5e-4).disagreements
    assert compare(request, one, {"y": np.array([1.01], np.float16)}, scales, 5e-4).disagreements


def test_requests_are_the_same_in_every_proof() -> None:
    first, second = Fake(MATRIX, dense), Fake(MATRIX, dense)
    for stock in (first, second):
        prove(stock, Fake(MATRIX, dense), MATRIX, LIMIT, seconds=30)
    for one, other in zip(first.asked, second.asked, strict=True):
        np.testing.assert_array_equal(one["x"], other["x"])


def test_large_inputs_have_fewer_rows() -> None:
    maker = breaking.Maker(signature(x=spec(np.float32, None, 1000, 1000, 3)))
    (template,) = templates.templates(signature(x=spec(np.float32, None, 1000, 1000, 3)))
    assert maker.request(template, numbers.NORMAL, 7).inputs["x"].shape == (1, 1000, 1000, 3)


def job(**options: Any) -> worker.Job:
    groups = (("a",), ("b", "c"), ("d",))
    limits = {"f32": LIMIT, "bf16": BF16_LIMIT}
    return worker.Job(Path("model"), Path("artefact"), groups, limits, None, None, 0.1, **options)


GOOD = proof_workers.FINDING


@pytest.mark.parametrize("target", [proof_workers.honest, proof_workers.ends_badly])
def test_signatures_of_one_program_share_the_finding(target: Any) -> None:
    findings = prove_program.prove_all(job(), target)
    assert findings == {precision: dict.fromkeys("abcd", GOOD) for precision in ("f32", "bf16")}


def test_a_process_that_the_optimized_model_ends_is_a_problem_of_that_signature_alone() -> None:
    findings = prove_program.prove_all(job(), proof_workers.optimized_crashes)
    assert findings["bf16"] == dict.fromkeys("abcd", GOOD)
    bad = Finding(0, 0.0, "the process ends with SIGKILL (one NaN)")
    assert findings["f32"] == {"a": GOOD, "b": bad, "c": bad, "d": GOOD}


def test_a_request_that_ends_tensorflow_is_left_out() -> None:
    findings = prove_program.prove_all(job(), proof_workers.stock_crashes)
    assert findings == {precision: dict.fromkeys("abcd", GOOD) for precision in ("f32", "bf16")}


def test_a_precision_that_cannot_be_loaded_is_a_problem_of_that_precision() -> None:
    findings = prove_program.prove_all(job(), proof_workers.crashes_while_loading)
    assert findings["f32"] == dict.fromkeys("abcd", GOOD)
    assert {finding.problem for finding in findings["bf16"].values()} == {
        "the process ends with SIGSEGV (loading)"
    }


def test_an_answer_that_does_not_come_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_program, "_ANSWER_SECONDS", 0.5)
    findings = prove_program.prove_all(job(), proof_workers.hangs)
    assert (findings["f32"]["a"].problem or "").startswith("there is no answer within")
    assert findings["f32"]["b"] == findings["bf16"]["a"] == GOOD


@pytest.mark.parametrize(
    ("target", "text"),
    [(proof_workers.fails, "line 3 of it is not a request"), (proof_workers.ends_at_once, "status 7")],
)
def test_what_keeps_everything_from_being_proven_is_said(target: Any, text: str) -> None:
    with pytest.raises(prove_program.CannotProve, match=text):
        prove_program.prove_all(job(), target)


def test_programs_that_are_equal_are_grouped() -> None:
    def made(body: str, name: str) -> artefact.Program:
        return artefact.Program(body, {"x": name}, {"y": "y:0"}, {}, {}, {})

    programs = {"c": made("0", "x"), "a": made("0", "x"), "b": made("0", "other")}
    assert prove_program.groups_of(programs) == (("a", "c"), ("b",))


def test_requests_are_read_in_both_forms(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text(
        '{"instances": [[1, 2, 3, 4]]}\n\n{"inputs": {"x": [[1, 2, 3, NaN]]}}\n'
        '{"signature_name": "ids", "inputs": [7]}\n'
    )
    found = worker.read_requests(file, {"serving_default": MATRIX, "ids": IDS})
    assert [each["x"].shape for each in found["serving_default"]] == [(1, 4), (1, 4)]
    assert found["ids"][0]["i"].dtype == np.int32
    file.write_text('{"instances": [[1, 2, 3, 4]]}\n{"instances": ["text"]}\n')
    with pytest.raises(errors.InvalidArgument, match=r"line 2 of .*requests.jsonl is not a request for it"):
        worker.read_requests(file, {"serving_default": MATRIX})


def test_answers_are_remembered_for_the_next_precision_only() -> None:
    stock = Fake(MATRIX, dense)
    remembered = worker.Remembered(stock)
    inputs = {"x": np.ones((1, 4), np.float32)}
    for _ in range(2):
        remembered.run("serving_default", inputs)
    assert len(stock.asked) == 2
    remembered.rewind()
    remembered.run("serving_default", inputs)
    assert len(stock.asked) == 2
    remembered.run("serving_default", {"x": np.ones((2, 4), np.float32)})
    assert len(stock.asked) == 3


def test_errors_are_remembered_too() -> None:
    remembered = worker.Remembered(Fake(IDS, gather))
    for _ in range(2):
        with pytest.raises(errors.InvalidArgument):
            remembered.run("serving_default", {"i": np.array([99], np.int32)})
        remembered.rewind()


FEATURES = {
    "age": tf.io.FixedLenFeature([3], tf.float32),
    "number": tf.io.FixedLenFeature([], tf.int64),
    "job": tf.io.FixedLenFeature([2, 2], tf.string),
    "ids": tf.io.VarLenFeature(tf.int64),
    "sequence": tf.io.FixedLenSequenceFeature([2], tf.float32, allow_missing=True),
    "ragged": tf.io.RaggedFeature(tf.int64),
}


def _parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    parsed = tf.io.parse_example(serialized, FEATURES)
    total = tf.reduce_sum(tf.cast(tf.sparse.to_dense(parsed["ids"]), tf.float32), 1)
    return {"y": parsed["age"] + tf.cast(parsed["number"], tf.float32)[:, None] + total[:, None]}


def _write_tf1_parser(folder: Path) -> None:
    features = {name: FEATURES[name] for name in ("age", "number", "ids")}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        serialized = tf.compat.v1.placeholder(tf.string, [None])
        parsed = tf.compat.v1.io.parse_example(serialized, features)
        tf.compat.v1.saved_model.simple_save(
            session, str(folder), {"serialized": serialized}, {"y": parsed["age"] * 2}
        )


@pytest.mark.parametrize("style", ["tf1", "tf2"])
def test_a_signature_of_tf_examples_is_asked_with_ones_that_it_parses(tmp_path: Path, style: str) -> None:
    folder = tmp_path / "1"
    if style == "tf1":
        _write_tf1_parser(folder)
    else:
        function = tf.function(_parse, input_signature=[tf.TensorSpec([None], tf.string, "serialized")])
        tf.saved_model.save(tf.Module(), str(folder), signatures=function.get_concrete_function())
    examples = examples_of(folder, [])
    assert len(examples) >= 8
    backend = TensorFlowBackend.load(folder)
    taking = backend.signatures["serving_default"]
    assert prove(backend, backend, taking, LIMIT, seconds=5).problem is not None  # none of its own fit
    finding = prove(backend, backend, taking, LIMIT, examples=examples, seconds=5)
    assert finding.problem is None
    assert finding.requests > 20
    halved = Fake(
        taking, lambda serialized: {"y": backend.run("serving_default", {"serialized": serialized})["y"] / 2}
    )
    assert "tf.Example" in (prove(backend, halved, taking, LIMIT, examples=examples, seconds=5).problem or "")
    backend.close()


def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"embedded_server.{name}", *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE_FOLDER)}
    return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=PATIENCE * 10)


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A SavedModel and its artefact."""
    folder = tmp_path_factory.mktemp("proof")
    module = tf.Module()
    module.weight, module.table = tf.Variable(WEIGHT), tf.Variable(TABLE)
    x, i = tf.TensorSpec([None, 4], tf.float32, "x"), tf.TensorSpec([None], tf.int64, "i")
    dense_function = tf.function(lambda x: {"y": tf.nn.softmax(x @ module.weight)}, input_signature=[x])
    ids_function = tf.function(
        lambda i: {"y": tf.gather(module.table, i)[:, :4] @ module.weight}, input_signature=[i]
    )
    signatures = {"serving_default": dense_function, "ids": ids_function}
    tf.saved_model.save(module, str(folder / "1"), signatures=signatures)
    made = program("convert", "--model", folder / "1", "--output", folder / "artefact", "--fingerprint", "")
    assert made.returncode == 0, made.stderr
    return folder / "1", folder / "artefact"


def proven(model: Path, artefact_folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return program(
        "prove", "--model", model, "--artefact", artefact_folder, "--precisions", "f32",
        "--limits", json.dumps({"f32": LIMIT, "bf16": BF16_LIMIT}), "--seconds", 5, *arguments,
    )  # fmt: skip


def test_a_real_artefact_is_proven(converted: tuple[Path, Path], tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"instances": [[1, 2, 3, 4]]}\n{"signature_name": "ids", "inputs": [7]}\n')
    done = proven(*converted, "--requests", requests)
    assert done.returncode == 0, done.stderr
    findings = json.loads(done.stdout)
    assert findings.keys() == {"f32"}
    assert findings["f32"].keys() == {"serving_default", "ids"}
    for finding in findings["f32"].values():
        assert finding["problem"] is None
        assert finding["requests"] > 20
        assert finding["difference"] < 1e-5
    assert "proof in f32: serving_default: " in done.stderr


def test_a_real_artefact_with_other_weights_is_not(converted: tuple[Path, Path], tmp_path: Path) -> None:
    model, artefact_folder = converted
    other = tmp_path / "artefact"
    shutil.copytree(artefact_folder, other)
    manifest = json.loads((other / artefact.MANIFEST).read_text())
    for file in other.glob("*.bin"):
        content = file.read_bytes()
        assert WEIGHT.tobytes() in content
        file.write_bytes(content.replace(WEIGHT.tobytes(), (WEIGHT * np.float32(1.01)).tobytes()))
        manifest["files"][file.name] = artefact.file_digest(file)
    (other / artefact.MANIFEST).write_text(json.dumps(manifest))
    findings = json.loads(proven(model, other).stdout)["f32"]
    assert findings["ids"]["problem"].startswith("'y' differs by 0.01 of its largest number, and 0.0005")
    assert findings["serving_default"]["problem"].startswith("'y' differs by ")


def test_requests_that_do_not_fit_are_a_sentence(converted: tuple[Path, Path], tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    requests.write_text('{"instances": ["text"]}\n')
    done = proven(*converted, "--requests", requests)
    assert done.returncode == 1
    assert done.stdout == ""
    assert f"line 1 of {requests} is not a request for it: " in done.stderr
    assert "Traceback" not in done.stderr
    missing = proven(converted[0], tmp_path / "nowhere")
    assert missing.returncode == 1
    assert "Traceback" not in missing.stderr

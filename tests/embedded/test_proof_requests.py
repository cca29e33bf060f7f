"""The requests of a proof: photos, given ones, and how many."""

from __future__ import annotations

import time

import numpy as np
from embedded_server.common import errors
from embedded_server.execution.backend import Array
from embedded_server.proving import breaking, numbers, templates
from embedded_server.proving.compare import Scales, compare
from embedded_server.proving.proof import prove
from proof_cases import LIMIT, MATRIX, Fake, dense, found, problem, signature, spec

PHOTOS = [b"\xff\xd8\xffphoto" + bytes([n]) * 40 for n in range(5)]


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

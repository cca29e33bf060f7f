"""Attention in the forms of Keras and others. OpenVINO can merge it into one operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from operator_cases.case import Case, Tensor

raw = tf.raw_ops
_SIZE = 16


def attention() -> Iterator[Case]:
    forms: dict[str, Callable[..., Any]] = {
        "Keras": _keras,
        "turned": _turned,
        "turned, masked": lambda *given: _turned(*given, masked=True),
        "split late": _split,
    }
    for form, build in forms.items():
        # As many words as heads: sizes that are mistaken for each other show where they differ in use.
        for length, heads in ((1, 2), (2, 2), (3, 3), (8, 8), (4, 2), (5, 3), (None, 2)):
            if length is None and "masked" in form:
                continue
            yield Case(
                "Softmax",
                f"attention, {form}, {length} words, {heads} heads",
                (Tensor((None, length, _SIZE)),),
                lambda x, b=build, sizes=(length, heads, 4): b(x, *sizes),
                1e-4,
            )


def _constant(seed: int, *shape: int) -> Any:
    numbers = np.random.default_rng(seed).normal(size=shape) * _SIZE**-0.5
    return tf.constant(numbers.astype(np.float32))


def _projected(x: Any, seed: int, heads: int, depth: int) -> Any:
    kernel, bias = _constant(seed, _SIZE, heads, depth), _constant(seed + 9, heads, depth)
    return raw.Einsum(inputs=[x, kernel], equation="abc,cde->abde") + bias


def _sizes(x: Any, length: int | None, *more: int) -> Any:
    return [-1, length, *more] if length else tf.stack([tf.shape(x)[0], tf.shape(x)[1], *more])


def _keras(x: Any, length: int | None, heads: int, depth: int) -> Any:
    query, key, value = (_projected(x, seed, heads, depth) for seed in range(3))
    query = query * tf.constant(np.float32(depth**-0.5))
    scores = raw.Einsum(inputs=[key, query], equation="aecd,abcd->acbe")
    mixed = raw.Einsum(inputs=[raw.Softmax(logits=scores), value], equation="acbe,aecd->abcd")
    return raw.Einsum(inputs=[mixed, _constant(5, heads, depth, _SIZE)], equation="abcd,cde->abe")


def _turned(x: Any, length: int | None, heads: int, depth: int, masked: bool = False) -> Any:
    parts = (_projected(x, seed, heads, depth) for seed in range(3))
    query, key, value = (tf.transpose(part, [0, 2, 1, 3]) for part in parts)
    return _mixed(x, query, key, value, _constant(4, 1, 1, length, length) if masked and length else None)


def _split(x: Any, length: int | None, heads: int, depth: int) -> Any:
    def part(seed: int) -> Any:
        whole = raw.BatchMatMulV2(x=x, y=_constant(seed, _SIZE, heads * depth))
        whole = tf.nn.bias_add(whole, _constant(seed + 9, heads * depth))
        return tf.transpose(tf.reshape(whole, _sizes(x, length, heads, depth)), [0, 2, 1, 3])

    return _mixed(x, part(0), part(1), part(2), None)


def _mixed(x: Any, query: Any, key: Any, value: Any, mask: Any | None) -> Any:
    heads, length, depth = query.shape[1:]
    scores = raw.BatchMatMulV2(x=query, y=key, adj_y=True) / tf.constant(np.float32(depth**0.5))
    if mask is not None:
        scores = scores + mask
    mixed = tf.transpose(raw.BatchMatMulV2(x=raw.Softmax(logits=scores), y=value), [0, 2, 1, 3])
    return tf.reshape(mixed, _sizes(x, length, heads * depth))

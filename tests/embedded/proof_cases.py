"""Signatures and models to prove."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from embedded_server.common import errors
from embedded_server.execution.backend import Array
from embedded_server.execution.signature import Signature, TensorSpec, data_type, number_of
from embedded_server.proving.proof import Finding, prove

Function = Callable[..., Any]
LIMIT = 5e-4
BF16_LIMIT, BF16_ROUNDING = 0.05, 4e-3
WEIGHT = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
TABLE = np.random.default_rng(1).standard_normal((10, 8)).astype(np.float32)


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

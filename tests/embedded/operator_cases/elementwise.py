"""Functions of one number and of two, comparisons, and changes of type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from operator_cases.case import (
    FLOATS,
    TOLERANCES,
    Case,
    Guard,
    Kind,
    Tensor,
    guarded,
    positive,
    same_for,
    together,
    weights,
)

raw = tf.raw_ops
_SUBNORMAL = "TensorFlow takes subnormal numbers for 0"


_NARROW = "OpenVINO computes int64 in 32 bits"


_IN_FLOAT = "OpenVINO compares whole numbers as floats"


def unary() -> Iterator[Case]:
    exact = {
        "Identity": raw.Identity, "StopGradient": tf.stop_gradient, "Neg": raw.Neg, "Abs": raw.Abs,
        "Relu": raw.Relu, "Relu6": raw.Relu6, "Round": raw.Round, "IsFinite": raw.IsFinite,
        "ZerosLike": raw.ZerosLike, "OnesLike": raw.OnesLike,
    }  # fmt: skip
    for op, function in exact.items():
        yield from same_for(op, _one(function), exact=True)
    yield from same_for("Rint", _one(raw.Rint), exact=True, dtypes=[tf.float32])
    for op, function in (("Floor", raw.Floor), ("Ceil", raw.Ceil), ("Sign", raw.Sign)):
        yield from same_for(
            op, _one(function), exact=True, differs=_SUBNORMAL, dtypes=[tf.float32, tf.bfloat16]
        )
    plain = {
        "Softsign": raw.Softsign, "Sigmoid": raw.Sigmoid, "Tanh": raw.Tanh, "Square": raw.Square,
    }  # fmt: skip
    for op, function in plain.items():
        yield from same_for(op, _one(function))
    for op, function in (("Elu", raw.Elu), ("Selu", raw.Selu)):
        yield from same_for(op, _one(function), least=1.0)
    yield from same_for("Softplus", _one(raw.Softplus), differs="OpenVINO's error is absolute")
    yield from same_for("Erf", _one(raw.Erf), differs="OpenVINO's error is absolute")
    yield from same_for("Erf", lambda x: tf.constant(1, x.dtype) + raw.Erf(x=x), variant="plus 1", least=1.0)
    for op, function, guard in (
        ("Sqrt", raw.Sqrt, Guard.NONNEGATIVE),
        ("Rsqrt", raw.Rsqrt, Guard.POSITIVE),
        ("Exp", raw.Exp, Guard.EXPONENT),
        ("Expm1", raw.Expm1, Guard.EXPONENT),
        ("Log", raw.Log, Guard.POSITIVE),
        ("Log1p", raw.Log1p, Guard.NONNEGATIVE),
        ("Reciprocal", raw.Reciprocal, Guard.POSITIVE),
        ("Inv", raw.Inv, Guard.POSITIVE),
        ("Sin", raw.Sin, Guard.ANGLE),
        ("Cos", raw.Cos, Guard.ANGLE),
    ):
        least = 1.0 if op in ("Expm1", "Log1p", "Sin") else 0.0
        yield from same_for(
            op, lambda x, f=function, g=guard: _one(f)(guarded(x, g)), least=least,
            dtypes=[tf.float32] if guard is Guard.ANGLE else FLOATS,
        )  # fmt: skip
    for alpha in (0.2, 0.0, 1.5):
        yield from same_for(
            "LeakyRelu", lambda x, a=alpha: raw.LeakyRelu(features=x, alpha=a), variant=f"alpha {alpha}"
        )
    yield from same_for("Erfc", lambda x: raw.Erfc(x=x), least=1.0)
    yield from same_for("Erfc", lambda x: tf.nn.gelu(x, approximate=False), variant="gelu", least=1.0)
    yield from same_for("Erf", lambda x: _gelu(x), variant="gelu by Erf", least=1.0)
    yield from same_for("Tanh", lambda x: tf.nn.gelu(x, approximate=True), variant="gelu", least=1.0)
    # In half TensorFlow has two or three bits left of results near the smallest number.
    yield from same_for("Sigmoid", lambda x: x * tf.sigmoid(x), variant="swish", least=1e-2)
    yield from same_for("Softplus", lambda x: x * tf.tanh(tf.math.softplus(x)), variant="mish", least=1e-2)
    yield from same_for(
        "Relu", lambda x: tf.maximum(x, tf.constant(0, x.dtype)), variant="by Maximum", exact=True
    )
    for op, function in (("Neg", raw.Neg), ("Abs", raw.Abs), ("Sign", raw.Sign), ("Square", raw.Square)):
        kind = Kind.SMALL if op == "Square" else Kind.EXACT_IN_FLOAT
        yield from same_for(op, _one(function), dtypes=[tf.int32, tf.int64], kind=kind)
    for op, function in (("Neg", raw.Neg), ("Abs", raw.Abs), ("Sign", raw.Sign)):
        yield from same_for(op, _one(function), dtypes=[tf.int64], variant="64 bits", differs=_NARROW)
    for op, function in (
        ("Identity", raw.Identity),
        ("ZerosLike", raw.ZerosLike),
        ("OnesLike", raw.OnesLike),
    ):
        yield from same_for(op, _one(function), dtypes=[tf.int32, tf.bool, tf.uint8])


def _gelu(x: Any) -> Any:
    return (
        tf.constant(0.5, x.dtype)
        * x
        * (tf.constant(1, x.dtype) + tf.math.erf(x * tf.constant(0.70710677, x.dtype)))
    )


def _one(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """`function` with its only argument in place."""

    def call(x: Any) -> Any:
        for name in ("x", "input", "features"):
            try:
                return function(**{name: x})
            except TypeError:
                continue
        return function(x)

    return call


NUMBERS = (
    tf.float32, tf.half, tf.bfloat16, tf.float64, tf.bool, tf.uint8, tf.int8, tf.int16, tf.uint16, tf.int32,
    tf.uint32, tf.int64, tf.uint64,
)  # fmt: skip


def casts() -> Iterator[Case]:
    """All pairs; which of them are proven, the rules say."""
    for source in NUMBERS:
        for target in NUMBERS:
            # OpenVINO rounds to bfloat16 in another way.
            allowed = TOLERANCES[target] if target in (tf.half, tf.bfloat16) else None
            tensor = Tensor(dtype=source)
            yield Case("Cast", f"to {target.name}", (tensor,), lambda x, t=target: tf.cast(x, t), allowed)
    for source, target in (
        (tf.float32, tf.uint8), (tf.float32, tf.int8), (tf.float32, tf.bool), (tf.int32, tf.bool),
        (tf.float32, tf.int64), (tf.float64, tf.float32),
    ):  # fmt: skip
        yield Case(
            "Cast", f"to {target.name}, wrong", (Tensor(dtype=source),), lambda x, t=target: tf.cast(x, t),
            differs="OpenVINO saturates, or takes the low bits",
        )  # fmt: skip
    yield Case(
        "Cast", "pixels", (Tensor(dtype=tf.uint8),),
        lambda x: tf.cast(x, tf.float32) / tf.constant(255.0) - 0.5, 1e-5,
    )  # fmt: skip


_BINARY: dict[str, tuple[Callable[..., Any], Guard]] = {
    "Add": (raw.Add, Guard.NONE), "AddV2": (raw.AddV2, Guard.NONE), "Sub": (raw.Sub, Guard.NONE),
    "Mul": (raw.Mul, Guard.NONE), "Maximum": (raw.Maximum, Guard.NONE), "Minimum": (raw.Minimum, Guard.NONE),
    "SquaredDifference": (raw.SquaredDifference, Guard.NONE), "RealDiv": (raw.RealDiv, Guard.POSITIVE),
    "Div": (raw.Div, Guard.POSITIVE), "DivNoNan": (raw.DivNoNan, Guard.POSITIVE),
}  # fmt: skip


_PAIRS: tuple[tuple[tuple[int | None, ...], tuple[int | None, ...]], ...] = (
    ((None, 7, 13), (None, 7, 13)),
    ((None, 7, 13), (13,)),
    ((None, 1, 13), (7, 1)),
    ((None, 3), (None, 1)),
    ((None,), (None,)),
    ((None, 2, 3, 5), (None, 1, 1, 5)),
    ((None, 3), ()),
)


def binary() -> Iterator[Case]:
    for op, (function, guard) in _BINARY.items():
        for left, right in _PAIRS:
            yield from same_for(
                op, lambda x, y, f=function, g=guard: f(x=x, y=guarded(y, g)), left, right,
                variant=f"{left} {right}", dtypes=FLOATS if right == left else (tf.float32,),
            )  # fmt: skip
        yield from same_for(
            op, lambda x, f=function: f(x=x, y=positive((1, 13), x.dtype)), variant="constant right"
        )
        yield from same_for(
            op, lambda x, f=function, g=guard: f(x=positive((13,), x.dtype), y=guarded(x, g)),
            variant="constant left",
        )  # fmt: skip
        yield from same_for(
            op, lambda x, f=function: f(x=x, y=tf.constant(0.5, x.dtype)), variant="constant scalar"
        )
    yield from same_for(
        "DivNoNan", lambda x, y: raw.DivNoNan(x=x, y=y), (None, 3), (None, 3), variant="zeros",
        dtypes=[tf.float32], differs=_SUBNORMAL,
    )  # fmt: skip
    for exponent in (2.0, 3.0, 0.5, 1.0, -1.0, 4.0):
        guard = Guard.NONE if exponent >= 1 else Guard.POSITIVE
        yield from same_for(
            "Pow", lambda x, e=exponent, g=guard: raw.Pow(x=guarded(x, g), y=tf.constant(e, x.dtype)),
            variant=f"{exponent}", kind=Kind.SMALL if exponent > 2 else Kind.ANY,
        )  # fmt: skip
    yield from same_for(
        "Pow", lambda x: raw.Pow(x=tf.nn.relu(x), y=tf.constant(0.5, x.dtype)), variant="0.5 of 0", 
    )  # fmt: skip
    for shape in ((None, 13), (None, 7, 13), (None, 3, 5, 13), (None, 2, 3, 5, 13)):
        yield from same_for(
            "BiasAdd", lambda x: raw.BiasAdd(value=x, bias=weights((13,), x.dtype)), shape,
            variant=f"NHWC, rank {len(shape)}",
        )  # fmt: skip
        if len(shape) == 2:
            continue
        turned = (None, 13, *shape[1:-1])
        yield from same_for(
            "BiasAdd",
            lambda x: raw.BiasAdd(value=x, bias=weights((13,), x.dtype), data_format="NCHW"),
            turned,
            variant=f"NCHW, rank {len(shape)}",
        )
    yield from same_for(
        "BiasAdd", lambda x, y: raw.BiasAdd(value=x, bias=y), (None, 5), (5,), variant="fed bias"
    )
    for count in (1, 2, 3, 5):
        yield from same_for(
            "AddN", lambda *x: tf.raw_ops.AddN(inputs=list(x)), *[(None, 7, 13)] * count, variant=f"{count}"
        )
        yield from together(
            "AddN", lambda *x: tf.raw_ops.AddN(inputs=list(x)), *[(None, 7, 13)] * count, variant=f"{count}"
        )
    for op in ("Maximum", "Minimum"):
        yield from same_for(
            op, lambda x, y, o=op: getattr(raw, o)(x=x, y=y), (None, 5), (None, 5), dtypes=[tf.int64],
            differs=_NARROW,
        )  # fmt: skip
    for op in ("AddV2", "Sub", "Mul"):
        yield from same_for(
            op, lambda x, y, o=op: getattr(raw, o)(x=x, y=y), (None, 5), (None, 5), kind=Kind.SMALL,
            dtypes=[tf.int32, tf.int64], variant="small",
        )  # fmt: skip
    yield from same_for("ClipByValue", lambda x: tf.clip_by_value(x, -1.0, 2.0), exact=True)
    yield from same_for(
        "ClipByValue",
        lambda x: raw.ClipByValue(
            t=x, clip_value_min=tf.constant(-1.0, x.dtype), clip_value_max=tf.constant(2.0, x.dtype)
        ),
        exact=True,
        variant="raw",
    )
    yield from same_for(
        "ClipByValue", lambda x, low, high: raw.ClipByValue(t=x, clip_value_min=low, clip_value_max=high),
        (None, 5), (), (), exact=True, variant="fed limits", dtypes=[tf.float32],
    )  # fmt: skip


def comparisons() -> Iterator[Case]:
    for op in ("Greater", "GreaterEqual", "Less", "LessEqual", "Equal", "NotEqual"):
        function = getattr(raw, op)
        yield from same_for(
            op, lambda x, y, f=function: f(x=x, y=y), (None, 7, 13), (None, 7, 13), dtypes=[tf.float32],
            differs=_SUBNORMAL,
        )  # fmt: skip
        yield from same_for(
            op, lambda x, y, f=function: f(x=x, y=y), (None, 7, 13), (None, 7, 13),
            dtypes=[tf.int32, tf.int64], differs=_IN_FLOAT,
        )  # fmt: skip
        for left, right in _PAIRS:
            yield from same_for(
                op,
                lambda x, y, f=function: f(x=x, y=y),
                left,
                right,
                variant=f"{left} {right}",
                kind=Kind.SMALL,
                dtypes=[tf.int32, tf.uint8],
            )
        yield from same_for(
            op,
            lambda x, f=function: f(x=x, y=tf.constant(1, x.dtype)),
            variant="with 1",
            dtypes=[tf.uint8, tf.float32],
        )
    for op in ("Equal", "NotEqual"):
        yield from same_for(
            op, lambda x, y, o=op: getattr(raw, o)(x=x, y=y), (None, 5), (None, 5), dtypes=[tf.bool]
        )


def logic() -> Iterator[Case]:
    yield from same_for("LogicalNot", lambda x: raw.LogicalNot(x=x), dtypes=[tf.bool])
    for op in ("LogicalAnd", "LogicalOr"):
        for left, right in _PAIRS:
            yield from same_for(
                op, lambda x, y, o=op: getattr(raw, o)(x=x, y=y), left, right, dtypes=[tf.bool],
                variant=f"{left} {right}",
            )  # fmt: skip
    for dtype in (*FLOATS, tf.int32, tf.bool, tf.uint8):
        for op, conditions in (
            ("Select", ((None, 7, 13), (None,))),
            ("SelectV2", ((None, 7, 13), (None, 1, 1), (13,), ())),
        ):
            for shape in conditions:
                inputs = (Tensor(shape, tf.bool), Tensor(dtype=dtype), Tensor(dtype=dtype))
                function = raw.Select if op == "Select" else raw.SelectV2
                name = "x" if op == "Select" else "t"
                other = "y" if op == "Select" else "e"

                def select(c: Any, x: Any, y: Any, f: Any = function, n: str = name, o: str = other) -> Any:
                    return f(condition=c, **{n: x, o: y})

                yield Case(op, f"{shape}", inputs, select)
                if op == "Select":
                    known = tuple(Tensor((2, *tensor.shape[1:]), tensor.dtype) for tensor in inputs)
                    yield Case(op, f"{shape} of two rows", known, select)
    inputs = (Tensor((None, 7, 1), tf.bool), Tensor((None, 1, 13)), Tensor((7, 13)))
    yield Case("SelectV2", "broadcast", inputs, lambda c, x, y: raw.SelectV2(condition=c, t=x, e=y))
    yield Case(
        "SelectV2",
        "computed",
        (Tensor(),),
        lambda x: raw.SelectV2(condition=x > 0.5, t=x, e=tf.zeros_like(x)),
    )

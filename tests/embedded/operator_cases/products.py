"""Matrix products and einsum."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from operator_cases.case import Case, same_for, together, weights

raw = tf.raw_ops


def products() -> Iterator[Case]:
    for a, b in ((False, False), (True, False), (False, True), (True, True)):
        left: tuple[int | None, ...] = (5, None) if a else (None, 5)
        right = (3, 5) if b else (5, 3)
        yield from same_for(
            "MatMul",
            lambda x, a=a, b=b, r=right: raw.MatMul(a=x, b=weights(r, x.dtype), transpose_a=a, transpose_b=b),
            left,
            variant=f"constant {a} {b}",
        )
        yield from same_for(
            "MatMul", lambda x, y, a=a, b=b: raw.MatMul(a=x, b=y, transpose_a=a, transpose_b=b), left, right,
            variant=f"fed {a} {b}",
        )  # fmt: skip
        if not a:
            yield from same_for(
                "MatMul",
                lambda x, y, b=b: raw.MatMul(a=x, b=y, transpose_b=not b),
                (None, 5),
                (None, 5) if not b else (5, None),
                variant=f"rows by rows {b}",
            )
    for k, n in ((1, 1), (1, 7), (129, 1), (257, 65)):
        yield from same_for(
            "MatMul",
            lambda x, k=k, n=n: raw.MatMul(a=x, b=weights((k, n), x.dtype)),
            (None, k),
            variant=f"{k}x{n}",
        )
    yield from same_for(
        "MatMul", lambda x: raw.MatMul(a=weights((4, 5), x.dtype), b=x), (5, None), variant="constant left"
    )
    for op in ("BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"):
        function = getattr(raw, op)
        for a, b in ((False, False), (True, False), (False, True), (True, True)):
            left = (None, 3, 5, 4) if a else (None, 3, 4, 5)
            right4 = (None, 3, 2, 5) if b else (None, 3, 5, 2)

            def product(x: Any, y: Any, f: Any = function, a: bool = a, b: bool = b) -> Any:
                more = {"Tout": x.dtype} if f is raw.BatchMatMulV3 else {}
                return f(x=x, y=y, adj_x=a, adj_y=b, **more)

            yield from same_for(op, product, left, right4, variant=f"fed {a} {b}")
            yield from together(op, product, left, right4, variant=f"{a} {b}")
            if op != "BatchMatMul":
                yield from same_for(
                    op, product, left, right4[2:], variant=f"broadcast {a} {b}", dtypes=[tf.float32]
                )
                yield from same_for(
                    op,
                    product,
                    (3, *left[2:]),
                    right4,
                    variant=f"broadcast left {a} {b}",
                    dtypes=[tf.float32],
                )
                yield from same_for(
                    op, lambda x, p=product, r=right4[1:]: p(x, weights(r, x.dtype)), left,
                    variant=f"constant {a} {b}", dtypes=[tf.float32],
                )  # fmt: skip
                yield from same_for(
                    op, lambda x, p=product, r=right4[2:]: p(x, weights(r, x.dtype)), left,
                    variant=f"constant rank 2 {a} {b}",
                )  # fmt: skip


_EQUATIONS: tuple[tuple[str, tuple[tuple[int | None, ...], ...]], ...] = (
    ("ij,jk->ik", ((None, 5), (5, 3))),
    ("bij,bjk->bik", ((None, 4, 5), (None, 5, 3))),
    ("bij,bkj->bik", ((None, 4, 5), (None, 3, 5))),
    ("abc,cde->abde", ((None, 4, 5), (5, 2, 3))),
    ("abc,cd->abd", ((None, 4, 5), (5, 3))),
    ("ab,bc->ac", ((None, 5), (5, 3))),
    ("aecd,abcd->acbe", ((None, 3, 2, 4), (None, 5, 2, 4))),
    ("acbe,aecd->abcd", ((None, 2, 5, 3), (None, 3, 2, 4))),
    ("abcd,cde->abe", ((None, 4, 2, 3), (2, 3, 5))),
    ("BTNH,BSNH->BNTS", ((None, 3, 2, 4), (None, 5, 2, 4))),
    ("BNTS,BSNH->BTNH", ((None, 2, 3, 5), (None, 5, 2, 4))),
    ("bhqd,bhkd->bhqk", ((None, 2, 3, 4), (None, 2, 5, 4))),
    ("bhqk,bhkd->bhqd", ((None, 2, 3, 5), (None, 2, 5, 4))),
    ("abcd,de->abce", ((None, 2, 3, 4), (4, 5))),
    ("...ab,bc->...ac", ((None, 2, 3, 4), (4, 5))),
    ("...x,xy->...y", ((None, 3, 4), (4, 5))),
    ("bi,bj->bij", ((None, 3), (None, 4))),
    ("bi,bi->b", ((None, 3), (None, 3))),
    ("bij->bji", ((None, 3, 4),)),
    ("bij->bi", ((None, 3, 4),)),
    ("bi,oi->bo", ((None, 5), (3, 5))),
    ("i,bij->bj", ((3,), (None, 3, 4))),
    ("abc,abd->abcd", ((None, 2, 3), (None, 2, 4))),
    ("bii->bi", ((None, 4, 4),)),
)


def einsums() -> Iterator[Case]:
    for equation, shapes in _EQUATIONS:
        yield from same_for(
            "Einsum", lambda *x, e=equation: raw.Einsum(inputs=list(x), equation=e), *shapes, variant=equation
        )
        if all(None in shape for shape in shapes):
            yield from together(
                "Einsum",
                lambda *x, e=equation: raw.Einsum(inputs=list(x), equation=e),
                *shapes,
                variant=equation,
            )
        if len(shapes) == 2 and None not in shapes[1]:
            yield from same_for(
                "Einsum",
                lambda x, e=equation, s=shapes[1]: raw.Einsum(inputs=[x, weights(s, x.dtype)], equation=e),
                shapes[0],
                variant=f"{equation}, constant",
            )

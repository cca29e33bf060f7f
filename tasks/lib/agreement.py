"""Do two servers answer the same? Asked before anything is timed.

Answers are compared through REST, output by output. For class scores: is the first class the same,
and how far apart are the probabilities? For any other numbers: how far apart, relative to their size.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.lib.client import Client
from tasks.lib.errors import ServerError
from tasks.lib.inputs import Sample
from tasks.lib.signature import Signature, Tensor

if TYPE_CHECKING:
    import numpy as np

SCORE_NAMES = ("probabilities", "scores", "softmax")
FLOATS = frozenset({"DT_HALF", "DT_BFLOAT16", "DT_FLOAT", "DT_DOUBLE"})


@dataclass(frozen=True)
class Agreement:
    """How alike two servers answered a set of inputs."""

    inputs: int
    same: int
    """Inputs with the same first class; for models without scores, with equal whole numbers and text."""
    difference: float
    """Largest difference of two numbers: absolute for probabilities, else relative (compare_answers)."""
    limit: float
    """Largest difference that is allowed."""

    @property
    def percent(self) -> str:
        """The part of the inputs that agree, rounded down: "100%" means all of them."""
        return f"{100 * self.same // self.inputs}%"

    @property
    def holds(self) -> bool:
        """Whether the two answer the same, within the limit."""
        return self.same == self.inputs and self.difference <= self.limit

    @property
    def problem(self) -> str:
        """Why it does not hold, as part of a sentence."""
        if self.same < self.inputs:
            return f"{self.inputs - self.same} of {self.inputs} answers have another top-1"
        return f"the largest difference is {self.difference:.3g}, and {self.limit:.3g} is allowed"


def worst(several: Iterable[Agreement]) -> Agreement:
    """Of the same inputs put to several servers: what can be said of all of them."""
    return min(several, key=lambda one: (one.holds, one.same, -one.difference))


def scores_output(signature: Signature) -> Tensor | None:
    """The output that holds a score for each class, or None if there is none to be sure of."""
    candidates = [
        t
        for t in signature.outputs
        if t.dtype in FLOATS and t.shape is not None and len(t.shape) == 2 and t.shape[1] != 1
    ]
    for tensor in candidates:
        if tensor.name in SCORE_NAMES:
            return tensor
    return candidates[0] if len(candidates) == 1 else None


def answer(client: Client, signature: Signature, body: bytes) -> dict[str, Any]:
    """The single instance's outputs by name, for a row-form request with one instance.

    Raises ServerError if the answer has not the form that the contract gives it.
    """
    try:
        (prediction,) = client.predict(body)["predictions"]
        if len(signature.outputs) == 1:
            # TensorFlow Serving drops the name of a single output.
            return {signature.outputs[0].name: prediction}
        return dict(prediction)
    except (KeyError, ValueError, TypeError):
        raise ServerError(
            f"{client.url} does not answer one instance with one prediction.",
            "Check that it serves the model that its metadata describes.",
        ) from None


def compare(
    baseline: Client, candidate: Client, signature: Signature, samples: Sequence[Sample], limit: float
) -> Agreement:
    """Send every sample to both and compare what they answer."""
    answers = (
        (answer(baseline, signature, sample.body), answer(candidate, signature, sample.body))
        for sample in samples
    )
    scores = scores_output(signature)
    same, difference = compare_answers(answers, scores.name if scores else None)
    return Agreement(len(samples), same, difference, limit)


def compare_answers(
    answers: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], scores: str | None
) -> tuple[int, float]:
    """How many pairs of answers name the same, and the largest difference of their numbers.

    Differences are relative to the largest number that the first of the two gives in that output, over
    all pairs; for `scores`, which are absolute as long as they are probabilities, only if it exceeds 1.
    """
    apart: dict[str, float] = {}
    size: dict[str, float] = {}
    same = 0
    for a, b in answers:
        alike = a.keys() == b.keys()
        apart.update(dict.fromkeys(a.keys() ^ b.keys(), math.inf))
        for name in a.keys() & b.keys():
            if not _has_float(a[name]) and not _has_float(b[name]):
                alike &= json.dumps(a[name], sort_keys=True) == json.dumps(b[name], sort_keys=True)
                continue
            x, y = _numbers(a[name]), _numbers(b[name])
            if x is None or y is None or x.shape != y.shape:
                alike, apart[name] = False, math.inf
            elif x.size:
                alike &= name != scores or bool(x.argmax() == y.argmax())
                apart[name] = max(apart.get(name, 0.0), _difference(x, y))
                size[name] = max(size.get(name, 0.0), _largest(x))
        same += alike
    units = {name: _unit(size.get(name, 0.0), name == scores) for name in apart}
    return same, max((apart[name] / units[name] for name in apart), default=0.0)


def _unit(largest: float, is_scores: bool) -> float:
    """What a difference is divided by."""
    return max(1.0, largest) if is_scores else largest or 1.0


def _difference(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    """The largest distance of two numbers in the same place, of which both may be infinite or NaN."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        apart = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    # Not a number, or infinite, on one side only: nothing is further apart.
    return float(apart.max()) if np.isfinite(apart).all() else math.inf


def _largest(x: np.ndarray[Any, Any]) -> float:
    """The largest absolute value, of those that have one."""
    import numpy as np

    return float(np.abs(x[np.isfinite(x)]).max(initial=0.0))


def _numbers(value: object) -> np.ndarray[Any, Any] | None:
    """Nested lists of numbers as an array; None if text is among them, or rows have different lengths."""
    import numpy as np

    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None


def _has_float(value: object) -> bool:
    """Whether nested lists hold a float anywhere (JSON writes 1.0 with its point)."""
    if isinstance(value, list):
        return any(map(_has_float, value))
    return isinstance(value, float)

"""Do two servers answer the same? Asked before anything is timed.

Both are asked over what is to be measured, and compared output by output. For class scores: is the
first class the same? For whole numbers and text: are they equal? For all other numbers: are they near
enough (tolerance)?

Where the first classes differ, but the scores of the two classes are near enough to each other in both
answers, they are the same within what is allowed too: a near tie, which is counted by itself.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tasks.lib.client.inputs import Sample, rows_of
from tasks.lib.client.rest import ModelClient
from tasks.lib.client.signature import Signature, Tensor
from tasks.lib.common.errors import ServerError
from tasks.lib.measure.tolerance import Tolerance, Tolerances

if TYPE_CHECKING:
    import numpy as np

SCORE_NAMES = ("probabilities", "scores", "softmax")
MOST_EXCHANGEABLE = 0.5
MOST_COMPARED = 12
"""Inputs, of which every pair is looked at."""
FLOATS = frozenset({"DT_HALF", "DT_BFLOAT16", "DT_FLOAT", "DT_DOUBLE"})


@dataclass(frozen=True)
class Numbers:
    """How far apart the numbers of one output are: a is the baseline's, b the other server's.

    Not a number or infinite on one side only, a shape of its own or nothing at all is infinitely far.
    """

    absolute: float
    """The largest |a - b|."""
    relative: float
    """The same in parts of the largest |a| of all answers; where that is 0, the same."""
    is_probability: bool
    """Whether they are scores of which none exceeds 1."""
    tolerance: Tolerance
    worst: float
    """|a - b| where it exceeds what is allowed the most, or is nearest to it."""
    allowed: float
    """What is allowed there."""

    @property
    def difference(self) -> float:
        """How far apart they are in one number: absolute for probabilities, else relative."""
        return self.absolute if self.is_probability else self.relative


@dataclass(frozen=True)
class Output:
    """How alike two servers gave one output."""

    name: str
    is_scores: bool
    same: int
    """Inputs with the same first class for scores, with equal values for whole numbers and text, and for
    other numbers with as many of them."""
    numbers: Numbers | None
    """None for whole numbers and text."""
    near_ties: int = 0
    """Inputs for which it is not the same, but as near as is allowed: of scores, and of the first class."""

    def problem(self, inputs: int) -> str | None:
        """Why it is not the same, as part of a sentence; None if it is."""
        others = inputs - self.same - self.near_ties
        if others:
            what = "top-1 in" if self.is_scores else "value of" if self.numbers is None else "shape of"
            return f"{others} of {inputs} answers have another {what} {self.name!r}"
        if self.numbers is not None and not self.numbers.worst <= self.numbers.allowed:
            apart, allowed = f"{self.numbers.worst:.3g}", f"{self.numbers.allowed:.3g}"
            rule = f" ({self.numbers.tolerance})" if self.numbers.tolerance.relative else ""
            return f"{self.name!r} differs by {apart}, and {allowed}{rule} is allowed"
        return None


@dataclass(frozen=True)
class Agreement:
    """How alike two servers answered a set of inputs."""

    inputs: int
    same: int
    """Inputs for which every output is the same (Output.same)."""
    outputs: tuple[Output, ...]
    """By name."""
    exchangeable: float = 0.0
    """Of the pairs of inputs, the part whose answers by the baseline could be exchanged unnoticed: where that
    is more than half, answering the same says little."""
    near_ties: int = 0
    """Inputs with another first class, of two whose scores are as near as is allowed in both answers."""

    @property
    def is_hollow(self) -> bool:
        """Whether the inputs are too alike for the model to prove anything."""
        return self.exchangeable > MOST_EXCHANGEABLE

    @property
    def difference(self) -> float:
        """The largest difference of all outputs (Numbers.difference)."""
        return max(
            (output.numbers.difference for output in self.outputs if output.numbers is not None), default=0.0
        )

    @property
    def percent(self) -> str:
        """The part of the inputs that agree, rounded down: "100%" means all of them. Near ties are named."""
        if self.near_ties:
            ties = "1 near tie" if self.near_ties == 1 else f"{self.near_ties} near ties"
            return f"{self.same} same, {ties}"
        return f"{100 * self.same // self.inputs}%"

    @property
    def holds(self) -> bool:
        """Whether the two answer the same, within what is allowed."""
        return self.same + self.near_ties == self.inputs and not self._problems

    @property
    def problem(self) -> str:
        """Why it does not hold, as part of a sentence."""
        return "; ".join(self._problems)

    @property
    def _problems(self) -> list[str]:
        problems = (output.problem(self.inputs) for output in self.outputs)
        return [problem for problem in problems if problem is not None]


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


def answer(client: ModelClient, signature: Signature, body: bytes) -> dict[str, Any]:
    """The outputs by name: of a request in row form lists with a value for each row, else whole outputs.

    Raises ServerError if the answer has not the form that the contract gives it.
    """
    rows = rows_of(body)
    answered = client.predict(body)
    try:
        if rows is None:
            outputs = answered["outputs"]
            # TensorFlow Serving drops the name of a single output.
            return {signature.outputs[0].name: outputs} if len(signature.outputs) == 1 else dict(outputs)
        predictions = list(answered["predictions"])
        if len(predictions) != rows:
            raise ValueError(f"{len(predictions)} predictions")
        if len(signature.outputs) == 1:
            return {signature.outputs[0].name: predictions}
        return {name: [prediction[name] for prediction in predictions] for name in predictions[0]}
    except (KeyError, ValueError, TypeError, AttributeError, IndexError):
        raise ServerError(
            f"{client.url} does not answer each instance with one prediction.",
            "Check that it serves the model that its metadata describes.",
        ) from None


def compare(
    baseline: ModelClient,
    candidate: ModelClient,
    signature: Signature,
    samples: Sequence[Sample],
    tolerances: Tolerances,
) -> Agreement:
    """Send every sample to both and compare what they answer."""
    pairs = [
        (answer(baseline, signature, sample.body), answer(candidate, signature, sample.body))
        for sample in samples
    ]
    scores = scores_output(signature)
    name = scores.name if scores else None
    share = exchangeable([a for a, _ in pairs], name, tolerances)
    return replace(compare_answers(pairs, name, tolerances), exchangeable=share)


def exchangeable(answers: Sequence[Mapping[str, Any]], scores: str | None, tolerances: Tolerances) -> float:
    """The part of the pairs of answers that are the same within what is allowed."""
    pairs = list(itertools.combinations(answers[:MOST_COMPARED], 2))
    same = sum(compare_answers([pair], scores, tolerances).holds for pair in pairs)
    return same / len(pairs) if pairs else 0.0


def hollow_note(inputs: int) -> str:
    """What is said where answering the same proves little."""
    return (
        f"of {inputs} inputs, most get the same answer, so answering the same says little: does this model "
        "expect other values? Give --inputs."
    )


def compare_answers(
    answers: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]],
    scores: str | None,
    tolerances: Tolerances,
) -> Agreement:
    """How alike pairs of answers are, each a value by output; the baseline's comes first."""
    pairs = list(answers)
    seen: dict[str, _Seen] = {}
    unlike: list[set[str]] = []
    for a, b in pairs:
        alike = {
            name: seen.setdefault(name, _Seen(name, name == scores)).take(
                a.get(name, _MISSING), b.get(name, _MISSING)
            )
            for name in sorted(a.keys() | b.keys())
        }
        unlike.append({name for name, is_same in alike.items() if not is_same})
    outputs = {name: seen[name].output(tolerances) for name in sorted(seen)}
    scored = outputs[scores].numbers if scores in outputs else None
    tied = [
        names
        for (a, b), names in zip(pairs, unlike, strict=True)
        if scores in names and scored is not None and _is_near_tie(a, b, scores, names, scored.tolerance)
    ]
    return Agreement(
        len(pairs),
        unlike.count(set()),
        tuple(replace(one, near_ties=sum(name in names for names in tied)) for name, one in outputs.items()),
        near_ties=len(tied),
    )


def _is_near_tie(
    a: Mapping[str, Any], b: Mapping[str, Any], scores: str, unlike: Iterable[str], tolerance: Tolerance
) -> bool:
    """Whether two answers differ only in which of two classes comes first, with scores as near as is allowed.

    `unlike` are the outputs in which they differ: the scores, and others only if they are the first class.
    """
    import numpy as np

    x, y = _numbers(a[scores]), _numbers(b[scores])
    if x is None or y is None or x.shape != y.shape or not x.size:
        return False
    first, other = x.argmax(-1), y.argmax(-1)

    def lead(values: np.ndarray[Any, Any], over: np.ndarray[Any, Any]) -> Any:
        return values.max(-1) - np.take_along_axis(values, over[..., None], -1)[..., 0]

    may = tolerance.absolute + tolerance.relative * np.abs(x.max(-1))
    if not ((lead(x, other) <= may) & (lead(y, first) <= may)).all():
        return False
    return all(_is(a.get(name), first) and _is(b.get(name), other) for name in unlike if name != scores)


def _is(value: object, classes: np.ndarray[Any, Any]) -> bool:
    """Whether an output holds these numbers of classes."""
    numbers = _numbers(value)
    return numbers is not None and numbers.shape == classes.shape and bool((numbers == classes).all())


_MISSING = object()


class _Seen:
    """What two servers have given for one output so far."""

    def __init__(self, name: str, is_scores: bool) -> None:
        self._name = name
        self._is_scores = is_scores
        self._same = 0
        self._pairs: list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        self._unlike = False
        """Whether numbers stood against something else, or against more or fewer of them."""

    def take(self, a: object, b: object) -> bool:
        """Book the values of one input; whether they are the same (Output.same)."""
        alike = self._take(a, b)
        self._same += alike
        return alike

    def _take(self, a: object, b: object) -> bool:
        if a is _MISSING or b is _MISSING:
            self._unlike = True
            return False
        if not _has_float(a) and not _has_float(b):
            return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
        x, y = _numbers(a), _numbers(b)
        if x is None or y is None or x.shape != y.shape:
            self._unlike = True
            return False
        if x.size:
            self._pairs.append((x, y))
        return not (self._is_scores and x.size) or bool((x.argmax(-1) == y.argmax(-1)).all())

    def output(self, tolerances: Tolerances) -> Output:
        return Output(self._name, self._is_scores, self._same, self._differences(tolerances))

    def _differences(self, tolerances: Tolerances) -> Numbers | None:
        if not self._pairs and not self._unlike:
            return None
        largest = max((_largest(x) for x, _ in self._pairs), default=0.0)
        is_probability = self._is_scores and largest <= 1
        size = largest or 1.0
        tolerance = tolerances.of(self._name, 1.0 if is_probability else size)
        absolute, worst, allowed = 0.0, 0.0, tolerance.absolute
        for x, y in self._pairs:
            apart, may = _apart(x, y), tolerance.absolute + tolerance.relative * _finite_size(x)
            place = (apart - may).argmax()
            absolute = max(absolute, float(apart.max()))
            if apart.flat[place] - may.flat[place] > worst - allowed:
                worst, allowed = float(apart.flat[place]), float(may.flat[place])
        if self._unlike:
            absolute = worst = math.inf
        return Numbers(absolute, absolute / size, is_probability, tolerance, worst, allowed)


def _apart(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The distances of numbers in the same place, of which both may be infinite or NaN."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        apart = np.where((x == y) | (np.isnan(x) & np.isnan(y)), 0.0, np.abs(x - y))
    # Not a number, or infinite, on one side only: nothing is further apart.
    return np.where(np.isfinite(apart), apart, math.inf)


def _finite_size(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Absolute values; 0 for those that have none."""
    import numpy as np

    return np.where(np.isfinite(x), np.abs(x), 0.0)


def _largest(x: np.ndarray[Any, Any]) -> float:
    """The largest absolute value, of those that have one."""
    return float(_finite_size(x).max())


def _numbers(value: object) -> np.ndarray[Any, Any] | None:
    """Nested lists of numbers as an array; None if it cannot hold them.

    Text may be among them, rows may have different lengths, a whole number may be beyond any float.
    """
    import numpy as np

    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError):
        return None


def _has_float(value: object) -> bool:
    """Whether nested lists hold a float anywhere (JSON writes 1.0 with its point)."""
    if isinstance(value, list):
        return any(map(_has_float, value))
    return isinstance(value, float)

"""TensorFlow's own answers, and what is equal to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from embedded_server.common.errors import InvalidArgument
from embedded_server.execution.backend import Array
from embedded_server.execution.shapes import ShapeCheck
from embedded_server.execution.signature import signatures_of
from embedded_server.graph.saved_model import Loaded, read_signature_defs
from tensorflow.core.protobuf import config_pb2

from zoo.kind import Inputs, Outcome

LIMITS = {"f32": 5e-4, "half": 1e-2, "bf16": 5e-2}
"""By tolerance: the largest difference, relative to the output's largest magnitude."""
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True)
class Failure:
    """An error instead of an answer: gRPC's name of its code, and what it says."""

    code: str
    message: str = ""


Answer = Mapping[str, Array] | Failure


class Direct:
    """TensorFlow executing a SavedModel in this process, with nothing of the server's but one check.

    That is the one for requests which would end the process (embedded_server.execution.shapes).
    """

    def __init__(self, folder: Path, session: bool = True) -> None:
        self._loaded = None if session else tf.saved_model.load(str(folder))
        self._calls: dict[str, Callable[..., Any]] = {}
        if self._loaded:
            signature_defs = read_signature_defs(folder)
            self._shapes = ShapeCheck(Loaded(None, signature_defs, self._loaded.signatures))
            self._signatures = signature_defs
        else:
            self._session = tf.compat.v1.Session(graph=tf.Graph())
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, ["serve"], str(folder))
            self._signatures = meta_graph.signature_def
            self._shapes = ShapeCheck(Loaded(self._session, dict(meta_graph.signature_def), {}))

    def answer(self, signature: str, inputs: Inputs) -> Answer:
        try:
            return (
                self._by_function(signature, inputs) if self._loaded else self._by_session(signature, inputs)
            )
        except tf.errors.OpError as error:
            return Failure(_CODES[error.error_code], error.message)
        except InvalidArgument as error:
            return Failure("INVALID_ARGUMENT", str(error))
        except UnicodeDecodeError as error:  # a message that quotes an input which is no text
            return Failure("INVALID_ARGUMENT", error.object.decode(errors="backslashreplace"))

    def _check(self, signature: str, inputs: Inputs) -> None:
        self._shapes.check(signatures_of({signature: self._signatures[signature]})[signature], inputs)

    def _by_function(self, signature: str, inputs: Inputs) -> Answer:
        assert self._loaded is not None
        self._check(signature, inputs)
        tensors = {name: tf.constant(array) for name, array in inputs.items()}
        return {name: value.numpy() for name, value in self._loaded.signatures[signature](**tensors).items()}

    def _by_session(self, signature: str, inputs: Inputs) -> Answer:
        """As Session.run, without its check of the shapes, which servers do not have either."""
        proto = self._signatures[signature]
        self._check(signature, inputs)
        fed = {info.name: inputs[name] for name, info in proto.inputs.items()}
        fetched = sorted({info.name for info in proto.outputs.values()} - fed.keys())
        if signature not in self._calls:
            options = config_pb2.CallableOptions(feed=fed, fetch=fetched)
            self._calls[signature] = self._session._make_callable_from_options(options)
        values = dict(zip(fetched, self._calls[signature](*fed.values()), strict=True)) if fetched else {}
        types = {name: tf.dtypes.as_dtype(info.dtype) for name, info in proto.outputs.items()}
        return {
            name: np.asarray({**fed, **values}[info.name], types[name].as_numpy_dtype)
            for name, info in proto.outputs.items()
        }


def difference(got: Answer, expected: Answer, limit: float, vague: bool = False) -> str | None:
    """What differs, as a clause; None if nothing does beyond the limit.

    vague: whether only types and shapes count.
    """
    if isinstance(expected, Failure) or isinstance(got, Failure):
        if isinstance(expected, Failure) and isinstance(got, Failure):
            return None if got.code == expected.code else f"{got} instead of {expected}"
        return f"{_short(got)} instead of {_short(expected)}"
    if got.keys() != expected.keys():
        return f"outputs {sorted(got)} instead of {sorted(expected)}"
    for name, array in expected.items():
        problem = _difference(got[name], array, limit, vague)
        if problem:
            return f"{name!r}: {problem}"
    return None


def _difference(got: Array, expected: Array, limit: float, vague: bool) -> str | None:
    if got.dtype != expected.dtype or got.shape != expected.shape:
        return f"{got.dtype}{list(got.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if vague:
        return None
    if expected.dtype.kind not in "fV":
        if got.tolist() == expected.tolist():
            return None
        return f"{_short(got)} instead of {_short(expected)}"
    wide, right = got.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(right)
    if (
        not np.array_equal(wide[~finite], right[~finite], equal_nan=True)
        or not np.isfinite(wide[finite]).all()
    ):
        return f"{_short(got)} instead of {_short(expected)}"
    if not finite.any():
        return None
    largest, apart = np.max(abs(right[finite])), np.max(abs(wide[finite] - right[finite]))
    # Next to nothing, such as what underflows, is as good as nothing.
    if apart <= limit * largest + np.finfo(np.float32).tiny:
        return None
    return f"differs by {apart / largest:.3g} of {largest:.3g}"


def unmet(outcome: Outcome, answer: Answer) -> str | None:
    """How an answer is not the right one; None if it is."""
    if outcome.error is not None:
        return difference(answer, Failure(outcome.error), 0.0)
    if isinstance(answer, Failure):
        return str(answer)
    for name, value in outcome.values.items():
        right = np.asarray(value, answer[name].dtype)
        problem = _difference(answer[name], right, 1e-5, False)
        if problem:
            return f"{name!r}: {problem}"
    return None


def _short(answer: Any) -> str:
    if isinstance(answer, Failure):
        return f"{answer.code} ({answer.message[:120]})"
    if isinstance(answer, np.ndarray):
        return f"{answer.reshape(-1)[:8].tolist()}"
    return str({name: _short(array) for name, array in answer.items()})

"""What a kind of model is, and what its modules share: writing SavedModels, and weights that discriminate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from embedded_server.execution.backend import Array

DEFAULT = "serving_default"
OPTIMIZED = 0.9
"""The least share of the multiplications of a signature that counts as optimized."""
INVALID, PRECONDITION, INTERNAL = "INVALID_ARGUMENT", "FAILED_PRECONDITION", "INTERNAL"

Inputs = Mapping[str, Array]
Request = tuple[str, Inputs]


@dataclass(frozen=True)
class Outcome:
    """A request of which the right answer is written down here.

    values: output -> what it has to hold; outputs that are not named may hold anything.
    error: the gRPC code of the error that is right instead.
    """

    signature: str
    inputs: Inputs
    values: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of model: how to make one, what to ask it, and what OpenVINO has to execute of it.

    write: writes the SavedModel into a version folder.
    requests: ordinary ones, of 1 to 3 rows.
    breaking: requests made to break an optimization, besides those that `breaking.made_to_break` makes.
    outcomes: requests with the answers that are right.
    shares: signature -> the least share of its multiplications that OpenVINO has to execute.
    reasons: signature -> a pattern for the reason why TensorFlow executes it.
    plain: whether it is a plain CNN or a plain dense network.
    tolerance: "f32"; "half" or "bf16" if it computes in these. With AMX, TensorFlow's own bf16 differs by 2 %
        from one process to another.
    json: whether JSON can carry its tensors.
    session: whether a Session can execute it; if not, the functions of tf.saved_model.load do.
    vague: signatures whose numbers differ from call to call: only their types and shapes are compared.
    fragile: inputs with which TensorFlow itself crashes if their values are extreme.
    resized: whether it is asked with other sizes than its signature's. With AMX, TensorFlow answers some of
        those in bf16 with what is in memory.
    chooses: whether it chooses among scores; large numbers make those equal, and the choice arbitrary.
    """

    name: str
    write: Callable[[Path], None]
    requests: Sequence[Request] = ()
    breaking: Sequence[Request] = ()
    outcomes: Sequence[Outcome] = ()
    shares: Mapping[str, float] = field(default_factory=lambda: {DEFAULT: OPTIMIZED})
    reasons: Mapping[str, str] = field(default_factory=dict)
    plain: bool = False
    tolerance: str = "f32"
    json: bool = True
    session: bool = True
    vague: frozenset[str] = frozenset()
    fragile: frozenset[str] = frozenset()
    chooses: bool = False
    resized: bool = True

    @property
    def optimized(self) -> bool:
        """Whether OpenVINO has to execute nearly all of at least one signature."""
        return max(self.shares.values(), default=0.0) >= OPTIMIZED


def spec(*shape: int | None, dtype: Any = tf.float32) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype)


def text(*shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec(shape or (None,), tf.string)


def served(function: Any, **inputs: tf.TensorSpec) -> Any:
    """A signature of a function that takes `inputs` by name and gives a dict."""
    specs = [tf.TensorSpec(given.shape, given.dtype, name=name) for name, given in inputs.items()]
    return tf.function(function, input_signature=specs).get_concrete_function()


def save(folder: Path, module: Any, **signatures: Any) -> None:
    tf.saved_model.save(module, str(folder), signatures=signatures)


def export(folder: Path, model: Any) -> None:
    """What Keras itself writes for serving, with weights that make the answers differ from row to row."""
    randomize(model)
    model.export(str(folder), verbose=False)


def exported(build: Callable[[], Any]) -> Callable[[Path], None]:
    """A `write` that exports the Keras model that `build` makes."""

    def write(folder: Path) -> None:
        tf.keras.utils.set_random_seed(5)
        export(folder, build())

    return write


def randomize(model: Any) -> None:
    """Give biases, scales and moving statistics values as training leaves them; kernels keep theirs."""
    random = np.random.default_rng(17)
    for variable in model.weights:
        name, shape = variable.path.rpartition("/")[2], variable.shape
        if name in ("gamma", "moving_variance", "scale"):
            variable.assign(random.uniform(0.5, 1.5, shape))
        elif name in ("bias", "beta", "moving_mean"):
            variable.assign(random.normal(0, 0.2, shape))


def floats(seed: int, *shape: int, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def integers(seed: int, end: int, *shape: int, dtype: Any = np.int64) -> Array:
    """Numbers from 0 to `end` - 1."""
    return np.random.default_rng(seed).integers(0, end, shape).astype(dtype)


def strings(*values: bytes | Sequence[bytes]) -> Array:
    return np.array(values, object)


def weight(seed: int, *shape: int) -> Any:
    """A variable scaled so that a product with it keeps the magnitude of its rows."""
    fan_in = int(np.prod(shape[:-1])) or 1
    return tf.Variable(floats(seed, *shape, scale=fan_in**-0.5))


def examples(*rows: Mapping[str, Sequence[Any]]) -> Array:
    """Serialized tf.Examples: of each row the lists of floats, ints or bytes by feature."""
    serialized = []
    for row in rows:
        message = tf.train.Example()
        for name, values in row.items():
            lists = {float: "float_list", int: "int64_list", bytes: "bytes_list"}
            getattr(message.features.feature[name], lists[type(values[0])]).value.extend(values)
        serialized.append(message.SerializeToString())
    return np.array(serialized, object)

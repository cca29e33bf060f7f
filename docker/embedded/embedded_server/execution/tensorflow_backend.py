"""TensorFlow executing a SavedModel, the way TensorFlow Serving does.

The model is loaded into a Session (TF 1 and TF 2 SavedModels alike) and every signature becomes a callable
of that session: 0.03 ms of overhead for a call, where Session.run and the functions of tf.saved_model.load
take 0.3 ms. The one thing a Session cannot do is find variables that only the object graph of a TF 2
SavedModel restores (a Keras 3 model wrapped in a tf.Module is saved that way; TensorFlow Serving answers
400 for such a model): those signatures run as functions of tf.saved_model.load instead.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2

from embedded_server.common import errors
from embedded_server.execution.backend import Array
from embedded_server.execution.shapes import ShapeCheck
from embedded_server.execution.signature import Signature, signatures_of
from embedded_server.graph import saved_model
from embedded_server.graph.saved_model import Loaded

_log = logging.getLogger(__name__)
_Call = Callable[[Mapping[str, Array]], dict[str, Array]]

# By tensorflow's own error codes (google.rpc.Code); what is not named is Internal.
_ERRORS: Mapping[int, type[errors.ServingError]] = {
    tf.errors.INVALID_ARGUMENT: errors.InvalidArgument,
    tf.errors.FAILED_PRECONDITION: errors.FailedPrecondition,
    tf.errors.OUT_OF_RANGE: errors.OutOfRange,
    tf.errors.NOT_FOUND: errors.NotFound,
    tf.errors.ALREADY_EXISTS: errors.Conflict,
    tf.errors.ABORTED: errors.Conflict,
    tf.errors.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    tf.errors.UNIMPLEMENTED: errors.Unimplemented,
    tf.errors.UNAVAILABLE: errors.Unavailable,
    tf.errors.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
}


def translated(error: tf.errors.OpError | UnicodeDecodeError) -> errors.ServingError:
    """TensorFlow's error as one that clients are told.

    UnicodeDecodeError is what a message leads to that quotes an input which is no text: TensorFlow's
    binding cannot make a str of it, and forgets of what kind it was.
    """
    if isinstance(error, UnicodeDecodeError):
        return errors.InvalidArgument(error.object.decode(errors="backslashreplace"))
    return _ERRORS.get(error.error_code, errors.Internal)(error.message)


class TensorFlowBackend:
    """A SavedModel in a session of its own; see backend.Backend."""

    runtime = "TF1"

    def __init__(self, loaded: Loaded, timeout: float) -> None:
        """timeout: see `load`."""
        self.signature_defs: Mapping[str, Any] = loaded.signature_defs
        self.signatures: Mapping[str, Signature] = signatures_of(loaded.signature_defs)
        self._session = loaded.session
        self._functions = loaded.functions
        self._shapes = ShapeCheck(loaded)
        self._timeout = timeout
        self._calls: dict[tuple[str, tuple[str, ...]], _Call] = {}

    @classmethod
    def load(
        cls,
        version_folder: Path,
        *,
        intra_op_parallelism: int = 0,
        inter_op_parallelism: int = 0,
        timeout: float = 0,
        tags: Collection[str] = saved_model.SERVE_TAGS,
        config: tf.compat.v1.ConfigProto | None = None,
    ) -> TensorFlowBackend:
        """Load `version_folder`, which holds a saved_model.pb.

        intra_op_parallelism, inter_op_parallelism: numbers of threads; 0 leaves them to `config`, or else to
            TensorFlow.
        timeout: seconds after which a call is given up with DeadlineExceeded; 0 for never.
        tags: those of the MetaGraph to load.
        config: further settings of the session.

        Raises errors.StartError where it cannot be loaded.
        """
        tf.get_logger().setLevel(logging.ERROR)  # silences the notice that Session loading is deprecated
        settings = tf.compat.v1.ConfigProto()
        if config is not None:
            settings.CopyFrom(config)
        settings.intra_op_parallelism_threads = intra_op_parallelism or settings.intra_op_parallelism_threads
        settings.inter_op_parallelism_threads = inter_op_parallelism or settings.inter_op_parallelism_threads
        _configure_functions(settings)
        loaded = saved_model.load(version_folder, settings, tags)
        if loaded.functions:
            names = ", ".join(loaded.functions)
            _log.info("A session finds no variables for %s: executed as functions", names)
        return cls(loaded, timeout)

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """Execute a signature; see backend.Backend.run."""
        known = self.signatures.get(signature)
        if known is None:
            raise errors.FailedPrecondition(f'Serving signature key "{signature}" not found.')
        check_names(known, inputs, outputs)
        # Sorted: clients choose the order, and each one would be kept.
        names = tuple(sorted(known.outputs if outputs is None else set(outputs)))
        try:
            call = self._calls.get((signature, names))
            if call is None:
                # Two threads may both make it; either one will do.
                call = self._calls[signature, names] = self._make_call(known, names)
            self._shapes.check(known, inputs)
            return call(inputs)
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise translated(error) from error

    def merges(self, signature: str, inputs: Mapping[str, Array]) -> bool:
        """See backend.Backend.merges."""
        return True

    def close(self) -> None:
        """Close the session, which frees the variables; see backend.Backend.close."""
        self._calls.clear()
        self._functions = {}
        self._session.close()

    def _make_call(self, signature: Signature, names: tuple[str, ...]) -> _Call:
        function = self._functions.get(signature.name)
        if function is not None:
            return _function_call(function, names)
        return self._session_call(signature, names)

    def _session_call(self, signature: Signature, names: tuple[str, ...]) -> _Call:
        aliases = tuple(signature.inputs)
        fed = {spec.name: alias for alias, spec in signature.inputs.items()}
        tensors = {alias: signature.outputs[alias].name for alias in names}
        # A callable fetches no tensor twice, and none that is fed; signatures may name both.
        fetched = [name for name in dict.fromkeys(tensors.values()) if name not in fed]
        feeds = [signature.inputs[alias].name for alias in aliases]
        call = session_callable(self._session, feeds, fetched, self._timeout)

        def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
            values = map(whole, call(*[inputs[alias] for alias in aliases]) if fetched else [])
            results = dict(zip(fetched, values, strict=True))
            return {
                alias: inputs[fed[name]] if name in fed else results[name] for alias, name in tensors.items()
            }

        return run


def check_names(signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str] | None) -> None:
    """Raises InvalidArgument for inputs and outputs that are not those of the signature."""
    for name in outputs or ():
        if name not in signature.outputs:
            raise errors.InvalidArgument(
                f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                f"{{{','.join(signature.outputs)}}}."
            )
    if inputs.keys() != signature.inputs.keys():
        raise errors.InvalidArgument(
            f"input size does not match signature: got {{{','.join(sorted(inputs))}}}, "
            f"expected {{{','.join(signature.inputs)}}}."
        )


def session_callable(
    session: tf.compat.v1.Session,
    feeds: Sequence[str],
    fetches: Sequence[str],
    timeout: float,
    *,
    targets: Sequence[str] = (),
    in_callers_thread: bool = False,
) -> Callable[..., Sequence[Array]]:
    """A function of the arrays fed to the tensors `feeds` that gives those of `fetches`.

    timeout: seconds after which TensorFlow gives a call up; 0 for never.
    targets: operations that are executed as well, such as assertions.
    in_callers_thread: execute there, one operation after the other, instead of in the session's threads.
    """
    options = config_pb2.CallableOptions(feed=feeds, fetch=fetches, target=targets)
    options.run_options.timeout_in_ms = round(timeout * 1000)
    if in_callers_thread:
        options.run_options.inter_op_thread_pool = -1  # protobuf/config.proto
    # Session.make_callable, the public form, goes through Session.run if tensors are fed: 0.15 ms more.
    call: Callable[..., Sequence[Array]] = session._make_callable_from_options(options)
    return call


def _function_call(function: Any, names: tuple[str, ...]) -> _Call:
    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        results = function(**{alias: tf.constant(array) for alias, array in inputs.items()})
        return {alias: _array(results[alias]) for alias in names}

    return run


def _configure_functions(settings: tf.compat.v1.ConfigProto) -> None:
    """Have functions executed as a session is, as far as TensorFlow lets us; it takes threads only once."""
    rewriting = settings.graph_options.rewrite_options
    if rewriting.auto_mixed_precision_onednn_bfloat16 == rewriter_config_pb2.RewriterConfig.ON:
        tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": True})
    with contextlib.suppress(RuntimeError):  # already set, by an earlier load
        if settings.intra_op_parallelism_threads:
            tf.config.threading.set_intra_op_parallelism_threads(settings.intra_op_parallelism_threads)
        if settings.inter_op_parallelism_threads:
            tf.config.threading.set_inter_op_parallelism_threads(settings.inter_op_parallelism_threads)


def _array(tensor: tf.Tensor) -> Array:
    return whole(tensor.numpy())


def whole(value: Any) -> Array:
    """An array as it is; for a scalar, which arrives as a number or as plain bytes, the array of it."""
    if isinstance(value, np.ndarray):
        return value
    # Left to itself, numpy would make a type of its own of bytes.
    return np.asarray(value, np.object_ if isinstance(value, bytes) else None)

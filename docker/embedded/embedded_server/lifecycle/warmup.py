"""Executes a model before the first request: the first request of a shape is many times as slow as others.

Recorded requests are read from where TensorFlow Serving reads them, and count as it counts them
(servables/tensorflow/saved_model_warmup_util.cc): at most 1000, and if one fails, so does the load. A model
without any is asked once with the first of its samples, or with an input made up from its signature; that may
fail.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import wait
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from embedded_server.common.errors import InvalidArgument, Postponed, ServingError, Unimplemented
from embedded_server.common.metrics import Metrics
from embedded_server.execution.backend import Array, Backend
from embedded_server.execution.inference import Inference
from embedded_server.execution.servable import Servable
from embedded_server.execution.signature import DEFAULT_SIGNATURE, Signature, TensorSpec
from embedded_server.wire import messages
from embedded_server.wire.decoding import decode_predict
from embedded_server.wire.parsing import parse_request

REQUESTS_FILE = Path("assets.extra", "tf_serving_warmup_requests")
"""Below the version folder: a TFRecord of PredictionLog messages."""
SAMPLES_FOLDER, REQUESTS = ".samples", "requests.jsonl"
"""Next to the version folders: predict bodies, one a line, in a folder for each version."""
MAX_RECORDS = 1000
# 64 x 64 black pixels, by tf.io.encode_jpeg(optimize_size=True). Not made here: TensorFlow would start an
# eager context with threads of its own for that. For the same reason tf.data does not read the records.
_PHOTO = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEBLAEsAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1R"
    "V19iZ2hnPk1xeXBkeFxlZ2P/wAALCABAAEABAREA/8QAFQABAQAAAAAAAAAAAAAAAAAAAAf/xAAUEAEAAAAAAAAAAAAAAAAA"
    "AAAA/9oACAEBAAA/AJ+AAAAAAAAAAAAAAAAAAAAA/9k="
)

_PHOTO_SIZE = 64
_log = logging.getLogger(__name__)


def warm_up(
    servable: Servable, version_folder: Path, iterations: int = 1, batch_sizes: Sequence[int] = ()
) -> None:
    """Make the warm-up requests of a model, each recorded one `iterations` times.

    batch_sizes: those apart from 1 in which requests are going to be executed together.

    Raises ServingError where a recorded one fails, or the records cannot be read.
    """
    file = version_folder / REQUESTS_FILE
    if not file.exists():
        _make_up(servable.backend, version_folder, batch_sizes)
        return
    inference = Inference(Metrics())  # these requests must not be counted
    count = 0
    for record in _records(file):
        count += 1
        if count > MAX_RECORDS:
            raise InvalidArgument(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}) at {file}")
        for _ in range(iterations):
            _to_the_end(functools.partial(_replay, inference, servable, record))
    _log.info("Made %d recorded warm-up requests from %s", count, file)


def _to_the_end(request: Callable[[], object]) -> None:
    """Make a request; one that is postponed again, once what it needs is there."""
    while True:
        try:
            request()
            return
        except Postponed as postponed:
            wait([postponed.ready])


def _records(file: Path) -> Iterator[PredictionLog]:
    try:
        for record in tf.compat.v1.io.tf_record_iterator(str(file)):
            yield PredictionLog.FromString(record)
    except DecodeError as error:
        raise InvalidArgument(f"Failed to parse warmup record from {file}: it is no PredictionLog") from error
    except tf.errors.OpError as error:
        raise InvalidArgument(
            f"cannot read {file}: {error.message}. Please verify your warmup data is in TFRecord format."
        ) from error


def _replay(inference: Inference, servable: Servable, record: PredictionLog) -> None:
    kind = record.WhichOneof("log_type")
    if kind == "predict_log":
        messages.predict(inference, servable, record.predict_log.request)
    elif kind == "classify_log":
        messages.classify(inference, servable, record.classify_log.request)
    elif kind == "regress_log":
        messages.regress(inference, servable, record.regress_log.request)
    elif kind == "multi_inference_log":
        messages.multi_inference(inference, servable, record.multi_inference_log.request)
    else:
        raise Unimplemented(f"Unsupported log_type for warmup: {kind}")


def _make_up(backend: Backend, version_folder: Path, batch_sizes: Sequence[int]) -> None:
    """Ask the default signature, or the first one, with a sample of it, or whatever input it takes."""
    signatures = {name: known for name, known in backend.signatures.items() if known.inputs}
    if not signatures:
        return
    signature = signatures.get(DEFAULT_SIGNATURE) or signatures[min(signatures)]
    failure: ServingError | None = None
    for inputs in itertools.chain(_sampled(version_folder, signature), made_up_inputs(signature)):
        try:
            _to_the_end(functools.partial(backend.run, signature.name, inputs))
            if all(spec.shape and spec.shape[0] is None for spec in signature.inputs.values()):
                for size in batch_sizes:
                    rows = {name: np.repeat(a, size, 0) for name, a in inputs.items()}
                    _to_the_end(functools.partial(backend.run, signature.name, rows))
            return
        except ServingError as error:
            failure = error
    # It would be wrong to guess why: perhaps the model takes only some sizes, or some texts.
    reason = "its inputs cannot be made up" if failure is None else str(failure).partition("\n")[0]
    _log.info("No warm-up of signature %s: %s", signature.name, reason)


def _sampled(version_folder: Path, signature: Signature) -> Iterator[dict[str, Array]]:
    """The first sample request to the signature, if make_samples.py has made some."""
    file = version_folder.parent / SAMPLES_FOLDER / version_folder.name / REQUESTS
    try:
        with file.open("rb") as lines:
            for line in lines:
                with contextlib.suppress(ServingError):  # of another signature, or edited by a person
                    yield dict(decode_predict(parse_request(line), {signature.name: signature}).inputs)
                    return
    except OSError:
        return


def made_up_inputs(signature: Signature) -> Iterator[dict[str, Array]]:
    """Inputs of one example each, to be tried in turn: empty texts, then photos; numbers are zeros.

    Gives none where a type has no array.
    """
    specs = signature.inputs.values()
    if any(spec.dtype.numpy is None for spec in specs):
        return
    texts = [spec for spec in specs if spec.dtype.numpy == np.object_]
    yield {name: _zeros(spec, b"") for name, spec in signature.inputs.items()}
    if texts:
        yield {name: _zeros(spec, _PHOTO) for name, spec in signature.inputs.items()}


def _zeros(spec: TensorSpec, text: bytes) -> Array:
    # A model of unknown rank is given a batch of one number, which most of those take.
    shape: tuple[int, ...] = (1,)
    if spec.shape is not None:
        # Many networks for photos of any size refuse tiny ones.
        is_photo = len(spec.shape) == 4 and spec.shape[3] in (1, 3)
        shape = tuple(
            size if size is not None else _PHOTO_SIZE if is_photo and position in (1, 2) else 1
            for position, size in enumerate(spec.shape)
        )
    if spec.dtype.numpy == np.object_:
        return np.full(shape, text, np.object_)
    return np.zeros(shape, spec.dtype.numpy)

"""A process that proves the signatures of an artefact, and tells its parent about each step.

A process of its own, because a request that is made to break a model may end the process that executes it.
The parent then knows which one it was, and starts another process for the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from embedded_server.common import errors
from embedded_server.execution.backend import Array, Backend
from embedded_server.execution.signature import Signature
from embedded_server.proving.proof import OPTIMIZED, ROUNDING, STOCK, Finding, prove
from embedded_server.wire.decoding import decode_predict
from embedded_server.wire.parsing import parse_request

LOADING = "loading"
_MOST_PHOTOS = 16
_MOST_REMEMBERED = 256 << 20
_LEAST_MEMORY, _MOST_MEMORY = 2 << 30, 8 << 30


@dataclass(frozen=True)
class Job:
    """What is to be proven.

    groups: signatures that are one program, the first of which is proven for all of them.
    limits: precision -> the largest difference allowed. requests: a file of predict bodies, one a line.
    photos: a folder of JPEG files. seconds: for each signature and precision.
    proven: (precision, first of a group) that are left out. skipped: (first of a group, label) of requests
    that are.
    """

    model: Path
    artefact: Path
    groups: tuple[tuple[str, ...], ...]
    limits: Mapping[str, float]
    requests: Path | None
    photos: Path | None
    seconds: float
    proven: frozenset[tuple[str, str]] = frozenset()
    skipped: frozenset[tuple[str, str]] = frozenset()


@dataclass(frozen=True)
class Asking:
    """Sent before anything that may end the process. signature: None while it loads."""

    precision: str
    signature: str | None
    who: str
    label: str


@dataclass(frozen=True)
class Proven:
    """Sent when a signature is done; None for every signature that is left, in this precision."""

    precision: str
    signature: str | None
    finding: Finding


@dataclass(frozen=True)
class Failed:
    """Sent when nothing can be proven; one sentence."""

    text: str


def work(job: Job, parent: Connection) -> None:
    """Prove what `job` says, and send Asking, Proven or Failed to the parent. Ends when the parent does."""
    os.dup2(2, 1)  # libraries may print
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # After the first line, for these import TensorFlow.
    from embedded_server.execution.tensorflow_backend import TensorFlowBackend
    from embedded_server.proving.examples import examples_of

    precisions = [
        name for name in job.limits if any((name, group[0]) not in job.proven for group in job.groups)
    ]
    # A loop or a range may take its length from a number that is made to break the model.
    timeout = max(30.0, 1.5 * job.seconds)
    try:
        parent.send(Asking("", None, STOCK, LOADING))
        stock = TensorFlowBackend.load(job.model, timeout=timeout)
        given = {} if job.requests is None else read_requests(job.requests, stock.signatures)
        photos = [] if job.photos is None else read_photos(job.photos)
        examples = examples_of(job.model, photos)
    except (errors.StartError, errors.ServingError, OSError) as error:
        parent.send(Failed(str(error)))
        return
    remembered = Remembered(stock)
    for precision in precisions:
        remembered.rewind()
        _prove_precision(job, precision, timeout, remembered, given, photos, examples, parent)


def _end_with(parent: Connection) -> None:
    """The parent sends nothing: what ends the wait is its end."""
    with contextlib.suppress(EOFError, OSError):
        parent.recv()
    os._exit(1)


def _prove_precision(
    job: Job,
    precision: str,
    timeout: float,
    stock: Backend,
    given: Mapping[str, Sequence[Mapping[str, Array]]],
    photos: Sequence[bytes],
    examples: Sequence[bytes],
    parent: Connection,
) -> None:
    from embedded_server.execution.openvino_backend import OpenVinoBackend

    parent.send(Asking(precision, None, OPTIMIZED, LOADING))
    try:
        optimized = OpenVinoBackend.load(job.model, job.artefact, precision, timeout=timeout)
    except Exception as error:  # whatever OpenVINO raises
        reason = (
            str(error)
            if isinstance(error, errors.StartError)
            else f"OpenVINO cannot compile it in {precision}"
        )
        parent.send(Proven(precision, None, Finding(0, 0.0, f"it cannot be loaded: {reason}")))
        return
    for group in job.groups:
        first = group[0]
        if (precision, first) in job.proven:
            continue

        def watch(who: str, label: str, first: str = first) -> None:
            parent.send(Asking(precision, first, who, label))

        with _limited_memory(job.model):
            finding = prove(
                stock,
                optimized,
                stock.signatures[first],
                job.limits[precision],
                [inputs for name in group for inputs in given.get(name, ())],
                photos,
                job.seconds,
                examples,
                ROUNDING.get(precision, ROUNDING["f32"]),
                watch,
                {label for name, label in job.skipped if name == first},
            )
        parent.send(Proven(precision, first, finding))
    optimized.close()


def read_requests(path: Path, signatures: Mapping[str, Signature]) -> dict[str, list[dict[str, Array]]]:
    """The inputs in a file of predict bodies, one a line, by signature. Raises InvalidArgument, OSError."""
    requests: dict[str, list[dict[str, Array]]] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            request = decode_predict(parse_request(line), signatures)
        except errors.ServingError as error:
            raise errors.InvalidArgument(
                f"line {number} of {path} is not a request for it: {error}"
            ) from error
        requests.setdefault(request.signature, []).append(dict(request.inputs))
    return requests


def read_photos(folder: Path) -> list[bytes]:
    """The JPEG files in a folder, by name. Raises OSError."""
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    return [path.read_bytes() for path in files[:_MOST_PHOTOS]]


class Remembered:
    """A backend whose answers are kept: the next precision asks the same.

    Within one precision it executes again what is asked again, so that what it is undecided about shows.
    """

    runtime = "TF1"

    def __init__(self, backend: Backend) -> None:
        self.signatures = backend.signatures
        self.signature_defs = backend.signature_defs
        self._backend = backend
        self._answers: dict[str, dict[str, Array] | errors.ServingError] = {}
        self._room = _MOST_REMEMBERED
        self._used: set[str] = set()

    def rewind(self) -> None:
        """To be called before the next precision."""
        self._used.clear()

    def run(
        self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """See backend.Backend.run; `outputs` is always None here."""
        key = _digest(signature, inputs)
        answer = None if key in self._used else self._answers.get(key)
        self._used.add(key)
        if answer is None:
            try:
                answer = self._backend.run(signature, inputs, outputs)
            except errors.ServingError as error:
                answer = error
            size = 0 if isinstance(answer, errors.ServingError) else sum(a.nbytes for a in answer.values())
            if size <= self._room and key not in self._answers:
                self._room -= size
                self._answers[key] = answer
        if isinstance(answer, errors.ServingError):
            raise answer
        return answer

    def merges(self, signature: str, inputs: Mapping[str, Array]) -> bool:
        """See backend.Backend.merges."""
        return self._backend.merges(signature, inputs)

    def close(self) -> None:
        """See backend.Backend.close."""
        self._answers.clear()
        self._backend.close()


def _digest(signature: str, inputs: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(signature.encode())
    for name, array in sorted(inputs.items()):
        digest.update(f"\0{name}\0{array.dtype}\0{array.shape}\0".encode())
        if array.dtype == object:
            for text in array.reshape(-1):
                digest.update(f"{len(text)}\0".encode() + text)
        else:
            digest.update(array.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _limited_memory(model: Path) -> Iterator[None]:
    """An array of 2^31 rows is refused instead of taking all memory. Only Linux tells what is in use.

    model: may be loaded once more meanwhile, for what the optimized model leaves to TensorFlow.
    """
    try:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        loaded = 3 * sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
        allowed = used + loaded + min(max(free // 2, _LEAST_MEMORY), _MOST_MEMORY)
        if soft != resource.RLIM_INFINITY:
            allowed = min(allowed, soft)
        resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    except (OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

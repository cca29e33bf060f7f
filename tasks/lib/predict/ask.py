"""Asks a running server, and gives its answers the names of classes where there are some."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tasks.lib.client import inputs
from tasks.lib.client.rest import Client
from tasks.lib.client.signature import Signature, default_signature, named_signature
from tasks.lib.common import variants
from tasks.lib.common.errors import ModelError, ServerError
from tasks.lib.common.settings import Paths, Settings
from tasks.lib.engines.base import Server
from tasks.lib.engines.choose import all_engines
from tasks.lib.measure import agreement
from tasks.lib.models import catalog, choice, samples, store, user_requests
from tasks.lib.predict import answers
from tasks.lib.predict.answers import Answered

UNKNOWN_RANGE = (
    "the model does not tell in which range it expects pixels: they were sent in 0..1; "
    "`invoke build.optimized --pixels 0..255` changes that"
)
LABELS = "labels.txt"
"""In a model's folder: the names of its classes, one a line, beginning with class 0."""


def server_to_ask(settings: Settings, reference: str, variant: str | None) -> Server:
    """The running server of this model (and variant) that was started last.

    Raises ServerError if there is none, SettingError for a variant that cannot be.
    """
    parsed = store.parse(reference)
    running = [server for engine in all_engines(settings) for server in engine.servers()]
    running.sort(key=lambda server: server.started)
    for server in reversed(running):
        if server.model != parsed.name or parsed.version not in (None, server.version) or server.temporary:
            continue
        if variant in (None, server.variant.name):
            return server
    if variant is not None:
        variants.check(settings, variant)
    what = f"{variant} {reference}" if variant else reference
    flag = "--optimized" if variant in (None, "optimized") else f"--variant {variant}"
    model = "" if reference == choice.known(settings, "") else f" --model {reference}"
    raise ServerError(f"No server of {what} is running.", f"Start one with `invoke serve {flag}{model}`.")


def can_classify(signature: Signature) -> bool:
    """Whether the model takes a photo and scores its class, as `invoke predict` needs it."""
    return inputs.takes_photos(signature) and agreement.scores_output(signature) is not None


def check_place(place: Path) -> None:
    """Raises SuiteError, before any server is looked for, if `place` holds neither photos nor requests."""
    if place.suffix.lower() in inputs.REQUEST_SUFFIXES:
        inputs.requests_in(place)
    else:
        inputs.photos_in(place)


@dataclass(frozen=True)
class Asked:
    """What a server was asked, and what it answered."""

    answered: tuple[Answered, ...]
    classes: list[answers.Row] | None
    """The best classes of each request; None if nothing names or scores classes."""
    warnings: tuple[str, ...]
    """What has to be said about the answers."""


def ask(settings: Settings, server: Server, place: Path | None, signature_name: str, count: int) -> Asked:
    """Send the server photos or requests from `place`, or the model's samples where it is None.

    `place` is a photo, a folder of photos, or a file of JSON requests. count: classes for each request.
    Raises SuiteError for a place that holds neither, ModelError for photos that the model does not take,
    ServerError and RequestRefused as the client does.
    """
    client = Client(server.url)
    metadata = client.metadata()
    signature = named_signature(metadata, signature_name) if signature_name else default_signature(metadata)
    made = samples.of_server(settings, server.model, server.version, make=True)
    warnings = [store.find(settings.paths, f"{server.model}@{server.version}").origin.warning]
    if place is None:
        requests = _samples(made, signature, settings.paths)
    elif place.suffix.lower() in inputs.REQUEST_SUFFIXES:
        requests = user_requests.from_path(place, made, signature, signature.name)
    else:
        requests = user_requests.requests_for(made, signature, inputs.photos_in(place))
        if made is not None and made.lacks_range(signature.name):
            warnings.append(UNKNOWN_RANGE)
    answered = tuple(
        Answered(request, agreement.answer(client, signature, request.body)) for request in requests
    )
    labels = labels_of(settings.paths, server.model)
    has_photos = place is not None and place.suffix.lower() not in inputs.REQUEST_SUFFIXES
    classes = answers.best_classes(answered, signature, labels, count, "photo" if has_photos else "request")
    if classes is not None and not labels and not has_photos and all(row["name"] == "-" for row in classes):
        classes = None
    return Asked(answered, classes, tuple(filter(None, warnings)))


def _samples(made: samples.Samples | None, signature: Signature, paths: Paths) -> list[inputs.Sample]:
    if made is not None:
        return made.of(signature)
    return inputs.requests_of(signature, inputs.sample_photos(paths))


def labels_of(paths: Paths, name: str) -> list[str]:
    """The names of a model's classes, by number: those in its folder, else the catalogue's; else none.

    Raises ModelError for a file of labels that cannot be read.
    """
    entry = catalog.find(paths, name)
    own = paths.models / name / LABELS
    file = own if own.is_file() else entry.labels if entry is not None else None
    if file is None or not file.is_file():
        return []
    first = 0 if entry is None or file == own else entry.first_label
    try:
        return file.read_text(encoding="utf-8").splitlines()[first:]
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{paths.shown(file)} cannot be read ({error}).", "Write a name on each line, in UTF-8."
        ) from None

"""The zoo on disk and behind servers: every kind written and converted, and both backends that serve it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from embedded_server import convert
from embedded_server.execution import artefact
from embedded_server.graph.errors import CannotConvert
from running import Server

from zoo.asking import Asked
from zoo.comparing import Answer, Direct
from zoo.kind import Inputs, Kind

STOCK, OPTIMIZED = "tensorflow", "openvino"
PRECISION = "f32"
STARTING = 300
"""Seconds for loading all models, which takes 15 on two quiet cores."""


@dataclass(frozen=True)
class Written:
    """The zoo's models in a folder.

    manifests: kind -> what was converted of it; None where nothing could be.
    refusals: kind -> why nothing could be converted.
    failures: kind -> the error in which writing or converting it ended.
    """

    folder: Path
    kinds: Sequence[Kind]
    manifests: Mapping[str, artefact.Manifest]
    refusals: Mapping[str, str]
    failures: Mapping[str, str]

    def kinds_of(self, backend: str) -> list[Kind]:
        """The kinds that a backend serves."""
        return [kind for kind in self.kinds if backend == STOCK or kind.name in self.manifests]

    def why_not(self, kind: Kind, signature: str) -> str:
        """Why TensorFlow executes a signature; empty if OpenVINO does."""
        if kind.name not in self.manifests:
            return self.failures.get(kind.name) or self.refusals[kind.name]
        return self.manifests[kind.name].unconverted.get(signature, "")

    def share(self, kind: Kind, signature: str) -> float:
        """The part of a signature's multiplications that OpenVINO executes."""
        manifest = self.manifests.get(kind.name)
        if manifest is None or signature not in manifest.programs:
            return 0.0
        return manifest.programs[signature].share


def write(folder: Path, kinds: Sequence[Kind]) -> Written:
    """Write and convert `kinds`. An artefact that was not proven yet is served as far as it was converted."""
    manifests: dict[str, artefact.Manifest] = {}
    refusals, failures = {}, {}
    for kind in kinds:
        version, output = folder / kind.name / "1", folder / kind.name / ".optimized" / "1"
        kind.write(version)
        try:
            manifests[kind.name] = convert.convert(version, output, "")
        except CannotConvert as error:
            refusals[kind.name] = str(error)
        except Exception as error:  # whatever it is, the test of this kind shows it and the others go on
            failures[kind.name] = f"{type(error).__name__}: {error}"
    return Written(folder, kinds, manifests, refusals, failures)


@contextlib.contextmanager
def serving(written: Written, backend: str) -> Iterator[Asked]:
    """One server of a backend with all the kinds that it can serve."""
    configs = "\n".join(
        f'config {{ name: "{kind.name}" base_path: "{written.folder / kind.name}" '
        'model_platform: "tensorflow" }'
        for kind in written.kinds_of(backend)
    )
    file = written.folder / f"{backend}.config"
    file.write_text(f"model_config_list {{ {configs} }}")
    monitoring = written.folder / "monitoring.config"
    monitoring.write_text("prometheus_config { enable: true }")
    files = (f"--model_config_file={file}", f"--monitoring_config_file={monitoring}")
    flags = (*files, f"--backend={backend}", f"--precision={PRECISION}")
    with (
        Server(*flags, patience=STARTING) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        yield Asked(server, channel)


class Truth:
    """What TensorFlow itself answers, asked once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._direct: dict[str, Direct] = {}
        self._answers: dict[tuple[object, ...], Answer] = {}

    def answer(self, kind: Kind, signature: str, inputs: Inputs) -> Answer:
        if kind.name not in self._direct:
            self._direct[kind.name] = Direct(self._folder / kind.name / "1", kind.session)
        parts = [(name, array.shape, _bytes(array)) for name, array in sorted(inputs.items())]
        key = (kind.name, signature, *parts)
        if key not in self._answers:
            self._answers[key] = self._direct[kind.name].answer(signature, inputs)
        return self._answers[key]


def _bytes(array: object) -> object:
    return tuple(array.reshape(-1).tolist()) if array.dtype == object else array.tobytes()  # type: ignore[attr-defined]


def described(signature: str, inputs: Inputs) -> str:
    """A request in a few words."""
    arrays = {
        name: f"{list(array.shape)} ends with {array.reshape(-1)[-2:].tolist()}"
        for name, array in inputs.items()
    }
    return f"{signature}({arrays})"[:300]

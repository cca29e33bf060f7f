"""Versions on disk, the loaded model, and finding it by name.

Version numbers, messages and states are those of TensorFlow Serving (core/basic_manager.cc,
model_servers/get_model_status_impl.cc).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedded_server.backend import Backend
from embedded_server.errors import InvalidArgument, NotFound, StartError
from embedded_server.flags import Flags


@dataclass(frozen=True)
class Servable:
    """One loaded version of a model."""

    name: str
    version: int
    backend: Backend


@dataclass(frozen=True)
class VersionStatus:
    """What the status call says of one version; state as in get_model_status.proto."""

    version: int
    state: str = "AVAILABLE"
    error_code: str = "OK"
    error_message: str = ""


@dataclass(frozen=True)
class Models:
    """What is being served: model name -> version number -> servable."""

    served: Mapping[str, Mapping[int, Servable]]

    @contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Servable]:
        """The servable of a request: the version asked for, or the newest. It stays loaded while in use.

        Raises NotFound for an unknown name or version, InvalidArgument for an unknown label (none are
        known yet).
        """
        if label is not None:
            raise InvalidArgument(f"Unrecognized servable version label: {label}")
        versions = self.served.get(name, {})
        wanted = max(versions, default=None) if version is None else version
        servable = None if wanted is None else versions.get(wanted)
        if servable is None:
            asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise NotFound(f"Servable not found for request: {asked}")
        yield servable

    def status(self, name: str, version: int | None = None) -> list[VersionStatus]:
        """The state of one version, or of all, the newest first. Raises NotFound."""
        versions = self.served.get(name, {})
        if version is not None:
            if version not in versions:
                raise NotFound(f"Could not find version {version} of model {name}")
            return [VersionStatus(version)]
        if not versions:
            raise NotFound(f"Could not find any versions of model {name}")
        return [VersionStatus(number) for number in sorted(versions, reverse=True)]


def find_versions(base_path: Path) -> dict[int, Path]:
    """The version folders below a base path: number -> folder. Names that are no number do not count.

    Raises StartError where there is no such folder, or no version in it.
    """
    try:
        entries = [entry for entry in base_path.iterdir() if entry.is_dir()]
    except OSError as error:
        raise StartError(f"--model_base_path {base_path}: {error.strerror}") from error
    # Of 7 and 007 the plain one counts, as for the task runner: the shortest name comes last, and stays.
    entries.sort(key=lambda entry: len(entry.name), reverse=True)
    versions = {int(entry.name): entry for entry in entries if entry.name.isascii() and entry.name.isdigit()}
    if not versions:
        hint = "its folders must be named by numbers, such as 1"
        if (base_path / "saved_model.pb").exists():
            hint = f"it is itself a SavedModel: move it into a folder {base_path / '1'}"
        raise StartError(f"no version of the model in --model_base_path {base_path}: {hint}")
    return versions


def load_servable(flags: Flags) -> Servable:
    """Load the version that the flags name. Raises StartError where that cannot be done."""
    versions = find_versions(flags.model_base_path)
    version = max(versions) if flags.model_version is None else flags.model_version
    if version not in versions:
        there = ", ".join(map(str, sorted(versions)))
        raise StartError(f"no version {version} in --model_base_path {flags.model_base_path}: it has {there}")
    return Servable(flags.model_name, version, _load_backend(flags, versions[version], version))


def _load_backend(flags: Flags, version_folder: Path, version: int) -> Backend:
    # Imported here: each takes seconds, and a wrong flag should not have to wait for that.
    if flags.backend == "openvino":
        from embedded_server.openvino_backend import OpenVinoBackend

        artefact_folder = flags.optimized_base_path / str(version)
        return OpenVinoBackend.load(
            version_folder,
            artefact_folder,
            flags.precision,
            intra_op_parallelism=flags.intra_op_parallelism,
            inter_op_parallelism=flags.inter_op_parallelism,
            timeout=flags.rest_api_timeout,
        )
    from embedded_server.tensorflow_backend import TensorFlowBackend

    return TensorFlowBackend.load(
        version_folder,
        intra_op_parallelism=flags.intra_op_parallelism,
        inter_op_parallelism=flags.inter_op_parallelism,
        timeout=flags.rest_api_timeout,
    )

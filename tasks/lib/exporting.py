"""Keras files (.keras, .h5) as SavedModels: exported by a program of the embedded environment."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tasks.lib import disk, environment
from tasks.lib.errors import ModelError
from tasks.lib.settings import Settings

PROGRAM = "embedded_server.export"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_CONFIG, _METADATA = "config.json", "metadata.json"
REFUSED = 1
"""The program's exit status where the file is to blame."""


def is_keras(file: Path) -> bool:
    """Whether it is a Keras file, by its content. Raises OSError."""
    with file.open("rb") as opened:
        if opened.read(len(_HDF5)) == _HDF5:
            return True
    if not zipfile.is_zipfile(file):
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return {_CONFIG, _METADATA} <= set(archive.namelist())
    except zipfile.BadZipFile:
        return False


def export(settings: Settings, file: Path, target: Path, called: str, name: str) -> None:
    """Make the SavedModel of a Keras file in the new folder `target`.

    `called` names the file in errors, `name` the model. Raises ModelError for a file that holds code, that
    Keras cannot load, or that it cannot export.
    """
    label = f"exporting {name} as a SavedModel"
    arguments = [f"--file={file}", f"--output={target}"]
    ended = environment.execute(settings, PROGRAM, arguments, label, name)
    if ended.status == REFUSED:
        raise ModelError(
            f"{called} is not brought in: {ended.last_line.rstrip('.')}.",
            f'If you trust it, load it in Python, call model.export("FOLDER"), and bring that in with '
            f"`invoke download --model {name} --path FOLDER`.",
        )
    if ended.status != 0:
        raise environment.failure(settings, ended, label, ModelError)
    try:
        disk.make_readable(target)
    except OSError as error:
        raise disk.unwritable(settings.paths.shown(settings.paths.models), error) from error

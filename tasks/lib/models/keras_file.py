"""Exports a Keras file (.keras, .h5) as a SavedModel, in the embedded environment.

The program that does it, docker/embedded's export.py, reads the file without Keras first and refuses what
could run code or read other files.
"""

from __future__ import annotations

from pathlib import Path

from tasks.lib.common import disk
from tasks.lib.common.errors import ModelError
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import environment

PROGRAM = "embedded_server.export"
REFUSED = 3
"""The program's exit status if it refuses the file, or Keras cannot load it; its last line says why."""


def export(settings: Settings, keras: Path, target: Path, called: str, name: str) -> None:
    """Export `keras` as a SavedModel into the new folder `target`, with the modes of the suite's own files.

    `keras` is an HDF5 file, or the folder with the parts of a .keras file, which is changed. `called` says
    in errors what it is, `name` which model it becomes. Raises ModelError if it is refused or cannot be
    exported, EnvironmentBuildError, and DownloadError if the result cannot be written.
    """
    label = f"exporting {name} as a SavedModel"
    ended = environment.execute(settings, PROGRAM, [f"--keras={keras}", f"--output={target}"], label, name)
    if ended.status == REFUSED:
        raise ModelError(
            f"{called} cannot be exported: {ended.last_line.rstrip('.')}.",
            'If you trust it, export it yourself with `model.export("FOLDER")` in Python, and bring that in: '
            f"`invoke download --model {name} --path FOLDER`.",
        )
    if ended.status != 0:
        raise environment.failure(settings, ended, label, ModelError)
    try:
        disk.make_readable(target)
    except OSError as error:
        raise disk.unwritable(settings.paths.shown(settings.paths.models), error) from error

"""Exports a Keras file as a SavedModel.

    python -m embedded_server.export --file FILE --output FOLDER

FILE is a `.keras` or an `.h5` file. It is checked first (keras_files.py), so that nothing in it is executed
but Keras' own layers. The exit status is 1, with a sentence on stderr, if it is refused or cannot be
exported.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from embedded_server.errors import StartError

os.environ["KERAS_BACKEND"] = "tensorflow"
_KERAS, _HDF5 = "model.keras", "model.h5"


def export(file: Path, output: Path) -> None:
    """Write the SavedModel of `file` into the new folder `output`. Raises StartError."""
    import keras

    from embedded_server import keras_files

    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        # A copy of our own: what is loaded is what was checked. Keras goes by the name.
        with file.open("rb") as opened:
            own = Path(folder) / (_KERAS if opened.read(2) == b"PK" else _HDF5)
        shutil.copyfile(file, own)
        keras_files.check(own)
        try:
            model = keras.saving.load_model(own, compile=False, safe_mode=True)
        except Exception as error:  # whatever Keras stumbles over
            raise StartError(f"Keras cannot load it: {_brief(error)}") from error
    try:
        model.export(str(output), verbose=False)
    except Exception as error:
        raise StartError(f"Keras cannot export it: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    """The first sentence of what Keras says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:500]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Exports a Keras file as a SavedModel.")
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    flags = parser.parse_args(argv)
    try:
        export(flags.file, flags.output)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

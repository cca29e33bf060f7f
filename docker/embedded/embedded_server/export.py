"""Exports a Keras file as a SavedModel, without running code that the file brings along.

    python -m embedded_server.export --keras FILE_OR_FOLDER --output FOLDER

--keras is an HDF5 file (.h5) as it is, or a .keras file as a folder, unpacked: its config.json is written
again as it was checked. The file is looked at first (embedded_server.exporting), then Keras loads it in safe
mode and not compiled, which leaves out losses and optimizers: a model that is served needs none.

The exit status is 3, with a sentence on stderr, if the file is refused or Keras cannot load it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import keras

from embedded_server.exporting import configuration, hdf5
from embedded_server.exporting.errors import Refused, printable

REFUSED = 3
CONFIGURATION, WEIGHTS = "config.json", "model.weights.h5"
"""The parts of a .keras file (keras/src/saving/saving_lib.py); assets/ is the third."""
_LARGEST_CONFIGURATION = 256 << 20
"""Bytes. That of a large language model has less than one million; vocabularies may be in it."""
_LONGEST_REASON = 400
"""Characters. Keras may repeat the whole configuration."""


def export(source: Path, output: Path) -> None:
    """Export the Keras file as a SavedModel in the new folder `output`.

    source: an HDF5 file, or the folder of an unpacked .keras file. Raises Refused.
    """
    with _checked(source, output.parent) as path:
        try:
            model = keras.saving.load_model(path, compile=False, safe_mode=True)
        except Exception as error:
            raise Refused(f"Keras {keras.__version__} cannot load it: {_reason(error)}") from error
        try:
            model.export(str(output), format="tf_saved_model", verbose=False)
        except Exception as error:
            raise Refused(f"Keras {keras.__version__} cannot export it: {_reason(error)}") from error


@contextmanager
def _checked(source: Path, workplace: Path) -> Iterator[str]:
    """The path of what Keras is to load, which was looked at. Raises Refused."""
    if source.is_dir():
        _check_folder(source)
        yield str(source)
        return
    hdf5.check(source)
    configuration.check(configuration.parsed(hdf5.configuration(source)))
    # The task runner removes the folder of the output if this program is killed.
    with tempfile.TemporaryDirectory(dir=workplace) as folder:
        # Keras goes by the name, which may be any.
        link = Path(folder) / "model.h5"
        link.symlink_to(source.resolve())
        yield str(link)


def _check_folder(folder: Path) -> None:
    """Check what a .keras file held, and write its configuration again without what is about training."""
    file, weights = folder / CONFIGURATION, folder / WEIGHTS
    if not file.is_file() or not weights.is_file():
        missing = CONFIGURATION if not file.is_file() else WEIGHTS
        raise Refused(f"it holds no {missing}, as .keras files do")
    if file.stat().st_size > _LARGEST_CONFIGURATION:
        raise Refused(f"its {CONFIGURATION} has {file.stat().st_size} bytes, more than any model needs")
    described = configuration.parsed(file.read_bytes())
    configuration.drop_training(described)
    configuration.check(described)
    hdf5.check(weights)
    file.write_text(json.dumps(described), encoding="utf-8")


def _reason(error: Exception) -> str:
    """The last line of Keras' own reason, without the configuration, arguments and advice that may follow."""
    text = str(error).partition("\nArguments received by ")[0]
    lines = [line for line in map(printable, text.splitlines()) if line]
    reason = lines[-1] if lines else type(error).__name__
    for advice in (" Full object config:", " Please ensure ", " Make sure "):
        reason = reason.partition(advice)[0]
    reason = reason.removeprefix("Exception encountered: ")
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[: _LONGEST_REASON - 3]}..."


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embedded_server.export")
    parser.add_argument("--keras", type=Path, required=True, help="an HDF5 file, or an unpacked .keras file")
    parser.add_argument("--output", type=Path, required=True)
    flags = parser.parse_args(argv)
    try:
        export(flags.keras, flags.output)
    except Refused as error:
        print(error, file=sys.stderr)
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())

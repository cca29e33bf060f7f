"""Turns a SavedModel into an artefact: what of each signature OpenVINO executes, and what TensorFlow does.

    python -m embedded_server.convert --model VERSION_FOLDER --output DIR --fingerprint TEXT

Prints the precisions that this CPU computes natively. If nothing can be converted, the last line on stderr is
the reason, and the exit code is 3. See `embedded_server.converting` for how it is done.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from embedded_server.common.errors import StartError
from embedded_server.converting import bounds, writing
from embedded_server.converting.division import divide
from embedded_server.converting.folding import folded
from embedded_server.execution import artefact
from embedded_server.execution.surroundings import Surroundings, Threads
from embedded_server.graph import saved_model
from embedded_server.graph.errors import CannotCompile, CannotConvert
from embedded_server.graph.flat import Changes, Flat, flatten

__all__ = ["CannotConvert", "convert", "main"]
_FUSED = frozenset({"Div", "RealDiv", "Reciprocal", "Rsqrt"})
"""What OpenVINO takes for parts of a normalization, and sometimes cannot put together."""
NOTHING_CONVERTED = 3
"""The exit code."""


def convert(model: Path, output: Path, fingerprint: str) -> artefact.Manifest:
    """Convert every signature of the SavedModel in `model` that can be, and write the artefact.

    `output` must not exist yet. Raises CannotConvert if no signature can be converted, StartError if the
    model cannot be loaded.
    """
    tf.get_logger().setLevel(logging.ERROR)  # silences the notice that Session loading is deprecated
    loaded = saved_model.load(model, tf.compat.v1.ConfigProto())
    try:
        output.mkdir(parents=True)
        programs, unconverted = _converted(loaded, output)
    finally:
        loaded.close()
    if not programs:
        raise CannotConvert(_reasons(unconverted) or "it has no signature that takes anything")
    files = {path.name: artefact.file_digest(path) for path in sorted(output.iterdir())}
    manifest = artefact.Manifest(
        fingerprint, artefact.model_digest(model), programs, unconverted, files, bounds.native_precisions()
    )
    artefact.write(output, manifest)
    return manifest


def _converted(
    loaded: saved_model.Loaded, output: Path
) -> tuple[dict[str, artefact.Program], dict[str, str]]:
    programs: dict[str, artefact.Program] = {}
    unconverted: dict[str, str] = {}
    known: dict[str, artefact.Program] = {}
    changes = Changes(loaded)
    for name, proto in sorted(loaded.signature_defs.items()):
        if not proto.inputs:  # such as the one that loading itself executes
            continue
        try:
            flat = folded(flatten(loaded, name, changes))
            try:
                programs[name] = _program(flat, output, known)
            except CannotCompile:
                programs[name] = _program(flat, output, known, _FUSED)
        except CannotConvert as error:
            unconverted[name] = str(error)
        except Exception as error:  # a graph that TensorFlow itself cannot take apart
            unconverted[name] = (
                f"it cannot be taken apart ({type(error).__name__}: {' '.join(str(error).split())})"
            )
    return programs, unconverted


def _program(
    flat: Flat, output: Path, known: dict[str, artefact.Program], without: frozenset[str] = frozenset()
) -> artefact.Program:
    """Write one program, unless it is among those `known` by their digests. Raises CannotConvert."""
    division = divide(flat, without)
    parts = writing.parts_of(division)
    # Models often offer one computation under two names: it is stored and compiled once.
    key = writing.digest(division, parts)
    if key not in known:
        model = writing.openvino_model(parts.body, parts.body_outputs.values(), output)
        limits = bounds.find(division, parts, model)
        program = writing.store(division, parts, model, limits, output, len(known))
        if program.around is not None:
            try:  # TensorFlow may refuse to execute parts
                Surroundings(program, output, Threads(0, 0), 0).close()
            except BaseException:
                for file in output.glob(f"*-{len(known)}.*"):
                    file.unlink()
                raise
        known[key] = program
    return known[key]


def _reasons(unconverted: dict[str, str]) -> str:
    """One clause; signatures with the same reason share it."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in unconverted.items():
        by_reason.setdefault(reason, []).append(name)
    if len(by_reason) == 1:
        return next(iter(by_reason))
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in by_reason.items())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m embedded_server.convert")
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--fingerprint", required=True)
    flags = parser.parse_args(argv)
    try:
        manifest = convert(flags.model, flags.output, flags.fingerprint)
    except CannotConvert as error:
        print(error, file=sys.stderr)
        return NOTHING_CONVERTED
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    print(" ".join(manifest.native))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Makes sample requests of a SavedModel that fit what it does with its inputs.

    python -m embedded_server.make_samples --model VERSION_FOLDER --photos FOLDER --output FOLDER
        --fingerprint TEXT [--pixels 0..1]

Writes into the output folder:

    requests.jsonl   a predict body on each line, {"signature_name": ..., "instances" or "inputs": ...}
    about.json       what each input was taken for, the SHA-256 of the other file, and the fingerprint

Each request was answered by TensorFlow. The exit status is 1, with a sentence on stderr, if the model cannot
be loaded.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from embedded_server.common.errors import StartError
from embedded_server.execution.signature import Signature
from embedded_server.execution.tensorflow_backend import TensorFlowBackend
from embedded_server.graph import saved_model
from embedded_server.graph.flat import Changes
from embedded_server.samples.making import Made, made
from embedded_server.samples.uses import PIXEL_RANGES, Traced, Use
from embedded_server.samples.values import Filler

FORMAT = 1
_SECONDS = 30.0
"""For one request; one that takes longer counts as refused."""
REQUESTS, ABOUT = "requests.jsonl", "about.json"


def make(model: Path, photos: Sequence[bytes], pixels: str | None) -> dict[str, tuple[Made, dict[str, Any]]]:
    """The requests of each signature, and what its inputs were taken for. Raises StartError."""
    loaded = saved_model.load(model, tf.compat.v1.ConfigProto())
    backend = TensorFlowBackend(loaded, timeout=_SECONDS)
    changes = Changes(loaded)
    filler = Filler(photos, pixels)
    try:
        samples = {}
        for signature in usable(backend.signatures):
            print(f"{signature.name}: finding out what its inputs are", file=sys.stderr, flush=True)
            traced = Traced.of(loaded, signature.name, changes)
            uses = {name: Use() if traced is None else traced.use_of(name) for name in signature.inputs}
            requests = made(backend, signature, uses, filler)
            samples[signature.name] = requests, _about(requests, uses, filler)
        return samples
    finally:
        backend.close()


def usable(signatures: Mapping[str, Signature]) -> Iterator[Signature]:
    """Those that clients can ask; not what TensorFlow itself executes to load and to save a model."""
    for name, signature in sorted(signatures.items()):
        has_outputs = any(spec.dtype.numpy is not None for spec in signature.outputs.values())
        if signature.inputs and has_outputs:
            yield signatures[name]


def _about(requests: Made, uses: Mapping[str, Use], filler: Filler) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for name, kind in requests.kinds.items():
        inputs[name] = {"kind": str(kind)}
        if kind.name == "pixels":
            inputs[name]["pixels"] = filler.range_of(uses[name])
        if requests.photo_size is not None:
            inputs[name]["photo_size"] = requests.photo_size
    return {
        "requests": len(requests.bodies),
        "inputs": inputs,
        "random": requests.is_random,
        "problem": requests.problem,
    }


def write(samples: Mapping[str, tuple[Made, dict[str, Any]]], folder: Path, fingerprint: str) -> None:
    """Write the two files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        json.dumps(body, separators=(",", ":"), ensure_ascii=False)
        for requests, _ in samples.values()
        for body in requests.bodies
    ]
    text = "".join(f"{line}\n" for line in lines).encode()
    (folder / REQUESTS).write_bytes(text)
    about = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "requests": hashlib.sha256(text).hexdigest(),
        "signatures": {name: told for name, (_, told) in samples.items()},
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Makes sample requests of a SavedModel.")
    parser.add_argument("--model", type=Path, required=True, help="a version folder")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of JPEG photos")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--fingerprint", required=True)
    parser.add_argument("--pixels", choices=PIXEL_RANGES, help="what the model expects; default: told by it")
    flags = parser.parse_args(argv)
    photos = [path.read_bytes() for path in sorted(flags.photos.iterdir()) if path.suffix == ".jpg"]
    try:
        samples = make(flags.model, photos, flags.pixels)
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    write(samples, flags.output, flags.fingerprint)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Write a model that the stand-in server loads: `python make_model.py FOLDER [--seed N]`.

FOLDER becomes a version folder (models/NAME/1, say) with saved_model.pb, which here is only a mark, and
variables/weights.bin. Numpy is all that is needed. The weights are random, but the last layer is
standardised on the suite's sample photos: each of them gets a class of its own, clearly ahead of the
others, so that a comparison of two servers' answers can fail.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MARKER = b"tensorflow-serving-suite stand-in model 1\n"
SAMPLES = Path(__file__).resolve().parents[2] / "models" / "samples"
# The same as in tensorflow_serving/model_servers/network.h.
WINDOWS, WIDTH, HIDDEN, CLASSES = 512, 256, 1024, 1001
SHARPNESS = 0.5  # spread of the scores; larger means surer answers

Array = NDArray[np.float32]


def write_model(folder: Path, seed: int = 0) -> None:
    """Write the version folder `folder`. Raises OSError."""
    random = np.random.default_rng(seed)

    def layer(rows: int, columns: int) -> Array:
        weights = random.standard_normal((rows, columns)) * np.sqrt(2 / rows)
        return np.asarray(weights, dtype=np.float32)

    first, second = layer(WIDTH, HIDDEN), layer(HIDDEN, WIDTH)
    pooled = np.stack([_pooled(p.read_bytes(), first, second) for p in sorted(SAMPLES.glob("*.jpg"))])
    mean, spread = pooled.mean(axis=0), pooled.std(axis=0)
    head = (random.standard_normal((WIDTH, CLASSES)) * SHARPNESS / spread[:, None]).astype(np.float32)
    bias = -mean @ head
    (folder / "variables").mkdir(parents=True, exist_ok=True)
    (folder / "saved_model.pb").write_bytes(MARKER)
    weights = b"".join(part.astype("<f4").tobytes() for part in (first, second, head, bias))
    (folder / "variables" / "weights.bin").write_bytes(weights)


def probabilities(folder: Path, photo: bytes) -> Array:
    """What the server has to answer: the reference for its arithmetic. Shape [CLASSES]."""
    values = np.fromfile(folder / "variables" / "weights.bin", dtype="<f4")
    shapes = ((WIDTH, HIDDEN), (HIDDEN, WIDTH), (WIDTH, CLASSES), (CLASSES,))
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    parts = np.split(values, ends[:-1])
    first, second, head, bias = (part.reshape(shape) for part, shape in zip(parts, shapes, strict=True))
    scores = _pooled(photo, first, second) @ head + bias
    exponentials = np.exp(scores - scores.max())
    result: Array = (exponentials / exponentials.sum()).astype(np.float32)
    return result


def _pooled(photo: bytes, first: Array, second: Array) -> Array:
    """The network up to its last layer. Shape [WIDTH]."""
    octets = np.frombuffer(photo, dtype=np.uint8)
    room = max(len(octets) - WIDTH, 0)
    starts = room * np.arange(WINDOWS) // (WINDOWS - 1)
    places = (starts[:, None] + np.arange(WIDTH)) % len(octets)
    windows = (octets[places].astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    features = np.maximum(np.maximum(windows @ first, 0) @ second, 0)
    result: Array = features.max(axis=0)
    return result


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="Write a model for the stand-in server.")
    parser.add_argument("folder", type=Path, help="version folder to write, such as models/standin/1")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (%(default)s)")
    arguments = parser.parse_args()
    write_model(arguments.folder, arguments.seed)
    print(f"wrote {arguments.folder}")


if __name__ == "__main__":
    main()

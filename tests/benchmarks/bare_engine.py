"""The optimized model in a process of its own, without a server: server_overhead.py asks it.

Runs in the embedded environment: `python bare_engine.py MODEL_FOLDER VERSION PHOTOS`. Each line of stdin is
`run N` (N photos through both halves, one after the other) or `front N` (through TensorFlow's half alone).
Answers with the p50 in seconds, and the CPU seconds of a photo.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "docker" / "embedded"))

from embedded_server.execution.openvino_backend import OpenVinoBackend
from embedded_server.execution.signature import DEFAULT_SIGNATURE


def main(model: Path, version: str, photos: Path) -> None:
    backend = OpenVinoBackend.load(model / version, model / ".optimized" / version, "auto")
    (alias,) = backend.signatures[DEFAULT_SIGNATURE].inputs
    inputs = [{alias: np.array([photo.read_bytes()], dtype=object)} for photo in sorted(photos.glob("*.jpg"))]
    program = backend._programs[DEFAULT_SIGNATURE]
    for line in sys.stdin:
        what, count = line.split()
        latencies = []
        used = time.process_time()
        for number in range(int(count)):
            one = inputs[number % len(inputs)]
            began = time.perf_counter()
            if what == "front":
                program.prepared(one)
            else:
                backend.run(DEFAULT_SIGNATURE, one)
            latencies.append(time.perf_counter() - began)
        print(np.median(latencies), (time.process_time() - used) / int(count), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

"""What the benchmark and the peers agree upon. No TensorFlow here: the benchmark has none."""

from __future__ import annotations

import base64
import os
from typing import Any

MODEL, PHOTO, PORT = "BENCHMARK_MODEL", "BENCHMARK_PHOTO", "BENCHMARK_PORT"
"""Names in the environment: the folder of the SavedModel, a photo to warm up with, the port to listen on."""
NAME = "/v1/models/resnet"
PATH = f"{NAME}:predict"
LARGEST_BATCH = 8


def port() -> int:
    return int(os.environ[PORT])


def photos_of(body: dict[str, Any]) -> list[bytes]:
    """The photos of a request as TensorFlow Serving's REST API has it: {"instances": [{"b64": ...}]}."""
    return [base64.b64decode(instance["b64"]) for instance in body["instances"]]

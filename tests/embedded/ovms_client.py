"""A program that asks a server by ovmsclient, and prints the answers as JSON.

Run with ovmsclient on the path and without TensorFlow, whose messages it has copies of: in one process
the two would collide.

    python ovms_client.py grpc|http HOST:PORT MODEL VERSION INPUT JPEG_FILE
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import ovmsclient


def ask(protocol: str, address: str, model: str, version: int, input_name: str, jpeg: bytes) -> Any:
    """Status, metadata, the answer for two photos, and what an unknown model makes it raise."""
    client = {"grpc": ovmsclient.make_grpc_client, "http": ovmsclient.make_http_client}[protocol](address)
    try:
        client.get_model_status("unknown", version)
        error = ""
    except ovmsclient.tfs_compat.base.errors.ModelServerError as raised:
        error = str(raised)
    outputs = client.predict({input_name: [jpeg, jpeg]}, model, version)
    return {
        "status": client.get_model_status(model, version),
        "metadata": client.get_model_metadata(model, version),
        "outputs": {name: plain(array.tolist()) for name, array in outputs.items()},
        "error": error,
    }


def plain(value: Any) -> Any:
    """With text in the place of bytes."""
    if isinstance(value, list):
        return [plain(element) for element in value]
    return value.decode("latin-1") if isinstance(value, bytes) else value


if __name__ == "__main__":
    _, chosen, at, name, number, fed, file = sys.argv
    json.dump(ask(chosen, at, name, int(number), fed, Path(file).read_bytes()), sys.stdout)

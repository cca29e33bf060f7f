"""Clients that others have written for TensorFlow Serving. The published stubs are tried in test_grpc.py."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import saved_models
from running import PATIENCE, Server

CLIENTS = Path(pytest.__file__).parents[1] / "clients"
VERSION = 1538687457


def ask(protocol: str, port: int, photo: Path) -> Any:
    """What ovmsclient gets from the server of photos; see ovms_client.py."""
    if not (CLIENTS / "ovmsclient").is_dir():
        pytest.skip("ovmsclient is not installed with pytest: `invoke test` does that")
    program = [sys.executable, str(Path(__file__).parent / "ovms_client.py")]
    arguments = [protocol, f"127.0.0.1:{port}", "photos", str(VERSION), saved_models.PHOTO_INPUT, str(photo)]
    done = subprocess.run(
        [*program, *arguments],
        env={**os.environ, "PYTHONPATH": str(CLIENTS)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_ovmsclient(photo_server: Server, tmp_path: Path, protocol: str) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(saved_models.photo(0))
    port = photo_server.grpc_port if protocol == "grpc" else photo_server.port
    got = ask(protocol, port, photo)
    status = {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    assert got["status"] == {str(VERSION): status}
    assert f"Could not find version {VERSION} of model unknown" in got["error"]
    if protocol == "grpc":
        assert got["metadata"]["model_version"] == VERSION
        assert got["metadata"]["inputs"] == {saved_models.PHOTO_INPUT: {"shape": [-1], "dtype": "DT_STRING"}}
        assert got["metadata"]["outputs"]["classes"]["dtype"] == "DT_INT64"
    else:
        # It looks for the keys of another server, and then gives what it has got from this one.
        assert got["metadata"]["model_spec"]["version"] == str(VERSION)
    encoded = base64.b64encode(photo.read_bytes()).decode()
    body = {"inputs": {saved_models.PHOTO_INPUT: [{"b64": encoded}] * 2}}
    expected = photo_server.call("POST", "/v1/models/photos:predict", body)[1]["outputs"]
    assert got["outputs"].keys() == expected.keys()
    assert got["outputs"]["classes"] == expected["classes"]
    assert got["outputs"]["label"] == expected["label"]
    np.testing.assert_array_equal(
        np.array(got["outputs"]["probabilities"], np.float32), np.array(expected["probabilities"], np.float32)
    )


def test_the_loop_of_the_article(photo_server: Server) -> None:
    """As its client asks: a photo in base64, in a text of its own making, ten times, with requests."""
    encoded = base64.b64encode(saved_models.photo(0)).decode("utf-8")
    text = f'{{"instances" : [{{"b64": "{encoded}"}}]}}'
    url = f"http://127.0.0.1:{photo_server.port}/v1/models/photos:predict"
    total, classes = 0.0, []
    with requests.Session() as session:
        session.trust_env = False  # a proxy is for the way out
        for _ in range(10):
            response = session.post(url, data=text, timeout=PATIENCE)
            response.raise_for_status()
            total += response.elapsed.total_seconds()
            classes.append(response.json()["predictions"][0]["classes"])
    assert total > 0
    assert len(set(classes)) == 1
    assert isinstance(classes[0], int)

"""Models of kinds that people bring, through the commands that they type, with no flag but --model."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import ROOT, Suite, _suite

KINDS = {
    "ragged_boxes": "outputs",  # a detector whose boxes have no batch
    "fixed_batch": "outputs|predictions",  # [4, 10] and no other number of rows
    "scalars": "outputs",  # a keep probability, and whether it is trained
    "estimator": "predictions",  # serialized tf.Examples
    "base64": "predictions",  # photos in web-safe base64
    "handed_through": "predictions",  # a text that is no photo, and others
    "resized": "predictions|outputs",  # several signatures, and no serving_default
    "vectorized": "predictions",  # words
}
"""Of the zoo, with the form of the answers."""


@pytest.fixture(scope="module")
def zoo(embedded_python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("zoo")
    script = ROOT / "tests" / "embedded" / "write_zoo.py"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "docker" / "embedded")}
    subprocess.run(
        [embedded_python, script, folder, *KINDS], check=True, env=environment, stdout=subprocess.DEVNULL
    )
    return folder


@pytest.fixture(scope="module")
def kinds(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    yield from _suite(tmp_path_factory.mktemp("kinds") / "suite")


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_folder_to_a_verdict(kinds: Suite, zoo: Path, kind: str) -> None:
    kinds.run("download", "--model", kind, "--path", str(zoo / kind))
    built = kinds.run("build.optimized", "--model", kind)
    assert "chosen" in built.stdout

    served = kinds.run("serve", "--optimized", "--model", kind)
    line = served.stdout.splitlines()[-1]
    assert "curl " in line
    answer = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert json.loads(answer).keys() & set(KINDS[kind].split("|"))
    if kind == "vectorized":
        refused = kinds.run("predict", "models/samples/cat.jpg", "--model", kind, code=1)
        assert "The model takes no photos" in refused.stderr
    kinds.run("serve.stop")

    (run,) = json.loads(kinds.run("benchmark", "--model", kind, "--format", "json").stdout)["runs"]
    agreement = run["verdict"]["agreement"]
    assert agreement["holds"]
    assert agreement["same"] == agreement["inputs"] >= 12


def test_over_grpc_too(kinds: Suite, zoo: Path) -> None:
    """Of the kinds above, those that are asked in another form each."""
    for kind in ("ragged_boxes", "estimator"):
        if not (kinds.folder / "models" / kind).exists():
            kinds.run("download", "--model", kind, "--path", str(zoo / kind))
        done = kinds.run("benchmark", "--model", kind, "--protocol", "grpc", "--format", "json")
        (run,) = json.loads(done.stdout)["runs"]
        assert run["verdict"]["agreement"]["holds"]

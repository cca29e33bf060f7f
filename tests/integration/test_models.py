"""Every kind of SavedModel: downloaded, served, optimized, and answering alike on both backends."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from tests.integration.conftest import Suite


@pytest.mark.parametrize(("name", "version"), [("tf1", 1538687457), ("keras", 1), ("plain", 3)])
def test_from_an_archive_to_equal_answers(small: Suite, name: str, version: int) -> None:
    model = small.with_environment(INVOKE_MODEL=name)
    assert (small.folder / "models" / name / str(version) / "saved_model.pb").is_file()

    # What another test has left would be "already built".
    shutil.rmtree(small.folder / "models" / name / ".optimized", ignore_errors=True)
    # By name: whether so small a model gains depends on the CPU.
    by_name = ("build.optimized", "--precision", "f32")
    assert "chosen" in model.run(*by_name).stdout
    assert "already built" in model.run(*by_name).stdout

    (run,) = json.loads(model.run("benchmark", "--format", "json").stdout)["runs"]
    assert run["verdict"]["candidate"]["model"] == f"{name}@{version}"
    assert run["verdict"]["candidate"]["warning"] is None
    assert run["verdict"]["agreement"] | {"same": 12, "holds": True} == run["verdict"]["agreement"]
    assert run["verdict"]["candidate"]["backend"] == "OpenVINO"
    assert small.servers() == []


def test_the_seeded_model_tells_the_photos_apart(resnet: Suite) -> None:
    """What a comparison of answers is worth depends on this."""
    resnet.run("serve")
    answer = resnet.run("predict", "models/samples", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(answer)))
    best: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        best.setdefault(row["photo"], []).append(row)
    assert len(best) == 12
    assert len({top[0]["class"] for top in best.values()}) >= 5
    assert min(float(top[0]["probability"]) - float(top[1]["probability"]) for top in best.values()) > 0.15
    labels = Path("models/labels/imagenet.txt").read_text().splitlines()
    assert all(row["name"] == labels[int(row["class"])] for row in rows)
    resnet.run("teardown")

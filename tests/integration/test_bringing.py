"""Models that come as a file: a Keras file is exported, served and answers as Keras did; or it is refused."""

from __future__ import annotations

import base64
import json
import marshal
import os
import shutil
import signal
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ROOT, Suite

FILES = ROOT / "tests" / "embedded" / "keras_files"


def test_a_keras_file_is_exported_and_served(suite: Suite, tmp_path: Path) -> None:
    """The file and its answers were made by tf_keras, which is not installed here."""
    told = json.loads((FILES / "tf_keras_2.json").read_text())
    file = shutil.copy(FILES / "tf_keras_2.h5", tmp_path / "mine.h5")
    bring = ("download", "--model", "mine", "--path", str(file))
    first = suite.run(*bring)
    assert first.stdout.startswith("mine@1  ")
    assert "python -m embedded_server.export" in first.stderr
    again = suite.run(*bring)
    assert (again.stdout, again.stderr.splitlines()[-1]) == (
        first.stdout,
        "mine@1 is there already: nothing to do",
    )
    assert sorted(os.listdir(suite.folder / "models" / "mine")) == ["1", "1.origin.json"]

    url = suite.run("serve", "--model", "mine").stdout.splitlines()[0]
    rows = [
        {"picture": picture, "numbers": numbers}
        for picture, numbers in zip(told["picture"], told["numbers"], strict=True)
    ]
    answers = asked(url, {"instances": rows})["predictions"]
    for answer, expected in zip(answers, told["classes"], strict=True):
        assert answer == pytest.approx(expected, rel=1e-4, abs=1e-6)


def asked(url: str, body: dict[str, Any]) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{url}:predict", json.dumps(body).encode(), timeout=60) as answer:
        return json.load(answer)


def keras_file(file: Path, marker: Path) -> Path:
    """A .keras file with a Lambda layer that creates `marker`."""
    code = compile(f"__import__('pathlib').Path({str(marker)!r}).touch()", "payload", "eval")
    exec(marshal.loads(marshal.dumps(code)))
    assert marker.exists()
    marker.unlink()
    function = {"code": base64.b64encode(marshal.dumps(code)).decode(), "defaults": None, "closure": None}
    evil = {
        "module": "keras.layers",
        "class_name": "Lambda",
        "config": {"name": "evil", "function": {"class_name": "__lambda__", "config": function}},
        "registered_name": None,
    }
    model = {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "model", "layers": [evil], "build_input_shape": [None, 4]},
        "registered_name": None,
    }
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", json.dumps(model))
        archive.write(FILES / "tf_keras_2.h5", "model.weights.h5")
    return file


def test_a_keras_file_with_code_is_refused_and_leaves_nothing(suite: Suite, tmp_path: Path) -> None:
    file = keras_file(tmp_path / "mine.keras", tmp_path / "marker")
    before = sorted(os.listdir(suite.folder / "models"))
    said = suite.run("download", "--model", "mine", "--path", str(file), code=1)
    assert said.stdout == ""
    assert said.stderr.splitlines()[-2:] == [
        f"error: {file} cannot be exported: the layer 'evil' is a Lambda layer, which holds Python code.",
        'If you trust it, export it yourself with `model.export("FOLDER")` in Python, and bring that in: '
        "`invoke download --model mine --path FOLDER`.",
    ]
    assert not (tmp_path / "marker").exists()
    assert sorted(os.listdir(suite.folder / "models")) == before


def test_an_interrupted_export_leaves_nothing(suite: Suite) -> None:
    process = suite.start("download", "--model", "mine", "--path", str(FILES / "tf_keras_2.h5"))
    assert process.stderr is not None
    while "embedded_server.export" not in process.stderr.readline():
        assert process.poll() is None
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not (suite.folder / "models" / "mine").exists()
    assert suite.servers() == []

"""Serving: what is printed works, what is started is found again, what cannot work is said."""

from __future__ import annotations

import json
import socket
import subprocess

from tests.integration.conftest import ROOT, Suite


def test_serve_ask_and_stop(resnet: Suite) -> None:
    done = resnet.run("serve", "--optimized")
    url, curl = done.stdout.splitlines()

    answer = subprocess.run(["sh", "-c", curl], cwd=ROOT, capture_output=True, text=True, check=True)
    (prediction,) = json.loads(answer.stdout)["predictions"]
    assert len(prediction["probabilities"]) == 1001

    photo = resnet.run("predict", "models/samples/cat.jpg").stdout
    assert str(prediction["classes"]) in photo

    status = json.loads(resnet.run("serve.status", "--format", "json").stdout)
    assert [(one["variant"], one["url"], one["state"]) for one in status] == [("optimized", url, "ready")]
    assert "Exporting HTTP/REST API" in resnet.run("serve.logs").stdout

    again = resnet.run("serve", "--optimized")
    assert "is up already" in again.stderr
    assert again.stdout.splitlines()[0] == url

    assert "stopped optimized resnet@1" in resnet.run("serve.stop").stdout
    assert resnet.run("serve.stop").stdout.strip() == "nothing is running"
    assert resnet.servers() == []


def test_a_version_is_served_when_it_is_named(suite: Suite, publisher: str) -> None:
    plain = suite.with_environment(INVOKE_MODEL="plain@3")
    plain.run("download", "--model", "plain", "--url", f"{publisher}/plain.tar.gz")
    url = plain.run("serve").stdout.splitlines()[0]
    assert url.endswith("/v1/models/plain")
    assert "no version 4" in suite.run("serve", "--model", "plain@4", code=1).stderr
    assert "takes no photos" in plain.run("predict", "models/samples/cat.jpg", code=1).stderr


def test_a_model_without_a_default_signature_is_served(suite: Suite, publisher: str) -> None:
    suite.run("download", "--model", "two", "--url", f"{publisher}/two.tar.gz")
    done = suite.run("serve", "--model", "two")
    (printed,) = [line for line in done.stdout.splitlines() if line.startswith("curl ")]
    answer = subprocess.run(printed, shell=True, cwd=suite.folder, capture_output=True, text=True, check=True)
    assert "predictions" in json.loads(answer.stdout)
    body = '{"signature_name": "double", "instances": [1.5, 4]}'
    curl = ["curl", "-s", "--noproxy", "*", "-d", body, f"{done.stdout.splitlines()[0]}:predict"]
    answer = subprocess.run(curl, capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout) == {"predictions": [3.0, 8.0]}


def test_a_server_of_something_older_is_replaced(tf1: Suite) -> None:
    tf1.run("serve", "--optimized")
    manifest = tf1.folder / "models" / "tf1" / ".optimized" / "1538687457" / "artefact.json"
    manifest.write_text(manifest.read_text() + "\n")
    replaced = tf1.run("serve", "--optimized")
    assert "but with other settings: starting it again" in replaced.stderr
    (one,) = json.loads(tf1.run("serve.status", "--format", "json").stdout)
    assert (one["variant"], one["precision"], one["state"]) == ("optimized", "f32", "ready")
    tf1.run("teardown")


def test_a_port_that_is_taken(tf1: Suite) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = tf1.run("serve", "--port", port, code=1)
        assert f"port {port}" in done.stderr.lower()
        assert tf1.servers() == []
        default = tf1.with_environment(INVOKE_SERVE_REST_PORT=port).run("serve")
        assert f"port {port} is taken" in default.stderr
    tf1.run("teardown")


def test_a_server_that_dies_while_loading_is_explained(suite: Suite) -> None:
    folder = suite.folder / "models" / "broken" / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"no protocol buffer")
    done = suite.run("serve", "--model", "broken", code=1)
    assert "cannot load the SavedModel" in done.stderr
    assert suite.servers() == []
    assert list((suite.folder / "state" / "servers").glob("*.json")) == []


def test_a_wrong_word_is_answered_with_a_sentence(suite: Suite) -> None:
    for words, sentence in {
        ("serve", "--port", "abc"): "--port must be a whole number, not 'abc'.",
        ("serve", "--variant", "fast"): "There is no variant 'fast'.",
        ("serve", "--engine", "cloud"): "There is no engine 'cloud'.",
        ("serve", "--model", "missing"): "has no model 'missing'",
        ("benchmark", "--format", "pdf"): "There is no format 'pdf'.",
        ("build.optimized", "--precision", "f8"): "There is no precision 'f8'.",
        ("predict", "nowhere.jpg"): "There is no photo or folder 'nowhere.jpg'.",
        ("predict", "models/samples/cat.jpg"): "No server of resnet is running.",
    }.items():
        done = suite.run(*words, code=1)
        assert sentence in done.stderr
        assert done.stdout == ""
    wrong = suite.with_environment(INVOKE_SERVE_REST_PORT="many").run("serve.status", code=1)
    assert "INVOKE_SERVE_REST_PORT" in wrong.stderr


def test_a_photo_that_is_no_image(tf1: Suite) -> None:
    tf1.run("serve")
    wrong = tf1.folder / "note.jpg"
    wrong.write_text("not a photo")
    assert "is not an image" in tf1.run("predict", str(wrong), code=1).stderr
    tf1.run("teardown")


def test_teardown_twice(tf1: Suite) -> None:
    tf1.run("serve")
    assert "stopped stock tf1@1538687457" in tf1.run("teardown").stdout
    tf1.run("teardown")
    assert tf1.servers() == []

"""The serve tasks, called as Invoke calls them, with a stand-in for the embedded server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import invoke
import pytest
from invoke.context import Context

from tasks import serve
from tasks.lib.models import artefact, store
from tasks.lib.serving import servers
from tests.helpers import standin
from tests.helpers.standin import ROOT, Checkout, checkout_with_standin


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    with checkout_with_standin(tmp_path, monkeypatch) as one:
        yield one


def complaint(call: Callable[[], None]) -> str:
    with pytest.raises(invoke.exceptions.Exit) as caught:
        call()
    assert caught.value.code == 1
    return str(caught.value.message)


def test_serve_prints_the_url_and_a_line_to_paste(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    serve.serve(checkout.context())
    shown = capsys.readouterr()
    url, line = shown.out.splitlines()
    assert url == f"http://127.0.0.1:{checkout.settings.serve.rest_port}/v1/models/net"
    assert line.startswith("curl -d '{")
    assert shown.err.startswith("engine: local (")


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("takes", ["numbers", "images", "pixels"])
def test_the_line_works_when_pasted(
    checkout: Checkout, takes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout.takes(takes)
    serve.serve(checkout.context())
    line = capsys.readouterr().out.splitlines()[1]
    answer = subprocess.run(["sh", "-c", line], cwd=ROOT, capture_output=True, check=True)
    [length] = json.loads(answer.stdout)["predictions"]
    if takes == "images":
        photo = ROOT / "models" / "samples" / "cat.jpg"
        # The stand-in tells the length of what it got: {'b64': '...'} with every byte of the photo.
        assert length == len("{'b64': ''}") + 4 * -(-photo.stat().st_size // 3)


@pytest.mark.parametrize(("no_proxy", "expected"), [("", True), ("127.0.0.1", False)])
def test_the_line_asks_no_proxy(
    checkout: Checkout,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    no_proxy: str,
    expected: bool,
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.invalid:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    monkeypatch.setenv("NO_PROXY", no_proxy)
    serve.serve(checkout.context())
    assert ("--noproxy 127.0.0.1" in capsys.readouterr().out) is expected


def test_a_model_that_does_not_gain_is_not_served_as_if_it_did(checkout: Checkout) -> None:
    checkout.gains = False
    told = complaint(lambda: serve.serve(checkout.context(), optimized=True))
    assert told == f"error: {Checkout.WITHOUT_GAIN}\nServe it as it is with `invoke serve --model net`."
    assert checkout.processes() == []


def test_a_second_call_finds_it_up(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    serve.serve(checkout.context())
    first = capsys.readouterr().out
    serve.serve(checkout.context())
    second = capsys.readouterr()
    assert second.out == first
    assert f"stock net@1 on port {checkout.settings.serve.rest_port} is up already" in second.err
    assert len(checkout.processes()) == 1


def test_two_calls_at_once_start_one(checkout: Checkout) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: serve.serve(checkout.context()), range(2)))
    assert len(checkout.processes()) == 1


def test_another_port_is_another_server(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    serve.serve(checkout.context())
    port = standin.free_ports()
    serve.serve(checkout.context(), port=str(port))
    assert f"http://127.0.0.1:{port}/v1/models/net\n" in capsys.readouterr().out
    assert len(checkout.processes()) == 2
    serve.serve(checkout.context(), port=str(port))
    assert len(checkout.processes()) == 2


def test_on_dry_each_server_of_a_chain_has_ports_of_its_own(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    serve.serve(checkout.context(dry=True))
    serve.serve(checkout.context(dry=True), optimized=True)
    shown = capsys.readouterr().err
    first, grpc = checkout.settings.serve.rest_port, checkout.settings.serve.grpc_port
    for flag in (f"rest_api_port={first}", f"rest_api_port={first + 2}", f"port={grpc}", f"port={grpc + 2}"):
        assert shown.count(f" --{flag} ") == 1
    assert checkout.processes() == []


def test_status_lists_what_runs(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    serve.serve(checkout.context())
    serve.serve(checkout.context(), optimized=True)
    port = checkout.settings.serve.rest_port
    capsys.readouterr()
    serve.status(checkout.context(), format="json")
    stock, optimized = json.loads(capsys.readouterr().out)
    assert stock["up since"].endswith("+00:00")
    del stock["up since"]
    assert stock == {
        "model": "net@1",
        "variant": "stock",
        "backend": "TensorFlow",
        "precision": "f32",
        "engine": "local",
        "port": port,
        "grpc port": checkout.settings.serve.grpc_port,
        "url": f"http://127.0.0.1:{port}/v1/models/net",
        "state": "ready",
    }
    assert (optimized["variant"], optimized["precision"], optimized["port"]) == (
        "optimized",
        "bf16",
        port + 2,
    )
    serve.status(checkout.context(), variant="optimized", format="csv")
    assert capsys.readouterr().out.count("\n") == 2


def test_a_server_that_is_stuck_is_listed_as_not_ready(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    serve.serve(checkout.context())
    [process] = checkout.processes()
    os.kill(process.pid, signal.SIGSTOP)
    monkeypatch.setattr(servers, "STATUS_TIMEOUT", 0.2)
    capsys.readouterr()
    serve.status(checkout.context(), format="json")
    os.kill(process.pid, signal.SIGCONT)
    assert json.loads(capsys.readouterr().out)[0]["state"] == "not ready"


def test_status_reads_no_model(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unread(files: object) -> str:
        raise AssertionError("a model may have gigabytes")

    serve.serve(checkout.context())
    monkeypatch.setattr(store, "files_digest", unread)
    store._digest_of.cache_clear()
    serve.status(checkout.context())
    assert "ready" in capsys.readouterr().out


def test_status_of_nothing(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    serve.status(checkout.context())
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "nothing is running\n")
    serve.status(checkout.context(), format="csv")
    assert capsys.readouterr().out == ""
    serve.status(checkout.context(), format="json")
    assert capsys.readouterr().out == "[]\n"


def test_logs(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    serve.serve(checkout.context())
    capsys.readouterr()
    serve.logs(checkout.context(), lines="1")
    shown = capsys.readouterr()
    assert shown.out == "stand-in: loading\n"
    assert "stock net@1" in shown.err


def test_stop_stops_what_is_meant(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    serve.serve(checkout.context())
    serve.serve(checkout.context(), optimized=True)
    capsys.readouterr()
    serve.stop(checkout.context(), variant="stock")
    assert capsys.readouterr().out == f"stopped stock net@1 on port {checkout.settings.serve.rest_port}\n"
    assert len(checkout.processes()) == 1
    serve.stop(checkout.context(), model="net@2")
    assert capsys.readouterr().out == "no server of net@2 is running\n"
    serve.stop(checkout.context(), model="net@1")
    assert checkout.processes() == []
    serve.stop(checkout.context())
    assert capsys.readouterr().out.endswith("nothing is running\n")


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda c: serve.serve(c, port="abc"), "--port must be a whole number, not 'abc'"),
        (lambda c: serve.serve(c, port="70000"), "--port is 70000, which is out of range"),
        (lambda c: serve.serve(c, variant="fast"), "There is no variant 'fast'"),
        (lambda c: serve.serve(c, model="other"), "has no model 'other'"),
        (lambda c: serve.serve(c, model="net@7"), "net"),
        (lambda c: serve.serve(c, engine="cloud"), "There is no engine 'cloud'"),
        (lambda c: serve.serve(c, optimized=True, variant="stock"), "name different variants"),
        (lambda c: serve.status(c, format="xml"), "There is no format 'xml'"),
        (lambda c: serve.logs(c, lines="few"), "--lines must be a whole number, not 'few'"),
        (lambda c: serve.stop(c, variant="stok"), "There is no variant 'stok'"),
        (lambda c: serve.stop(c, model="a/b"), "cannot be the name of a model"),
    ],
)
def test_wrong_input_is_one_sentence_and_what_to_do(
    checkout: Checkout, call: Callable[[Context], None], expected: str
) -> None:
    message = complaint(lambda: call(checkout.context()))
    problem, remedy = message.splitlines()
    assert expected in problem
    assert remedy
    assert checkout.processes() == []


def test_dry_says_and_does_nothing(
    checkout: Checkout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artefact, "read", lambda settings, model: None)
    serve.serve(checkout.context(dry=True), optimized=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "-m venv" in shown.err
    assert "would build the optimized net@1" in shown.err
    assert f"--rest_api_port={checkout.settings.serve.rest_port}" in shown.err
    assert not checkout.settings.paths.state.exists()


def test_dry_stop_stops_nothing(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    serve.serve(checkout.context())
    capsys.readouterr()
    serve.stop(checkout.context(dry=True))
    assert "would stop stock net@1" in capsys.readouterr().err
    assert len(checkout.processes()) == 1


def test_without_the_model_dry_says_that_it_would_come_first(
    checkout: Checkout, capsys: pytest.CaptureFixture[str]
) -> None:
    serve.serve(checkout.context(dry=True), model="resnet")
    shown = capsys.readouterr().err
    assert "would serve stock resnet" in shown
    assert "would download" in shown


def test_the_line_sends_a_persons_own_request(
    checkout: Checkout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.jsonl").write_text('{"instances": [[3.5, 4.5]]}\n')
    serve.serve(checkout.context(), inputs=str(tmp_path / "own.jsonl"), signature="serving_default")
    line = capsys.readouterr().out.splitlines()[1]
    assert line.startswith("""curl -d '{"instances":[[3.5,4.5]]}' http://""")


def test_what_cannot_be_sent_is_told_before_a_server_starts(checkout: Checkout, tmp_path: Path) -> None:
    told = complaint(lambda: serve.serve(checkout.context(), inputs=str(tmp_path / "none.jsonl")))
    assert "There is no file or folder" in told
    assert checkout.processes() == []


def test_a_signature_that_the_model_does_not_have_is_told(checkout: Checkout) -> None:
    told = complaint(lambda: serve.serve(checkout.context(), signature="other"))
    assert "The model has no signature 'other'." in told

"""`invoke download` as a person types it."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from invoke import Collection, Config, Context, Exit
from invoke.parser import Parser

from tasks.download import download
from tasks.lib.common.settings import Settings
from tasks.lib.models import store
from tests.helpers.archives import saved_model, tar, tree
from tests.helpers.commandline import ROOT, CommandLine
from tests.helpers.fileserver import Server

ARCHIVE = saved_model("7", size=1_500_000)
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


def one_error(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The two lines of the error: nothing on stdout, exit code 1, no traceback."""
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert [line.startswith("error: ") for line in lines[-2:]] == [True, False]
    assert done.stderr.count("error: ") == 1
    return lines[-2:]


def test_a_model_comes_and_a_second_call_does_nothing(invoke: CommandLine, server: Server) -> None:
    url, resource = server.serve("/mine.tar.gz", ARCHIVE)
    call = [
        "download",
        "--model",
        "mine",
        "--url",
        url,
        "--sha256",
        SHA256.upper(),
        "--strip-components",
        "2",
    ]
    first = invoke.run(*call)
    folder = invoke.paths.models / "mine" / "7"
    assert (first.returncode, first.stdout) == (0, f"mine@7  {folder}  weights: from {url}\n")
    assert f"downloading {url}" in first.stderr
    assert "1.43M/1.43M" in first.stderr  # a log gets plain lines
    again = invoke.run(*call)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert again.stderr == "mine@7 is there already: nothing to do\n"
    assert invoke.run("download", "--model", "mine@7").stdout == first.stdout
    assert len(resource.requests) == 1


def test_a_folder_comes(invoke: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "saved_model.pb").write_bytes(b"graph")
    done = invoke.run("download", "--model", "mine", "--path", str(tmp_path / "own"))
    assert done.returncode == 0
    assert done.stdout == f"mine@1  {invoke.paths.models / 'mine' / '1'}  weights: from {tmp_path / 'own'}\n"


@pytest.mark.parametrize(
    ("flags", "problem", "remedy"),
    [
        ("--source published", "--source is 'published'.", "Choose one of: auto, official, package, seeded."),
        ("--sha256 abc --url {url} --model mine", "must be 64 hexadecimal digits, not 'abc'", "sha256sum"),
        (
            "--strip-components abc --url {url} --model mine",
            "--strip-components must be a whole number",
            "a number",
        ),
        ("--strip-components=-1 --url {url} --model mine", "--strip-components is -1", "at least 0"),
        ("--url {url} --path . --model mine", "--url and --path are two different sources", "one of them"),
        ("--url {url} --source seeded --model mine", "--source seeded and --url contradict", "one of them"),
        ("--path . --source official --model mine", "--source official and --path contradict", "one of them"),
        ("--path . --sha256 {sha256} --model mine", "--sha256 is about an archive", "Leave out --sha256"),
        ("--path . --strip-components 1 --model mine", "--strip-components is about an archive", "Leave out"),
        ("--source seeded --sha256 {sha256}", "--source seeded fetches none", "Leave out --sha256"),
        ("--url {url}", "--url needs a name for the model", "Add --model NAME"),
        ("--path .", "--path needs a name for the model", "Add --model NAME"),
        ("--url mine.tar.gz --model mine", "is not an http:// or https:// address", "--path"),
        ("--url file:///mine.tar.gz --model mine", "is not an http:// or https:// address", "--path"),
        ("--url http://[bad/ --model mine", "is not an http:// or https:// address", "--path"),
        ("--url http:///x --model mine", "is not an http:// or https:// address", "--path"),
        ("--model mine", "has no model 'mine'; it has: resnet", "--url URL"),
        ("--model mine --sha256 {sha256}", "has no model 'mine'", "--url URL"),
        ("--model ../mine --url {url}", "'../mine' cannot be the name of a model", "letter or digit"),
        ("--model samples --url {url}", "it means something else", "letter or digit"),
        ("--model mine@new --url {url}", "'new' in 'mine@new' is not a version", "mine@NUMBER"),
        ("--model mine@3 --url {url}", "mine.tar.gz holds no version 3 but 7", "for mine without a version"),
        ("--model mine --path gone", "gone does not exist", "--path"),
        (
            "--model mine --url {closed}",
            "{closed} cannot be reached: connection refused.",
            "Check the address",
        ),
        ("--model mine --url {url}.not", "{url}.not answers HTTP 404 Not Found.", "Check the address"),
        ("--model mine --url {url} --sha256 {sha256}", "has SHA-256", "Check the address"),
        ("--model mine --url {cut}", "is cut short or damaged", "Download it again"),
    ],
)
def test_a_mistake_gets_one_error_and_leaves_nothing(
    settings: Settings, server: Server, closed_url: str, flags: str, problem: str, remedy: str
) -> None:
    urls = addresses(server, closed_url)
    with pytest.raises(Exit) as caught:
        call(settings, flags.format(**urls).split())
    assert caught.value.code == 1
    assert caught.value.message is not None
    lines = caught.value.message.splitlines()
    assert len(lines) == 2
    assert problem.format(**urls) in lines[0].removeprefix("error: ")
    assert remedy in lines[1]
    assert not settings.paths.models.exists()


@pytest.mark.parametrize("url", ["ftp://me:secret@host/x", "http://me:se/cret@host/x", "me:secret@host/x"])
def test_a_wrong_address_is_told_without_its_password(settings: Settings, url: str) -> None:
    with pytest.raises(Exit) as caught:
        call(settings, ["--model", "mine", "--url", url])
    assert caught.value.message is not None
    assert "--url is not an http:// or https:// address." in caught.value.message
    assert "cret" not in caught.value.message


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ("--strip-components abc --url {url} --model mine", "--strip-components must be a whole number"),
        ("--model mine --url {closed}", "{closed} cannot be reached: connection refused."),
        ("--model mine --url {url} --sha256 {sha256}", "has SHA-256"),
        ("--model mine --url {cut}", "is cut short or damaged"),
    ],
)
def test_on_the_real_command_line_a_mistake_is_two_lines_and_exit_1(
    invoke: CommandLine, server: Server, closed_url: str, flags: str, problem: str
) -> None:
    urls = addresses(server, closed_url)
    done = invoke.run("download", *flags.format(**urls).split())
    assert problem.format(**urls) in one_error(done)[0]
    assert not invoke.paths.models.exists()


def addresses(server: Server, closed_url: str) -> dict[str, str]:
    return {
        "url": server.serve("/mine.tar.gz", ARCHIVE)[0],
        "cut": server.serve("/cut.tar.gz", ARCHIVE[:-100])[0],
        "closed": closed_url,
        "sha256": "0" * 64,
    }


def call(settings: Settings, flags: list[str]) -> None:
    """The task in this process, with `flags` parsed by Invoke and the folders of `settings`."""
    folders = {
        name: str(getattr(settings.paths, name)) for name in ("models", "state", "environment", "results")
    }
    config = Config(project_location=str(ROOT), overrides={"paths": folders, "download": {"pause": "0.001"}})
    config.load_project()
    config.merge()
    flags_and_values = Parser(contexts=[Collection(download).to_contexts()[0]]).parse_argv(
        ["download", *flags]
    )
    values = {
        argument.attr_name or argument.name: argument.value for argument in flags_and_values[0].args.values()
    }
    download(Context(config), **{name.replace("-", "_"): value for name, value in values.items()})


def test_dry_says_what_would_be_done(invoke: CommandLine, server: Server, tmp_path: Path) -> None:
    url, resource = server.serve("/mine.tar.gz", ARCHIVE)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "saved_model.pb").touch()
    for flags, plan in [
        (["--model", "mine", "--url", url], f"would download {url} into "),
        (
            ["--model", "mine", "--path", str(tmp_path / "7")],
            f"would copy version 7 from {tmp_path / '7'} into ",
        ),
        (["--source", "seeded"], "would build the seeded model resnet50_v2 into "),
        ([], "would download https://storage.googleapis.com/"),
        ([], ", or where that cannot be reached build the seeded model resnet50_v2 into "),
    ]:
        done = invoke.run("--dry", "download", *flags)
        assert (done.returncode, done.stdout) == (0, "")
        assert plan in done.stderr
    assert resource.requests == []
    assert not invoke.paths.models.exists()
    assert not invoke.paths.state.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_call_leaves_nothing(
    invoke: CommandLine, server: Server, number: signal.Signals
) -> None:
    url, resource = server.serve("/mine.tar.gz", ARCHIVE, hold_after=1_000_000)
    process = invoke.start("download", "--model", "mine", "--url", url)
    assert resource.held.wait(30)
    wait_until(lambda: any("variables.data" in name for name in tree(invoke.paths.models)))
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert "interrupted: " in err
    assert "Traceback" not in err
    assert not invoke.paths.models.exists()


def test_a_killed_call_is_cleared_up_by_the_next(invoke: CommandLine, server: Server) -> None:
    url, resource = server.serve("/mine.tar.gz", ARCHIVE, hold_after=1_000_000)
    process = invoke.start("download", "--model", "mine", "--url", url)
    assert resource.held.wait(30)
    wait_until(lambda: any("variables.data" in name for name in tree(invoke.paths.models)))
    process.kill()
    process.communicate(timeout=30)
    assert any(".partial-" in name for name in tree(invoke.paths.models))
    assert store.versions(invoke.paths, "mine") == {}
    done = invoke.run("download", "--model", "mine", "--url", url)
    assert done.returncode == 0
    assert "removing what an interrupted call has left" in done.stderr
    assert sorted(os.listdir(invoke.paths.models / "mine")) == ["7", "7.origin.json"]


def test_two_calls_at_once_do_the_work_once(invoke: CommandLine, server: Server) -> None:
    url, resource = server.serve("/mine.tar.gz", ARCHIVE, hold_after=1_000_000)
    call = ["download", "--model", "mine", "--url", url]
    first = invoke.start(*call)
    assert resource.held.wait(30)
    second = invoke.start(*call)
    assert second.stderr is not None
    assert second.stderr.readline() == "waiting for another call: it brings in mine\n"
    resource.release.set()
    outcomes = [process.communicate(timeout=30) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert outcomes[0][0] == outcomes[1][0]
    assert len(resource.requests) == 1


def test_a_file_that_may_not_grow_is_told_like_a_full_disk(invoke: CommandLine, server: Server) -> None:
    url, _ = server.serve("/mine.tar.gz", tar({"1/saved_model.pb": bytes(3_000_000)}))
    limit = 1_000_000
    program = (
        f"import os, resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        "os.execv(sys.executable, [sys.executable, '-m', 'invoke', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "download", "--model", "mine", "--url", url],
        cwd=ROOT,
        env={
            **os.environ,
            "INVOKE_PATHS_MODELS": str(invoke.paths.models),
            "INVOKE_PATHS_STATE": str(invoke.paths.state),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    problem, remedy = one_error(done)
    assert "needs at least 2.9 MiB" in problem
    assert "Free disk space" in remedy
    assert not invoke.paths.models.exists()


def wait_until(condition: object, timeout: float = 30) -> None:
    assert callable(condition)
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)

"""The Docker engine, as a person uses it: pull, serve, ask, look, compare, take down."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import psutil
import pytest

from tasks.lib.engines import listening
from tests.integration.conftest import ROOT, Suite
from tests.integration.docker import engine
from tests.integration.docker.conftest import LABEL, containers, put_model


def inspect(docker_host: str, name: str) -> dict:
    return json.loads(engine.docker(docker_host, "inspect", name))[0]


def ask(url: str) -> float:
    request = urllib.request.Request(f"{url}:predict", data=b'{"instances": [[1, 2]]}')
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=10) as answer:
        return json.load(answer)["predictions"][0]


def test_an_image_that_was_built_again_is_served_again(suite: Suite, docker_host: str, stock: str) -> None:
    name = f"{suite.folder.name}-rebuilt-{os.getpid()}:1"
    engine.docker(docker_host, "tag", stock, name)
    rebuilt = suite.with_environment(INVOKE_DOCKER_IMAGE=name)
    try:
        rebuilt.run("serve")
        assert "is up already" in rebuilt.run("serve").stderr
        container = engine.docker(docker_host, "create", stock)
        engine.docker(docker_host, "commit", "--change", "LABEL again=1", container, name)
        engine.docker(docker_host, "rm", container)
        assert "but with other settings: starting it again" in rebuilt.run("serve").stderr
        (running,) = containers(docker_host)
        wanted = json.loads(engine.docker(docker_host, "image", "inspect", name))[0]["Id"]
        assert inspect(docker_host, running)["Image"] == wanted
        # And one whose limits have changed.
        fewer = rebuilt.with_environment(INVOKE_DOCKER_PROCESSES="200")
        assert "but with other settings: starting it again" in fewer.run("serve").stderr
    finally:
        rebuilt.run("teardown")
        engine.docker(docker_host, "rmi", "--force", name)


def test_pull_serve_ask_look_and_stop(
    suite: Suite, docker_host: str, stock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.docker(docker_host, "rmi", "--force", stock)
    done = suite.run("serve")
    assert f"$ docker pull {stock}" in done.stderr
    assert f"pulling {stock}: " in done.stderr
    assert "not compiled for AVX2 FMA" in done.stderr
    assert "invoke build.devel build.optimized" in done.stderr
    url, curl = done.stdout.splitlines()
    assert url == f"http://127.0.0.1:{suite.added['INVOKE_SERVE_REST_PORT']}/v1/models/net"
    answer = subprocess.run(["sh", "-c", curl], cwd=ROOT, capture_output=True, text=True, check=True)
    assert len(json.loads(answer.stdout)["predictions"]) == 1

    status = json.loads(suite.run("serve.status", "--format", "json").stdout)
    assert [(one["variant"], one["engine"], one["backend"], one["state"]) for one in status] == [
        ("stock", "docker", "TF Serving", "ready")
    ]
    [container] = containers(docker_host)
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    assert inspect(docker_host, container)["State"]["Pid"] in listening.processes(url)
    assert "Exporting HTTP/REST API" in suite.run("serve.logs").stdout
    again = suite.run("serve")
    assert "is up already" in again.stderr
    assert again.stdout.splitlines()[0] == url
    assert "takes no photos" in suite.run("predict", "models/samples/cat.jpg", code=1).stderr

    assert "stopped stock net@1" in suite.run("serve.stop").stdout
    assert containers(docker_host) == []
    assert suite.run("serve.stop").stdout.strip() == "nothing is running"


def test_what_a_container_may_do(suite: Suite, docker_host: str) -> None:
    version = suite.folder / "models" / "net" / "1"
    url = suite.run("serve").stdout.splitlines()[0]
    [container] = containers(docker_host)
    found = inspect(docker_host, container)
    host, config = found["HostConfig"], found["Config"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Privileged"] is False
    assert host["Init"] is True
    assert host["PidsLimit"] == 4096
    assert host["Memory"] == host["MemorySwap"] == 256 << 20
    assert list(host["Tmpfs"]) == ["/tmp"]
    assert host["RestartPolicy"]["Name"] in ("", "no")
    assert config["User"].split(":")[0] not in ("", "0", "root")
    assert config["Labels"][LABEL] == "server"
    [mount] = found["Mounts"]
    assert (mount["Source"], mount["Destination"], mount["RW"]) == (str(version), "/models/net/1", False)
    bindings = [each for each in host["PortBindings"].values() for each in each]
    assert {each["HostIp"] for each in bindings} == {"127.0.0.1"}

    port = int(suite.added["INVOKE_SERVE_REST_PORT"])
    assert ask(url) == 4
    others = [
        a.address
        for each in psutil.net_if_addrs().values()
        for a in each
        if a.family == socket.AF_INET and not a.address.startswith("127.")
    ]
    for address in others:
        with socket.socket() as probe:
            probe.settimeout(2)
            assert probe.connect_ex((address, port)) != 0, address


def test_the_version_that_was_named_is_served(suite: Suite) -> None:
    put_model(suite, version=2)
    assert ask(suite.run("serve", "--model", "net@1").stdout.split()[0]) == 3 + 1
    assert ask(suite.run("serve").stdout.split()[0]) == 3 + 2
    assert "net" in suite.run("serve", "--model", "net@3", code=1).stderr


def test_a_model_whose_folder_is_no_number(suite: Suite) -> None:
    (suite.folder / "models" / "odd" / "first").mkdir(parents=True)
    (suite.folder / "models" / "odd" / "first" / "saved_model.pb").touch()
    assert "no model 'odd'" in suite.run("serve", "--model", "odd", code=1).stderr


def test_one_chain_serves_compares_and_leaves_nothing(suite: Suite, docker_host: str) -> None:
    before = [engine.docker(docker_host, kind, "ls", "--quiet") for kind in ("network", "volume")]
    done = suite.run("serve", "benchmark", "--candidate", "stock-no-onednn", "--format", "json", "teardown")
    result = json.loads(done.stdout[done.stdout.index("{\n") : done.stdout.rindex("}") + 1])
    assert result["engine"] == "docker"
    (run,) = result["runs"]
    assert run["verdict"]["agreement"]["holds"] is True
    candidate = run["verdict"]["candidate"]
    assert (candidate["name"], candidate["image"]) == ("stock-no-onednn", suite.added["INVOKE_DOCKER_IMAGE"])
    assert "--env=TF_ENABLE_ONEDNN_OPTS=0" in done.stderr
    assert "stopped stock net@1" in done.stdout
    assert containers(docker_host) == []
    assert [engine.docker(docker_host, kind, "ls", "--quiet") for kind in ("network", "volume")] == before


def test_one_table_for_several_levers(suite: Suite, docker_host: str) -> None:
    done = suite.run(
        *("benchmark", "--candidate", "stock-no-onednn", "--candidate", "stock-bf16", "--format", "csv")
    )
    rows = [line.split(",")[:3] for line in done.stdout.splitlines()]
    assert rows == [
        ["variant", "backend", "precision"],
        ["stock", "TF Serving", "f32"],
        ["stock-no-onednn", "TF Serving", "f32"],
        ["stock-bf16", "TF Serving", "bf16"],
    ]
    assert done.stderr.count("starting stock net@1") == 1
    (result,) = (suite.folder / "results").glob("*/result.json")
    candidates = [run["verdict"]["candidate"] for run in json.loads(result.read_text())["runs"]]
    assert [one["name"] for one in candidates] == ["stock-no-onednn", "stock-bf16"]
    assert all(one["image_id"].startswith("sha256:") for one in candidates)
    assert containers(docker_host) == []


def test_both_sides_of_a_comparison_have_the_same_cpus_and_limits(suite: Suite, docker_host: str) -> None:
    """The containers as the daemon tells of them, while they run; another server that is up keeps its own."""
    up = suite.run("serve").stdout.split()[0]
    confined = suite.with_environment(INVOKE_SERVE_CPUS="0", INVOKE_BENCHMARK_MAX_SECONDS="8")
    call = confined.start(
        *("benchmark", "--candidate", "stock-no-onednn", "--format", "json", "--ci-width", "0")
    )
    try:
        engine.wait_for(lambda: len(containers(docker_host, "name=ready")) == 3 or call.poll() is not None)
        found = [inspect(docker_host, each)["HostConfig"]["CpusetCpus"] for each in containers(docker_host)]
        assert sorted(found) == ["", "0", "0"]
        out, err = call.communicate(timeout=120)
    finally:
        call.kill()
    assert call.returncode == 0, err
    assert "starting another one for this call" in err
    assert ask(up) == 4
    result = json.loads(out)
    assert result["pinning"]["servers"] == [0]
    assert 0 not in result["pinning"]["client"]
    assert result["versions"]["docker-engine"] == engine.docker(
        docker_host, "version", "--format", "{{.Server.Version}}"
    )
    verdict = result["runs"][0]["verdict"]
    digest = verdict["baseline"]["conditions"]["image_digest"]
    assert digest.startswith(suite.added["INVOKE_DOCKER_IMAGE"].rpartition(":")[0] + "@sha256:")
    for side in ("baseline", "candidate"):
        assert verdict[side]["conditions"] == {
            "cpus": [0], "memory": 256 << 20, "processes": 4096, "image_digest": digest,
        }  # fmt: skip


def test_bfloat16_is_an_argument_of_the_server(suite: Suite, docker_host: str) -> None:
    suite.run("serve", "--variant", "stock-bf16")
    [container] = containers(docker_host)
    assert "--mixed_precision=bfloat16" in inspect(docker_host, container)["Args"]
    assert json.loads(suite.run("serve.status", "--format", "json").stdout)[0]["precision"] == "bf16"


def test_the_line_that_is_printed_can_be_typed(suite: Suite, docker_host: str) -> None:
    """It makes the same container as the suite does, but for the labels and the name."""
    dry = suite.run("--dry", "serve")
    assert dry.stdout == ""
    assert containers(docker_host) == []
    line = next(line for line in dry.stderr.splitlines() if line.startswith("$ docker run"))
    typed = engine.docker(docker_host, *shlex.split(line)[2:])
    url = f"http://127.0.0.1:{suite.added['INVOKE_SERVE_REST_PORT']}/v1/models/net"
    try:
        engine.wait_for(lambda: answers(url))
        theirs = inspect(docker_host, typed)["HostConfig"]
    finally:
        engine.docker(docker_host, "rm", "--force", typed)
    suite.run("serve")
    [container] = containers(docker_host)
    ours = inspect(docker_host, container)["HostConfig"]
    different = {name for name in ours if ours[name] != theirs[name]}
    # Besides: what is empty or not there, and a restart policy of "no" or none.
    assert {name for name in different if ours[name] or theirs[name]} <= {"LogConfig", "RestartPolicy"}, {
        name: (ours[name], theirs[name]) for name in different
    }


def answers(url: str) -> bool:
    try:
        return ask(url) == 4
    except (OSError, urllib.error.URLError):
        return False


def test_auto_takes_docker_where_the_image_can_be_had(suite: Suite, docker_host: str, stock: str) -> None:
    auto = suite.with_environment(INVOKE_ENGINE="auto")
    assert auto.run("--dry", "serve").stderr.startswith("engine: docker (Docker ")
    engine.docker(docker_host, "rmi", "--force", stock)
    done = auto.run("--dry", "serve")
    assert done.stderr.startswith("engine: docker (Docker ")
    assert f"$ docker pull {stock}" in done.stderr
    engine.docker(docker_host, "pull", stock)


@pytest.mark.parametrize(
    ("added", "words", "reason"),
    [
        ({}, ("--optimized",), r"the image no-one-builds-this/tensorflow-serving:\S+ is not built"),
        ({"INVOKE_DOCKER_IMAGE": "REGISTRY/no/such:1"}, (), r"The registry has no image \S+/no/such:1"),
        (
            {"INVOKE_DOCKER_IMAGE": "127.0.0.1:9/x:1"},
            (),
            r"The registry of 127\.0\.0\.1:9/x:1 cannot be reached",
        ),
        ({"DOCKER_HOST": "unix:///nowhere.sock"}, (), r"No Docker Engine answers at /nowhere\.sock"),
    ],
)
def test_auto_is_local_where_docker_cannot_serve(
    suite: Suite, registry: str, added: dict[str, str], words: tuple[str, ...], reason: str
) -> None:
    named = {name: value.replace("REGISTRY", registry) for name, value in added.items()}
    auto = suite.with_environment(INVOKE_ENGINE="auto", **named)
    first = auto.run("--dry", "serve", *words).stderr.splitlines()[0]
    assert re.match(rf"engine: local \({reason}", first), first


def test_two_clones_do_not_touch_each_other(suite: Suite, docker_host: str, tmp_path: Path) -> None:
    suite.run("serve")
    other = Suite(tmp_path / "other", suite.added)
    put_model(other)
    assert other.run("serve.status").stdout == ""
    assert "nothing is running" in other.run("teardown").stdout
    assert len(containers(docker_host)) == 1
    assert "is taken, so this server gets" in other.run("serve").stderr
    assert len(containers(docker_host)) == 2
    assert "stopped" in other.run("teardown").stdout
    assert len(containers(docker_host)) == 1


def test_a_port_that_is_taken(suite: Suite) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = str(stranger.getsockname()[1])
        assert f"Port {port} is taken by" in suite.run("serve", "--port", port, code=1).stderr
    suite.run("serve")
    port = suite.added["INVOKE_SERVE_REST_PORT"]
    taken = suite.run("serve", "--variant", "stock-bf16", "--port", port, code=1)
    assert f"Port {port} is taken by stock net@1 of this suite" in taken.stderr
    second = suite.run("serve", "--variant", "stock-bf16")
    assert f"port {port} is taken, so this server gets {int(port) + 2}" in second.stderr


def test_other_machines_are_let_in_only_when_it_is_said(suite: Suite, docker_host: str) -> None:
    url = suite.with_environment(INVOKE_SERVE_HOST="0.0.0.0").run("serve").stdout.split()[0]
    assert ask(url) == 4
    [container] = containers(docker_host)
    bindings = inspect(docker_host, container)["HostConfig"]["PortBindings"]
    assert bindings["8501/tcp"][0]["HostIp"] == "0.0.0.0"


def test_cpus(suite: Suite, docker_host: str) -> None:
    suite.with_environment(INVOKE_SERVE_CPUS="0").run("serve")
    [container] = containers(docker_host)
    assert inspect(docker_host, container)["HostConfig"]["CpusetCpus"] == "0"
    refused = suite.with_environment(INVOKE_SERVE_CPUS="4000").run("serve", "--variant", "stock-bf16", code=1)
    assert "Change the setting serve.cpus" in refused.stderr


def test_teardown_removes_images_that_were_built_and_no_others(
    suite: Suite, docker_host: str, stock: str
) -> None:
    user = suite.added["INVOKE_BUILD_USER"]
    ours, theirs = f"{user}/tensorflow-serving:2.20.0", f"another/user:{user}"
    for name in (ours, theirs):
        # Theirs was made FROM one of ours, and has inherited its labels.
        dockerfile = f"FROM {stock}\nLABEL {LABEL}.kind=optimized made={name}\n"
        subprocess.run(
            ["docker", "build", "--tag", name, "-"], input=dockerfile.encode(), check=True,
            capture_output=True, env={**os.environ, "DOCKER_HOST": docker_host},
        )  # fmt: skip
    try:
        assert suite.run("serve", "--optimized").returncode == 0
        assert ours in suite.run("--dry", "teardown", "--images").stderr
        done = suite.run("teardown", "--images")
        assert "stopped optimized net@1" in done.stdout
        assert f"removed images: {ours}\n" in done.stdout
        left = engine.docker(docker_host, "images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
        assert ours not in left
        assert {theirs, stock} <= set(left)
        assert "no images to remove" in suite.run("teardown", "--images").stdout
    finally:
        engine.docker(docker_host, "rmi", "--force", theirs)

"""What the Docker engine decides without a Docker Engine: logs, refusals, containers, which engine."""

# ruff: noqa: E501  (messages of programs are quoted as they are)

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.lib.common import variants
from tasks.lib.common.errors import DockerError, SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.engines import base
from tasks.lib.engines.base import Server
from tasks.lib.engines.choose import all_engines, choose
from tasks.lib.engines.docker import containers, serving_log
from tasks.lib.images import pull, refusals
from tasks.lib.models.store import Model, Origin

MODEL = Model("net", 7, Path("/somewhere/net/7"), Origin("path", "/x", None, "0" * 64))
STAMP = "2026-04-23 10:00:00.000000: "

# Logs


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "W tensorflow_serving/sources/storage_path/file_system_storage_path_source.cc:267] No versions of "
            "servable net found under base path /models/net. Did you forget to name your leaf directory as a "
            "number (eg. '/1/')?",
            "it finds no version of the model inside its container (No versions of servable net found",
        ),
        (
            "E file_system_storage_path_source.cc:353] FileSystemStoragePathSource encountered a filesystem "
            "access error: Could not find base path /models/net for servable net with error NOT_FOUND",
            "it finds no version of the model inside its container (Could not find base path /models/net",
        ),
        (
            "I tensorflow_serving/core/loader_harness.cc:182] Encountered an error for servable version "
            "{name: net version: 7}: DATA_LOSS: Can't parse /models/net/7/saved_model.pb as binary proto",
            "the model cannot be loaded (DATA_LOSS: Can't parse /models/net/7/saved_model.pb as binary proto)",
        ),
        (
            "E tensorflow_serving/util/retrier.cc:37] Loading servable: {name: net version: 7} failed: "
            "NOT_FOUND: Op type not registered 'X'",
            "the model cannot be loaded (NOT_FOUND: Op type not registered 'X')",
        ),
        (
            "E tensorflow_serving/core/aspired_versions_manager.cc:388] Servable version {name: net version: 7} "
            "cannot be loaded: Not found: Could not find meta graph def matching supplied tags: { serve }",
            "the model cannot be loaded (Not found: Could not find meta graph def",
        ),
        (
            "Failed to start server. Error: Unknown: 1 servable(s) did not become available",
            "the model cannot be loaded (Unknown: 1 servable(s) did not become available)",
        ),
        (
            "I loader_harness.cc:182] Encountered an error for servable version {name: net version: 7}: "
            "PERMISSION_DENIED: /models/net/7/saved_model.pb; Permission denied",
            "the server may not read the model",
        ),
        (
            "E http_server.cc:300] Failed to start HTTP Server at localhost:8501",
            "its REST port cannot be opened",
        ),
    ],
)
def test_a_log_without_hope(line: str, problem: str) -> None:
    told = serving_log.hopeless(f"{STAMP}I server.cc:77] Building single TensorFlow model\n{STAMP}{line}\n")
    assert told is not None
    assert told[0].startswith(problem)
    assert told[1].endswith(".")


def test_a_log_that_goes_on() -> None:
    log = (
        f"{STAMP}I tensorflow_serving/core/loader_harness.cc:71] Approving load for servable version "
        f"{{name: net version: 7}}\n{STAMP}I loader_harness.cc:79] Loading servable version "
        f"{{name: net version: 7}}\n{STAMP}W external/org_tensorflow/x.cc:1] Unable to find a cache"
    )
    assert serving_log.hopeless(log) is None
    assert serving_log.hopeless("") is None
    assert serving_log.missing_instructions(log) == ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "I external/org_tensorflow/tensorflow/core/platform/cpu_feature_guard.cc:142] Your CPU supports "
            "instructions that this TensorFlow binary was not compiled to use: AVX2 FMA",
            "AVX2 FMA",
        ),
        (
            "I cpu_feature_guard.cc:210] This TensorFlow binary is optimized to use available CPU instructions "
            "in performance-critical operations.\nTo enable the following instructions: AVX2 AVX512F "
            "AVX512_VNNI SSE4.1 FMA, in other operations, rebuild TensorFlow with the appropriate compiler flags.",
            "AVX2 AVX512F AVX512_VNNI SSE4.1 FMA",
        ),
        (
            "This TensorFlow binary is optimized with oneAPI Deep Neural Network Library (oneDNN) to use the "
            "following CPU instructions in performance-critical operations:  AVX2 FMA\nTo enable them in other "
            "operations, rebuild TensorFlow with the appropriate compiler flags.",
            "AVX2 FMA",
        ),
    ],
)
def test_what_it_was_not_compiled_for(line: str, expected: str) -> None:
    assert serving_log.missing_instructions(f"before\n{STAMP}{line}\nafter") == expected


# Refusals: what daemons and registries really said


@pytest.mark.parametrize(
    ("said", "problem", "remedy"),
    [
        ("manifest for r.io/a/b:1 not found: manifest unknown", "The registry has no image r.io/a/b:1.", "tag"),
        (
            "pull access denied for a/b, repository does not exist or may require 'docker login': denied",
            "The registry has no image r.io/a/b:1, or it is private.",
            "docker login r.io",
        ),
        ("Get https://r.io/v2/: no basic auth credentials", "The registry refuses to hand out", "docker login r.io."),
        ("unauthorized: authentication required", "The registry refuses to hand out", "docker login r.io."),
        ("toomanyrequests: You have reached your pull rate limit.", "limits pulls", "docker login r.io"),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "processor", "x86-64 only"),
        (
            "failed to register layer: Error processing tar file(exit status 1): write /usr/lib/x: "
            "no space left on device",
            "There is no space left for the image",
            "Free disk space",
        ),
        ('Get "https://r.io/v2/": dial tcp: lookup r.io: no such host', "cannot be reached (Get", "network"),
        ('Get "http://r.io/v2/": dial tcp 127.0.0.1:9: connect: connection refused', "cannot be reached", "network"),
        ("x509: certificate signed by unknown authority", "cannot be reached (x509", "network"),
        ("invalid reference format: repository name must be lowercase", "has no image", "name"),
        ("the moon is full", "The image r.io/a/b:1 cannot be pulled: the moon is full.", "docker info"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_pull(said: str, problem: str, remedy: str) -> None:
    told = refusals.pulling("r.io/a/b:1", said)
    assert problem in told.problem
    assert remedy in told.remedy
    assert told.problem.endswith(".")
    assert told.remedy.endswith(".")


def test_docker_hub_is_logged_in_to_without_a_name() -> None:
    assert refusals.pulling("tensorflow/serving:1", "unauthorized").remedy == "Log in: docker login."
    assert [refusals.registry(name) for name in ("a", "a/b", "a.io/b", "localhost/b", "h:5000/b")] == [
        "", "", "a.io", "localhost", "h:5000",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ("invalid mount config for type \"bind\": bind source path does not exist: /m", "the model's folder"),
        ("Requested CPUs are not available - requested 9, available: 0-1", "all the CPUs that are asked for"),
        ("standard_init_linux.go:228: exec user process caused: exec format error", "another processor"),
        ("Minimum memory limit allowed is 6MB", "refuses the memory limit"),
        ("No such image: a:1", "removed in the meantime"),
        ("mkdir /var/lib/docker/overlay2/x: no space left on device", "no space left for a container"),
        ("exec: \"x\": executable file not found in $PATH", "is not a server image"),
        ("who knows", "No container of a:1 can be started: who knows."),
    ],
)  # fmt: skip
def test_what_is_said_of_a_start(said: str, problem: str) -> None:
    assert problem in refusals.running("a:1", said).problem


def test_a_port_that_is_taken_is_recognised() -> None:
    for said in (
        "driver failed programming external connectivity: Bind for 127.0.0.1:8501 failed: port is already allocated",
        "Error starting userland proxy: listen tcp4 127.0.0.1:8501: bind: address already in use",
    ):
        assert refusals.is_port_taken(said)
    assert not refusals.is_port_taken("no such image")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tensorflow/serving:2.20.0", ("tensorflow/serving", "2.20.0")),
        ("tensorflow/serving", ("tensorflow/serving", "latest")),
        ("host:5000/a/b", ("host:5000/a/b", "latest")),
        ("host:5000/a/b:1", ("host:5000/a/b", "1")),
        ("a/b@sha256:00", ("a/b", "sha256:00")),
    ],
)
def test_repository_and_tag(name: str, parts: tuple[str, str]) -> None:
    assert pull._repository_and_tag(name) == parts


# Containers


def server(settings: Settings, variant: str) -> Server:
    return Server(
        id="0123456789ab",
        engine="docker",
        model="net",
        version=7,
        variant=variants.find(settings, variant, "docker"),
        host="127.0.0.1",
        rest_port=8501,
        grpc_port=8500,
        started="2026-11-22T10:00:00+00:00",
        fingerprint="0" * 64,
        image="an/image:1",
    )


def planned(settings: Settings, variant: str) -> containers.Container:
    return containers.plan(settings, server(settings, variant), MODEL, "an/image:1")


def test_what_is_typed(settings: Settings) -> None:
    its = replace(
        settings,
        docker=replace(settings.docker, memory=1 << 30),
        serve=replace(settings.serve, cpus=(0, 1, 2, 5)),
    )
    words = planned(its, "stock-no-onednn").command()
    uid = os.getuid() or containers.UNPRIVILEGED
    gid = os.getgid() or containers.UNPRIVILEGED
    assert words == [
        "docker", "run", "--detach", "--init", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL",
        "--security-opt=no-new-privileges", f"--user={uid}:{gid}", "--pids-limit=4096",
        "--memory=1024m", "--memory-swap=1024m", "--cpuset-cpus=0-2,5",
        "--publish=127.0.0.1:8501:8501", "--publish=127.0.0.1:8500:8500",
        "--mount=type=bind,source=/somewhere/net/7,target=/models/net/7,readonly",
        "--env=MODEL_NAME=net", "--env=TF_ENABLE_ONEDNN_OPTS=0",
        "an/image:1", "--max_num_load_retries=0",
    ]  # fmt: skip


def test_the_embedded_image_gets_its_own_flags_and_the_artefact(settings: Settings) -> None:
    plan = planned(settings, "embedded-optimized")
    assert plan.arguments == ("--backend=openvino", "--precision=auto", "--shutdown_grace_seconds=19")
    assert plan.ports == {8501: 8501, 8500: 8500}
    assert plan.mounts[1] == (Path("/somewhere/net/.optimized/7"), "/models/net/.optimized/7")


def test_labels_tell_the_server(settings: Settings) -> None:
    one = server(settings, "stock")
    labels = planned(settings, "stock").labels
    assert containers.from_labels(labels) == containers.without_recipe(one)
    assert containers.starter(labels).pid == os.getpid()
    assert labels["io.tensorflow-serving-suite"] == "server"
    del labels["io.tensorflow-serving-suite.grpc_port"]  # as of one from before there was gRPC
    assert containers.from_labels(labels).grpc_port == 0
    for missing in ("io.tensorflow-serving-suite.model", containers.SERVER):
        with pytest.raises(KeyError):
            containers.from_labels({name: text for name, text in labels.items() if name != missing})


def test_names_tell_the_state(settings: Settings) -> None:
    one = server(settings, "stock")
    for state in (base.STARTING, base.READY, base.STOPPING):
        assert containers.state(containers.name(one, state)) == state


def test_memory_is_a_share_of_the_machines_unless_it_is_said(settings: Settings) -> None:
    assert containers.memory(replace(settings.docker, memory=5 << 20)) == 5 << 20
    assert containers.memory(settings.docker) % (1 << 20) == 0
    assert containers.memory(settings.docker) > 0


# Which engine; no Docker Engine is to be seen here


def test_auto_says_why_it_is_local(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert choose(settings, "auto", ["stock"]).name == "local"
    assert capsys.readouterr().err == "engine: local (No Docker Engine answers at /nowhere/docker.sock)\n"


def test_docker_that_was_asked_for_and_is_not_there(settings: Settings) -> None:
    with pytest.raises(DockerError, match="No Docker Engine answers"):
        choose(settings, "docker", ["stock"])


def test_a_variant_for_docker_only_without_docker(settings: Settings) -> None:
    with pytest.raises(SettingError, match="is for Docker only, and there it cannot be served: No Docker"):
        choose(settings, "auto", ["stock", "stock-bf16"])
    with pytest.raises(SettingError, match="is not for the local engine"):
        choose(settings, "local", ["stock-bf16"])


def test_a_daemon_elsewhere_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.1:2375")
    with pytest.raises(DockerError, match="may be on another machine"):
        choose(settings, "docker")
    assert [engine.name for engine in all_engines(settings)] == ["local"]

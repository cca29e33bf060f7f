"""What images are called and made from; making them is tested on a real Docker Engine."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common.errors import SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.images import recipe

DOCKERFILE = """\
ARG BASE_IMAGE
ARG BAZEL_VERSION=7.4.1
FROM $BASE_IMAGE
COPY --chmod=755 start.sh \\
    requirements.lock server /
"""


@pytest.fixture
def project(settings: Settings, tmp_path: Path) -> Settings:
    """A project with small Dockerfiles."""
    root = tmp_path / "project"
    (root / "docker" / "embedded").mkdir(parents=True)
    for name in recipe.DOCKERFILES.values():
        (root / "docker" / name).write_text(DOCKERFILE)
    (root / "docker" / "start.sh").write_text("echo\n")
    (root / "docker" / ".dockerignore").write_text("# everything but\n*\n!start.sh\n")
    (root / "docker" / "embedded" / "requirements.lock").write_text("one==1\n")
    build = replace(settings.build, user="jane", memory_mb=None, jobs=None)
    return replace(settings, paths=replace(settings.paths, root=root), build=build)


def built_as(settings: Settings, **changes: str) -> Settings:
    return replace(settings, build=replace(settings.build, **changes))


def print_of(settings: Settings, kind: str = "devel", base: str = "sha256:1") -> str:
    made_from = recipe.recipe(settings, kind)
    return recipe.fingerprint(made_from, dict.fromkeys(made_from.bases, base))


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("jane", "jane"),
        ("Jane", "jane"),
        ("Jane.Doe@example.org", "jane.doe-example.org"),
        ("DOMAIN\\jane", "domain-jane"),
        ("_www", "www"),
        ("a..b__c", "a-b-c"),
        ("a_b.c-d", "a_b.c-d"),
        ("Юлия", "local"),
        ("", "local"),
    ],
)
def test_a_login_name_becomes_a_legal_one(login: str, name: str) -> None:
    assert recipe.legal(login) == name


@given(st.text(max_size=20))
def test_any_login_name_becomes_a_legal_one(login: str) -> None:
    assert re.fullmatch(recipe.COMPONENT, recipe.legal(login))


def test_the_user_is_the_environments(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "Jane")
    assert recipe.user(built_as(project, user="auto")) == "jane"
    monkeypatch.setenv("USER", "")
    assert re.fullmatch(recipe.COMPONENT, recipe.user(built_as(project, user="auto")))


@pytest.mark.parametrize("user", ["jane", "registry.example.org:5000/team", "ghcr.io/team/jane"])
def test_a_user_can_be_set(project: Settings, user: str) -> None:
    assert recipe.name(built_as(project, user=user), "devel") == f"{user}/tensorflow-serving-devel:2.20.0"


@pytest.mark.parametrize("user", ["Jane/Doe", "jane doe", "-jane", "jane/", "a//b"])
def test_a_user_that_no_image_can_have_is_refused(project: Settings, user: str) -> None:
    with pytest.raises(SettingError, match="INVOKE_BUILD_USER"):
        recipe.name(built_as(project, user=user), "devel")


def test_names(project: Settings) -> None:
    assert [recipe.name(project, kind) for kind in recipe.REPOSITORIES] == [
        "jane/tensorflow-serving-devel:2.20.0",
        "jane/tensorflow-serving:2.20.0",
        "jane/tensorflow-serving-embedded:2.20.0",
    ]
    assert recipe.name(built_as(project, tag="feature/x y"), "optimized").endswith(":feature-x-y")


def test_the_line_of_the_devel_image(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in recipe.PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    argv = recipe.command(
        built_as(project, network="host", bazel_options="--remote_cache=http://cache"),
        recipe.recipe(built_as(project, bazel_options="--remote_cache=http://cache"), "devel"),
        {"kind": "devel", "fingerprint": "abc"},
        {"BUILD_MEMORY_MB": "8192", "BUILD_JOBS": "4"},
    )
    assert argv == [
        "docker", "build", "--file", "docker/Dockerfile.devel",
        "--tag", "jane/tensorflow-serving-devel:2.20.0",
        "--network", "host",
        "--build-arg", "BASE_IMAGE=ubuntu:22.04",
        "--build-arg", "TF_SERVING_SOURCE=https://github.com/tensorflow/serving.git",
        "--build-arg", "TF_SERVING_TAG=2.20.0",
        "--build-arg", "TF_SERVING_BUILD_OPTIONS=--config=nativeopt",
        "--build-arg", "BAZEL_VERSION=7.4.1",
        "--build-arg", "BAZEL_OPTIONS=--remote_cache=http://cache",
        "--build-arg", "BUILD_MEMORY_MB=8192",
        "--build-arg", "BUILD_JOBS=4",
        "--label", "io.tensorflow-serving-suite.kind=devel",
        "--label", "io.tensorflow-serving-suite.fingerprint=abc",
        "docker",
    ]  # fmt: skip


def test_the_optimized_image_is_made_from_the_devel_one(project: Settings) -> None:
    argv = recipe.command(project, recipe.recipe(project, "optimized"), {})
    assert "TF_SERVING_BUILD_IMAGE=jane/tensorflow-serving-devel:2.20.0" in argv
    assert argv[2:4] == ["--file", "docker/Dockerfile"]


def test_the_embedded_image_has_a_context_of_its_own(project: Settings) -> None:
    assert recipe.command(project, recipe.recipe(project, "embedded"), {})[-1] == "docker/embedded"


def test_proxies_are_handed_on_by_name_alone(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*recipe.PROXIES, *recipe.MIRRORS):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("https_proxy", "http://me:secret@proxy")
    monkeypatch.setenv("PIP_INDEX_URL", "http://mirror")
    assert recipe.inherited("FROM x\n") == ["https_proxy"]
    assert recipe.inherited("FROM x\n  ARG PIP_INDEX_URL\n") == ["https_proxy", "PIP_INDEX_URL"]
    assert "secret" not in " ".join(recipe.command(project, recipe.recipe(project, "devel"), {}))


def test_the_fingerprint_is_the_same_for_the_same(project: Settings) -> None:
    assert print_of(project) == print_of(project)
    assert print_of(project) == print_of(
        replace(project, build=replace(project.build, memory_mb=9999, jobs=3))
    )


@pytest.mark.parametrize(
    "changes", [{"tag": "2.19.0"}, {"options": "--config=release"}, {"source": "x"}, {"bazel_version": "7"}]
)
def test_the_fingerprint_follows_the_arguments(project: Settings, changes: dict[str, str]) -> None:
    assert print_of(built_as(project, **changes)) != print_of(project)


def test_the_fingerprint_follows_dockerfile_context_and_base(project: Settings) -> None:
    seen = {print_of(project), print_of(project, base="sha256:2")}
    docker = project.paths.root / "docker"
    (docker / "start.sh").write_text("echo 2\n")
    seen.add(print_of(project))
    (docker / "start.sh").chmod(0o755)
    seen.add(print_of(project))
    (docker / "Dockerfile.devel").write_text("FROM scratch\n")
    seen.add(print_of(project))
    assert len(seen) == 5


def test_what_is_not_sent_to_the_builder_does_not_count(project: Settings) -> None:
    before = print_of(project)
    docker = project.paths.root / "docker"
    (docker / "embedded" / "requirements.lock").write_text("one==2\n")
    (docker / "notes.txt").write_text("x")
    (docker / "Dockerfile.embedded").write_text("FROM scratch\n")
    assert print_of(project) == before
    assert [path.name for path in recipe.context_files(docker, DOCKERFILE)] == ["start.sh"]


def test_what_the_dockerfile_does_not_copy_does_not_count(project: Settings) -> None:
    docker = project.paths.root / "docker"
    (docker / ".dockerignore").unlink()
    before = print_of(project)
    (docker / "serving").mkdir()
    (docker / "serving" / "entrypoint.sh").write_text("x")
    assert print_of(project) == before


@pytest.mark.parametrize(
    ("dockerfile", "sources"),
    [
        ("FROM x\n", []),
        ("COPY a b/ /c\nADD ./d /\n", ["a", "b", "d"]),
        ("COPY --from=build /a /b\nCOPY --chown=1:1 a /b\n", ["a"]),
        ("RUN echo \\\n  COPY\n", []),
        ("COPY *.sh /\n", None),
        ('COPY ["a", "/b"]\n', None),
        ("COPY $WHAT /\n", None),
    ],
)
def test_what_a_dockerfile_copies(dockerfile: str, sources: list[str] | None) -> None:
    assert recipe.copied(dockerfile) == sources


def test_another_bazel_is_not_checked_against_the_checksum_of_this_one(project: Settings) -> None:
    assert "BAZEL_SHA256" not in recipe.recipe(project, "devel").arguments
    assert recipe.recipe(built_as(project, bazel_version="8.0.0"), "devel").arguments["BAZEL_SHA256"] == ""


def test_python_caches_do_not_count(project: Settings) -> None:
    before = print_of(project, "embedded")
    cache = project.paths.root / "docker" / "embedded" / "server" / "__pycache__"
    cache.mkdir(parents=True)
    (cache / "x.pyc").write_bytes(b"x")
    assert print_of(project, "embedded") == before


def test_a_native_image_belongs_to_its_cpu(project: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    release = built_as(project, options="--config=release")
    native, portable = print_of(project), print_of(release)
    monkeypatch.setattr("tasks.lib.common.hardware.cpu_flags", lambda: frozenset({"sse2"}))
    assert print_of(project) != native
    assert print_of(release) == portable


def test_the_projects_own_dockerfiles_have_their_context(settings: Settings) -> None:
    """What is compiled for hours must not depend on the embedded server."""
    for kind in recipe.REPOSITORIES:
        made_from = recipe.recipe(settings, kind)
        assert made_from.dockerfile.is_file(), kind
        files = recipe.context_files(made_from.context, made_from.dockerfile.read_text())
        assert files, kind
        if kind != "embedded":
            assert not [path for path in files if "embedded" in path.parts]

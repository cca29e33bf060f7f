"""Reading what `docker build` writes. The samples are what the real builders wrote."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common.errors import ImageBuildError
from tasks.lib.common.settings import Settings
from tasks.lib.images.build_log import SHOWN, Reader, failure
from tasks.lib.images.build_reasons import explain
from tasks.lib.images.preflight import Limits

CLASSIC = """\
Sending build context to Docker daemon  116.3kB
Step 1/4 : ARG BASE_IMAGE=ubuntu:22.04
Step 2/4 : FROM ${BASE_IMAGE}
 ---> 23565c28e47e
Step 3/4 : RUN bazel build //x
 ---> Running in 8464953a35a4
[1 / 8] Compiling one.cc; 1s local
\x1b[91m[2 / 8] Compiling two.cc; 3s local ... (2 actions running)
\x1b[0mWARNING: something
"""
CLASSIC_END = (
    "ERROR: two.cc:1:1: Compiling two.cc failed: (Exit 1): gcc failed\n"
    "two.cc:3: error: no such thing\n"
    "Removing intermediate container 8464953a35a4\n"
    "The command '/bin/sh -c bazel build //x' returned a non-zero code: 1\n"
)
BUILDKIT = """\
#1 [internal] load build definition from Dockerfile.devel
#1 sha256:dbdc8849050c57c6c240f22084a61861a4458b8e395d4a253f8a00e3a2024641
#1 transferring dockerfile: 795B done
#1 DONE 0.0s

#4 [compile 1/2] FROM docker.io/library/ubuntu:22.04
#4 DONE 0.0s

#6 [compile 2/2] RUN bazel build //x
#6 sha256:7eb30e916cabd1c6b2abb670de2d43e13b2449012345e489aa97a4ceb272ad62
#6 0.408 [1 / 8] Compiling one.cc; 1s local
#6 0.954 [2 / 8] Compiling two.cc; 3s local ... (2 actions running)
#6 1.000 WARNING: something
"""
BUILDKIT_END = """\
#6 1.482 ERROR: two.cc:1:1: Compiling two.cc failed: (Exit 1): gcc failed
#6 1.482 two.cc:3: error: no such thing
#6 ERROR: process "/bin/sh -c bazel build //x" did not complete successfully: exit code: 1
------
 > [compile 2/2] RUN bazel build //x:
1.482 two.cc:3: error: no such thing
------
Dockerfile.devel:12
--------------------
  12 | >>> RUN bazel build //x
--------------------
ERROR: failed to solve: process "/bin/sh -c bazel build //x" did not complete successfully: exit code: 1
"""


def read(text: str) -> Reader:
    reader = Reader()
    for line in text.splitlines():
        reader.feed(line)
    return reader


@pytest.mark.parametrize(("text", "step"), [(CLASSIC, "3/4"), (BUILDKIT, "compile 2/2")])
def test_the_step_and_bazels_last_line_are_known(text: str, step: str) -> None:
    reader = read(text)
    assert reader.step is not None
    assert str(reader.step) == f"step {step}: RUN bazel build //x"
    assert reader.activity == "[2 / 8] Compiling two.cc; 3s local ... (2 actions running)"


def test_the_classic_builders_containers_are_known() -> None:
    assert read(CLASSIC).containers == ["8464953a35a4"]
    assert read(BUILDKIT).containers == []


@pytest.mark.parametrize(
    ("text", "step"), [(CLASSIC + CLASSIC_END, "3/4"), (BUILDKIT + BUILDKIT_END, "compile 2/2")]
)
def test_a_failure_has_its_step_and_the_lines_that_matter(text: str, step: str) -> None:
    why = failure(read(text))
    assert why.number == step
    assert why.lines[-3:] == (
        "ERROR: two.cc:1:1: Compiling two.cc failed: (Exit 1): gcc failed",
        "two.cc:3: error: no such thing",
        "exit code: 1",
    )


def test_the_step_that_failed_is_told_even_if_another_ran_beside_it() -> None:
    reader = read(
        "#5 [a 1/1] RUN one\n#6 [b 1/1] RUN two\n#5 0.1 error: broken\n#6 0.2 fine\n"
        '#5 ERROR: process "/bin/sh -c one" did not complete successfully: exit code: 2\n'
        "#6 [b 1/1] RUN two\n#6 CANCELED\n"
    )
    why = failure(reader)
    assert why.number == "a 1/1"
    assert why.lines == ("error: broken", "exit code: 2")


def test_the_cause_is_kept_where_much_follows() -> None:
    lines = ["Step 1/1 : RUN x", "one.cc: fatal error: the cause"]
    lines += [f"more {n}" for n in range(300)]
    why = failure(read("\n".join(lines)))
    assert why.lines[0] == "one.cc: fatal error: the cause"
    assert why.lines[-1] == "more 299"
    assert len(why.lines) <= SHOWN


def test_long_lines_are_cut() -> None:
    why = failure(read("Step 1/1 : RUN " + "x" * 900 + "\nerror: " + "y" * 5000))
    assert len(why.step) < 150
    assert max(map(len, why.lines)) <= 300


def test_a_failure_before_any_step_has_what_was_said() -> None:
    why = failure(read("ERROR: BuildKit is enabled but the buildx component is missing or broken.\n"))
    assert (why.number, why.step) == ("", "")
    assert why.lines == ("ERROR: BuildKit is enabled but the buildx component is missing or broken.",)


@given(st.lists(st.text(max_size=60), max_size=30))
def test_any_text_can_be_read(lines: list[str]) -> None:
    reader = Reader()
    for line in lines:
        reader.feed(line)
    failure(reader)


OUT_OF_MEMORY = [
    "gcc: fatal error: Killed signal terminated program cc1plus",
    "c++: fatal error: Killed signal terminated program cc1plus\ncompilation terminated.",
    "cc1plus: internal compiler error: terminated",
    "Killed",
    "virtual memory exhausted: Cannot allocate memory",
    "Server terminated abruptly (error code: 14, error message: 'Socket closed', log file: 'x')",
]


def explained(
    settings: Settings, text: str, limits: Limits | None = None, kind: str = "devel"
) -> ImageBuildError:
    return explain(kind, failure(read("Step 1/1 : RUN x\n" + text)), 1, settings.build, limits, "LOG")


@pytest.mark.parametrize("text", OUT_OF_MEMORY)
def test_out_of_memory_is_recognised(settings: Settings, text: str) -> None:
    told = explained(settings, text, Limits(6000, 4))
    assert told.problem == "build.devel ran out of memory."
    assert "INVOKE_BUILD_MEMORY_MB=6000 and INVOKE_BUILD_JOBS=4: set them to 4000 and 2" in told.remedy


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("write /x: no space left on device: No space left on device", "disk"),
        ("fatal: Remote branch 9.9 not found in upstream origin", "the source has no tag 2.20.0"),
        ("fatal: couldn't find remote ref refs/tags/9.9", "the source has no tag"),
        ("curl: (6) Could not resolve host: github.com", "cannot be reached"),
        ("E: Failed to fetch http://x  Temporary failure resolving 'x'", "cannot be reached"),
        (
            "fatal: unable to access 'x': Failed to connect to x port 443: Connection refused",
            "cannot be reached",
        ),
        ("curl: (60) SSL certificate problem: self-signed certificate", "certificate"),
        ("manifest for ubuntu:99 not found: manifest unknown", "does not exist"),
        (
            "pull access denied for a/b, repository does not exist or may require 'docker login'",
            "does not exist",
        ),
        (
            "ERROR: failed to solve: ubuntu:99: failed to resolve source metadata for "
            "docker.io/library/ubuntu:99: docker.io/library/ubuntu:99: not found",
            "does not exist",
        ),
        (
            "failed to solve with frontend dockerfile.v0: failed to create LLB definition: "
            "docker.io/library/ubuntu:99: not found",
            "does not exist",
        ),
        ("ERROR: failed to solve: ubuntu:99: docker.io/library/ubuntu:99: not found", "does not exist"),
        ("sha256sum: WARNING: 1 computed checksum did NOT match", "differs from what was tested"),
        ("error during connect: Post x: EOF", "the Docker Engine went away"),
    ],
)
def test_known_reasons_are_recognised(settings: Settings, text: str, problem: str) -> None:
    told = explained(settings, text)
    assert problem in told.problem
    assert told.remedy.endswith("The whole log is LOG.")


@pytest.mark.parametrize(
    "text",
    [
        "/bin/sh: 1: gcc: not found",
        "ERROR: failed to solve: failed to compute cache key: failed to calculate checksum of ref x::y: "
        '"/start.sh": not found',
    ],
)
def test_not_every_thing_that_is_not_found_is_an_image(settings: Settings, text: str) -> None:
    assert explained(settings, text).problem == "build.devel failed at step 1/1."


@pytest.mark.parametrize(
    ("kind", "setting"), [("devel", ""), ("optimized", "SERVING_"), ("embedded", "EMBEDDED_")]
)
def test_a_certificate_belongs_into_the_base_image_of_its_kind(
    settings: Settings, kind: str, setting: str
) -> None:
    told = explained(settings, "curl: (60) SSL certificate problem: self-signed certificate", kind=kind)
    assert f" INVOKE_BUILD_{setting}BASE_IMAGE. " in told.remedy
    assert "README" not in told.remedy


def test_a_kill_of_unknown_reason_is_told_as_what_it_is(settings: Settings) -> None:
    told = explained(settings, "The command '/bin/sh -c x' returned a non-zero code: 137", Limits(6000, 4))
    assert told.problem.startswith("build.devel was killed, which the system does when memory runs out")
    assert "set them to 4000 and 2" in told.remedy


def test_an_unknown_reason_names_the_step(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    told = explained(settings, "one.cc:3: error: no such thing\n")
    assert told.problem == "build.devel failed at step 1/1."
    assert "  one.cc:3: error: no such thing\n" in capsys.readouterr().err

"""What is checked before a build, and how much of the machine it may use."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common.errors import DockerError, ImageBuildError
from tasks.lib.common.settings import Build, Settings
from tasks.lib.images import preflight
from tasks.lib.images.preflight import Limits, limits


@pytest.fixture
def build(settings: Settings) -> Build:
    return replace(settings.build, memory_mb=None, jobs=None)


@pytest.mark.parametrize(
    ("free", "processors", "expected"),
    [
        (23000, 2, Limits(20480, 2)),
        (23000, 32, Limits(20480, 10)),
        (5200, 8, Limits(4096, 2)),
        (130000, 16, Limits(116736, 16)),
    ],
)
def test_the_machine_decides(build: Build, free: int, processors: int, expected: Limits) -> None:
    assert limits(build, free, processors) == expected


@given(free=st.integers(5120, 10**6), processors=st.integers(1, 256))
def test_something_is_left_to_the_system(free: int, processors: int) -> None:
    from tests.helpers.fixtures import default_settings

    its = limits(default_settings().build, free, processors)
    assert preflight.MINIMUM_MB <= its.memory_mb <= free - preflight.MARGIN_MB
    assert 1 <= its.jobs <= processors


def test_too_little_memory_is_told_with_what_there_is(build: Build) -> None:
    with pytest.raises(ImageBuildError) as told:
        limits(build, 3000, 2)
    assert "at least 4096 MB of memory, and 3000 MB are free" in told.value.problem
    assert "INVOKE_BUILD_MEMORY_MB" in told.value.remedy


def test_what_was_set_is_used_as_it_is(build: Build) -> None:
    assert limits(replace(build, memory_mb=1000, jobs=7), 500, 1) == Limits(1000, 7)
    assert limits(replace(build, memory_mb=1000), 500, 8) == Limits(1000, 1)


def test_the_disk_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preflight.check_disk({"DockerRootDir": str(tmp_path)}, "devel", 0.001)
    assert f"free at {tmp_path}; the build needs 0.001 GB" in capsys.readouterr().err
    with pytest.raises(ImageBuildError) as told:
        preflight.check_disk({"DockerRootDir": str(tmp_path)}, "devel", 10**6)
    assert str(tmp_path) in told.value.problem
    assert "INVOKE_BUILD_DISK_GB" in told.value.remedy


def test_a_disk_out_of_sight_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preflight.check_disk({"DockerRootDir": str(tmp_path / "none")}, "embedded", 10**6)
    assert "cannot be looked at" in capsys.readouterr().err


def test_the_command_has_to_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockerError, match="docker command"):
        preflight.check_command()
    command = tmp_path / "docker"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    assert os.access(command, os.X_OK)
    preflight.check_command()


def test_serving_is_for_x86_64_only() -> None:
    arm = {"OSType": "linux", "Architecture": "aarch64"}
    for kind in ("devel", "optimized"):
        with pytest.raises(DockerError, match=r"x86-64 only.*arm64"):
            preflight.check_platform(arm, kind)
    preflight.check_platform(arm, "embedded")
    preflight.check_platform({"OSType": "linux", "Architecture": "x86_64"}, "devel")
    with pytest.raises(DockerError, match="windows"):
        preflight.check_platform({"OSType": "windows", "Architecture": "x86_64"}, "embedded")

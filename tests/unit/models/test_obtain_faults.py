"""tasks.lib.models.obtain: broken transfers, killed calls and full disks leave nothing behind."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.lib.common.errors import DownloadError, SuiteError
from tasks.lib.common.settings import Settings
from tasks.lib.models import obtain
from tests.helpers.archives import saved_model, tar, tree
from tests.helpers.bringing import ARCHIVE, got, make
from tests.helpers.fileserver import Resource, Server


def test_a_broken_transfer_is_resumed_below_the_unpacking(settings: Settings, server: Server) -> None:
    content = saved_model(size=2_000_000)
    url, resource = server.serve("/model", content, cuts=[700_000, 0, 700_000])
    model = got(obtain.from_url(settings, "mine", url))
    assert model.origin.archive_sha256 == hashlib.sha256(content).hexdigest()
    assert len(resource.requests) == 4


def test_an_archive_that_is_replaced_under_way_is_begun_again(
    settings: Settings, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    second = saved_model("2", seed=2, size=2_000_000)

    def replace_it(resource: Resource) -> None:
        resource.content, resource.etag = second, '"second"'

    url, _ = server.serve("/model", saved_model("1", size=2_000_000), cuts=[700_000], then=replace_it)
    model = got(obtain.from_url(settings, "mine", url))
    assert model.origin.archive_sha256 == hashlib.sha256(second).hexdigest()
    assert sorted(os.listdir(model.base)) == ["2", "2.origin.json"]
    assert (
        "was replaced by another one while it was being downloaded. Starting again."
        in capsys.readouterr().err
    )


def test_an_archive_that_never_rests_is_given_up(settings: Settings, server: Server) -> None:
    def replace_it(resource: Resource) -> None:
        count = len(resource.requests)
        resource.content, resource.etag = saved_model(seed=count, size=500_000), f'"{count}"'

    url, _ = server.serve("/model", saved_model(size=500_000), cuts=[200_000] * 99, then=replace_it)
    with pytest.raises(DownloadError, match="was replaced by another one"):
        obtain.from_url(settings, "mine", url)
    assert not settings.paths.models.exists()


def test_what_a_killed_call_left_is_removed_by_the_next(settings: Settings, server: Server) -> None:
    url, _ = server.serve("/model", ARCHIVE)
    left = settings.paths.models / "mine" / ".partial-left"
    (left / "unpacked").mkdir(parents=True)
    (left / "unpacked" / "file").write_bytes(b"half")
    obtain.from_url(settings, "mine", url)
    assert not left.exists()
    left.mkdir()  # by one that was killed later: the model is there, and it is removed all the same
    obtain.from_url(settings, "mine", url)
    assert not left.exists()


def test_another_calls_work_is_not_taken_for_leftovers(settings: Settings, server: Server) -> None:
    from tasks.lib.common import locks

    url, _ = server.serve("/model", ARCHIVE)
    obtain.from_url(settings, "mine", url)
    work = settings.paths.models / "mine" / ".partial-work"
    work.mkdir()
    with locks.held(settings.paths, "model-mine", "this test"):
        obtain.from_url(settings, "mine", url)
        assert work.exists()


@pytest.fixture
def small_disk(settings: Settings) -> Iterator[Path]:
    """The models folder on a disk of 1 MiB."""
    yield from mounted(settings.paths.models, "size=1m")


@pytest.fixture
def locked_disk(settings: Settings) -> Iterator[Path]:
    """The models folder on a disk that cannot be written to."""
    yield from mounted(settings.paths.models, "ro")


def mounted(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


ZEROS = tar({"1/saved_model.pb": b"x", "1/variables/zeros": bytes(3_000_000)})


def test_a_disk_that_fills_while_unpacking(settings: Settings, server: Server, small_disk: Path) -> None:
    assert len(ZEROS) < 100_000
    url, _ = server.serve("/model", ZEROS)
    with pytest.raises(DownloadError) as caught:
        obtain.from_url(settings, "mine", url)
    assert "too full: " in caught.value.problem
    assert "needs at least 2.9 MiB there, and 1.0 MiB are free" in caught.value.problem
    assert "INVOKE_PATHS_MODELS" in caught.value.remedy
    assert tree(small_disk) == []


def test_an_archive_that_cannot_fit_is_not_even_downloaded(
    settings: Settings, server: Server, small_disk: Path
) -> None:
    url, _ = server.serve("/model", saved_model(size=2_000_000))
    with pytest.raises(DownloadError, match=r"needs at least 1\.9 MiB there, and 1\.0 MiB are free"):
        obtain.from_url(settings, "mine", url)
    assert tree(small_disk) == []


def test_a_folder_that_does_not_fit(settings: Settings, tmp_path: Path, small_disk: Path) -> None:
    own = make(tmp_path / "own", {"saved_model.pb": bytes(3_000_000)})
    with pytest.raises(DownloadError, match="too full"):
        obtain.from_path(settings, "mine", own)
    assert tree(small_disk) == []


def test_a_models_folder_that_cannot_be_written_to(
    settings: Settings, server: Server, tmp_path: Path, locked_disk: Path
) -> None:
    url, resource = server.serve("/model", ARCHIVE)
    own = make(tmp_path / "own", {"saved_model.pb": b"x"})
    attempts: list[Callable[[], object]] = [
        lambda: obtain.from_url(settings, "mine", url),
        lambda: obtain.from_path(settings, "mine", own),
    ]
    for attempt in attempts:
        with pytest.raises(DownloadError, match=r"cannot be written to \(Read-only file system\)"):
            attempt()
    assert resource.requests == []  # reported before any request is sent


def test_a_state_folder_that_cannot_be_written_to(settings: Settings, server: Server) -> None:
    settings.paths.state.write_text("a file")
    with pytest.raises(SuiteError, match="cannot be written to") as caught:
        obtain.from_url(settings, "mine", server.serve("/model", ARCHIVE)[0])
    assert "INVOKE_PATHS_STATE" in caught.value.remedy

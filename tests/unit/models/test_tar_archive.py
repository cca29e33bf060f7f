"""tasks.lib.models.tar_archive: what is unpacked, and what is refused."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.lib.common.errors import DownloadError
from tasks.lib.models.tar_archive import unpack
from tests.helpers.archives import saved_model, tar, tree


def run(content: bytes, target: Path, strip: int = 0) -> int:
    with io.BufferedReader(io.BytesIO(content)) as source:  # type: ignore[arg-type]
        return unpack(source, target, strip, "The archive", "models")


def refused(content: bytes, target: Path, strip: int = 0) -> DownloadError:
    with pytest.raises(DownloadError) as caught:
        run(content, target, strip)
    assert type(caught.value) is DownloadError
    return caught.value


@pytest.mark.parametrize("compression", ["plain", "gzip", "bzip2", "xz", "zstd"])
def test_every_compression_is_undone(tmp_path: Path, compression: str) -> None:
    noise = os.urandom(400_000)
    content = COMPRESSORS[compression](tar({"a": None, "a/b/c": b"see", "noise": noise}, "w"))
    assert run(content, tmp_path / "out") == len(noise) + 3
    assert tree(tmp_path / "out") == ["a", "a/b", "a/b/c", "noise"]
    assert (tmp_path / "out/noise").read_bytes() == noise


def test_zstd_of_several_frames_is_one_archive(tmp_path: Path) -> None:
    whole = tar({"m/saved_model.pb": os.urandom(2000)}, "w")
    assert run(zstd.compress(whole[:900]) + zstd.compress(whole[900:]), tmp_path / "out") == 2000


def test_modes_are_ours_whatever_umask_and_archive_say(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        run(saved_model(), tmp_path / "out")
    finally:
        os.umask(before)
    for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar to compare with")
@pytest.mark.parametrize("strip", range(5))
@pytest.mark.parametrize("prefix", ["./resnet/", "resnet/", "a/./b/", ""])
def test_strip_components_does_what_tar_does(tmp_path: Path, strip: int, prefix: str) -> None:
    content = saved_model(prefix=prefix)
    run(content, tmp_path / "ours", strip)
    (tmp_path / "theirs").mkdir()
    subprocess.run(
        ["tar", "-xz", f"--strip-components={strip}", "-C", tmp_path / "theirs"], input=content, check=True
    )
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")


def entry(name: str, kind: bytes, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry("m/link", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (entry("m/link", tarfile.SYMTYPE, "saved_model.pb"), "is a link"),
        (entry("m/hard", tarfile.LNKTYPE, "m/saved_model.pb"), "is a link"),
        (entry("m/dev", tarfile.CHRTYPE), "is a device"),
        (entry("m/dev", tarfile.BLKTYPE), "is a device"),
        (entry("m/pipe", tarfile.FIFOTYPE), "is a device or a pipe"),
        (entry("/tmp/absolute", tarfile.REGTYPE), "absolute"),
        (entry("../outside", tarfile.REGTYPE), "leads out"),
        (entry("m/../../outside", tarfile.REGTYPE), "leads out"),
        (entry("m/../inside", tarfile.REGTYPE), "leads out"),
        (entry("../outside", tarfile.DIRTYPE), "leads out"),
    ],
    ids=lambda value: f"{value.name}-{value.type.decode()}" if isinstance(value, tarfile.TarInfo) else "",
)
@pytest.mark.parametrize("strip", [0, 1])
def test_entries_that_are_unsafe_are_refused(
    tmp_path: Path, bad: tarfile.TarInfo, why: str, strip: int
) -> None:
    error = refused(tar({"m/saved_model.pb": b"x", "bad": bad}), tmp_path / "a/out", strip)
    assert why in error.problem
    assert repr(bad.name) in error.problem
    assert tree(tmp_path / "a") in (["out", "out/m", "out/m/saved_model.pb"], ["out", "out/saved_model.pb"])


def test_two_entries_for_one_place_are_refused(tmp_path: Path) -> None:
    for number, second in enumerate(["./a/b", "a//b", "a/b/c"]):
        error = refused(tar({"a/b": b"1", second: b"2"}), tmp_path / str(number))
        assert "claim the same place" in error.problem
    assert "same place" in refused(tar({"a/b": b"1", "./a": b"2"}), tmp_path / "folder").problem
    assert "same place" in refused(tar({"a": b"1", "./a": None}), tmp_path / "file").problem


def test_a_name_of_another_system_is_refused(tmp_path: Path) -> None:
    for number, (name, why) in enumerate(
        [("C:/windows/x", "absolute"), ("m\\..\\x", "backslash"), ("c:x", "absolute")]
    ):
        error = refused(tar({"m/saved_model.pb": b"x", name: b"y"}), tmp_path / str(number))
        assert why in error.problem


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_an_archive_cut_anywhere_is_refused(tmp_path: Path, compression: str) -> None:
    whole = tar({"m/saved_model.pb": b"x" * 700, "m/data": os.urandom(2000), "m/last": b"end"}, "w")
    # Less than the two closing blocks of zeros and the padding after them is no loss to a plain tar.
    content = COMPRESSORS[compression](whole)
    end = len(content) if compression != "plain" else len(whole.rstrip(b"\0"))
    for number, cut in enumerate([*range(0, end, max(97, end // 12)), end - 1]):
        refused(content[:cut], tmp_path / str(number))


def test_a_plain_tar_that_ends_between_two_files_is_refused(tmp_path: Path) -> None:
    content = tar({"a": b"x" * 512, "b": b"y" * 512}, "w")
    error = refused(content[:1024], tmp_path / "out")
    assert "cut short or damaged" in error.problem


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    content = bytearray(saved_model())
    content[-5] ^= 1
    assert "cut short or damaged" in refused(bytes(content), tmp_path / "gzip").problem
    checked = {zstd.CompressionParameter.checksum_flag: 1}
    content = bytearray(zstd.compress(saved_model(), options=checked))
    content[-1] ^= 1
    assert "cut short or damaged" in refused(bytes(content), tmp_path / "zstd").problem


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("saved_model.pb", "x" * 2000)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x",
        b"<!DOCTYPE html>" * 100,
        gzip.compress(b"hello " * 500),
        gzip.compress(b""),
        zipped(),
        os.urandom(9000),
    ],
    ids=["empty", "one byte", "html", "compressed text", "compressed nothing", "zip", "noise"],
)
def test_what_is_no_archive_is_called_so(tmp_path: Path, content: bytes) -> None:
    assert "is not an archive" in refused(content, tmp_path / "out").problem


PLAIN = tar({"m": None, "m/saved_model.pb": b"x" * 700, "m/long" + "g" * 120: b"end"}, "w").rstrip(
    b"\0"
) + bytes(1024)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, len(PLAIN) - 1), st.integers(0, 255), max_size=6))
def test_a_mangled_archive_is_refused_or_stays_in_its_folder(tmp_path: Path, changes: dict[int, int]) -> None:
    content = bytearray(PLAIN)
    for place, value in changes.items():
        content[place] = value
    # A header counts only if its checksum fits: correct it, so that the change is looked at.
    for start in range(0, 512 * 2, 512):
        header = content[start : start + 512]
        header[148:156] = b" " * 8
        content[start + 148 : start + 156] = f"{sum(header):06o}\0 ".encode()
    target = tmp_path / "around" / "out"
    try:
        run(bytes(content), target)
    except DownloadError:
        pass
    finally:
        assert all(path.is_relative_to(target) for path in (tmp_path / "around").rglob("*") if path != target)
        assert sorted(os.listdir(tmp_path)) in (["around"], [])
        shutil.rmtree(tmp_path / "around", ignore_errors=True)

"""tasks.lib.models.zip_archive: what is unpacked, and what is refused."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.lib.common.errors import DownloadError
from tasks.lib.models.zip_archive import unpack
from tests.helpers.archives import tree, zipped

GOOD = {"m": None, "m/saved_model.pb": b"x" * 700, "m/variables/data": b"data"}


def run(content: bytes, target: Path, strip: int = 0) -> int:
    file = target.parent / f"{target.name}.zip"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    try:
        return unpack(file, target, strip, "The archive", "models")
    finally:
        file.unlink()


def refused(content: bytes, target: Path) -> str:
    with pytest.raises(DownloadError) as caught:
        run(content, target)
    assert type(caught.value) is DownloadError
    return caught.value.problem


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_and_folders_come_with_our_modes(tmp_path: Path, compression: int) -> None:
    before = os.umask(0o077)
    try:
        noise = os.urandom(300_000)
        assert run(zipped({**GOOD, "noise": noise}, compression), tmp_path / "out") == len(noise) + 704
    finally:
        os.umask(before)
    names = ["m", "m/saved_model.pb", "m/variables", "m/variables/data", "noise"]
    assert tree(tmp_path / "out") == names
    assert (tmp_path / "out/noise").read_bytes() == noise
    for path in (tmp_path / "out").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_leading_folders_are_dropped(tmp_path: Path) -> None:
    assert run(zipped(GOOD), tmp_path / "out", strip=1) == 704
    assert tree(tmp_path / "out") == ["saved_model.pb", "variables", "variables/data"]


def with_entry(change: Callable[[zipfile.ZipInfo], object], content: bytes = b"payload") -> bytes:
    """A good archive with one more entry, bad, which `change` describes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("m/saved_model.pb", b"x")
        info = zipfile.ZipInfo("m/bad")
        info.create_system = 3
        info.external_attr = (stat.S_IFREG | 0o644) << 16
        change(info)
        archive.writestr(info, content)
    return buffer.getvalue()


def named(name: str) -> Callable[[zipfile.ZipInfo], object]:
    return lambda info: setattr(info, "filename", name)


def of_kind(kind: int, system: int = 3) -> Callable[[zipfile.ZipInfo], object]:
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr, info.create_system = (kind | 0o777) << 16, system

    return change


def test_the_archive_that_the_bad_ones_are_made_from_is_good(tmp_path: Path) -> None:
    assert run(with_entry(lambda info: None), tmp_path / "out") == 8


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (of_kind(stat.S_IFLNK), "is a link"),
        (of_kind(stat.S_IFLNK, system=0), "is a link"),
        (of_kind(stat.S_IFIFO), "is a device or a pipe"),
        (of_kind(stat.S_IFCHR), "is a device or a pipe"),
        (of_kind(stat.S_IFBLK), "is a device or a pipe"),
        (of_kind(stat.S_IFSOCK), "is neither a file nor a folder"),
        (of_kind(stat.S_IFDIR), "is neither a file nor a folder"),
        (named("/tmp/absolute"), "has an absolute name"),
        (named("C:/absolute"), "has an absolute name"),
        (named("../outside"), "leads out of the folder"),
        (named("m/../../outside"), "leads out of the folder"),
        (named("m/../inside"), "leads out of the folder"),
        (named("../outside/"), "leads out of the folder"),
        (named("..\\outside"), "has a backslash"),
        (named("m/saved_model.pb/x"), "claim the same place"),
        (named("./m//saved_model.pb"), "claim the same place"),
        (named("m"), "claim the same place"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_entries_that_are_unsafe_are_refused(
    tmp_path: Path, change: Callable[[zipfile.ZipInfo], object], why: str
) -> None:
    assert why in refused(with_entry(change, b"/etc/passwd"), tmp_path / "a/out")
    assert set(tree(tmp_path / "a")) <= {"out", "out/m", "out/m/saved_model.pb"}


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        content = with_entry(named("m/saved_model.pb"))
    assert "claim the same place" in refused(content, tmp_path / "out")


def test_a_name_with_a_zero_byte_is_refused(tmp_path: Path) -> None:
    content = with_entry(named("m/bad0")).replace(b"m/bad0", b"m/bad\0")
    assert "a name that no file can have" in refused(content, tmp_path / "out")


CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"


def changed(content: bytes, field: int, code: str, value: int) -> bytes:
    """`content` with one field of the last entry of the directory changed (APPNOTE.TXT 4.3.12)."""
    whole = bytearray(content)
    struct.pack_into(code, whole, content.rindex(CENTRAL) + field, value)
    return bytes(whole)


@pytest.mark.parametrize("bit", [0, 6, 13])
def test_an_encrypted_entry_is_refused(tmp_path: Path, bit: int) -> None:
    assert "is encrypted" in refused(
        changed(with_entry(lambda info: None), 8, "<H", 1 << bit), tmp_path / "out"
    )


@pytest.mark.parametrize("method", [9, 12, 14, 93, 98])
def test_other_compressions_are_refused(tmp_path: Path, method: int) -> None:
    content = changed(with_entry(lambda info: None), 10, "<H", method)
    assert f"is compressed by method {method}" in refused(content, tmp_path / "out")


@pytest.mark.parametrize("size", [0, 1, 6, 8, 100_000])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_size_that_lies_is_noticed(tmp_path: Path, size: int, compression: int) -> None:
    content = changed(zipped({"m/saved_model.pb": b"x", "m/bad": b"payload"}, compression), 24, "<I", size)
    assert "cut short or damaged" in refused(content, tmp_path / "out")
    assert (tmp_path / "out/m/bad").stat().st_size <= min(size, 7)


def test_a_size_beyond_the_disk_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    # The largest size that fits into the field, twice over in as many entries as a disk may need.
    free = shutil.disk_usage(tmp_path).free
    count = free // 0xFFFFFFFE + 1
    content = zipped({f"{number}": b"x" for number in range(count)})
    whole = bytearray(content)
    place = whole.find(CENTRAL)
    while place >= 0:
        struct.pack_into("<I", whole, place + 24, 0xFFFFFFFE)
        place = whole.find(CENTRAL, place + 4)
    assert "too full" in refused(bytes(whole), tmp_path / "out")
    assert tree(tmp_path / "out") == []


def test_a_wrong_checksum_is_noticed(tmp_path: Path) -> None:
    content = zipped({"m/saved_model.pb": b"x" * 900}, zipfile.ZIP_STORED)
    damaged = content.replace(b"x" * 900, b"x" * 899 + b"y")
    assert "cut short or damaged" in refused(damaged, tmp_path / "out")


def test_entries_that_share_bytes_are_refused(tmp_path: Path) -> None:
    """The bomb of overlapping files: a few bytes that unpack to any size."""
    content = zipped({"a": b"x" * 900, "b": b"x" * 900})
    whole = changed(content, 42, "<I", 0)  # the second entry is where the first one is
    assert "has entries that overlap: " in refused(whole, tmp_path / "out")
    assert tree(tmp_path / "out") == []


def test_another_name_in_front_of_the_content_is_noticed(tmp_path: Path) -> None:
    content = zipped({"m/saved_model.pb": b"x"}).replace(LOCAL, b"LOCAL", 1)
    assert "cut short or damaged" in refused(content.replace(b"LOCAL", b"PK\x03\x05", 1), tmp_path / "1")
    whole = zipped({"m/saved_model.pb": b"x"})
    assert "cut short or damaged" in refused(whole.replace(b"m/saved", b"n/saved", 1), tmp_path / "2")


def test_an_archive_cut_anywhere_is_refused(tmp_path: Path) -> None:
    content = zipped({**GOOD, "noise": os.urandom(2000)})
    for number, cut in enumerate([*range(0, len(content), 97), len(content) - 1]):
        assert "cut short or damaged" in refused(content[:cut], tmp_path / str(number))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.integers(0, len(zipped(GOOD)) - 1), st.integers(0, 255), max_size=6))
def test_a_mangled_archive_is_refused_or_stays_in_its_folder(tmp_path: Path, changes: dict[int, int]) -> None:
    content = bytearray(zipped(GOOD))
    for place, value in changes.items():
        content[place] = value
    target = tmp_path / "around" / "out"
    try:
        run(bytes(content), target)
    except DownloadError:
        pass
    finally:
        assert all(path.is_relative_to(target) for path in (tmp_path / "around").rglob("*") if path != target)
        assert os.listdir(tmp_path) == ["around"]
        shutil.rmtree(tmp_path / "around", ignore_errors=True)

"""tasks.lib.models.obtain: a folder of the user becomes versions of a model."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tasks.lib.common.errors import ModelError
from tasks.lib.common.settings import Settings
from tasks.lib.models import obtain, store
from tests.helpers.archives import tree
from tests.helpers.bringing import SAVED, got, make


def test_a_bare_saved_model_becomes_version_1_and_the_next(settings: Settings, tmp_path: Path) -> None:
    own = make(tmp_path / "export", SAVED)
    before = {path: path.stat() for path in own.rglob("*")}
    model = got(obtain.from_path(settings, "mine", own))
    assert (model.version, model.origin.source, model.origin.address) == (1, "path", str(own))
    assert tree(model.folder) == tree(own)
    assert sorted(os.listdir(model.base)) == ["1", "1.origin.json"]
    for path in [model.folder, *model.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644)
    after = {path: path.stat() for path in own.rglob("*")}
    assert {p: (s.st_mode, s.st_mtime_ns) for p, s in before.items()} == {
        p: (s.st_mode, s.st_mtime_ns) for p, s in after.items()
    }
    assert obtain.from_path(settings, "mine", own) == model
    make(own, {"saved_model.pb": b"trained further"})
    assert str(obtain.from_path(settings, "mine", own)) == "mine@2"


def test_the_number_that_is_its_name_is_its_version(settings: Settings, tmp_path: Path) -> None:
    own = make(tmp_path / "base" / "0042", SAVED)
    assert str(obtain.from_path(settings, "mine", own)) == "mine@42"
    assert sorted(os.listdir(settings.paths.models / "mine")) == ["42", "42.origin.json"]
    make(own, {"saved_model.pb": b"trained further"})
    with pytest.raises(ModelError, match="mine@42 is there already"):
        obtain.from_path(settings, "mine", own)
    assert str(obtain.from_path(settings, "mine@43", own)) == "mine@43"


def test_a_folder_of_versions(settings: Settings, tmp_path: Path) -> None:
    own = make(
        tmp_path / "own", {"7/saved_model.pb": b"7", "12/saved_model.pb": b"12", "x/saved_model.pb": b"x"}
    )
    make(own, {"3/notes.txt": b"no model"})
    assert str(obtain.from_path(settings, "mine", own)) == "mine@12"
    assert list(store.versions(settings.paths, "mine")) == [7, 12]
    assert str(obtain.from_path(settings, "other@7", own)) == "other@7"
    assert list(store.versions(settings.paths, "other")) == [7]
    with pytest.raises(ModelError, match="has no version 8; it has: 7, 12"):
        obtain.from_path(settings, "third@8", own)


def test_links_inside_the_folder_are_followed(settings: Settings, tmp_path: Path) -> None:
    own = make(tmp_path / "own", {"blobs/graph": b"graph", "blobs/variables/data": b"data"})
    (own / "5").mkdir()
    (own / "5" / "saved_model.pb").symlink_to("../blobs/graph")
    (own / "5" / "variables").symlink_to(own / "blobs" / "variables")
    (tmp_path / "link").symlink_to(own)
    model = got(obtain.from_path(settings, "mine", tmp_path / "link"))
    assert tree(model.folder) == ["saved_model.pb", "variables", "variables/data"]
    assert not any(path.is_symlink() for path in model.folder.rglob("*"))
    assert store.content_digest(model.folder) == model.origin.content_sha256


@pytest.mark.parametrize(
    ("link", "target", "why"),
    [
        ("variables/x", "../../secret", "is a link that leads out of"),
        ("variables/x", "/etc/hostname", "is a link that leads out of"),
        ("variables/x", "..", "circular link"),
        ("variables/x", "gone", "is a link that leads nowhere"),
    ],
)
def test_other_links_are_refused(
    settings: Settings, tmp_path: Path, link: str, target: str, why: str
) -> None:
    (tmp_path / "secret").write_text("secret")
    own = make(tmp_path / "own", SAVED)
    (own / link).symlink_to(target)
    with pytest.raises(ModelError) as caught:
        obtain.from_path(settings, "mine", own)
    assert why in caught.value.problem
    assert str(own / link) in caught.value.problem
    assert not settings.paths.models.exists()


def test_a_version_folder_that_is_a_link_out(settings: Settings, tmp_path: Path) -> None:
    make(tmp_path / "elsewhere", SAVED)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ModelError, match="is a link that leads out of"):
        obtain.from_path(settings, "mine", tmp_path / "own")


def test_a_pipe_is_refused(settings: Settings, tmp_path: Path) -> None:
    own = make(tmp_path / "own", SAVED)
    os.mkfifo(own / "pipe")
    with pytest.raises(ModelError, match="pipe is neither a file nor a folder"):
        obtain.from_path(settings, "mine", own)
    assert not settings.paths.models.exists()


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"readme": b""}, "is not a SavedModel"),
        ({"final/saved_model.pb": b""}, "is not a SavedModel"),
        ({"1/saved_model.pb": b"", "01/saved_model.pb": b""}, r"holds a version twice \(01, 1\)"),
    ],
)
def test_folders_that_are_refused(
    settings: Settings, tmp_path: Path, files: dict[str, bytes], why: str
) -> None:
    with pytest.raises(ModelError, match=why):
        obtain.from_path(settings, "mine", make(tmp_path / "own", files))
    assert not settings.paths.models.exists()


def test_a_folder_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gone does not exist"):
        obtain.from_path(settings, "mine", tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="pipe is neither a folder nor a file"):
        obtain.from_path(settings, "mine", tmp_path / "pipe")

"""tasks.lib.models.take_in: archives of every kind become versions, from a disk and from a URL alike."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from backports import zstd

from tasks.lib.common.errors import DownloadError, ModelError, SuiteError
from tasks.lib.common.settings import Settings
from tasks.lib.models import digests, keras_file, obtain, store
from tasks.lib.models.store import Model
from tests.helpers.archives import tar, tree, zipped
from tests.helpers.fileserver import Server

FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets/words.txt": b"a\nb\n"}

Maker = Callable[[dict[str, bytes]], bytes]
MAKERS: dict[str, Maker] = {
    "zip": lambda files: zipped(files),
    "tar": lambda files: tar(files, "w"),
    "tar.gz": lambda files: gzip.compress(tar(files, "w")),
    "tar.bz2": lambda files: bz2.compress(tar(files, "w")),
    "tar.xz": lambda files: lzma.compress(tar(files, "w")),
    "tar.zst": lambda files: zstd.compress(tar(files, "w")),
}
kinds = pytest.mark.parametrize("kind", MAKERS)
ways = pytest.mark.parametrize("way", ["path", "url"])


class Bring:
    """Brings a file in, from a disk or from a URL."""

    def __init__(self, settings: Settings, server: Server, folder: Path, way: str) -> None:
        self.way = way
        self.address = ""
        self._settings, self._server, self._folder = settings, server, folder

    def __call__(
        self, reference: str, content: bytes, sha256: str | None = None, strip: int | None = None
    ) -> Model:
        if self.way == "url":
            self.address, _ = self._server.serve(f"/{hashlib.sha256(content).hexdigest()[:8]}", content)
            model = obtain.from_url(self._settings, reference, self.address, sha256, strip)
        else:
            file = self._folder / "own"
            file.write_bytes(content)
            self.address = str(file)
            model = obtain.from_path(self._settings, reference, file, sha256, strip)
            assert file.read_bytes() == content
        assert model is not None
        return model


@pytest.fixture
def bring(settings: Settings, server: Server, tmp_path: Path, way: str) -> Bring:
    return Bring(settings, server, tmp_path, way)


def inside(folder: str, files: dict[str, bytes] = FILES) -> dict[str, bytes]:
    return {f"{folder}/{name}" if folder else name: content for name, content in files.items()}


@kinds
@ways
def test_a_version_folder(settings: Settings, bring: Bring, way: str, kind: str) -> None:
    content = MAKERS[kind](inside("resnet/0042"))
    model = bring("mine", content)
    assert (str(model), model.folder) == ("mine@42", settings.paths.models / "mine" / "42")
    assert (model.origin.source, model.origin.address) == (way, bring.address)
    assert model.origin.archive_sha256 == hashlib.sha256(content).hexdigest()
    assert sorted(os.listdir(model.base)) == ["42", "42.origin.json"]
    assert (model.folder / "assets/words.txt").read_bytes() == b"a\nb\n"
    assert (bring.address in digests.read(settings.paths)) == (way == "url")


@kinds
@ways
@pytest.mark.parametrize("folder", ["", "export", "a/b/final", "0"])
def test_a_saved_model_without_a_number_becomes_the_next_version(
    settings: Settings, bring: Bring, kind: str, folder: str
) -> None:
    first = bring("mine", MAKERS[kind](inside(folder)))
    assert str(first) == "mine@1"
    assert tree(first.folder) == ["assets", "assets/words.txt", *tree(first.folder)[2:]]
    other = MAKERS[kind](inside(folder, {**FILES, "saved_model.pb": b"trained further"}))
    assert str(bring("mine", other)) == "mine@2"
    assert str(bring("mine@7", other)) == "mine@7"
    assert str(bring("mine", MAKERS[kind](inside("elsewhere")))) == "mine@1"
    assert list(store.versions(settings.paths, "mine")) == [1, 2, 7]
    assert store.load(settings.paths, "mine", 1) == first


@ways
def test_its_content_is_known_whatever_it_is_packed_in(
    settings: Settings, bring: Bring, tmp_path: Path
) -> None:
    for name, content in FILES.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(content)
    folder = obtain.from_path(settings, "mine", tmp_path / "folder")
    for maker in MAKERS.values():
        assert bring("mine", maker(inside("x"))) == folder
    assert sorted(os.listdir(settings.paths.models / "mine")) == ["1", "1.origin.json"]


@ways
def test_a_version_that_is_there_with_another_content_stays(settings: Settings, bring: Bring) -> None:
    bring("mine", zipped(inside("3")))
    before = tree(settings.paths.models / "mine")
    for content in (zipped({"3/saved_model.pb": b"other"}), zipped({"x/saved_model.pb": b"other"})):
        with pytest.raises(ModelError, match="mine@3 is there already, and the new one"):
            bring("mine@3", content)
    assert tree(settings.paths.models / "mine") == before


@ways
def test_one_of_several_versions(settings: Settings, bring: Bring) -> None:
    content = zipped({f"m/{version}/saved_model.pb": version.encode() for version in ("2", "10")})
    with pytest.raises(ModelError, match="holds no version 3 but 2, 10"):
        bring("mine@3", content)
    assert str(bring("mine@2", content)) == "mine@2"
    assert list(store.versions(settings.paths, "mine")) == [2]
    assert str(bring("mine", content)) == ("mine@10" if bring.way == "path" else "mine@2")


@ways
def test_leading_folders_are_dropped(settings: Settings, bring: Bring) -> None:
    assert str(bring("mine", zipped(inside("a/5")), strip=1)) == "mine@5"
    assert str(bring("other", zipped(inside("a/5")), strip=2)) == "other@1"
    with pytest.raises(ModelError, match="has its SavedModel in b, not at the top after dropping 1 leading"):
        bring("third", zipped(inside("a/b")), strip=1)


@ways
def test_a_wrong_checksum(settings: Settings, bring: Bring) -> None:
    content = zipped(inside("1"))
    with pytest.raises(DownloadError, match=r"has SHA-256 .* not 0000"):
        bring("mine", content, sha256="0" * 64)
    assert not settings.paths.models.exists()
    assert str(bring("mine", content, sha256=hashlib.sha256(content).hexdigest())) == "mine@1"


@ways
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not an archive"),
        (os.urandom(5000), "is not an archive"),
        (zipped({"readme": b"x"}), "holds no SavedModel"),
        (zipped({"m/1/saved_model.pb": b"x", "../../outside": b"x"}), "leads out of the folder"),
        (zipped(inside("1"))[:-30], "is cut short or damaged"),
        (MAKERS["tar.zst"](inside("1"))[:-9], "is cut short or damaged"),
        (MAKERS["tar.xz"](inside("1"))[:-9], "is cut short or damaged"),
        (zipped({"a/saved_model.pb": b"x", "b/saved_model.pb": b"x"}), "more than one model: a, b"),
    ],
)
def test_what_is_refused_leaves_nothing(
    settings: Settings, bring: Bring, tmp_path: Path, content: bytes, why: str
) -> None:
    with pytest.raises(SuiteError) as caught:
        bring("mine", content)
    assert why in caught.value.problem
    assert bring.address in caught.value.problem
    assert not settings.paths.models.exists()
    assert not list(tmp_path.rglob("outside"))


def test_a_file_that_cannot_be_read(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "own.zip"
    file.write_bytes(zipped(inside("1")))

    def denied(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(Path, "open", denied)  # root may read everything
    with pytest.raises(ModelError, match=r"own\.zip cannot be read \(Permission denied\)"):
        obtain.from_path(settings, "mine", file)


def test_dry_touches_nothing(settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.zip").write_bytes(zipped(inside("1")))
    assert obtain.from_path(replace(settings, dry=True), "mine", tmp_path / "own.zip") is None
    assert f"would bring in what {tmp_path / 'own.zip'} holds" in capsys.readouterr().err
    assert not settings.paths.models.exists()


# Keras files. What the program does that exports them, tests/embedded/test_export.py tests.

KERAS = {"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b"\x89HDF\r\n\x1a\nweights"}
KERAS_FILES = {"keras": zipped(KERAS), "h5": b"\x89HDF\r\n\x1a\nmodel"}
keras_kinds = pytest.mark.parametrize("kind", KERAS_FILES)


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was exported; the export takes TensorFlow, so here it only makes other files each time."""
    seen: list[Path] = []

    def export(settings: Settings, keras: Path, target: Path, called: str, name: str) -> None:
        assert tree(keras) == sorted(KERAS) if keras.is_dir() else keras.read_bytes() == KERAS_FILES["h5"]
        seen.append(keras)
        target.mkdir()
        (target / "saved_model.pb").write_bytes(str(len(seen)).encode())

    monkeypatch.setattr(keras_file, "export", export)
    return seen


@ways
@keras_kinds
def test_a_keras_file_is_exported_once(
    settings: Settings, bring: Bring, kind: str, exports: list[Path]
) -> None:
    content = KERAS_FILES[kind]
    model = bring("mine", content)
    assert (str(model), tree(model.folder)) == ("mine@1", ["saved_model.pb"])
    assert model.origin.archive_sha256 == hashlib.sha256(content).hexdigest()
    assert bring("mine", content) == model
    assert len(exports) == 1
    assert str(bring("mine@5", content)) == "mine@5"
    assert len(exports) == 2
    assert sorted(os.listdir(model.base)) == ["1", "1.origin.json", "5", "5.origin.json"]


@ways
@keras_kinds
def test_a_keras_file_with_a_wrong_checksum_is_not_exported(
    settings: Settings, bring: Bring, kind: str, exports: list[Path]
) -> None:
    with pytest.raises(DownloadError, match="has SHA-256"):
        bring("mine", KERAS_FILES[kind], sha256="0" * 64)
    assert not exports
    assert not settings.paths.models.exists()


@ways
@keras_kinds
def test_a_keras_file_has_no_folders_to_drop(
    settings: Settings, bring: Bring, kind: str, exports: list[Path]
) -> None:
    with pytest.raises(DownloadError, match="is a Keras file") as caught:
        bring("mine", KERAS_FILES[kind], strip=0)
    assert caught.value.remedy == "Leave --strip-components away."
    assert not settings.paths.models.exists()


@ways
@keras_kinds
def test_an_export_that_fails_leaves_nothing(
    settings: Settings, bring: Bring, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def export(settings: Settings, keras: Path, target: Path, called: str, name: str) -> None:
        target.mkdir()
        (target / "saved_model.pb").touch()
        raise ModelError("It cannot be exported.", "Export it yourself.")

    monkeypatch.setattr(keras_file, "export", export)
    with pytest.raises(ModelError, match="It cannot be exported"):
        bring("mine", KERAS_FILES[kind])
    assert not settings.paths.models.exists()


def test_a_keras_file_inside_an_archive_is_pointed_out(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "own.zip").write_bytes(zipped({"a/readme": b"", "a/model.h5": KERAS_FILES["h5"]}))
    with pytest.raises(ModelError, match="holds no SavedModel") as caught:
        obtain.from_path(settings, "mine", tmp_path / "own.zip")
    assert caught.value.remedy == "Unpack it, and give --path the Keras file a/model.h5."


@ways
def test_a_keras_file_with_an_unsafe_entry_is_not_exported(
    settings: Settings, bring: Bring, tmp_path: Path, exports: list[Path]
) -> None:
    with pytest.raises(DownloadError, match="leads out of the folder"):
        bring("mine", zipped({**KERAS, "assets/../../../outside": b"x"}))
    assert not exports
    assert not list(tmp_path.rglob("outside"))

"""tasks.lib.models.obtain: a model is brought in as a whole, or nothing is left behind."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from pathlib import Path

import pytest

from tasks.lib.common.errors import DownloadError, ModelError, SuiteError, Unreachable
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import seeded
from tasks.lib.models import digests, obtain, receive, store
from tests.helpers.archives import saved_model, tar, tree
from tests.helpers.bringing import ARCHIVE, SAVED, VERSION, catalogue, got, make, nothing_left
from tests.helpers.fileserver import Server

FILES = ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]


@pytest.fixture
def fake_seeded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The seeded build takes minutes and TensorFlow: here it only makes the files. Lists its targets."""
    targets: list[Path] = []

    def build(settings: Settings, recipe: str, target: Path) -> str:
        assert not target.exists()
        targets.append(target)
        target.mkdir(mode=0o700)
        (target / "saved_model.pb").write_bytes(b"seeded")
        (target / "saved_model.pb").chmod(0o600)
        return f"{recipe}, seed 1"

    monkeypatch.setattr(seeded, "build", build)
    return targets


@pytest.mark.parametrize("strip", ["strip_components = 2", ""])
def test_a_model_of_the_catalogue(settings: Settings, server: Server, strip: str) -> None:
    url, resource = server.serve("/resnet.tar.gz", ARCHIVE)
    catalogue(settings, url, strip)
    model = got(obtain.ensure(settings, "resnet"))
    base = settings.paths.models / "resnet"
    assert (str(model), model.folder) == (f"resnet@{VERSION}", base / VERSION)
    assert [
        path.relative_to(model.folder).as_posix()
        for path in sorted(model.folder.rglob("*"))
        if path.is_file()
    ] == FILES
    sha256 = hashlib.sha256(ARCHIVE).hexdigest()
    assert model.origin == store.Origin("official", url, sha256, store.content_digest(model.folder))
    assert model == store.find(settings.paths, "resnet")
    assert sorted(os.listdir(base)) == [VERSION, f"{VERSION}.origin.json"]
    assert digests.read(settings.paths)[url].sha256 == sha256
    for path in [base, *base.rglob("*"), digests.path(settings.paths)]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path
    assert len(resource.requests) == 1


def test_a_model_that_is_there_needs_no_network(
    settings: Settings, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    url, resource = server.serve("/resnet.tar.gz", ARCHIVE)
    catalogue(settings, url)
    model = obtain.ensure(settings, "resnet")
    capsys.readouterr()
    for reference in ("resnet", f"resnet@{VERSION}"):
        assert obtain.ensure(settings, reference) == model
    assert obtain.ensure(settings, "resnet", "official") == model
    assert len(resource.requests) == 1
    assert capsys.readouterr() == ("", "")


def test_where_the_archive_cannot_be_reached_the_seeded_model_is_built(
    settings: Settings, closed_url: str, fake_seeded: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(settings, closed_url)
    model = got(obtain.ensure(settings, "resnet"))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "cannot be reached: connection refused." in said[0]
    assert "seeded weights instead" in said[0]
    assert (str(model), model.origin.source, model.origin.address) == (
        "resnet@1",
        "seeded",
        "resnet50_v2, seed 1",
    )
    assert model.origin.warning is not None
    assert sorted(os.listdir(model.base)) == ["1", "1.origin.json"]
    assert stat.S_IMODE(model.folder.stat().st_mode) == 0o755
    assert stat.S_IMODE((model.folder / "saved_model.pb").stat().st_mode) == 0o644
    assert obtain.ensure(settings, "resnet") == model
    assert len(fake_seeded) == 1


def test_the_official_archive_can_follow_the_seeded_model(
    settings: Settings, server: Server, fake_seeded: list[Path]
) -> None:
    url, resource = server.serve("/resnet.tar.gz", ARCHIVE)
    catalogue(settings, url)
    assert str(obtain.ensure(settings, "resnet", "seeded")) == "resnet@1"
    assert resource.requests == []
    assert str(obtain.ensure(settings, "resnet")) == "resnet@1"
    assert str(obtain.ensure(settings, "resnet", "official")) == f"resnet@{VERSION}"
    assert str(obtain.ensure(settings, "resnet", "seeded")) == "resnet@1"
    assert str(obtain.ensure(settings, "resnet")) == f"resnet@{VERSION}"
    assert (len(fake_seeded), len(resource.requests)) == (1, 1)


@pytest.mark.parametrize(
    "wish",
    [
        {"source": "official"},
        {"sha256": "0" * 64},
        {"strip_components": 2},
        {"reference": f"resnet@{VERSION}"},
    ],
)
def test_asking_for_the_archive_gives_no_seeded_model(
    settings: Settings, closed_url: str, fake_seeded: list[Path], wish: dict[str, str]
) -> None:
    catalogue(settings, closed_url)
    with pytest.raises(Unreachable):
        obtain.ensure(settings, **{"reference": "resnet", **wish})  # type: ignore[arg-type]
    assert nothing_left(settings)
    assert not fake_seeded


def test_the_seeded_version_by_its_number(
    settings: Settings, closed_url: str, fake_seeded: list[Path]
) -> None:
    catalogue(settings, closed_url)
    assert str(obtain.ensure(settings, "resnet@1")) == "resnet@1"


@pytest.mark.parametrize("status", [403, 404, 410])
def test_an_archive_that_is_refused_gives_way_to_the_seeded_model(
    settings: Settings, server: Server, fake_seeded: list[Path], status: int
) -> None:
    """Publishers move their archives; the main job must not depend on that."""
    url, _ = server.serve("/resnet.tar.gz", ARCHIVE, statuses=[(status, {})] * 2)
    catalogue(settings, url)
    with pytest.raises(DownloadError, match=f"answers HTTP {status}"):
        obtain.ensure(settings, "resnet", source="official")
    assert nothing_left(settings)
    model = obtain.ensure(settings, "resnet")
    assert model is not None
    assert model.origin.source == "seeded"
    assert len(fake_seeded) == 1


@pytest.mark.parametrize("extra", ["", "seeded = 'resnet50_v2'"])
def test_a_source_that_the_catalogue_lacks(settings: Settings, extra: str) -> None:
    catalogue(settings, "http://127.0.0.1:1/x", extra)
    if extra:
        (settings.paths.models / "catalog.toml").write_text(f"[resnet]\n{extra}\n")
    with pytest.raises(ModelError, match="names no such source"):
        obtain.ensure(settings, "resnet", "official" if extra else "seeded")
    assert nothing_left(settings)


@pytest.mark.parametrize("when", ["while building", "after it"])
def test_a_seeded_build_that_fails_leaves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def build(settings: Settings, recipe: str, target: Path) -> str:
        target.mkdir()
        (target / "saved_model.pb").touch()
        raise ModelError("It does not work.", "Fix it.") if when == "while building" else KeyboardInterrupt

    monkeypatch.setattr(seeded, "build", build)
    with pytest.raises((ModelError, KeyboardInterrupt)):
        obtain.ensure(settings, "resnet", "seeded")
    assert not settings.paths.models.exists()


def test_the_place_of_the_seeded_model_is_taken(
    settings: Settings, tmp_path: Path, fake_seeded: list[Path]
) -> None:
    own = make(tmp_path / "1", SAVED)
    assert str(obtain.from_path(settings, "resnet", own)) == "resnet@1"
    with pytest.raises(ModelError, match="resnet@1, which the seeded model would become, is there already"):
        obtain.ensure(settings, "resnet", "seeded")
    assert not fake_seeded  # told before minutes are spent


def test_an_unknown_model(settings: Settings) -> None:
    with pytest.raises(ModelError, match="has no model 'resnext'; it has: resnet"):
        obtain.ensure(settings, "resnext")
    assert not settings.paths.models.exists()


def test_a_version_that_the_archive_does_not_hold(settings: Settings, server: Server) -> None:
    catalogue(settings, server.serve("/resnet.tar.gz", ARCHIVE)[0])
    with pytest.raises(ModelError, match=f"holds no version 7 but {VERSION}"):
        obtain.ensure(settings, "resnet@7")
    assert nothing_left(settings)


@pytest.mark.parametrize(
    ("content", "why", "what_to_do"),
    [
        (b"<html>not found</html>", "is not an archive", "Check the address"),
        (ARCHIVE[:-1], "is cut short or damaged", "Download it again"),
        (ARCHIVE[: len(ARCHIVE) // 2], "is cut short or damaged", "Download it again"),
        (tar({"1/saved_model.pb": b"x", "1/../../x": b""}), "leads out of the folder", "trust"),
        (tar({"readme": b"x"}), "holds no SavedModel", "Check the address"),
        (tar({"1/saved_model.pbtxt": b"x"}), "holds no SavedModel", "Check the address"),
        (
            tar({"a/saved_model.pb": b"x", "b/saved_model.pb": b"x"}),
            "more than one model: a, b",
            "--path FOLDER",
        ),
        (
            tar({"a/1/saved_model.pb": b"x", "b/2/saved_model.pb": b"x"}),
            "more than one model: a/1, b/2",
            "--path",
        ),
        (
            tar({"1/saved_model.pb": b"x", "final/saved_model.pb": b"x"}),
            "more than one model: 1, final",
            "--path",
        ),
        (
            tar({"1/saved_model.pb": b"x", "001/saved_model.pb": b"x"}),
            "more than one model: 001, 1",
            "--path",
        ),
    ],
)
def test_archives_that_are_refused(
    settings: Settings, server: Server, content: bytes, why: str, what_to_do: str
) -> None:
    url, _ = server.serve("/model", content)
    with pytest.raises(SuiteError) as caught:
        obtain.from_url(settings, "mine", url)
    assert why in caught.value.problem
    assert url in caught.value.problem
    assert what_to_do in caught.value.remedy
    assert not settings.paths.models.exists()


@pytest.mark.parametrize(
    ("strip", "why"),
    [
        (0, f"has its version folder in resnet/{VERSION}, not at the top"),
        (1, f"has its version folder in resnet/{VERSION}, not at the top after dropping 1 leading folder."),
        (4, "holds no SavedModel (a folder with saved_model.pb) after dropping 4 leading folders"),
    ],
)
def test_a_wrong_strip_components_is_told(settings: Settings, server: Server, strip: int, why: str) -> None:
    url, _ = server.serve("/model", ARCHIVE)
    with pytest.raises(ModelError) as caught:
        obtain.from_url(settings, "mine", url, strip_components=strip)
    assert why in caught.value.problem
    assert caught.value.remedy == receive.FOUND_BY_ITSELF
    assert not settings.paths.models.exists()


@pytest.mark.parametrize("prefix", ["./resnet/", "resnet/", "", "a/b/c/"])
def test_the_version_folder_is_found_at_any_depth(settings: Settings, server: Server, prefix: str) -> None:
    url, _ = server.serve("/model", saved_model("00000123", prefix=prefix))
    model = got(obtain.from_url(settings, "mine", url))
    assert (model.version, model.folder) == (123, settings.paths.models / "mine/123")
    assert model.origin.source == "url"


def test_several_versions_come_at_once(settings: Settings, server: Server) -> None:
    content = tar({f"mine/{version}/saved_model.pb": version.encode() for version in ("2", "10", "9")})
    url, resource = server.serve("/model", content)
    assert str(obtain.from_url(settings, "mine", url)) == "mine@10"
    assert list(store.versions(settings.paths, "mine")) == [2, 9, 10]
    assert str(obtain.from_url(settings, "mine", url)) == "mine@10"
    assert len(resource.requests) == 1


def test_another_archive_adds_its_versions(settings: Settings, server: Server) -> None:
    first, _ = server.serve("/first", saved_model("1"))
    second, _ = server.serve("/second", saved_model("2", seed=2))
    assert str(obtain.from_url(settings, "mine", first)) == "mine@1"
    assert str(obtain.from_url(settings, "mine", second)) == "mine@2"
    assert str(obtain.from_url(settings, "mine", first)) == "mine@1"
    assert store.find(settings.paths, "mine@1").origin.address == first


def test_a_version_that_is_there_is_never_replaced(settings: Settings, server: Server) -> None:
    first, _ = server.serve("/first", saved_model("1"))
    other, _ = server.serve("/other", tar({"0002/saved_model.pb": b"x", "1/saved_model.pb": b"different"}))
    obtain.from_url(settings, "mine", first)
    before = tree(settings.paths.models)
    with pytest.raises(ModelError, match="mine@1 is there already, and the new one is different") as caught:
        obtain.from_url(settings, "mine", other)
    assert str(settings.paths.models / "mine/1") in caught.value.remedy
    assert tree(settings.paths.models) == before
    assert list(digests.read(settings.paths)) == [first]


def test_the_same_version_from_elsewhere_stays_as_it_is(settings: Settings, server: Server) -> None:
    first, _ = server.serve("/first", saved_model("1"))
    mirror, resource = server.serve("/mirror", saved_model("1"))
    model = obtain.from_url(settings, "mine", first)
    for _ in range(2):
        assert obtain.from_url(settings, "mine", mirror) == model
    assert len(resource.requests) == 1  # the second time its digest is known


def test_a_version_that_a_person_replaced_is_not_taken_for_the_archives(
    settings: Settings, server: Server
) -> None:
    url, _ = server.serve("/model", saved_model("1"))
    model = got(obtain.from_url(settings, "mine", url))
    (model.folder / "saved_model.pb").write_bytes(b"a user's own")
    assert got(obtain.ensure(settings, "mine")).origin.source == "changed"
    with pytest.raises(ModelError, match="mine@1 is there already, and the new one") as caught:
        obtain.from_url(settings, "mine", url)
    assert caught.value.remedy.startswith(f"Remove {model.folder} to replace it")
    shutil.rmtree(model.folder)  # as it says: the record that stays does no harm
    assert obtain.from_url(settings, "mine", url) == model


def test_the_catalogues_url_is_official_however_it_is_given(settings: Settings, server: Server) -> None:
    url, _ = server.serve("/resnet.tar.gz", ARCHIVE)
    catalogue(settings, url)
    assert got(obtain.from_url(settings, "resnet", url)).origin.source == "official"


def test_one_version_can_be_asked_of_a_url(settings: Settings, server: Server) -> None:
    content = tar({f"mine/{version}/saved_model.pb": version.encode() for version in ("2", "10", "9")})
    url, _ = server.serve("/model", content)
    with pytest.raises(ModelError, match="holds no version 3 but 2, 9, 10"):
        obtain.from_url(settings, "mine@3", url)
    assert str(obtain.from_url(settings, "mine@9", url)) == "mine@9"
    assert list(store.versions(settings.paths, "mine")) == [9]

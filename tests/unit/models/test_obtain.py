"""tasks.lib.models.obtain: a model is brought in as a whole, or nothing is left behind."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.lib.common.errors import DownloadError, ModelError, SuiteError, Unreachable
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import seeded
from tasks.lib.models import digests, obtain, receive, store
from tasks.lib.models.store import Model
from tests.helpers.archives import saved_model, tar, tree
from tests.helpers.fileserver import Resource, Server

VERSION = "1538687457"
ARCHIVE = saved_model(size=100_000)
FILES = ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]


def catalogue(settings: Settings, url: str, extra: str = "seeded = 'resnet50_v2'") -> None:
    settings.paths.models.mkdir(exist_ok=True)
    (settings.paths.models / "catalog.toml").write_text(f"[resnet]\nurl = '{url}'\n{extra}\n")


def got(model: Model | None) -> Model:
    assert model is not None
    return model


def nothing_left(settings: Settings) -> bool:
    return set(tree(settings.paths.models)) <= {"catalog.toml"}


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


# The catalogue


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


# Any URL


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


# Trust


def test_a_wrong_checksum_is_refused(settings: Settings, server: Server) -> None:
    url, _ = server.serve("/model", ARCHIVE)
    with pytest.raises(DownloadError) as caught:
        obtain.from_url(settings, "mine", url, "0" * 64)
    real = hashlib.sha256(ARCHIVE).hexdigest()
    assert caught.value.problem == f"The file at {url} has SHA-256 {real}, not {'0' * 64} as --sha256 says."
    assert not settings.paths.models.exists()


def test_the_catalogues_checksum_is_checked(settings: Settings, server: Server) -> None:
    url, _ = server.serve("/resnet.tar.gz", ARCHIVE)
    catalogue(settings, url, f"sha256 = '{'0' * 64}'")
    with pytest.raises(DownloadError, match=r"as .*catalog\.toml says"):
        obtain.ensure(settings, "resnet")
    assert nothing_left(settings)
    catalogue(settings, url, f"sha256 = '{hashlib.sha256(ARCHIVE).hexdigest().upper()}'")
    obtain.ensure(settings, "resnet")


def remove(settings: Settings, name: str) -> None:
    subprocess.run(["rm", "-r", settings.paths.models / name], check=True)


def test_what_a_url_gave_first_is_remembered(settings: Settings, server: Server) -> None:
    url, resource = server.serve("/model", ARCHIVE)
    other, _ = server.serve("/other", saved_model("2"))
    obtain.from_url(settings, "mine", url)
    obtain.from_url(settings, "mine", other)
    remove(settings, "mine")
    resource.content = saved_model(seed=2)
    with pytest.raises(DownloadError, match="when it was first downloaded") as caught:
        obtain.from_url(settings, "mine", url)
    record = digests.path(settings.paths)
    assert f"remove the line of this address from {record}" in caught.value.remedy
    assert tree(settings.paths.models) == ["digests.json"]
    for line in [line for line in record.read_text().splitlines() if url in line or other in line]:
        record.write_text(record.read_text().replace(line + "\n", ""))  # either of them is the last one once
        digests.read(settings.paths)
    obtain.from_url(settings, "mine", url)
    assert digests.read(settings.paths)[url].sha256 == hashlib.sha256(resource.content).hexdigest()


def test_a_given_checksum_is_stronger_than_the_memory(settings: Settings, server: Server) -> None:
    url, resource = server.serve("/model", ARCHIVE)
    obtain.from_url(settings, "mine", url)
    remove(settings, "mine")
    resource.content = saved_model(seed=2)
    sha256 = hashlib.sha256(resource.content).hexdigest()
    obtain.from_url(settings, "mine", url, sha256)
    assert digests.read(settings.paths)[url].sha256 == sha256


def test_a_checksum_is_held_against_what_is_there(settings: Settings, server: Server) -> None:
    url, resource = server.serve("/model", ARCHIVE)
    sha256 = hashlib.sha256(ARCHIVE).hexdigest()
    model = obtain.from_url(settings, "mine", url, sha256)
    assert obtain.from_url(settings, "mine", url, sha256) == model
    with pytest.raises(
        DownloadError, match=f"mine@{VERSION} is there already, from an archive with SHA-256 {sha256}"
    ):
        obtain.from_url(settings, "mine", url, "0" * 64)
    assert len(resource.requests) == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"http://x": 1}', '{"http://x": {"sha256": "1"}}'])
def test_a_damaged_memory_is_told(settings: Settings, server: Server, text: str) -> None:
    settings.paths.models.mkdir()
    digests.path(settings.paths).write_text(text)
    with pytest.raises(DownloadError, match=r"digests\.json is damaged"):
        obtain.from_url(settings, "mine", server.serve("/model", ARCHIVE)[0])
    assert tree(settings.paths.models) == ["digests.json"]


def test_the_memory_is_json_with_a_line_for_each_url(settings: Settings) -> None:
    settings.paths.models.mkdir()
    for url in ("http://b", "http://a", "http://a"):
        digests.record(settings.paths, url, "1" * 64)
    lines = digests.path(settings.paths).read_text().splitlines()
    assert [line.strip()[:10] for line in lines] == ["{", '"http://a"', '"http://b"', "}"]
    assert set(json.loads("\n".join(lines))["http://a"]) == {"sha256", "seen"}


def test_secrets_in_the_address_are_not_written_down(settings: Settings, server: Server) -> None:
    url, _ = server.serve("/model", ARCHIVE)
    model = got(obtain.from_url(settings, "mine", url.replace("//", "//user:secret@")))
    assert model.origin.address == url
    assert "secret" not in digests.path(settings.paths).read_text()


def test_secrets_in_the_catalogue_are_not_shown(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    catalogue(settings, "http://user:secret@host/x")
    obtain.ensure(replace(settings, dry=True), "resnet")
    assert "would download http://host/x" in capsys.readouterr().err


# What happens under way


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


# A folder that the person has


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        (folder / name).chmod(0o600)
    return folder


SAVED = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "assets/words.txt": b"a\nb\n"}


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

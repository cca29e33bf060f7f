"""tasks.lib.models.store: which models are on disk, and where they came from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common.errors import ModelError
from tasks.lib.common.settings import Settings
from tasks.lib.models import store
from tasks.lib.models.store import Origin, Reference


def put(settings: Settings, name: str, version: str, source: str = "official") -> Path:
    folder = settings.paths.models / name / version
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"weights")
    store.write_origin(folder, Origin(source, "http://host/x", "0" * 64, store.content_digest(folder)))
    return folder


@pytest.mark.parametrize("name", ["resnet", "a", "3d", "ResNet-50_v2.1", "x" * 100])
def test_names(name: str) -> None:
    assert store.parse(name) == Reference(name, None)
    assert store.parse(f"{name}@17") == Reference(name, 17)
    assert str(store.parse(f"{name}@17")) == f"{name}@17"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "-x",
        ".x",
        "a/b",
        "../a",
        "a b",
        "a\n",
        "ä",
        "x" * 101,
        "samples",
        "Labels",
        "catalog.toml",
        "digests.json",
    ],
)
def test_names_that_no_model_can_have(name: str) -> None:
    with pytest.raises(ModelError, match="cannot be the name of a model"):
        store.parse(name)


@pytest.mark.parametrize("version", ["", "0", "-1", "x", "1.0", "1@2", "1" * 19, "\u0661"])
def test_versions_that_are_none(version: str) -> None:
    with pytest.raises(ModelError, match="is not a version"):
        store.parse(f"resnet@{version}")


@given(st.text(max_size=20))
def test_any_text_is_a_reference_or_a_sentence(text: str) -> None:
    try:
        wanted = store.parse(text)
    except ModelError:
        return
    assert Path(wanted.name).name == wanted.name
    assert not wanted.name.startswith(".")


def test_the_newest_version_is_found_by_number(settings: Settings) -> None:
    for version in ("2", "10", "9"):
        put(settings, "resnet", version)
    model = store.find(settings.paths, "resnet")
    assert (str(model), model.folder, model.base) == (
        "resnet@10",
        settings.paths.models / "resnet/10",
        settings.paths.models / "resnet",
    )
    assert model.origin.source == "official"
    assert store.find(settings.paths, "resnet@9").version == 9
    assert list(store.versions(settings.paths, "resnet")) == [2, 9, 10]


def test_only_numbered_folders_with_a_saved_model_count(settings: Settings) -> None:
    put(settings, "resnet", "00000123")
    put(settings, "resnet", ".partial-7")
    put(settings, "resnet", "abc")
    (settings.paths.models / "resnet" / "7").mkdir()
    (settings.paths.models / "resnet" / "8").touch()
    assert store.versions(settings.paths, "resnet") == {123: settings.paths.models / "resnet/00000123"}
    put(settings, "resnet", "123")
    assert store.versions(settings.paths, "resnet") == {123: settings.paths.models / "resnet/123"}


def test_a_model_that_is_not_there_is_told_with_the_command_that_brings_it(settings: Settings) -> None:
    with pytest.raises(ModelError) as caught:
        store.find(settings.paths, "resnet")
    assert "There is no model 'resnet'" in caught.value.problem
    assert "`invoke download --model resnet`" in caught.value.remedy
    put(settings, "resnet", "3")
    with pytest.raises(ModelError) as caught:
        store.find(settings.paths, "resnet@4")
    assert caught.value.problem == "resnet has no version 4, but 3."
    assert "`invoke download --model resnet`" in caught.value.remedy


def test_a_version_without_a_record_is_the_persons_own(settings: Settings) -> None:
    folder = put(settings, "resnet", "3")
    store.origin_record(folder).unlink()
    origin = store.find(settings.paths, "resnet").origin
    assert origin == Origin("path", str(folder), None, store.content_digest(folder))


def test_a_version_that_a_person_replaced_is_not_what_its_record_says(settings: Settings) -> None:
    folder = put(settings, "resnet", "3")
    assert store.is_ours(folder)
    (folder / "saved_model.pb").write_bytes(b"another graph")
    origin = store.find(settings.paths, "resnet").origin
    assert origin == Origin("changed", str(folder), None, store.content_digest(folder))
    assert origin.warning == origin.summary == "weights: changed since they were brought in"
    assert not store.is_ours(folder)
    (folder / "saved_model.pb").write_bytes(b"graph")
    assert store.find(settings.paths, "resnet").origin.source == "official"


def test_a_version_without_a_whole_record_is_not_ours(settings: Settings) -> None:
    folder = put(settings, "resnet", "3")
    store.origin_record(folder).write_text("{")
    assert not store.is_ours(folder)
    store.origin_record(folder).unlink()
    assert not store.is_ours(folder)


def test_files_that_stay_as_they_are_are_read_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put(settings, "resnet", "3")
    read: list[int] = []
    digest = store.files_digest

    def counted(files: Mapping[Path, Path]) -> str:
        read.append(len(files))
        return digest(files)

    monkeypatch.setattr(store, "files_digest", counted)
    (folder / "new").write_bytes(b"x")
    assert len({store.find(settings.paths, "resnet").origin.content_sha256 for _ in range(3)}) == 1
    assert read == [3]
    (folder / "new").write_bytes(b"xy")
    store.content_digest(folder)
    assert read == [3, 3]


def test_a_version_that_cannot_be_read_is_told(settings: Settings) -> None:
    folder = put(settings, "resnet", "3")
    (folder / "assets").symlink_to("nowhere")
    with pytest.raises(ModelError, match=r"3/assets cannot be read \(No such file or directory\)"):
        store.find(settings.paths, "resnet")


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"source": "official"}'])
def test_a_damaged_record_is_told(settings: Settings, text: str) -> None:
    record = store.origin_record(put(settings, "resnet", "3"))
    record.write_text(text)
    with pytest.raises(ModelError, match=r"3\.origin\.json is damaged"):
        store.find(settings.paths, "resnet")


def test_the_record_stands_beside_the_version(settings: Settings) -> None:
    folder = put(settings, "resnet", "3", "seeded")
    record = settings.paths.models / "resnet" / "3.origin.json"
    assert json.loads(record.read_text())["content_sha256"] == store.content_digest(folder)
    assert record.stat().st_mode & 0o777 == 0o644
    assert sorted(os.listdir(record.parent)) == ["3", "3.origin.json"]


def test_what_is_said_of_an_origin() -> None:
    def origin(source: str) -> Origin:
        return Origin(source, "http://host/x", None, "")

    assert origin("official").summary == "weights: official"
    assert origin("url").summary == origin("path").summary == "weights: from http://host/x"
    assert origin("official").warning is None
    assert origin("seeded").summary == origin("seeded").warning
    assert origin("seeded").warning == "weights: seeded: timings hold, classes mean nothing"


def test_the_digest_of_a_folder_is_that_of_its_names_and_contents(tmp_path: Path) -> None:
    def digest(files: dict[str, bytes]) -> str:
        folder = tmp_path / str(len(os.listdir(tmp_path)))
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return store.content_digest(folder)

    first = digest({"a": b"1", "b/c": b"2"})
    assert digest({"b/c": b"2", "a": b"1"}) == first
    others = [{"a": b"1", "b/c": b"3"}, {"a": b"1", "b/d": b"2"}, {"a": b"12", "b/c": b""}, {"a": b"1"}]
    assert len({first, *(digest(other) for other in others)}) == 5
    # Written down, so that records made today are understood tomorrow.
    assert digest({"saved_model.pb": b"graph"}) == (
        "2df4899d6c71aaef60759bd7e0f4f592127120e3c37d8313a9b82beea4460c25"
    )

"""tasks.lib.models.choice: which model is meant where none is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.lib.common.errors import SettingError, Unreachable
from tasks.lib.common.settings import AUTO, Settings
from tasks.lib.models import choice, obtain, store
from tasks.lib.models.store import Origin

CATALOGUE = """
[first]
url = "http://host/first.tar.gz"
seeded = "resnet50_v2"
[second]
package = "second==1.0"
sha256 = "{sha}"
weights = "second/w.pth"
recipe = "efficientnet"
license = "MIT"
attribution = "someone"
""".format(sha="ab" * 32)

Ensured = list[tuple[str, str]]


@pytest.fixture
def auto(settings: Settings) -> Settings:
    settings.paths.models.mkdir()
    (settings.paths.models / "catalog.toml").write_text(CATALOGUE)
    return replace(settings, model=AUTO)


@pytest.fixture
def ensured(auto: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ensured]:
    """Let sources that are named be out of reach; returns what is asked for, which then is on disk."""
    asked: Ensured = []

    def reaching(*unreachable: str) -> Ensured:
        def ensure(settings: Settings, name: str, source: str) -> None:
            asked.append((name, source))
            if source in unreachable:
                raise Unreachable(f"{name} gives nothing.", "Wait.")
            put(settings, name, source)

        monkeypatch.setattr(obtain, "ensure", ensure)
        return asked

    return reaching


def put(settings: Settings, name: str, source: str) -> Path:
    folder = settings.paths.models / name / "1"
    folder.mkdir(parents=True)
    (folder / "saved_model.pb").write_text(name)
    store.write_origin(folder, Origin(source, "-", None, store.content_digest(folder)))
    return folder


@pytest.mark.parametrize(
    ("unreachable", "model", "why"),
    [
        ((), "first", "it is the first of the catalogue"),
        (("official",), "second", "first cannot be reached"),
        (("official", "package"), "first", "first and second cannot be reached: its weights are seeded"),
    ],
)
def test_the_first_that_can_be_reached_is_taken_and_kept(
    auto: Settings,
    ensured: Callable[..., Ensured],
    capsys: pytest.CaptureFixture[str],
    unreachable: tuple[str, ...],
    model: str,
    why: str,
) -> None:
    asked = ensured(*unreachable)
    taken = choice.choose(auto, "")
    assert (taken.model, taken.why) == (model, why)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "model: first, because it is the first of the catalogue (--model takes another)"
    assert said[-1] == f"model: {model}, because {why} (--model takes another)"
    number = len(asked)
    assert choice.choose(auto, "") == taken
    assert choice.known(auto, "") == model
    assert len(asked) == number, "nothing is fetched again"


def test_a_dry_call_brings_nothing_in(auto: Settings, ensured: Callable[..., Ensured]) -> None:
    asked = ensured("official")
    assert choice.choose(replace(auto, dry=True), "").model == "first"
    assert asked == []
    assert not (auto.paths.state / choice.KEPT).exists()


def test_what_is_named_is_never_replaced(auto: Settings, ensured: Callable[..., Ensured]) -> None:
    asked = ensured("official")
    for settings, flag in ((auto, "first"), (replace(auto, model="first"), "")):
        assert choice.choose(settings, flag) == choice.Choice("first")
        assert choice.known(settings, flag) == "first"
    assert choice.choose(replace(auto, model="first"), "mine@3").model == "mine@3"
    assert asked == []


def test_published_weights_on_disk_are_taken(auto: Settings, ensured: Callable[..., Ensured]) -> None:
    asked = ensured()
    put(auto, "first", "seeded")
    put(auto, "second", "package")
    assert choice.choose(auto, "") == choice.Choice("second", "it is there")
    assert asked == []


def test_a_choice_whose_model_is_gone_is_made_again(auto: Settings, ensured: Callable[..., Ensured]) -> None:
    ensured("official")
    assert choice.choose(auto, "").model == "second"
    (auto.paths.models / "second" / "1" / "saved_model.pb").unlink()
    ensured("package")
    assert choice.choose(auto, "").model == "first"


@pytest.mark.parametrize(
    "damage", ["", "[]", "{}", '{"model": "../x", "why": ""}', '{"model": 3, "why": ""}']
)
def test_a_damaged_record_is_passed_over(
    auto: Settings, ensured: Callable[..., Ensured], damage: str
) -> None:
    ensured()
    auto.paths.state.mkdir(parents=True, exist_ok=True)
    (auto.paths.state / choice.KEPT).write_text(damage)
    assert choice.choose(auto, "").model == "first"
    assert json.loads((auto.paths.state / choice.KEPT).read_text())["model"] == "first"


def test_a_source_is_that_of_the_first_that_has_it(auto: Settings) -> None:
    assert [choice.with_source(auto, source) for source in ("official", "package", "seeded")] == [
        "first",
        "second",
        "first",
    ]
    assert choice.with_source(replace(auto, model="mine"), "seeded") == "mine"


def test_a_catalogue_without_models(auto: Settings) -> None:
    (auto.paths.models / "catalog.toml").write_text("")
    with pytest.raises(SettingError, match="lists no model, and none is named"):
        choice.known(auto, "")


def test_no_model_can_be_reached(auto: Settings, ensured: Callable[..., Ensured]) -> None:
    ensured("official", "package")
    catalogue = auto.paths.models / "catalog.toml"
    catalogue.write_text(CATALOGUE.replace('seeded = "resnet50_v2"', ""))
    with pytest.raises(SettingError, match=r"None of the models in .* can be reached"):
        choice.choose(auto, "")

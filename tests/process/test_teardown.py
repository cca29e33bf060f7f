"""Teardown stops what this suite started and removes what it made; everything else stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import serve, teardown
from tasks.lib.common import processes
from tasks.lib.embedded import environment
from tasks.lib.models import removal, store
from tests.helpers.archives import tree
from tests.helpers.standin import Checkout, checkout_with_standin

Shown = pytest.CaptureFixture[str]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkout]:
    with checkout_with_standin(tmp_path, monkeypatch) as one:
        yield one


@pytest.fixture
def full(checkout: Checkout) -> Checkout:
    """A checkout whose folders hold what the suite makes, and what a person put there."""
    paths = checkout.settings.paths
    made = {
        paths.models / "net" / ".optimized" / "1" / "model.bin": "made from net",
        paths.models / "net" / ".partial-x" / "half": "left by a killed download",
        paths.models / "catalog.toml": "",
        paths.models / "digests.json": "{}",
        paths.models / "samples" / "cat.jpg": "",
        paths.models / "mine" / "3" / "saved_model.pb": "put there by hand",
        paths.results / "2026-11-22T10-00-00-net" / "result.json": "{}",
        paths.results / "notes" / "idea.txt": "",
        paths.environment / environment.SIGN: "",
        paths.environment / "bin" / "python": "x" * 2048,
    }
    for path, text in made.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return checkout


def test_it_stops_every_server_and_nothing_else(checkout: Checkout, capsys: Shown) -> None:
    serve.serve(checkout.context())
    serve.serve(checkout.context(), optimized=True)
    port = checkout.settings.serve.rest_port
    stranger = Checkout(checkout.settings.paths.models.parent / "another clone", checkout.takes)
    serve.serve(stranger.context())
    capsys.readouterr()
    try:
        teardown.teardown(checkout.context())
        assert capsys.readouterr().out == (
            f"stopped stock net@1 on port {port}\nstopped optimized net@1 on port {port + 2}\n"
        )
        assert checkout.processes() == []
        assert len(stranger.processes()) == 1
        teardown.teardown(checkout.context())
        assert capsys.readouterr().out == "nothing is running\n"
        assert checkout.model.folder.is_dir()
    finally:
        for process in stranger.processes():
            processes.terminate(process, 10)


def test_without_flags_nothing_is_removed(full: Checkout) -> None:
    paths = full.settings.paths
    before = {folder: tree(folder) for folder in (paths.models, paths.results, paths.environment)}
    teardown.teardown(full.context())
    assert {folder: tree(folder) for folder in before} == before


def test_models(full: Checkout, capsys: Shown) -> None:
    models = full.settings.paths.models
    teardown.teardown(full.context(), models=True)
    assert tree(models) == [
        "catalog.toml",
        "digests.json",
        "mine",
        "mine/3",
        "mine/3/saved_model.pb",
        "samples",
        "samples/cat.jpg",
    ]
    shown = capsys.readouterr()
    assert "removing models: net@1, net/.optimized, net/.partial-x (" in shown.err
    assert "removed models: net@1" in shown.out
    teardown.teardown(full.context(), models=True)
    assert capsys.readouterr().out == "nothing is running\nno models to remove\n"


def test_models_that_are_links_are_left_alone(full: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    version = elsewhere / "2"
    version.mkdir(parents=True)
    (version / "saved_model.pb").touch()
    store.write_origin(version, full.model.origin)
    (full.settings.paths.models / "linked").symlink_to(elsewhere)
    (full.model.folder / "assets").symlink_to(elsewhere)
    teardown.teardown(full.context(), models=True)
    assert (version / "saved_model.pb").exists()
    assert not full.model.folder.exists()


def test_a_model_that_a_person_changed_is_left_alone(full: Checkout, capsys: Shown) -> None:
    (full.model.folder / "saved_model.pb").write_text("a user's own")
    teardown.teardown(full.context(), models=True)
    assert (full.model.folder / "saved_model.pb").exists()
    assert "removed models: net/.optimized, net/.partial-x (" in capsys.readouterr().out


def test_a_removal_that_is_cut_short_leaves_no_half_model(
    full: Checkout, monkeypatch: pytest.MonkeyPatch, capsys: Shown
) -> None:
    def interrupted(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(removal, "remove", interrupted)
    # The artefact goes first, so the first call is cut short before it comes to the model.
    (full.settings.paths.models / "net" / ".optimized").rename(full.settings.paths.results / "notes" / "away")
    (full.settings.paths.models / "net" / ".partial-x").rename(full.settings.paths.results / "notes" / "too")
    with pytest.raises(BaseException, match="interrupted"):
        teardown.teardown(full.context(), models=True)
    assert store.versions(full.settings.paths, "net") == {}
    monkeypatch.undo()
    leftovers = [name for name in tree(full.settings.paths.models / "net") if name.startswith(".partial-")]
    assert leftovers[0] == ".partial-removed-1"


def test_results(full: Checkout, capsys: Shown) -> None:
    teardown.teardown(full.context(), results=True)
    assert tree(full.settings.paths.results) == ["notes", "notes/idea.txt"]
    assert "removed results: 1 in " in capsys.readouterr().out


def test_environment(full: Checkout, capsys: Shown) -> None:
    teardown.teardown(full.context(), environment=True)
    assert not full.settings.paths.environment.exists()
    assert "(2.0 KiB)" in capsys.readouterr().out
    teardown.teardown(full.context(), environment=True)
    assert "no embedded environment to remove" in capsys.readouterr().out


def test_images(full: Checkout, capsys: Shown) -> None:
    teardown.teardown(full.context(), images=True)
    shown = capsys.readouterr()
    assert "no images to remove" in shown.out
    assert "No Docker Engine answers" in shown.err


def test_dry_says_and_does_nothing(full: Checkout, capsys: Shown) -> None:
    serve.serve(full.context())
    paths = full.settings.paths
    before = {folder: tree(folder) for folder in (paths.models, paths.results, paths.environment)}
    capsys.readouterr()
    teardown.teardown(full.context(dry=True), models=True, results=True, environment=True)
    shown = capsys.readouterr()
    assert shown.out == ""
    for what in (
        "would stop stock net@1",
        "would remove models: net@1",
        "results: 1",
        "embedded environment",
    ):
        assert what in shown.err
    assert {folder: tree(folder) for folder in before} == before
    assert len(full.processes()) == 1


def test_programs_of_a_killed_call_are_ended(
    checkout: Checkout,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[Path] = []
    monkeypatch.setattr(processes, "end_orphans", ended.append)
    teardown.teardown(checkout.context())
    assert ended == [checkout.settings.paths.state]


def test_the_environment_of_another_user_is_refused(full: Checkout) -> None:
    (full.settings.paths.environment / environment.SIGN).unlink()
    with pytest.raises(BaseException, match="is not an environment of this suite"):
        teardown.teardown(full.context(), environment=True)
    assert (full.settings.paths.environment / "bin" / "python").exists()

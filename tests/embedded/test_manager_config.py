"""Policies, labels, and changes of the models that a manager serves."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from conditions import wait_for
from embedded_server.common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    StartError,
)
from embedded_server.config.flags import parse_flags
from embedded_server.config.model_config import ModelConfig, configured_models
from embedded_server.config.versions import All
from managed import SOON, Served
from running import PATIENCE


@pytest.mark.parametrize(
    ("policy", "available"),
    [
        ("", {3}),
        ("model_version_policy { latest { num_versions: 2 } }", {2, 3}),
        ("model_version_policy { all {} }", {1, 2, 3}),
        ("model_version_policy { specific { versions: 1 versions: 3 versions: 9 } }", {1, 3}),
    ],
)
def test_policies(served: Served, policy: str, available: set[int]) -> None:
    for number in (1, 2, 3):
        served.add(number)
    served.configure(policy)
    served.start()
    wait_for(lambda: served.states() == dict.fromkeys(available, "AVAILABLE"))
    assert served.answer() == 3
    for number in available:
        assert served.answer(version=number) == number


def test_labels_and_changes_of_the_file(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    both = "model_version_policy { specific { versions: 1 versions: 2 } }"
    served.add(1)
    served.add(2)
    served.configure(both)
    served.start("--model_config_file_poll_wait_seconds=1")
    wait_for(lambda: served.states() == {1: "AVAILABLE", 2: "AVAILABLE"})
    with pytest.raises(InvalidArgument, match="Unrecognized servable version label: stable"):
        served.answer(label="stable")
    served.configure(both + 'version_labels { key: "stable" value: 1 }')
    wait_for(lambda: "stable" in served.models.view.labels.get("m", {}))
    assert served.answer(label="stable") == 1
    # Not for a version that is not there; all stays as it is.
    served.configure('version_labels { key: "stable" value: 3 }')
    wait_for(lambda: "Request to assign label stable to version 3 of model m" in caplog.text)
    served.config.write_text("not a configuration")
    wait_for(lambda: "is no ModelServerConfig" in caplog.text)
    assert served.answer(label="stable") == 1
    served.configure(both + 'version_labels { key: "stable" value: 2 }')
    wait_for(lambda: served.answer(label="stable") == 2)
    # Another model in its place.
    served.configure(name="other")
    wait_for(lambda: served.states("other") == {2: "AVAILABLE"} and served.states() == {1: "END", 2: "END"})
    with pytest.raises(InvalidArgument, match="Unrecognized"):
        served.answer(label="stable")


def test_labels_at_the_start_have_to_be_allowed(served: Served) -> None:
    served.add(1)
    served.configure('version_labels { key: "stable" value: 1 } version_labels { key: "next" value: 2 }')
    with pytest.raises(FailedPrecondition, match="--allow_version_labels_for_unavailable_models allows it"):
        served.start()
    served.start("--allow_version_labels_for_unavailable_models")
    assert served.answer(label="stable") == 1
    with pytest.raises(NotFound, match=r"Specific\(m, 2\)"):
        served.answer(label="next")
    # What has a version keeps it until the other one is available, whatever is allowed.
    served.configure('version_labels { key: "stable" value: 2 }')
    assert served.manager is not None
    flags = parse_flags([f"--model_config_file={served.config}"])
    with pytest.raises(FailedPrecondition, match=r"not currently available for inference$"):
        served.manager.apply(configured_models(flags))


def test_a_start_that_cannot_succeed_ends(served: Served) -> None:
    served.break_(1)
    with pytest.raises(StartError, match="cannot load the SavedModel in"):
        served.start()
    served.configure()
    with pytest.raises(StartError, match="cannot load the SavedModel in"):
        served.start("--max_num_load_retries=1", SOON)


def test_a_start_that_finds_nothing_and_looks_once_ends(served: Served) -> None:
    served.configure()
    with pytest.raises(StartError, match="No versions of servable m found under base path"):
        served.start("--file_system_poll_wait_seconds=0")


def test_a_server_with_a_file_waits_for_its_models(served: Served) -> None:
    served.configure()
    thread = threading.Thread(target=served.start)
    thread.start()
    wait_for(lambda: served.manager is not None and served.manager.looks > 0)
    assert thread.is_alive()
    served.add(1)
    thread.join(PATIENCE)
    assert served.answer() == 1


def test_a_reload_waits_for_the_models_that_are_new(served: Served) -> None:
    served.add(1)
    served.start()
    manager, old = served.manager, ModelConfig("m", served.base, served.base / ".optimized")
    assert manager is not None
    new = replace(old, name="new")
    manager.reload([old, new], PATIENCE)
    assert served.states("new") == served.states() == {1: "AVAILABLE"}
    manager.reload([old], PATIENCE)
    wait_for(lambda: served.states("new") == {1: "END"})
    manager.reload([old, new], PATIENCE)  # it is new again, whatever became of it before
    assert served.states("new") == {1: "AVAILABLE"}


def test_a_model_that_is_wanted_again_while_it_is_unloaded(served: Served) -> None:
    served.add(1)
    served.start("--file_system_poll_wait_seconds=0")
    manager, old = served.manager, ModelConfig("m", served.base, served.base / ".optimized")
    assert manager is not None
    new = replace(old, name="new")
    manager.reload([old, new], PATIENCE)
    with served.models.use("new"):
        manager.reload([old], PATIENCE)
        wait_for(lambda: served.states("new") == {1: "UNLOADING"})
        looks = manager.looks
        thread = threading.Thread(target=manager.reload, args=([old, new], PATIENCE))
        thread.start()
        wait_for(lambda: manager.looks > looks or not thread.is_alive())
    thread.join(PATIENCE)
    assert served.states("new") == {1: "AVAILABLE"}


def test_a_version_from_another_folder(
    served: Served, adders: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes the place of one that could not be loaded, and not of one that answers."""
    served.add(1)
    served.start("--max_num_load_retries=0")
    manager, old = served.manager, ModelConfig("m", served.base, served.base / ".optimized")
    assert manager is not None
    served.break_(2)
    wait_for(lambda: served.states() == {1: "AVAILABLE", 2: "END"})
    manager.apply([replace(old, base_path=adders, policy=All())])
    wait_for(lambda: served.states() == dict.fromkeys((1, 2, 3), "AVAILABLE"))
    looks = manager.looks
    wait_for(lambda: manager.looks >= looks + 2)
    assert [record.message for record in caplog.records if "stays the one" in record.message] == [
        f"Version 1 of m stays the one from {served.base / '1'}"
    ]


def test_a_reload_that_cannot_succeed_says_so(served: Served, tmp_path: Path) -> None:
    served.add(1)
    served.start("--max_num_load_retries=0")
    manager, old = served.manager, ModelConfig("m", served.base, served.base / ".optimized")
    assert manager is not None
    (tmp_path / "broken" / "1").mkdir(parents=True)
    broken = ModelConfig("broken", tmp_path / "broken", tmp_path)
    with pytest.raises(FailedPrecondition, match="cannot load the SavedModel in"):
        manager.reload([old, broken], PATIENCE)
    nowhere = replace(broken, name="nowhere", base_path=tmp_path / "nowhere")
    with pytest.raises(DeadlineExceeded, match="not all models were available within 0 s"):
        manager.reload([old, nowhere], 0.3)
    assert served.answer() == 1

"""Versions that come and go: the real manager with real models, in this process."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import saved_models
from conditions import wait_for
from embedded_server.common.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    StartError,
)
from embedded_server.common.metrics import Metrics
from embedded_server.config.flags import parse_flags
from embedded_server.config.model_config import ModelConfig, configured_models
from embedded_server.config.versions import All
from embedded_server.execution.servable import Models, VersionStatus
from embedded_server.lifecycle.loading import prepare
from embedded_server.lifecycle.manager import Manager
from running import PATIENCE

SOON = "--load_retry_interval_micros=100000"
ZERO = {"x": np.zeros((1, 1), np.float32)}
NEVER = "--load_retry_interval_micros=3600000000"


@pytest.fixture(scope="module")
def adders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Versions 1, 2 and 3 of a model that adds its version."""
    prepare(parse_flags(["--model_base_path=/none"]))
    folder = tmp_path_factory.mktemp("adders")
    for number in (1, 2, 3):
        saved_models.write_adder(folder / str(number), number)
    return folder


class Served:
    """A base path that a manager looks at."""

    def __init__(self, folder: Path, adders: Path) -> None:
        self.base = folder / "m"
        self.base.mkdir()
        self.config = folder / "models.config"
        self.models = Models()
        self._adders = adders
        self.manager: Manager | None = None

    def add(self, number: int, source: int | None = None) -> None:
        """Put a version into the base path, all at once."""
        shutil.copytree(self._adders / str(source or number), self.base / f".{number}")
        (self.base / f".{number}").rename(self.base / str(number))

    def break_(self, number: int) -> None:
        """Put a version there that cannot be loaded."""
        (self.base / str(number)).mkdir()
        (self.base / str(number) / "saved_model.pb").write_bytes(b"broken")

    def remove(self, number: int) -> None:
        # At once: what is half removed may look like what is half copied.
        (self.base / str(number)).rename(self.base / f".gone{number}")

    def start(self, *flags: str) -> None:
        """Serve what is there."""
        named = (f"--model_base_path={self.base}", "--model_name=m")
        if self.config.exists():
            named = (f"--model_config_file={self.config}",)
        parsed = parse_flags([*named, *flags])
        # Tests should not have to wait for whole seconds, which is what the flags count in.
        parsed = replace(
            parsed,
            file_system_poll_wait=parsed.file_system_poll_wait / 10,
            model_config_file_poll_wait=parsed.model_config_file_poll_wait / 10,
        )
        self.manager = Manager(self.models, parsed, configured_models(parsed), Metrics())
        self.manager.start()
        self.manager.wait_until_served()

    def configure(self, text: str = "", name: str = "m") -> None:
        """Write a configuration file with one model."""
        model = f'name: "{name}" base_path: "{self.base}" model_platform: "tensorflow" {text}'
        scratch = self.config.with_suffix(".new")
        scratch.write_text(f"model_config_list {{ config {{ {model} }} }}")
        scratch.rename(self.config)

    def states(self, name: str = "m") -> dict[int, str]:
        try:
            return {status.version: status.state for status in self.models.status(name)}
        except NotFound:
            return {}

    def status(self, number: int) -> VersionStatus:
        return self.models.status("m", number)[0]

    def answer(self, **which: Any) -> float:
        """What the model adds: the version that answered."""
        with self.models.use("m", **which) as servable:
            outputs = servable.backend.run("serving_default", ZERO)
        return float(outputs["y"][0, 0])


@pytest.fixture
def served(tmp_path: Path, adders: Path) -> Iterator[Served]:
    served = Served(tmp_path, adders)
    yield served
    if served.manager is not None:
        served.manager.stop()


def test_the_newest_version_takes_over(served: Served) -> None:
    served.add(1)
    served.start()
    assert served.states() == {1: "AVAILABLE"}
    served.add(3)
    wait_for(lambda: served.states() == {3: "AVAILABLE", 1: "END"})
    assert served.answer() == 3
    served.add(2)  # older than what is served
    served.remove(3)
    wait_for(lambda: served.states() == {3: "END", 2: "AVAILABLE", 1: "END"})
    assert [status.version for status in served.models.status("m")] == [3, 2, 1]
    assert served.answer() == 2
    with pytest.raises(NotFound, match=r"Servable not found for request: Specific\(m, 3\)"):
        served.answer(version=3)
    served.add(3)  # a version that was there before
    wait_for(lambda: served.states()[3] == "AVAILABLE" and served.states()[2] == "END")


def test_a_request_ends_on_the_version_it_began_on(served: Served) -> None:
    served.add(1)
    served.start()
    with served.models.use("m") as old:
        served.add(2)
        wait_for(lambda: served.states() == {2: "AVAILABLE", 1: "UNLOADING"})
        assert served.answer() == 2
        with pytest.raises(NotFound):
            served.answer(version=1)
        assert old.backend.run("serving_default", ZERO)["y"][0, 0] == 1
        assert served.states()[1] == "UNLOADING"
    wait_for(lambda: served.states()[1] == "END")
    with pytest.raises(Internal, match="Session has been closed"):
        old.backend.run("serving_default", ZERO)


def test_no_request_fails_while_versions_change(served: Served) -> None:
    served.add(1)
    served.start()
    over = threading.Event()
    answers: list[list[float]] = [[], []]
    errors: list[BaseException] = []

    def ask(mine: list[float]) -> None:
        try:
            while not over.is_set():
                mine.append(served.answer())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in answers]
    for thread in threads:
        thread.start()
    for number in (2, 3):
        served.add(number)
        wait_for(lambda number=number: served.states().get(number) == "AVAILABLE" or errors)
    wait_for(lambda: served.states() == {3: "AVAILABLE", 2: "END", 1: "END"} or errors)
    over.set()
    for thread in threads:
        thread.join()
    assert not errors
    for mine in answers:
        assert mine == sorted(mine), "an old version answered after a new one"
        assert {1, 3} <= set(mine)


def test_a_broken_version_leaves_the_old_one_serving(served: Served) -> None:
    served.add(1)
    served.start("--max_num_load_retries=2", SOON)
    served.break_(2)
    wait_for(lambda: served.states().get(2) == "END")
    status = served.status(2)
    assert status.error_code == "FAILED_PRECONDITION"
    assert f"cannot load the SavedModel in {served.base / '2'}" in status.error_message
    assert served.states()[1] == "AVAILABLE"
    assert served.answer() == 1
    served.remove(2)
    served.add(3)
    wait_for(lambda: served.states() == {3: "AVAILABLE", 2: "END", 1: "END"})
    assert served.status(2) == status


def test_attempts_are_counted(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.add(1)
    served.start("--max_num_load_retries=2", SOON)
    served.break_(2)
    wait_for(lambda: served.states().get(2) == "END")
    failures = [record.message for record in caplog.records if "cannot be loaded" in record.message]
    assert len(failures) == 3
    assert ["is given up" in message for message in failures] == [False, False, True]


def test_a_version_that_is_being_copied_is_loaded_when_it_is_there(served: Served) -> None:
    served.add(1)
    served.start(NEVER)
    (served.base / "2").mkdir()
    wait_for(lambda: served.states().get(2) == "LOADING" and served.status(2).error_message)
    shutil.copytree(served._adders / "2", served.base / "2", dirs_exist_ok=True)
    wait_for(lambda: served.states() == {2: "AVAILABLE", 1: "END"})
    assert served.status(2) == VersionStatus(2, "AVAILABLE")
    assert served.answer() == 2


def test_a_version_that_was_given_up_is_loaded_when_it_is_fixed(served: Served) -> None:
    served.add(1)
    served.start("--max_num_load_retries=0")
    served.break_(2)
    wait_for(lambda: served.states().get(2) == "END")
    shutil.copytree(served._adders / "2", served.base / "2", dirs_exist_ok=True)
    wait_for(lambda: served.states() == {2: "AVAILABLE", 1: "END"})


def test_a_version_without_its_artefact_says_so(served: Served, adders: Path) -> None:
    from embedded_server import convert

    served.add(1)
    optimized = served.base / ".optimized"
    convert.convert(adders / "1", optimized / "1", "")
    served.start("--backend=openvino", "--precision=f32", NEVER)
    assert served.answer() == 1
    served.add(2)
    wait_for(lambda: served.states().get(2) == "LOADING" and served.status(2).error_message)
    assert served.status(2).error_message == (
        f"there is no optimized artefact in {optimized / '2'}; build it with `invoke build.optimized`"
    )
    assert served.answer() == 1
    convert.convert(adders / "2", optimized / "2", "")
    wait_for(lambda: served.states() == {2: "AVAILABLE", 1: "END"})
    assert served.answer() == 2


def test_what_is_gone_from_disk_is_gone(served: Served) -> None:
    served.add(1)
    served.start()
    away = served.base.with_name("away")
    served.base.rename(away)  # as a mount that is lost: nothing can be known, so nothing changes
    looks = served.manager.looks if served.manager else 0
    wait_for(lambda: served.manager and served.manager.looks >= looks + 2)
    assert served.answer() == 1
    away.rename(served.base)
    served.remove(1)
    wait_for(lambda: served.states() == {1: "END"})
    with pytest.raises(NotFound, match=r"Servable not found for request: Latest\(m\)"):
        served.answer()


def test_one_look_only(served: Served) -> None:
    served.add(1)
    served.start("--file_system_poll_wait_seconds=0")
    assert served.manager is not None
    assert served.manager.looks == 1
    wait_for(lambda: served.manager is not None and served.manager._pause() is None)


def test_numbers_that_no_message_can_carry_are_no_versions(served: Served) -> None:
    served.add(1)
    served.add(20241124194304123456, source=2)
    served.start()
    assert served.states() == {1: "AVAILABLE"}


def test_one_version_pinned(served: Served) -> None:
    served.add(1)
    served.add(2)
    served.start("--model_version=1")
    assert served.states() == {1: "AVAILABLE"}
    assert served.answer() == 1


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

"""Versions that come and go: the real manager with real models, in this process."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from conditions import wait_for
from embedded_server.common.errors import (
    Internal,
    NotFound,
)
from embedded_server.execution.servable import VersionStatus
from managed import SOON, ZERO, Served

NEVER = "--load_retry_interval_micros=3600000000"


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

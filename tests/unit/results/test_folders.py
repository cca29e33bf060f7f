"""tasks.lib.results.folders: what is saved, read again, and held against another result."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.lib.common.errors import SettingError, SuiteError
from tasks.lib.common.pinning import Pinning
from tasks.lib.common.settings import Settings
from tasks.lib.engines.base import Conditions
from tasks.lib.results import folders, record, words
from tests.helpers.records import COMPARED, DONE, PLAN, saved

SIDES = ("baseline", "candidate")

# Saving


def test_the_result_is_saved_under_its_time_and_model(settings: Settings) -> None:
    folder = folders.write(settings.paths, record.content([DONE]))
    assert folder == settings.paths.results / "2026-11-22T10-15-00-resnet"
    assert sorted(each.name for each in folder.iterdir()) == ["report.html", "result.json"]
    assert folders.read(folder) == folders.read(folder / "result.json") == saved(DONE)


def test_a_name_that_leads_elsewhere_stays_in_the_folder_of_results(settings: Settings) -> None:
    """A server that this suite did not start can name its model anything."""
    theirs = replace(COMPARED.candidate, model="../../../elsewhere@1")
    folder = folders.write(
        settings.paths, record.content([replace(DONE, verdict=replace(COMPARED, candidate=theirs))])
    )
    assert folder.parent == settings.paths.results
    assert folder.name == "2026-11-22T10-15-00-.._.._.._elsewhere"


def test_two_of_one_second_are_both_kept(settings: Settings) -> None:
    written = [folders.write(settings.paths, record.content([DONE])) for _ in range(3)]
    assert [folder.name for folder in written] == [
        "2026-11-22T10-15-00-resnet",
        "2026-11-22T10-15-00-resnet-2",
        "2026-11-22T10-15-00-resnet-3",
    ]


def test_two_at_once_are_both_kept(settings: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        written = list(pool.map(lambda _: folders.write(settings.paths, record.content([DONE])), range(40)))
    assert len(set(written)) == 40
    assert all((folder / "result.json").is_file() for folder in written)


def a_file_in_the_way(results: Path) -> None:
    results.write_text("")


def a_file_above(results: Path) -> None:
    results.symlink_to("/dev/null/results")


@pytest.mark.parametrize("spoil", [a_file_in_the_way, a_file_above])
def test_a_folder_that_cannot_be_written_to_is_told(
    settings: Settings, spoil: Callable[[Path], None]
) -> None:
    spoil(settings.paths.results)
    with pytest.raises(SuiteError) as told:
        folders.write(settings.paths, record.content([DONE]))
    assert str(settings.paths.results) in told.value.problem
    assert "INVOKE_PATHS_RESULTS" in told.value.remedy


def test_a_result_that_cannot_be_finished_leaves_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SuiteError, match="No space left on device"):
        folders.write(settings.paths, record.content([DONE]))
    assert list(settings.paths.results.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "cannot be read"),
        ("{", "is not a result"),
        ("[]", "is not a result"),
        ("{}", "is not a result"),
        ('{"schema": 1}', "has schema 1, and this suite reads 3"),
    ],
)
def test_what_is_no_result_is_told(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(SettingError, match=problem):
        folders.read(tmp_path)


# Two results side by side


def test_what_makes_two_results_hard_to_compare() -> None:
    a = saved(DONE)
    assert folders.warnings(a, saved(DONE)) == []
    b = saved(replace(DONE, engine="docker", hardware=replace(DONE.hardware, cores=8)))
    b["versions"]["numpy"] = "1.0"
    b["plan"]["seed"] = 2
    told = folders.warnings(a, b)
    assert "the numbers of cores differ: 2 and 8" in told
    assert "the engines differ: local and docker" in told
    assert "the plans differ (what was sent, and for how long): seed 1 and seed 2" in told
    assert any(line.endswith(f": numpy {a['versions']['numpy']} and numpy 1.0") for line in told)
    assert len(told) == 4


def test_another_model_or_other_weights_are_told() -> None:
    a, b = saved(DONE), saved(DONE)
    for side in words.sides_of(b["runs"][0]):
        side["origin"]["content_sha256"] = "cd" * 32
    (told,) = folders.warnings(a, b)
    assert told.endswith("(by the same name, with other weights)")
    for side in words.sides_of(b["runs"][0]):
        side["model"] = "other@1"
    assert folders.warnings(a, b) == ["the models differ: resnet@1538687457 and other@1"]


def test_another_version_of_the_suite_is_told() -> None:
    a, b = saved(DONE), saved(DONE)
    b["suite"] = {"commit": "ab" * 20, "changed": True, "sources": "0" * 64}
    assert folders.warnings(a, b)[-1].endswith(" and commit abababababab with changes")
    del b["suite"]  # as in results of before
    assert folders.warnings(a, b)[-1].endswith(" and unknown")


def test_another_sweep_is_told() -> None:
    more = replace(DONE, plan=replace(PLAN, connections=4))
    assert folders.warnings(saved(DONE), saved(DONE, more)) == [
        "the plans differ (what was sent, and for how long): connections [1] and connections [1, 4]"
    ]


def test_other_cpus_governors_and_limits_are_told() -> None:
    def run(governor: str | None, pinning: Pinning | None, memory: int) -> dict[str, Any]:
        conditions = Conditions((0,), memory, 4096)
        sides = {name: replace(getattr(COMPARED, name), conditions=conditions) for name in SIDES}
        hardware = replace(DONE.hardware, governor=governor)
        return saved(replace(DONE, hardware=hardware, pinning=pinning, verdict=replace(COMPARED, **sides)))

    a = run("performance", Pinning((0, 1, 2), (3,)), 4 << 30)
    assert folders.warnings(a, run("performance", Pinning((0, 1, 2), (3,)), 4 << 30)) == []
    assert folders.warnings(a, run(None, None, 2 << 30)) == [
        "the CPU governors differ: performance and None",
        "the CPUs of servers and client differ: servers run on CPUs 0-2, the client on CPU 3 and None",
        "the limits of the servers differ: 4.0 GiB memory, 4096 processes and 2.0 GiB memory, 4096 processes",
    ]
    assert folders.warnings(a, saved(replace(DONE, hardware=replace(DONE.hardware, governor="performance"))))[
        -1
    ].endswith(" and any memory, any processes")

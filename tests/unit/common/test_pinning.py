"""tasks.lib.common.pinning: who gets which CPUs, on machines as they are thought up and on this one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.lib.common import pinning
from tasks.lib.common.errors import SettingError
from tasks.lib.common.pinning import CPUs, Pinning, confined, listed, parse, plan
from tests.helpers.cpus import NEEDS_TWO


def single(count: int) -> list[CPUs]:
    """Cores with one thread each."""
    return [(cpu,) for cpu in range(count)]


def double(count: int) -> list[CPUs]:
    """Cores with two threads each, numbered as Linux does it on most machines."""
    return [(cpu, cpu + count) for cpu in range(count)]


@pytest.mark.parametrize(
    ("cores", "servers", "client"),
    [
        (single(4), (0, 1, 2), (3,)),
        (single(8), (0, 1, 2, 3, 4, 5, 6), (7,)),
        (double(4), (0, 1, 2, 4, 5, 6), (3, 7)),
        ([(2,), (3,), (6,), (7,)], (2, 3, 6), (7,)),
    ],
)
def test_with_cores_enough_the_client_has_one(cores: list[CPUs], servers: CPUs, client: CPUs) -> None:
    assert plan((), cores) == Pinning(servers, client)
    assert plan((), cores).is_apart


@pytest.mark.parametrize(
    ("cores", "told"),
    [
        (single(1), "client and servers share CPU 0: 1 core, and 4 are needed to keep them apart"),
        (single(2), "client and servers share CPUs 0-1: 2 cores, and 4 are needed to keep them apart"),
        (double(2), "client and servers share CPUs 0-3: 2 cores, and 4 are needed to keep them apart"),
        (double(3), "client and servers share CPUs 0-5: 3 cores, and 4 are needed to keep them apart"),
        (None, "client and servers share: this system cannot pin programs to CPUs"),
    ],
)
def test_with_fewer_nothing_is_split_and_that_is_said(cores: list[CPUs] | None, told: str) -> None:
    done = plan((), cores)
    assert not done.is_apart
    assert done.servers == done.client
    assert str(done) == told


@pytest.mark.parametrize(
    ("wanted", "cores", "client"),
    [
        ((0,), single(2), (1,)),
        ((0, 1), single(8), (2, 3, 4, 5, 6, 7)),
        ((0,), double(2), (1, 3)),  # not 2, which is the other thread of the servers' core
        ((0, 1), double(2), (2, 3)),  # there is nothing better
        ((9,), single(2), (0, 1)),  # Docker may be able to
    ],
)
def test_what_is_asked_for_is_the_servers_and_others_the_client_s(
    wanted: CPUs, cores: list[CPUs], client: CPUs
) -> None:
    assert plan(wanted, cores) == Pinning(wanted, client)


def test_the_servers_may_be_given_all() -> None:
    done = plan((0, 1), single(2))
    assert not done.is_apart
    assert str(done) == "client and servers share CPUs 0-1: the setting serve.cpus leaves none to the client"


def test_in_words() -> None:
    assert str(plan((), double(4))) == "servers run on CPUs 0-2,4-6, the client on CPUs 3,7"


@given(st.sets(st.integers(0, 200), min_size=1))
def test_cpus_are_written_as_linux_does_it(cpus: set[int]) -> None:
    assert parse(listed(tuple(sorted(cpus)))) == tuple(sorted(cpus))


def test_ranges() -> None:
    assert listed((0, 1, 2, 3, 6, 8, 9)) == "0-3,6,8-9"
    assert parse("6,0-3\n") == (0, 1, 2, 3, 6)
    with pytest.raises(ValueError, match="invalid literal"):
        parse("all")


# On this machine


@NEEDS_TWO
def test_this_thread_and_what_it_starts_are_confined_and_set_free_again() -> None:
    before = pinning.usable()
    assert before is not None
    code = "import os; print(sorted(os.sched_getaffinity(0)))"
    with confined(before[1:2]):
        assert pinning.usable() == before[1:2]
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == str([before[1]])
    assert pinning.usable() == before
    with confined(()):
        assert pinning.usable() == before


@NEEDS_TWO
def test_cpus_that_are_not_there_are_told() -> None:
    before = pinning.usable()
    assert before is not None
    for missing in ((4000,), (before[0], 4000)):
        with pytest.raises(SettingError, match="not all of the CPUs"), confined(missing):
            pass
        assert pinning.usable() == before


def test_a_system_without_masks_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.delattr(os, name, raising=False)
    assert pinning.usable() is None
    with pytest.raises(SettingError, match="cannot pin programs to CPUs"), confined((0,)):
        pass

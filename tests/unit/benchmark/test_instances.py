"""tasks.lib.benchmark.instances: how many processes of a server there are; tests/process starts some."""

from __future__ import annotations

import pytest

from tasks.lib.benchmark.instances import number_for


@pytest.mark.parametrize(
    ("asked", "connections", "number"),
    [(5, 1, 5), (5, 100, 5), (5, 256, 4), (5, 1000, 1), (1, 1000, 1), (50, 1, 50), (5, 5000, 1)],
)
def test_many_connections_leave_room_for_fewer_processes(
    asked: int, connections: int, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert number_for(asked, connections) == number
    assert ("processes of each" in capsys.readouterr().err) == (number < asked)

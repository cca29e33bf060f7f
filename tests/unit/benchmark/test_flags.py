"""tasks.lib.benchmark.flags: which flags go together."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.lib.benchmark import flags
from tasks.lib.benchmark.contest import Contest
from tasks.lib.common.errors import SettingError
from tasks.lib.common.settings import Settings
from tasks.lib.measure.verdict import BASELINE, CANDIDATE

URL = "http://127.0.0.1:8501/v1/models/net"


def contest(settings: Settings, instances: int = 5, **given: Any) -> Contest:
    """What the flags `given` ask for, with the others empty."""
    texts = dict.fromkeys(("baseline", "model", "engine", "inputs", "signature", "pixels", "protocol"), "")
    empty: dict[str, Any] = {
        **texts,
        "candidates": [],
        "alone": False,
        "connections": [1],
        "max_difference": [],
        "rtol": [],
        "allow_different": False,
        "restart": {},
        "plan": replace(settings.benchmark.plan, instances=instances),
    }
    return flags.contest(settings, **(empty | given))


def test_commands_that_restart_servers_given_by_address(settings: Settings) -> None:
    commands = {BASELINE: "restart a", CANDIDATE: ""}
    done = contest(settings, baseline=URL, restart=commands)
    assert done.restart == {BASELINE: "restart a"}
    done = contest(settings, baseline=URL, candidates=[URL], restart={BASELINE: "a", CANDIDATE: "b"})
    assert done.restart == {BASELINE: "a", CANDIDATE: "b"}


@pytest.mark.parametrize(
    ("given", "side", "problem"),
    [
        (
            {},
            BASELINE,
            "--restart-baseline is for a server that is given by address, and stock is started by",
        ),
        (
            {"baseline": URL},
            CANDIDATE,
            "--restart-candidate is for a server that is given by address, and opt",
        ),
        (
            {"candidates": [URL, URL]},
            CANDIDATE,
            "--restart-candidate restarts one server, and there are 2 cand",
        ),
        ({"candidates": [URL], "instances": 1}, CANDIDATE, "--restart-candidate would never be run"),
        ({"candidates": [URL], "alone": True}, CANDIDATE, "so --restart-candidate would be ignored"),
    ],
)
def test_a_command_that_would_not_be_run(
    given: dict[str, Any], side: str, problem: str, settings: Settings
) -> None:
    with pytest.raises(SettingError) as raised:
        contest(settings, restart={side: "restart it"}, **given)
    assert problem in raised.value.problem

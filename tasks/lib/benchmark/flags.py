"""The flags of `invoke benchmark`, as values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tasks.lib.benchmark import contestants
from tasks.lib.benchmark.contest import Contest
from tasks.lib.common.errors import SettingError
from tasks.lib.common.settings import PROTOCOLS, Plan, Settings
from tasks.lib.common.values import number, share, whole_number
from tasks.lib.measure import tolerance
from tasks.lib.measure.verdict import BASELINE, CANDIDATE
from tasks.lib.models import samples

MOST_INSTANCES = 50
MOST_REPEATS = 1000
MOST_CONNECTIONS = 1000
"""More need more open files than most systems allow."""
CONNECTIONS_IN_OPEN_LOOP = "64"
"""At most: with few, requests would wait for each other here, not at the server."""


def contest(
    settings: Settings,
    *,
    baseline: str,
    candidates: Sequence[str],
    alone: bool,
    model: str,
    engine: str,
    inputs: str,
    signature: str,
    pixels: str,
    plan: Plan,
    protocol: str,
    connections: Sequence[int],
    max_difference: Sequence[str],
    rtol: Sequence[str],
    allow_different: bool,
    restart: Mapping[str, str],
) -> Contest:
    """What is to be compared with what, and how. Empty flags are the settings'. Raises SettingError."""
    _check_alone(alone, "--baseline", baseline)
    both = {
        BASELINE: [baseline or settings.benchmark.baseline],
        CANDIDATE: candidates or [settings.benchmark.candidate],
    }
    commands = {side: command for side, command in restart.items() if command}
    for side in commands:
        _check_restart(side, both[side], alone, plan)
    if protocol and protocol not in PROTOCOLS:
        raise SettingError(f"There is no protocol {protocol!r}.", f"Choose one of: {', '.join(PROTOCOLS)}.")
    return Contest(
        model=model,
        baseline=None if alone else both[BASELINE][0],
        candidates=both[CANDIDATE],
        engine=engine or None,
        plan=plan,
        protocol=protocol or None,
        connections=connections,
        inputs=Path(inputs) if inputs else None,
        signature=signature,
        pixels=samples.check_pixels(pixels),
        max_difference=tolerance.parse(max_difference, "--max-difference"),
        rtol=tolerance.parse(rtol, "--rtol"),
        allow_different=allow_different,
        restart=commands,
    )


def _check_restart(side: str, names: Sequence[str], alone: bool, plan: Plan) -> None:
    """Raises SettingError where a command that restarts `names` would not be run."""
    flag = f"--restart-{side}"
    _check_alone(alone, flag, "given")
    if len(names) > 1:
        raise SettingError(
            f"{flag} restarts one server, and there are {len(names)} candidates.", "Compare them one by one."
        )
    if not contestants.parse(names[0]).urls:
        raise SettingError(
            f"{flag} is for a server that is given by address, and {names[0]} is started by this suite.",
            "Leave it out: the suite starts several processes of it.",
        )
    if plan.instances == 1:
        raise SettingError(
            f"With one process of each server, {flag} would never be run.", "Give --instances 2 or more."
        )


def gate(min_ratio: str, alone: bool) -> float | None:
    """The ratio below which the exit code is 2; None without one. Raises SettingError."""
    _check_alone(alone, "--min-ratio", min_ratio)
    return number(min_ratio, "--min-ratio") if min_ratio else None


def _check_alone(alone: bool, flag: str, value: str) -> None:
    """Raises SettingError for a flag that means nothing where nothing is compared."""
    if alone and value:
        raise SettingError(
            f"With --alone nothing is compared, so {flag} would be ignored.", f"Leave out --alone, or {flag}."
        )


def connections(text: str, *, open_loop: bool) -> list[int]:
    """Numbers of connections, in the order given. Raises SettingError for what is not a list of numbers."""
    listed = (text or (CONNECTIONS_IN_OPEN_LOOP if open_loop else "1")).split(",")
    return list(dict.fromkeys(whole_number(part, "--connections", 1, MOST_CONNECTIONS) for part in listed))


def repeats(text: str, alone: bool) -> int:
    """How often the whole benchmark is run. Raises SettingError for what is not a number from 1 on."""
    _check_alone(alone, "--repeat", text)
    return whole_number(text, "--repeat", 1, MOST_REPEATS) if text else 1


def plan(settings: Settings, rate: str, ci_width: str, max_seconds: str, instances: str) -> Plan:
    """The plan in the settings, changed by flags that are not empty. Raises SettingError."""
    chosen = settings.benchmark.plan
    if rate:
        chosen = replace(chosen, rate=number(rate, "--rate", 0.1))
    if ci_width:
        chosen = replace(chosen, ci_width=share(ci_width, "--ci-width"))
    if max_seconds:
        chosen = replace(chosen, max_seconds=number(max_seconds, "--max-seconds"))
    if instances:
        chosen = replace(chosen, instances=whole_number(instances, "--instances", 1, MOST_INSTANCES))
    return chosen

"""Numbers as people write them, in settings and after flags: checked, and refused in a sentence."""

from __future__ import annotations

import math

from tasks.lib.common.errors import SettingError


def whole_number(text: object, name: str, minimum: int = 0, maximum: int | None = None) -> int:
    """`text` as a whole number in [minimum, maximum].

    Raises SettingError that calls it `name`.
    """
    try:
        value = int(str(text))
    except ValueError:
        raise SettingError(f"{name} must be a whole number, not {text!r}.", "Give it a number.") from None
    if value < minimum or (maximum is not None and value > maximum):
        limits = f"at least {minimum}" if maximum is None else f"between {minimum} and {maximum}"
        raise SettingError(f"{name} is {value}, which is out of range.", f"Give it a number {limits}.")
    return value


def number(text: object, name: str, minimum: float = 0) -> float:
    """`text` as a number of at least `minimum`. Raises SettingError that calls it `name`."""
    try:
        value = float(str(text))
    except ValueError:
        raise SettingError(f"{name} must be a number, not {text!r}.", "Give it a number.") from None
    if not value >= minimum or value == float("inf"):
        raise SettingError(
            f"{name} is {value:g}, which is out of range.", f"Give it a number of at least {minimum:g}."
        )
    return value


def share(text: object, name: str) -> float:
    """A part of a whole, "2%" or "0.02". Raises SettingError that names `name`."""
    words = str(text).strip()
    percent = words.endswith("%")
    try:
        value = float(words.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise SettingError(f"{name} must be a percentage, not {words!r}.", "Give one such as 2% or 0.02.")
    return value


def port(text: object, name: str = "--port") -> int:
    """`text` as a TCP port that a server can be given."""
    return whole_number(text, name, 1, 65535)

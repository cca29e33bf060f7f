"""Why a file with weights is not exported."""

from __future__ import annotations

import re

_COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Refused(Exception):
    """The file is not exported; the message is one clause that says why."""


def quoted(text: object) -> str:
    """`text`, which comes from the file, as part of a sentence: short, without control characters."""
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:76]}...'"


def printable(text: str) -> str:
    """`text`, which may repeat names of the file, on one line and without control characters."""
    visible = "".join(character if character.isprintable() else " " for character in _COLOR.sub("", text))
    return " ".join(visible.split())

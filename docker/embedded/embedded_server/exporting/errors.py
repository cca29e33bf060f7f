"""Why a Keras file is not exported."""

from __future__ import annotations


class Refused(Exception):
    """The file is not exported; the message is one clause that says why."""


def quoted(text: object) -> str:
    """`text`, which comes from the file, as part of a sentence: short, without control characters."""
    shown = repr(text)
    return shown if len(shown) <= 80 else f"{shown[:76]}...'"

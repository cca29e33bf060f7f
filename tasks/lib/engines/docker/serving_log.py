"""What TensorFlow Serving's log tells before anything answers."""

from __future__ import annotations

import re

from tasks.lib.common import console

_NO_VERSION = re.compile(r"No versions of servable (\S+) found under base path (\S+)")
_NO_BASE_PATH = re.compile(r"Could not find base path (\S+) for servable")
_LOAD_ERROR = re.compile(
    r"(?:Encountered an error for servable version|Loading servable:|Servable version)"
    r" \{.*?\}(?::| failed:| cannot be loaded:) (?P<why>.+)"
)
_NOT_STARTED = re.compile(r"Failed to start server\. Error: (?P<why>.+)")
_NO_HTTP = re.compile(r"Failed to start HTTP Server")
# TensorFlow's wording until 2.2, until 2.11, and since.
_NOT_COMPILED = (
    re.compile(r"not compiled to use: ([A-Z0-9_. ]+)"),
    re.compile(r"use the following CPU instructions in performance-critical operations:\s+([A-Z0-9_. ]+)"),
    re.compile(r"To enable the following instructions: ([A-Za-z0-9_. ]+?),? in other operations"),
)


def hopeless(log: str) -> tuple[str, str] | None:
    """Why the server will never answer (part of a sentence), and what to do; None if it may yet.

    TensorFlow Serving itself waits for ever where it finds no version, and opens no port meanwhile.
    """
    missing = _NO_VERSION.search(log) or _NO_BASE_PATH.search(log)
    if missing:
        return (
            f"it finds no version of the model inside its container ({missing[0]})",
            "Check that the model's folder is a number and still there, and that the Docker Engine sees this "
            "machine's files.",
        )
    failed = _LOAD_ERROR.search(log) or _NOT_STARTED.search(log)
    if failed:
        why = console.shortened(failed["why"].rstrip(" ."))
        if "ermission denied" in why:
            return (
                f"the server may not read the model ({why})",
                "Make it readable for others: chmod -R a+rX on the model's folder.",
            )
        return f"the model cannot be loaded ({why})", "Check the model with the framework that exported it."
    if _NO_HTTP.search(log):
        return "its REST port cannot be opened inside the container", "Take other arguments for the variant."
    return None


def missing_instructions(log: str) -> str:
    """The CPU's instruction sets that the server was not compiled for, as its log names them, or "" ."""
    found = next((found for pattern in _NOT_COMPILED if (found := pattern.search(log))), None)
    return " ".join(found[1].split()) if found else ""

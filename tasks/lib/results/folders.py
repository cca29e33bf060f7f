"""The folder of results: results/TIME-MODEL/, what is read from there, and two of them side by side.

Each result is there as data and as a page: result.json, and report.html made from it.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from tasks.lib.common import console
from tasks.lib.common.errors import SettingError, SuiteError
from tasks.lib.common.removal import Removal, children, is_folder, remove
from tasks.lib.common.revision import Revision
from tasks.lib.common.settings import Paths
from tasks.lib.common.strict_json import as_json
from tasks.lib.results.schema import SCHEMA, Result, Side
from tasks.lib.results.words import sides_of

RESULT_FILES = ("result.json", "result.json.partial")
"""One of these is in every folder that a benchmark made: report.html is written after it."""


def write(paths: Paths, content: Result) -> Path:
    """Save a result and return its folder, results/TIME-MODEL.

    Raises SuiteError if it cannot be written.
    """
    from tasks.lib.results.page import document

    stamp = content["time"].partition("+")[0].replace(":", "-")
    # A server that this suite did not start can name its model anything: "../../x", say.
    model = re.sub(r"[^\w.-]+", "_", sides_of(content["runs"][0])[-1]["model"].partition("@")[0])
    text = as_json(content) + "\n"
    try:
        folder = _new_folder(paths.results / f"{stamp}-{model}")
        try:
            _save(folder / "result.json", text)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        _save(folder / "report.html", document.render(content))
    except OSError as error:
        raise SuiteError(
            f"The result cannot be saved in {paths.shown(paths.results)} ({error.strerror}).",
            "Free disk space there, or choose another folder with INVOKE_PATHS_RESULTS.",
        ) from error
    return folder


def _save(file: Path, text: str) -> None:
    partial = file.with_name(f"{file.name}.partial")
    try:
        # What was typed may hold bytes that are no text.
        partial.write_text(text, encoding="utf-8", errors="replace")
        partial.replace(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _new_folder(preferred: Path) -> Path:
    """Make `preferred`, or the first of NAME-2, NAME-3, ... that is not there. Raises OSError."""
    preferred.parent.mkdir(parents=True, exist_ok=True)
    folder, number = preferred, 1
    while True:
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
            folder = preferred.with_name(f"{preferred.name}-{number}")
        else:
            return folder


def read(place: Path) -> Result:
    """A saved result: result.json, or the folder that holds it. Raises SettingError."""
    file = place / "result.json" if place.is_dir() else place
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        schema = content["schema"]
    except OSError as error:
        raise SettingError(
            f"{str(file)!r} cannot be read ({error.strerror}).", "Name a folder in results/."
        ) from None
    except (ValueError, KeyError, TypeError):
        raise SettingError(f"{str(file)!r} is not a result.", "Name a folder in results/.") from None
    if schema != SCHEMA:
        raise SettingError(
            f"{str(file)!r} has schema {schema}, and this suite reads {SCHEMA}.",
            "Print it with the version of the suite that wrote it.",
        )
    return cast(Result, content)


DIFFERENCES = {
    "machine.cpu": "the CPUs differ",
    "machine.cores": "the numbers of cores differ",
    "machine.instruction_sets": "the instruction sets differ",
    "machine.system": "the systems differ",
    "machine.governor": "the CPU governors differ",
    "pinning.summary": "the CPUs of servers and client differ",
    "engine": "the engines differ",
    "plan": "the plans differ (what was sent, and for how long)",
    "versions": "the versions of this suite's packages or of the servers differ",
}
"""What makes two results hard to compare, by its place in them."""


def warnings(a: Result, b: Result) -> list[str]:
    """What must be said where two results are set side by side, in plain words."""
    differences = []
    for place, words in DIFFERENCES.items():
        one, other = (_at(content, place) for content in (a, b))
        if one != other:
            differences.append(f"{words}: {_short(one, other)} and {_short(other, one)}")
    # Results from before this was recorded do not have the key.
    revisions = [revision_of(content) for content in (a, b)]
    if revisions[0] != revisions[1]:
        differences.append(f"the versions of this suite differ: {' and '.join(revisions)}")
    limits = [_limits(content) for content in (a, b)]
    if limits[0] != limits[1]:
        differences.append(f"the limits of the servers differ: {' and '.join(limits)}")
    models = [
        {(side["model"], _weights(side)) for run in content["runs"] for side in sides_of(run)}
        for content in (a, b)
    ]
    if models[0] != models[1]:
        names = [", ".join(sorted({name for name, _ in one})) for one in models]
        same = " (by the same name, with other weights)" if names[0] == names[1] else ""
        differences.append(f"the models differ: {names[0]} and {names[1]}{same}")
    return differences


def revision_of(content: Result) -> str:
    """The version of the suite that measured, in words."""
    suite = content.get("suite")
    return "unknown" if suite is None else str(Revision(**suite))


def _limits(content: Result) -> str:
    """What servers may take, in words."""
    sides = [side for run in content["runs"] for side in sides_of(run)]
    limits = dict.fromkeys(
        (one["memory"], one["processes"]) if (one := side["conditions"]) else (None, None) for side in sides
    )
    return " or ".join(
        f"{console.size(memory) if memory else 'any'} memory, {processes or 'any'} processes"
        for memory, processes in limits
    )


def _weights(side: Side) -> str | None:
    return side["origin"]["content_sha256"] if side["origin"] else None


def _at(content: Result, place: str) -> Any:
    value: Any = content
    for key in place.split("."):
        value = None if value is None else value[key]
    return value


def _short(value: Any, other: Any) -> str:
    """A value as a person reads it; of a table only what differs."""
    if isinstance(value, Mapping):
        different = {key: one for key, one in value.items() if one != other.get(key)}
        return ", ".join(f"{key} {one}" for key, one in different.items()) or "none"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def removal(paths: Paths) -> Removal:
    """Of all results. The folder may be any that a person chose: only what benchmarks wrote is removed."""
    ours = [
        place
        for place in children(paths.results)
        if is_folder(place)
        and any((place / name).is_file() for name in ("result.json", "result.json.partial"))
    ]

    def remove_all() -> None:
        for place in ours:
            remove(place)
        if paths.results.is_dir() and not any(paths.results.iterdir()):
            paths.results.rmdir()

    return Removal("results", f"{len(ours)} in {paths.shown(paths.results)}", ours, remove_all)

"""models/digests.json: what each URL gave when it was first downloaded, so that a change is noticed.

The record outlives the model folders. It has one line for each URL, so that a person who trusts a
new archive can remove the line of the old one.
"""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import dataclass
from pathlib import Path

from tasks.lib.common import disk, locks
from tasks.lib.common.errors import DownloadError
from tasks.lib.common.settings import Paths


@dataclass(frozen=True)
class Digest:
    """What a URL gave."""

    sha256: str
    seen: str
    """The day of the first download, UTC, ISO 8601."""


def path(paths: Paths) -> Path:
    return paths.models / "digests.json"


def read(paths: Paths) -> dict[str, Digest]:
    """All records by URL. Raises DownloadError if the file is damaged."""
    file = path(paths)
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    try:
        try:
            table = json.loads(text)
        except ValueError:
            # A person who removed the last line has left a comma before the end.
            table = json.loads(re.sub(r",(\s*\}\s*)$", r"\1", text))
        return {url: Digest(str(entry["sha256"]), str(entry["seen"])) for url, entry in table.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        shown = paths.shown(file)
        raise DownloadError(
            f"{shown} is damaged: it should hold a digest for each URL, as JSON.",
            f"Fix it, or remove it if every archive may be trusted again: {shown}",
        ) from None


def record(paths: Paths, url: str, sha256: str) -> None:
    """Remember what `url` gave; a record that says the same stays as it is. Raises OSError."""
    with locks.held(paths, "digests", "it records a download"):
        records = read(paths)
        if url in records and records[url].sha256 == sha256:
            return
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        records[url] = Digest(sha256, today)
        lines = [
            f"  {json.dumps(url)}: {json.dumps({'sha256': entry.sha256, 'seen': entry.seen})}"
            for url, entry in sorted(records.items())
        ]
        disk.write_text(path(paths), "{\n" + ",\n".join(lines) + "\n}\n")

"""Plain English: words of the project's first manner of writing do not come back."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BANNED = re.compile(
    r"(?<![a-z])(mend(s|ed|ing)?|anew|shall|whoever|wherever|(no|some|any|every)body('?s)?|what becomes of)"
    r"(?![a-z])",
    re.IGNORECASE,
)
WRITTEN = (".py", ".md", ".yaml", ".toml", ".txt", ".css", ".html", ".sh")
EXEMPT = ("LICENSE", "tests/unit/test_words.py", "models/labels")


def written() -> list[Path]:
    """The files of the project that a person has written."""
    try:
        listing = ["git", "ls-files"]
        listed = subprocess.run(
            listing, cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):  # a copy without git
        folders = [ROOT / name for name in ("tasks", "docker", "tests", "docs")]
        places = [*ROOT.glob("*.md"), *(place for folder in folders for place in folder.rglob("*"))]
        listed = [str(place.relative_to(ROOT)) for place in places]
    names = [name for name in listed if not name.startswith(EXEMPT)]
    return [ROOT / name for name in names if name.endswith(WRITTEN) or "Dockerfile" in name]


def test_banned_words_are_found() -> None:
    for text in ("to mend", "Whoever asks", "nobody's", "it shall be", "test_built_anew"):
        assert BANNED.search(text), text
    for text in ("amend", "recommend", "shallow", "marshall", "embodying"):
        assert not BANNED.search(text), text


def test_no_file_holds_a_banned_word() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{number}: {match[0]}"
        for file in written()
        if file.is_file()
        for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1)
        if (match := BANNED.search(line))
    ]
    assert found == []

"""tasks.lib.common.revision: the git commit and the digest of the sources."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tasks.lib.common.revision import Revision, revision


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with sources, and a file that is not one of them."""
    for name, text in {"tasks.py": "a", "invoke.yaml": "b", "tasks/lib/x.py": "c", "docs/y.md": "d"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org")
    command = ["git", "-C", str(root), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(root: Path) -> Path:
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", "first")
    return root


def test_without_git_the_sources_tell(root: Path) -> None:
    before = revision(root)
    assert (before.commit, before.changed, len(before.sources)) == (None, None, 64)
    assert str(before) == f"sources {before.sources[:12]}"
    (root / "docs/y.md").write_text("changed")
    (root / "tasks/lib/__pycache__").mkdir()
    (root / "tasks/lib/__pycache__/x.pyc").write_text("compiled")
    assert revision(root) == before
    (root / "tasks/lib/x.py").write_text("changed")
    assert revision(root).sources != before.sources


def test_a_commit_and_whether_it_was_changed(repository: Path) -> None:
    clean = revision(repository)
    assert clean.commit == git(repository, "rev-parse", "HEAD")
    assert clean.changed is False
    assert str(clean) == f"commit {clean.commit[:12]}"
    (repository / "docs/y.md").write_text("changed")
    assert revision(repository) == clean
    (repository / "tasks/lib/x.py").write_text("changed")
    changed = revision(repository)
    assert (changed.commit, changed.changed) == (clean.commit, True)
    assert str(changed).endswith(" with changes")


def test_a_repository_around_it_is_another_project(repository: Path) -> None:
    inner = repository / "vendored"
    (inner / "tasks").mkdir(parents=True)
    (inner / "tasks.py").write_text("a")
    (inner / "invoke.yaml").write_text("b")
    assert revision(inner).commit is None


def test_two_versions_do_not_look_alike() -> None:
    assert str(Revision("a" * 40, False, "0" * 64)) != str(Revision("a" * 40, True, "0" * 64))

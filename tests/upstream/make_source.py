"""Make a git repository of the stand-in source, as `git clone` wants it: `python make_source.py FOLDER`.

FOLDER/serving.git is a bare repository with one commit and the tag that Dockerfile.devel checks out. Serve it
on loopback with `git daemon --base-path=FOLDER --export-all --listen=127.0.0.1 --port=PORT`; its address is
git://127.0.0.1:PORT/serving.git.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

TAG = "2.20.0"
WORKSPACE = Path(__file__).parent
CONTENTS = ("WORKSPACE", ".bazelrc", "tensorflow_serving")


def make_source(folder: Path, tag: str = TAG) -> Path:
    """Make FOLDER/serving.git again and return it. The same source gives the same commit.

    Raises subprocess.CalledProcessError, OSError.
    """
    bare = folder / "serving.git"
    with tempfile.TemporaryDirectory(prefix="standin-source-") as temporary:
        tree = Path(temporary) / "serving"
        tree.mkdir()
        for name in CONTENTS:
            origin = WORKSPACE / name
            (shutil.copytree if origin.is_dir() else shutil.copyfile)(origin, tree / name)
        _git(tree, "init", "--quiet", "--initial-branch=master")
        _git(tree, "add", "--all")
        _git(tree, "commit", "--quiet", "--message=The stand-in for TensorFlow Serving")
        _git(tree, "tag", tag)
        shutil.rmtree(bare, ignore_errors=True)
        _git(tree, "clone", "--quiet", "--bare", str(tree), str(bare))
    return bare


def _git(folder: Path, *argv: str) -> None:
    # Nothing of the caller's own git settings, and always the same time: the commit depends on the source.
    who = {"NAME": "Tests", "EMAIL": "tests@example.org", "DATE": "2026-01-01T00:00:00Z"}
    identity = {f"GIT_{role}_{k}": v for role in ("AUTHOR", "COMMITTER") for k, v in who.items()}
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "PATH": os.environ["PATH"]}
    subprocess.run(["git", *argv], cwd=folder, check=True, env={**settings, **identity})


def main() -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="Make a git repository of the stand-in source.")
    parser.add_argument("folder", type=Path, help="where serving.git is made")
    parser.add_argument("--tag", default=TAG, help="tag that it gets (%(default)s)")
    options = parser.parse_args()
    print(make_source(options.folder, options.tag))


if __name__ == "__main__":
    main()

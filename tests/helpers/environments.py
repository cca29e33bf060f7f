"""A project whose embedded environment holds one tiny package."""

from __future__ import annotations

import base64
import subprocess
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from tasks.lib.common import processes
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import environment


def make_wheel(folder: Path, version: str) -> Path:
    """A wheel of the package `tiny`, whose only module knows its version."""
    name = f"tiny-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = {version!r}\n",
        f"{name}/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"{name}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(text)}\n")
    files[f"{name}/RECORD"] = "".join(lines) + f"{name}/RECORD,,\n"
    wheel = folder / f"tiny-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


class Project:
    """A project folder with a lock of its own, and wheels that pip finds without any index."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.settings = replace(settings, paths=replace(settings.paths, root=folder))
        self.folder = folder
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.programs = folder / environment.SOURCES
        self.programs.mkdir(parents=True)
        self.lock("1.0")

    def lock(self, version: str, digest: str | None = None) -> None:
        digest = digest or sha256(make_wheel(self.wheels, version).read_bytes()).hexdigest()
        (self.folder / environment.LOCK).write_text(f"tiny=={version} --hash=sha256:{digest}\n")

    def program(self, name: str, code: str) -> None:
        (self.programs / f"{name}.py").write_text(code)

    def installed(self) -> str:
        code = "import tiny; print(tiny.VERSION)"
        return subprocess.check_output([environment.python(self.settings), "-c", code], text=True).strip()

    def jobs(self) -> list[processes.Identity]:
        return processes.carriers(processes.marker(self.settings.paths.state, "job", ""))

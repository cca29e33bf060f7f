"""Archives for tests to download, and what became of them."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path


def tar(entries: Mapping[str, bytes | tarfile.TarInfo | None], mode: str = "w:gz") -> bytes:
    """An archive of files (bytes), folders (None) and whatever else a TarInfo describes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, what in entries.items():
            if isinstance(what, tarfile.TarInfo):
                archive.addfile(what)
                continue
            info = tarfile.TarInfo(name)
            if what is None:
                info.type = tarfile.DIRTYPE
                info.mode = 0o700
                archive.addfile(info)
            else:
                info.size = len(what)
                info.mode = 0o600
                archive.addfile(info, io.BytesIO(what))
    return buffer.getvalue()


def zipped(entries: Mapping[str, bytes | None], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of files (bytes) and folders (None)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(f"{name}/" if content is None else name, content or b"")
    return buffer.getvalue()


def saved_model(
    version: str = "1538687457", seed: int = 1, size: int = 1000, prefix: str = "./resnet/"
) -> bytes:
    """An archive nested as the official one is. `size` bytes of it cannot be compressed."""
    noise = random.Random(seed).randbytes(size)
    return tar(
        {
            prefix.rstrip("/") or ".": None,
            f"{prefix}{version}": None,
            f"{prefix}{version}/saved_model.pb": b"graph",
            f"{prefix}{version}/variables/variables.data-00000-of-00001": noise,
            f"{prefix}{version}/variables/variables.index": b"index",
        }
    )


def tree(folder: Path) -> list[str]:
    """Everything below `folder`, by relative name; [] if there is none."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))

"""tasks.lib.embedded.sources: the files that a program is made of, by its imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.lib.embedded import environment, sources
from tasks.lib.models import artefact
from tests.helpers.commandline import ROOT

FILES = {
    "package/__init__.py": "",
    "package/convert.py": "import json\nfrom package import direct\nfrom package.deep import inner\n",
    "package/direct.py": "def late():\n    from .indirect import name\n",
    "package/indirect.py": "name = 1\n",
    "package/deep/__init__.py": "from . import listed\n",
    "package/deep/inner.py": "from ..above import other\nimport package.named as renamed\n",
    "package/deep/listed.py": "from package import convert  # a circle\n",
    "package/deep/unused.py": "",
    "package/above.py": "",
    "package/named.py": "",
    "package/unused.py": "",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(folder: Path, *modules: str) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sources.imported(folder, modules)]


def test_imports_are_followed(folder: Path) -> None:
    assert names(folder, "package.convert") == sorted(name for name in FILES if "unused" not in name)


def test_a_module_without_imports_brings_its_package(folder: Path) -> None:
    assert names(folder, "package.named") == ["package/__init__.py", "package/named.py"]


def test_what_is_not_there_is_passed_over(folder: Path) -> None:
    assert names(folder, "package.missing", "elsewhere") == ["package/__init__.py"]


def test_a_changed_import_is_seen(folder: Path) -> None:
    assert "package/unused.py" not in names(folder, "package.direct")
    (folder / "package/direct.py").write_text("import package.unused\n")
    assert "package/unused.py" in names(folder, "package.direct")


def test_what_decides_what_an_artefact_holds() -> None:
    folder = ROOT / environment.SOURCES
    found = names(folder, *artefact.PROGRAMS)
    for decisive in (
        "convert",
        "execution/artefact",
        "execution/openvino_backend",
        "execution/tensorflow_backend",
    ):
        assert f"embedded_server/{decisive}.py" in found
    for other in ("grpc/services", "http/rest", "lifecycle/manager", "__main__"):
        assert f"embedded_server/{other}.py" not in found

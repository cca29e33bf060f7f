"""Takes everything down again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from invoke import Context

from tasks.edge import settings, task

if TYPE_CHECKING:
    from tasks.lib.common.settings import Settings
    from tasks.lib.engines.base import Server


@task(
    help={
        "models": "also remove the models that were downloaded or built, and what was made from them",
        "results": "also remove the saved benchmarks",
        "environment": "also remove the embedded environment",
        "images": "also remove the images that build tasks made; the published ones that were pulled stay",
    }
)
def teardown(
    c: Context, models: bool = False, results: bool = False, environment: bool = False, images: bool = False
) -> None:
    """Stop every server that this suite started, and nothing else.

    The flags remove more, after saying what and how much. The catalogue, the sample photos, the labels
    and the record of what each download must hash to always stay, and so does a model that you put
    into the models folder yourself, or changed there.
    """
    from tasks.lib.common import console, processes

    its = settings(c)
    if not stop_all(its):
        console.result("nothing is running")
    if not its.dry:
        processes.end_orphans(its.paths.state)
    plans = [
        *([_models(its)] if models else []),
        *([_results(its)] if results else []),
        *([_environment(its)] if environment else []),
    ]
    for plan in plans:
        _carry_out(its, plan)
    if images:
        _remove_images(its)


def stop_all(its: Settings) -> list[Server]:
    """Stop every server of this suite on every engine, saying so, and return those that ran."""
    from tasks.lib.common import console
    from tasks.lib.engines.choose import all_engines

    ended = []
    for engine in all_engines(its):
        for server in engine.servers():
            if its.dry:
                console.note(f"would stop {server}")
            else:
                engine.stop(server, its.serve.stop_grace)
                console.result(f"stopped {server}")
            ended.append(server)
    return ended


def _remove_images(its: Settings) -> None:
    from tasks.lib.common import console
    from tasks.lib.common.errors import DockerError
    from tasks.lib.images import daemon, image_removal

    try:
        client = daemon.connect()
    except DockerError as error:
        console.note(error.problem)
        console.result("no images to remove")
        return
    found = image_removal.find(client, its)
    described = ", ".join(f"{one.name} ({console.size(one.size)})" for one in found)
    if not found:
        console.result("no images to remove")
    elif its.dry:
        console.note(f"would remove images: {described}")
    else:
        console.note(f"removing images: {described}")
        gone = image_removal.remove(client, found)
        console.result(f"removed images: {', '.join(one.name for one in gone) or 'none'}")


@dataclass(frozen=True)
class Removal:
    """What one flag removes."""

    what: str
    """As in "no WHAT to remove"."""
    contents: str
    """Named one by one, or counted."""
    paths: Sequence[Path]
    remove: Callable[[], None]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(_size(path) for path in self.paths)


def _carry_out(its: Settings, removal: Removal) -> None:
    from tasks.lib.common import console

    if not removal.paths:
        console.result(f"no {removal.what} to remove")
        return
    description = f"{removal.what}: {removal.contents} ({console.size(removal.size)})"
    if its.dry:
        console.note(f"would remove {description}")
        return
    console.note(f"removing {description}")
    removal.remove()
    console.result(f"removed {description}")


def _models(its: Settings) -> Removal:
    from tasks.lib.common import locks
    from tasks.lib.models import store
    from tasks.lib.models.artefact import FOLDER
    from tasks.lib.models.publish import PARTIAL

    names = [
        path.name for path in _children(its.paths.models) if store.is_name(path.name) and _is_folder(path)
    ]
    found: dict[str, list[Path]] = {}
    described: list[str] = []
    for name in names:
        versions = {n: v for n, v in store.versions(its.paths, name).items() if store.is_ours(v)}
        made = [
            p for p in _children(its.paths.models / name) if p.name == FOLDER or p.name.startswith(PARTIAL)
        ]
        described += [f"{name}@{number}" for number in versions] + [f"{name}/{path.name}" for path in made]
        found[name] = [*made, *versions.values(), *map(store.origin_record, versions.values())]

    def remove() -> None:
        for name, paths in found.items():
            base = its.paths.models / name
            # The lock under which models are brought in.
            with locks.held(its.paths, f"model-{name}", f"it brings in {name}"):
                for path in paths:
                    if _is_folder(path):
                        # Renamed first: half a model must not look like one if this is cut short.
                        path = path.rename(base / f"{PARTIAL}removed-{path.name.strip('.')}")
                    _remove(path)
                if not any(base.iterdir()):
                    base.rmdir()

    return Removal(
        "models", ", ".join(described), [path for paths in found.values() for path in paths], remove
    )


def _results(its: Settings) -> Removal:
    # Only what a benchmark has written: the folder may be any that a person chose.
    ours = [
        p
        for p in _children(its.paths.results)
        if _is_folder(p) and any((p / name).is_file() for name in RESULT_FILES)
    ]

    def remove() -> None:
        for path in ours:
            _remove(path)
        if its.paths.results.is_dir() and not any(its.paths.results.iterdir()):
            its.paths.results.rmdir()

    return Removal("results", f"{len(ours)} in {its.paths.shown(its.paths.results)}", ours, remove)


RESULT_FILES = ("result.json", "result.json.partial")  # report.html comes after it


def _environment(its: Settings) -> Removal:
    from tasks.lib.embedded import environment

    folder = its.paths.environment
    return Removal(
        "embedded environment",
        its.paths.shown(folder),
        [folder] if folder.is_dir() else [],
        lambda: environment.remove(its),
    )


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _is_folder(path: Path) -> bool:
    """Whether it is a folder of its own: links lead to what is not ours."""
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to), or a folder with all that is in it."""
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    """Bytes of the files at or below `path`; links count as nothing."""
    if path.is_symlink():
        return 0
    if path.is_file():
        return path.stat().st_size
    files = (Path(parent, name) for parent, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in files)

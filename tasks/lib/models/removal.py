"""Which models `invoke teardown --models` removes: those that the suite downloaded or built."""

from __future__ import annotations

from pathlib import Path

from tasks.lib.common import locks
from tasks.lib.common.removal import Removal, children, is_folder, remove
from tasks.lib.common.settings import Settings
from tasks.lib.models import store
from tasks.lib.models.artefact import FOLDER
from tasks.lib.models.publish import PARTIAL


def removal(settings: Settings) -> Removal:
    """Of every version that the suite made and no one changed, and of everything made from models."""
    paths = settings.paths
    names = [path.name for path in children(paths.models) if store.is_name(path.name) and is_folder(path)]
    removed: dict[str, list[Path]] = {}
    described: list[str] = []
    for name in names:
        versions = {n: v for n, v in store.versions(paths, name).items() if store.is_ours(v)}
        made = [p for p in children(paths.models / name) if p.name == FOLDER or p.name.startswith(PARTIAL)]
        described += [f"{name}@{number}" for number in versions] + [f"{name}/{path.name}" for path in made]
        removed[name] = [*made, *versions.values(), *map(store.origin_record, versions.values())]

    def remove_all() -> None:
        for name, places in removed.items():
            base = paths.models / name
            # The lock under which models are brought in.
            with locks.held(paths, f"model-{name}", f"it brings in {name}"):
                for path in places:
                    if is_folder(path):
                        # Renamed first: half a model must not look like one if this is interrupted.
                        path = path.rename(base / f"{PARTIAL}removed-{path.name.strip('.')}")
                    remove(path)
                if not any(base.iterdir()):
                    base.rmdir()

    return Removal(
        "models", ", ".join(described), [path for places in removed.values() for path in places], remove_all
    )

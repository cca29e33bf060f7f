"""The worked example's stand-in: the same architecture with seeded weights, built here.

It is used where the official archive cannot be reached. It is defined in
docker/embedded/embedded_server/seeded.py, which runs in the embedded environment.
"""

from __future__ import annotations

import json
from pathlib import Path

from tasks.lib.client.inputs import SAMPLES
from tasks.lib.common import console
from tasks.lib.common.errors import ModelError
from tasks.lib.common.settings import Settings
from tasks.lib.embedded import environment

VERSION = 1
SEED = 1
RECIPES = ("resnet50_v2",)
MARGIN = 0.15
"""Each sample photo's probability of its class is at least this far ahead of its second. Servers that
differ by less than half of it still name the same class, and those that differ by more are caught."""


def build(settings: Settings, recipe: str, target: Path) -> str:
    """Make the SavedModel of `recipe` in `target` and return how its origin is described.

    Raises ModelError for an unknown recipe, or if the weights do not tell the sample photos apart.
    """
    if recipe not in RECIPES:
        raise ModelError(f"There is no seeded recipe {recipe!r}.", f"Use one of: {', '.join(RECIPES)}.")
    photos_folder = settings.paths.root / SAMPLES
    arguments = [f"--output={target}", f"--photos={photos_folder}", f"--seed={SEED}"]
    label = f"building {recipe} with seeded weights"
    photos = json.loads(environment.run(settings, "embedded_server.seeded", arguments, label, ModelError))
    classes = {photo["class"] for photo in photos}
    margin = min(photo["margin"] for photo in photos)
    if len(classes) < 5 or margin < MARGIN:
        raise ModelError(
            f"The seeded weights give {len(classes)} classes with a margin of {margin:.2f}: too little.",
            "This CPU computes differently from those tried; please report it with its model.",
        )
    console.note(
        f"{len(photos)} sample photos, {len(classes)} classes, each ahead of its second by {margin:.2f}"
    )
    return f"{recipe}, seed {SEED}"

"""Which images teardown takes for the suite's own; removing them is tested on a real Docker Engine."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tasks.lib.common.settings import Settings
from tasks.lib.images import image_removal
from tasks.lib.images.image_removal import Leftover


def with_images(*tags: list[str]) -> Any:
    """A client that knows images with these tags, all with the suite's labels."""
    there = [
        SimpleNamespace(tags=each, short_id=f"sha256:{number:010}", attrs={"Size": 7})
        for number, each in enumerate(tags)
    ]
    return SimpleNamespace(images=SimpleNamespace(list=lambda filters: there))


def test_only_what_is_called_so_is_ours(settings: Settings) -> None:
    """Labels are inherited by whatever is made FROM an image, here or by another user."""
    jane = replace(settings, build=replace(settings.build, user="jane"))
    client = with_images(
        ["jane/tensorflow-serving:2.20.0", "registry/copy:1"],
        ["jane/tensorflow-serving-embedded:replaced-0123456789"],
        ["joe/tensorflow-serving:2.20.0"],
        ["jane/tensorflow-serving-fork:1"],
        [],
    )
    assert image_removal.find(client, jane) == [
        Leftover("jane/tensorflow-serving-embedded:replaced-0123456789", 7),
        Leftover("jane/tensorflow-serving:2.20.0", 7),
    ]

"""A zoo of SavedModels: what people bring, and what is easily got wrong. KINDS lists them all."""

from __future__ import annotations

from zoo import (
    arithmetic,
    control,
    detection,
    images,
    numerics,
    saved,
    sequences,
    tabular,
    text,
    tf1,
    traps,
    vision,
    wiring,
)

KINDS = [
    kind
    for module in (
        arithmetic,
        numerics,
        traps,
        wiring,
        control,
        tabular,
        text,
        sequences,
        vision,
        images,
        detection,
        tf1,
        saved,
    )
    for kind in module.KINDS
]

"""Which image a variant is served from, and who makes it."""

from __future__ import annotations

from tasks.lib.common.errors import DockerError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant


def name(settings: Settings, variant: Variant) -> str:
    """The image of a variant, as Docker calls it."""
    assert variant.container is not None
    kind = variant.container.image
    if kind == "stock":
        return settings.docker.image
    if is_built(variant):
        from tasks.lib.images import recipe

        return recipe.name(settings, kind)
    return kind


def is_built(variant: Variant) -> bool:
    """Whether the image is made by this suite's build tasks, and in no registry."""
    return variant.container is not None and variant.container.image in ("optimized", "embedded")


def not_built(variant: Variant, name: str) -> DockerError:
    """What is raised where that image is missing: a call never begins to compile by itself."""
    assert variant.container is not None
    commands, duration = {
        "optimized": ("build.devel build.optimized", "compiling TensorFlow Serving takes hours"),
        "embedded": ("build.embedded --engine docker", "some minutes"),
    }[variant.container.image]
    return DockerError(
        f"The image {name} of the variant {variant.name} is not built yet.",
        f"Build it with `invoke {commands}` ({duration}), or choose another --variant or --engine local.",
    )

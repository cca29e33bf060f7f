"""Takes everything down again."""

from __future__ import annotations

from invoke import Context

from tasks.edge import read_settings, task


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
    from tasks.lib.common.removal import carry_out
    from tasks.lib.embedded import environment as embedded_environment
    from tasks.lib.images import image_removal
    from tasks.lib.models import removal as model_removal
    from tasks.lib.results import folders
    from tasks.lib.serving import servers

    settings = read_settings(c)
    servers.tear_down(settings)
    if models:
        carry_out(model_removal.removal(settings), dry=settings.dry)
    if results:
        carry_out(folders.removal(settings.paths), dry=settings.dry)
    if environment:
        carry_out(embedded_environment.removal(settings), dry=settings.dry)
    if images:
        image_removal.remove_all(settings)

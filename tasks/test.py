"""Runs the tests."""

from __future__ import annotations

from invoke import Context

from tasks.edge import task


@task(
    help={
        "fast": "only the unit tests: no TensorFlow, no engine, about a minute",
        "select": "only tests whose names match this pytest expression",
    }
)
def test(c: Context, fast: bool = False, select: str = "") -> None:
    """Run the tests: everything that this machine can run, or with --fast the unit tests.

    What is skipped is listed with its reason. The tests of the embedded server run in the embedded
    environment, which is built first if need be.
    """
    from tasks.edge import settings
    from tasks.lib import suite

    suite.run(settings(c), fast, select)

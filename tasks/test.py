"""Runs the tests."""

from __future__ import annotations

from invoke import Context

from tasks.edge import read_settings, task


@task(
    help={
        "fast": "only unit tests that start no process, in seconds: no TensorFlow, no engine",
        "select": "only tests whose names match this pytest expression",
    }
)
def test(c: Context, fast: bool = False, select: str = "") -> None:
    """Run the tests: everything that this machine can run, or with --fast what takes seconds.

    What is skipped is listed with its reason. The tests of the embedded server run in the embedded
    environment, which is built first if need be.
    """
    from tasks.lib.testsuite import runner

    runner.run(read_settings(c), fast, select)

"""The root of the Invoke namespace: composes the tasks and collections, nothing else."""

from __future__ import annotations

from pathlib import Path

# Invoke loads this file under the name "tasks". Giving it a path makes the folder tasks/ its
# contents, so that `tasks.serve` and `tasks.lib` mean the same thing to Invoke, pytest and mypy.
__path__ = [str(Path(__file__).resolve().parent / "tasks")]

from invoke import Collection

from tasks import benchmark, build, download, pipeline, predict, serve, teardown, test

ns = Collection(
    download.download,
    build.ns,
    serve.ns,
    predict.predict,
    benchmark.ns,
    teardown.teardown,
    pipeline.pipeline,
    test.test,
)

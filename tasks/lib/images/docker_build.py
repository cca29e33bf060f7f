"""Makes images with `docker build`: checks first, follows the log, and explains what went wrong.

They are built with the docker command, which a person could type as it is printed.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Any

from tasks.lib.common import console, locks, processes
from tasks.lib.common.errors import DockerError, ImageBuildError
from tasks.lib.common.settings import Settings, check_engine
from tasks.lib.images import build_reasons, daemon, preflight, pull, recipe
from tasks.lib.images.build_log import Failure, Reader, failure
from tasks.lib.images.build_progress import Progress
from tasks.lib.images.preflight import Limits
from tasks.lib.images.recipe import LABEL, Built

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.images import Image

FACTS = "/usr/local/share/tensorflow_model_server/build.json"
"""Where the devel image says what it was compiled from and for."""
BUILDER = {"BUILDX_BUILDER": "default"}
"""The daemon's own: another one sees no image of the daemon's, and leaves none with it."""
TAKES = {
    "devel": "hours (TensorFlow Serving is compiled from source)",
    "optimized": "about a minute",
    "embedded": "some minutes",
}


def engine(settings: Settings, kind: str, asked: str = "") -> str:
    """The engine to build for: the one asked for, else the setting's.

    Of "auto" it says what it became, and why.

    Where that is "auto", build.devel compiles if a Docker Engine answers: who types it wants that.
    build.optimized goes on from the image that build.devel made, and never starts a compilation. The
    embedded environment serves both engines, so build.embedded makes that. Raises SettingError if there
    is no such engine.
    """
    engine_name = check_engine(settings, asked)
    if engine_name == "auto":
        engine_name, why = _automatic(settings, kind)
        console.note(f"engine: {engine_name} ({why})")
    return engine_name


def _automatic(settings: Settings, kind: str) -> tuple[str, str]:
    if kind == "embedded":
        return "local", "its environment converts models for every engine; --engine docker makes the image"
    try:
        with daemon.connected() as client:
            preflight.check_platform(client.info(), kind)
            if kind == "devel":
                return "docker", "a Docker Engine answers"
            for needed in ("optimized", "devel"):
                if recipe.find(client, settings, needed) is not None:
                    return "docker", f"it has {recipe.name(settings, needed)}"
    except DockerError as error:
        return "local", error.problem.rstrip(".")
    devel = recipe.name(settings, "devel")
    return "local", f"the Docker Engine has no {devel}; `invoke build.devel` makes it, which takes hours"


def build(settings: Settings, kind: str) -> Built | None:
    """Make the image of this kind, unless it is there for the same inputs. None on --dry.

    Raises DockerError if there is no daemon to do it, ImageBuildError if it cannot be made; nothing but
    the builder's cache is left then.
    """
    preflight.check_command()
    with daemon.connected() as client:
        info = client.info()
        preflight.check_platform(info, kind)
        image_build = _Build(settings, kind, client, info)
        if settings.dry:
            return image_build.run()
        with _locked(settings, kind):
            processes.end_orphans(settings.paths.state)
            return image_build.run()


def report(settings: Settings, kind: str) -> None:
    """Build the image of this kind unless it is there, and print its name. Raises as `build` does."""
    built = build(settings, kind)
    if built is not None:
        note = ": already built from the same inputs" if built.was_there else ""
        console.result(f"{kind} image: {built}{note}")


class _Build:
    """One call of `build`."""

    def __init__(self, settings: Settings, kind: str, client: DockerClient, info: Mapping[str, Any]) -> None:
        self._settings = settings
        self._kind = kind
        self._client = client
        self._info = info
        self._recipe = recipe.recipe(settings, kind)
        self._log = settings.paths.state / "logs" / f"build.{kind}.log"
        self._limits: Limits | None = None

    def run(self) -> Built | None:
        present = recipe.image(self._client, self._recipe.name)
        if present is not None:
            if recipe.is_fresh(self._client, self._recipe, present):
                return recipe.built(self._recipe.name, present, was_there=True)
            console.note(f"{self._recipe.name} was made from other inputs: it is built again")
        extra = self._preflight()
        if not self._settings.dry:
            self._remove_leftovers()
            self._log.parent.mkdir(parents=True, exist_ok=True)
            self._log.write_bytes(b"")
        self._pull_bases()
        ids = recipe.base_ids(self._client, self._recipe)
        extra |= self._facts()
        labels = {
            "kind": self._kind,
            "fingerprint": recipe.fingerprint(self._recipe, ids),
            "bases": ",".join(f"{argument}={found}" for argument, found in ids.items()),
        }
        argv = recipe.command(self._settings, self._recipe, labels, extra)
        console.command(argv)
        if self._settings.dry:
            return None
        console.note(
            f"build.{self._kind} takes {TAKES[self._kind]}; everything it writes is in {self._shown_log}"
        )
        self._docker(argv, f"build.{self._kind}")
        made = recipe.image(self._client, self._recipe.name)
        if made is None:
            raise ImageBuildError(
                f"build.{self._kind} succeeded, but there is no image {self._recipe.name}.",
                f"It may have been removed: try again, and look at {self._shown_log}.",
            )
        if present is not None and present.id != made.id:
            self._remove(present)
        return recipe.built(self._recipe.name, made)

    def _preflight(self) -> dict[str, str]:
        """Check that there is room, and return the arguments that bound the compilation."""
        needed = preflight.disk_needed(self._settings.build, self._kind)
        preflight.check_disk(self._info, self._kind, needed)
        if self._kind != "devel":
            return {}
        free = preflight.free_memory_mb(self._info)
        self._limits = preflight.limits(self._settings.build, free, int(self._info.get("NCPU") or 1))
        told = f"memory: {free} MB free; the build may use {self._limits.memory_mb} MB"
        told += f" and {self._limits.jobs} jobs"
        if self._limits.memory_mb < preflight.TYPICAL_MB:
            told += f" (TensorFlow Serving typically takes {preflight.TYPICAL_MB} MB; with less it is slower)"
        console.note(told)
        return {"BUILD_MEMORY_MB": str(self._limits.memory_mb), "BUILD_JOBS": str(self._limits.jobs)}

    def _pull_bases(self) -> None:
        """Fetch what is missing first: its id is part of the fingerprint."""
        devel = recipe.name(self._settings, "devel")
        for image in self._recipe.bases.values():
            if recipe.image(self._client, image) is not None:
                continue
            if image == devel:
                if self._settings.dry:
                    console.note(f"{image} does not exist yet: `invoke build.devel` builds it")
                    continue
                raise ImageBuildError(
                    f"There is no image {devel}, which build.optimized takes the compiled server from.",
                    f"Build it with `invoke build.devel`, which takes {TAKES['devel']}.",
                )
            if self._settings.dry:
                console.command(["docker", "pull", image])
            else:
                pull.pull(image, self._settings.docker.pull_timeout)

    def _facts(self) -> dict[str, str]:
        """What the optimized image says of itself, as the devel image knows it."""
        if self._kind != "optimized":
            return {}
        self._check_devel_is_fresh()
        devel = self._recipe.bases["TF_SERVING_BUILD_IMAGE"]
        argv = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "cat", devel, FACTS]
        console.command(argv)
        if self._settings.dry:
            return {}
        answer = subprocess.run(
            argv, capture_output=True, text=True, check=False, env={**os.environ, **daemon.environment()}
        )
        return arguments_from(answer.stdout, devel, answer.stderr)

    def _check_devel_is_fresh(self) -> None:
        """Say so if the image of build.devel is not what the settings ask for today."""
        devel = recipe.recipe(self._settings, "devel")
        present = recipe.image(self._client, devel.name)
        if present is not None and not recipe.is_fresh(self._client, devel, present):
            console.note(f"{devel.name} was made from other inputs; `invoke build.devel` makes it again")

    def _docker(self, argv: Sequence[str], label: str) -> None:
        """Run a docker command to its end, with its log followed. Raises ImageBuildError if it fails."""
        with Progress(label, self._log) as progress:
            status = 1
            try:
                status, _ = processes.run(
                    argv,
                    state=self._settings.paths.state,
                    label=label,
                    log=self._log,
                    cwd=self._settings.paths.root,
                    environment={**os.environ, **daemon.environment(), **BUILDER},
                    capture=False,
                    line=progress,
                )
            finally:
                if status != 0:
                    with processes.uninterrupted():
                        self._remove_containers(progress.reader)
        if status != 0:
            raise self._failure(failure(progress.reader), status)

    def _failure(self, why: Failure, status: int) -> ImageBuildError:
        from docker.errors import DockerException
        from requests import RequestException

        try:
            self._client.ping()
        except (DockerException, RequestException):
            # A daemon that is stopped kills what it runs, which looks like a lack of memory.
            return build_reasons.gone(self._kind, self._shown_log)
        return build_reasons.explain(
            self._kind, why, status, self._settings.build, self._limits, self._shown_log
        )

    def _remove_leftovers(self) -> None:
        """Remove what the last build left, if it was killed or its daemon stopped: its log has the ids."""
        reader = Reader()
        for line in processes.tail(self._log).splitlines():
            reader.feed(line)
        self._remove_containers(reader)

    def _remove_containers(self, reader: Reader) -> None:
        """The classic builder keeps the container of a step that failed."""
        import requests
        from docker.errors import DockerException

        for container in reader.containers:
            with suppress(DockerException, requests.RequestException):
                self._client.containers.get(container).remove(force=True, v=True)

    def _remove(self, old: Image) -> None:
        """Remove an image of ours whose name another has now; layers stay as cache.

        One that is in use gets another name, by which `teardown --images` will know it.
        """
        from docker.errors import APIError, DockerException

        with suppress(DockerException):
            old.reload()
            if not old.tags and old.labels.get(f"{LABEL}.kind") == self._kind:
                try:
                    self._client.images.remove(old.id, noprune=True)
                except APIError:
                    repository = self._recipe.name.rpartition(":")[0]
                    old.tag(repository, f"replaced-{old.short_id.removeprefix('sha256:')}")

    @property
    def _shown_log(self) -> str:
        return self._settings.paths.shown(self._log)


def arguments_from(text: str, image: str, said: str) -> dict[str, str]:
    """The build arguments that carry on what the devel image's facts file says.

    Raises ImageBuildError if `text` is not what build.devel writes; `said` is what the command complained of.
    """
    try:
        facts = json.loads(text)
        sets = facts["instruction_sets"]
        return {
            "SERVING_TAG": str(facts["tag"]),
            "BUILD_OPTIONS": str(facts["build_options"]),
            "INSTRUCTION_SETS": sets if isinstance(sets, str) else " ".join(map(str, sets)),
        }
    except (ValueError, KeyError, TypeError) as error:
        if said.strip():
            console.note(said.strip().splitlines()[-1])
        raise ImageBuildError(
            f"{image} does not say what it was compiled for ({FACTS} is missing or damaged).",
            "It was not made by build.devel: remove it (`docker image rm`) and build it again.",
        ) from error


def _locked(settings: Settings, kind: str) -> AbstractContextManager[None]:
    return locks.held(settings.paths, f"image-{kind}", f"it is building the {kind} image")

"""The images that this suite builds: what they are called, and what they are made from.

An image carries the fingerprint of its inputs as a label, so one that is there for the same inputs is
not built again. tasks.lib.images.docker_build makes them.
"""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.lib.common import console, hardware
from tasks.lib.common.errors import DockerError, SettingError
from tasks.lib.common.settings import Settings

if TYPE_CHECKING:
    from docker.client import DockerClient
    from docker.models.images import Image

LABEL = "io.tensorflow-serving-suite"
"""What our labels begin with. On images .kind, .fingerprint, .bases, .tag, .build-options and
.instruction-sets; on a server's container this word itself is one, too."""
INSTRUCTION_SETS = f"{LABEL}.instruction-sets"
"""The label that says what an image's code needs of the CPU: names of /proc/cpuinfo, separated by spaces."""
REPOSITORIES = {
    "devel": "tensorflow-serving-devel",
    "optimized": "tensorflow-serving",
    "embedded": "tensorflow-serving-embedded",
}
DOCKERFILES = {"devel": "Dockerfile.devel", "optimized": "Dockerfile", "embedded": "Dockerfile.embedded"}
CONTEXTS = {"devel": "docker", "optimized": "docker", "embedded": "docker/embedded"}
"""What the Dockerfiles can copy from, counted from the project's root."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "ALL_PROXY", "NO_PROXY")
"""Docker hands them to every step, in both spellings, and keeps them out of the image."""
MIRRORS = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
"""Handed on to a Dockerfile that declares them."""

COMPONENT = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
"""One part of an image's name (https://github.com/distribution/reference)."""
NAMESPACE = re.compile(rf"(?:[a-zA-Z0-9.-]+(?::\d+)?/)?{COMPONENT}(?:/{COMPONENT})*")
TAG_LENGTH = 128


@dataclass(frozen=True)
class Recipe:
    """What an image is made from, as far as it decides what comes out."""

    kind: str
    name: str
    dockerfile: Path
    context: Path
    bases: Mapping[str, str]
    """Build arguments that name an image."""
    arguments: Mapping[str, str]
    """The other build arguments."""
    machine: str = ""
    """What of the machine goes into it: the CPU, for one that is compiled for it."""


@dataclass(frozen=True)
class Built:
    """An image of ours that is there."""

    name: str
    size: int
    """Bytes."""
    labels: Mapping[str, str] = field(default_factory=dict)
    was_there: bool = False

    def __str__(self) -> str:
        told = [console.size(self.size), self.fact("build-options"), self.labels.get(INSTRUCTION_SETS, "")]
        return f"{self.name} ({', '.join(part for part in told if part)})"

    def fact(self, name: str) -> str:
        return self.labels.get(f"{LABEL}.{name}", "")


def name(settings: Settings, kind: str) -> str:
    """What the image of this kind is called: USER/tensorflow-serving...:TAG."""
    tag = re.sub(r"[^\w.-]+", "-", settings.build.tag, flags=re.ASCII).lstrip(".-")[:TAG_LENGTH] or "latest"
    return f"{user(settings)}/{REPOSITORIES[kind]}:{tag}"


def user(settings: Settings) -> str:
    """The name before the slash. Raises SettingError if the one that was set is not legal."""
    namespace = settings.build.user
    if namespace == "auto":
        return legal(os.environ.get("USER") or _login_name())
    if not NAMESPACE.fullmatch(namespace):
        raise SettingError(
            f"The setting build.user (or INVOKE_BUILD_USER) is {namespace!r}, which cannot be part of an "
            "image's name.",
            "Use lower-case letters and digits, with single dots, dashes or underscores between them.",
        )
    return namespace


def legal(login: str) -> str:
    """`login` as a part of an image's name: "Jane.Doe@example.org" is "jane.doe-example.org"."""
    parts = re.findall(r"[a-z0-9]+|[^a-z0-9]+", login.lower())
    joined = "".join(
        part if re.match(r"[a-z0-9]", part) else (part if part in (".", "_") else "-") for part in parts
    )
    return joined.strip("._-") or "local"


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a user id without a name, as in some containers
        return "local"


def find(client: DockerClient, settings: Settings, kind: str) -> Built | None:
    """The image of this kind that is there, whatever it was made from."""
    present = image(client, name(settings, kind))
    return None if present is None else built(name(settings, kind), present, was_there=True)


def recipe(settings: Settings, kind: str) -> Recipe:
    """What the image of this kind is to be made from."""
    build, root = settings.build, settings.paths.root
    bases = {
        "devel": {"BASE_IMAGE": build.base_image},
        "optimized": {
            "BASE_IMAGE": build.serving_base_image,
            "TF_SERVING_BUILD_IMAGE": name(settings, "devel"),
        },
        "embedded": {"BASE_IMAGE": build.embedded_base_image},
    }[kind]
    dockerfile = root / "docker" / DOCKERFILES[kind]
    arguments: dict[str, str] = {}
    if kind == "devel":
        arguments = {
            "TF_SERVING_SOURCE": build.source,
            "TF_SERVING_TAG": build.tag,
            "TF_SERVING_BUILD_OPTIONS": build.options,
            "BAZEL_VERSION": build.bazel_version,
            "BAZEL_OPTIONS": build.bazel_options,
        }
        arguments = {key: value for key, value in arguments.items() if value}
        shipped = re.search(r"^ARG BAZEL_VERSION=(\S+)", dockerfile.read_text(), re.MULTILINE)
        if shipped is None or shipped[1] != build.bazel_version:
            arguments["BAZEL_SHA256"] = ""  # known for that version only
    native = kind == "devel" and "native" in f"{build.options} {build.bazel_options}"
    return Recipe(
        kind,
        name(settings, kind),
        dockerfile,
        root / CONTEXTS[kind],
        bases,
        arguments,
        " ".join(sorted(hardware.cpu_flags())) if native else "",
    )


def fingerprint(made_from: Recipe, base_ids: Mapping[str, str]) -> str:
    """Of everything that decides what the image is. How much memory its build may use does not."""
    digest = sha256()

    def add(*parts: str | bytes) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            digest.update(f"{len(data)}:".encode() + data)

    add(made_from.kind, made_from.machine, made_from.dockerfile.read_bytes())
    for path in context_files(made_from.context, made_from.dockerfile.read_text()):
        executable = "x" if path.stat().st_mode & 0o100 else "-"
        add(str(path.relative_to(made_from.context)), executable, path.read_bytes())
    for key, value in sorted({**made_from.arguments, **base_ids}.items()):
        add(key, value)
    return digest.hexdigest()


def base_ids(client: DockerClient, made_from: Recipe, existing: Image | None = None) -> dict[str, str]:
    """The ids of the images it is made from, by build argument.

    Where one is gone, it is what the image `existing` recorded of it, or empty.
    """
    said = "" if existing is None else str(existing.labels.get(f"{LABEL}.bases", ""))
    recorded = dict(pair.partition("=")[::2] for pair in said.split(","))
    ids = {}
    for argument, base in made_from.bases.items():
        present = image(client, base)
        ids[argument] = str(present.id) if present is not None else recorded.get(argument, "")
    return ids


def is_fresh(client: DockerClient, made_from: Recipe, present: Image) -> bool:
    """Whether the image that is there was made from the same inputs."""
    ids = base_ids(client, made_from, present)
    return all(ids.values()) and present.labels.get(f"{LABEL}.fingerprint") == fingerprint(made_from, ids)


def context_files(context: Path, dockerfile: str) -> list[Path]:
    """The files that the Dockerfile copies, without those that .dockerignore keeps back. Sorted."""
    from docker.utils.build import exclude_paths

    ignore = context / ".dockerignore"
    patterns = ignore.read_text().splitlines() if ignore.is_file() else []
    patterns = [line.strip() for line in patterns if line.strip() and not line.startswith("#")]
    patterns += ["Dockerfile*", ".dockerignore", "**/__pycache__"]
    sources = copied(dockerfile)
    files = [path for path in map(Path, exclude_paths(str(context), patterns)) if (context / path).is_file()]
    return sorted(
        context / path
        for path in files
        if sources is None or any(path.is_relative_to(source) for source in sources)
    )


def copied(dockerfile: str) -> list[str] | None:
    """What the Dockerfile copies from its context; None where that is not plain to see."""
    sources = []
    for instruction in re.findall(r"^\s*(?:COPY|ADD)\s+(.+)$", dockerfile.replace("\\\n", " "), re.MULTILINE):
        words = instruction.split()
        if any(word.startswith("--from=") for word in words):
            continue
        names = [word for word in words if not word.startswith("--")][:-1]
        if not names or any(set(name) & set("*?[]$\"'<") for name in names):
            return None
        sources += [name.removeprefix("./").rstrip("/") for name in names]
    return sources


def command(
    settings: Settings,
    made_from: Recipe,
    labels: Mapping[str, str],
    extra: Mapping[str, str] | None = None,
) -> list[str]:
    """The `docker build` line, as one would type it at the project's root.

    `extra` are build arguments that the fingerprint does not cover.
    """
    root = settings.paths.root
    arguments = {**made_from.bases, **made_from.arguments, **(extra or {})}
    argv = ["docker", "build", "--file", str(made_from.dockerfile.relative_to(root)), "--tag", made_from.name]
    if settings.build.network != "default":
        argv += ["--network", settings.build.network]
    for key, value in arguments.items():
        argv += ["--build-arg", f"{key}={value}"]
    for key in inherited(made_from.dockerfile.read_text()):
        argv += ["--build-arg", key]  # without a value: docker takes it from the environment
    for key, value in labels.items():
        argv += ["--label", f"{LABEL}.{key}={value}"]
    return [*argv, str(made_from.context.relative_to(root))]


def inherited(dockerfile: str) -> list[str]:
    """The variables of the environment that reach the build: proxies, and the mirrors it declares."""
    declared = set(re.findall(r"^\s*ARG\s+(\w+)", dockerfile, re.MULTILINE))
    names = [spelling for proxy in PROXIES for spelling in (proxy, proxy.lower())]
    names += [mirror for mirror in MIRRORS if mirror in declared]
    return [variable for variable in names if os.environ.get(variable)]


def image(client: DockerClient, called: str) -> Image | None:
    """The image called so, if it is there."""
    from docker.errors import DockerException, ImageNotFound, NotFound

    try:
        return client.images.get(called)
    except (ImageNotFound, NotFound):
        return None
    except DockerException as error:
        raise DockerError(
            f"The Docker Engine cannot look for the image {called}: {error}.",
            "Check the image names under `build` in invoke.yaml.",
        ) from error


def built(called: str, image: Image, was_there: bool = False) -> Built:
    """What is told of an image that is there."""
    return Built(called, int(image.attrs.get("Size") or 0), dict(image.labels), was_there)

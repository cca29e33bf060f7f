"""What a server's container is made from: as a `docker run` line, and as the SDK wants it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks.lib.common import pinning, processes
from tasks.lib.common.processes import Identity
from tasks.lib.common.settings import Docker, Serve, Settings
from tasks.lib.common.variants import EMBEDDED, Variant
from tasks.lib.engines.base import STARTING, Conditions, Server
from tasks.lib.images.recipe import LABEL
from tasks.lib.models.store import Model

OWNER = f"{LABEL}.owner"
"""Which checkout's it is, so that two clones on one machine leave each other alone."""
SERVER = f"{LABEL}.server"
STARTER = f"{LABEL}.starter"
"""The call that waits for the server, "PID CREATED"."""

MODELS = "/models"
REST, GRPC = 8501, 8500
"""The ports inside: TensorFlow Serving's entrypoint sets them."""
UNPRIVILEGED = 65534
MEMORY_SHARE = 0.8
"""Of the machine's memory that one server may take, where the settings say auto."""


@dataclass(frozen=True)
class Container:
    """One container, before it exists."""

    image: str
    name: str
    arguments: tuple[str, ...]
    """For the image's entrypoint."""
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    mounts: tuple[tuple[Path, str], ...]
    """Folders of this machine, and where they are inside; all read-only."""
    ports: Mapping[int, int]
    """Inside -> on this machine."""
    host: str
    """The address to publish on."""
    user: str
    memory: int
    """Bytes; no swap beyond."""
    processes: int
    cpus: str
    """Empty for all."""

    def command(self) -> list[str]:
        """What one would type. The labels, by which the suite finds the container again, are left out."""
        words = [
            "docker", "run", "--detach", "--init", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL",
            "--security-opt=no-new-privileges", f"--user={self.user}", f"--pids-limit={self.processes}",
            f"--memory={self.memory >> 20}m", f"--memory-swap={self.memory >> 20}m",
            *([f"--cpuset-cpus={self.cpus}"] if self.cpus else []),
        ]  # fmt: skip
        host = f"[{self.host}]" if ":" in self.host else self.host
        words += [f"--publish={host}:{outside}:{inside}" for inside, outside in self.ports.items()]
        words += [f"--mount=type=bind,source={path},target={at},readonly" for path, at in self.mounts]
        words += [f"--env={name}={value}" for name, value in self.environment.items()]
        return [*words, self.image, *self.arguments]

    def options(self) -> dict[str, Any]:
        """What `containers.create` of the docker library takes."""
        from docker.types import LogConfig, Mount

        return {
            "image": self.image,
            "name": self.name,
            "command": list(self.arguments),
            "environment": dict(self.environment),
            "labels": dict(self.labels),
            "mounts": [Mount(at, str(path), type="bind", read_only=True) for path, at in self.mounts],
            "ports": {f"{inside}/tcp": (self.host, outside) for inside, outside in self.ports.items()},
            "init": True,
            "read_only": True,
            "tmpfs": {"/tmp": ""},
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"],
            "user": self.user,
            "pids_limit": self.processes,
            "mem_limit": self.memory,
            "memswap_limit": self.memory,
            "cpuset_cpus": self.cpus or None,
            # The one that can be read back, whatever the daemon's default is; bounded, for servers run long.
            "log_config": LogConfig(type="json-file", config={"max-size": "10m", "max-file": "3"}),
        }


def plan(settings: Settings, server: Server, model: Model, image: str) -> Container:
    """The container of a server that serves `model` from `image`."""
    variant = server.variant
    assert variant.container is not None
    inside = f"{MODELS}/{model.name}"
    # Only this version: TensorFlow Serving serves the newest that it finds.
    mounts = [(model.folder.resolve(), f"{inside}/{model.version}")]
    if variant.needs_artefact:
        from tasks.lib.models.artefact import FOLDER, folder_of

        mounts.append((folder_of(model).resolve(), f"{inside}/{FOLDER}/{model.version}"))
    me = processes.myself()
    return Container(
        image=image,
        name=name(server, STARTING),
        arguments=(*_own_arguments(variant, settings.serve), *variant.arguments),
        environment={"MODEL_NAME": model.name, **dict(variant.container.environment)},
        labels={**to_labels(settings, server), STARTER: f"{me.pid} {me.created}"},
        mounts=tuple(mounts),
        ports={REST: server.rest_port, GRPC: server.grpc_port},
        host=server.host,
        user=_user(),
        memory=memory(settings.docker),
        processes=settings.docker.processes,
        cpus=pinning.listed(settings.serve.cpus) or _own_cpus(),
    )


def _own_arguments(variant: Variant, serve: Serve) -> Sequence[str]:
    if variant.backend in EMBEDDED:
        # A second less than it gets before it is killed: time to end by itself.
        grace = f"--shutdown_grace_seconds={max(0, int(serve.stop_grace) - 1)}"
        return (f"--backend={variant.backend}", f"--precision={variant.precision}", grace)
    # A model that cannot be loaded now cannot be in a minute either, five times over.
    return ("--max_num_load_retries=0",)


def _user() -> str:
    """The calling user, who can read the models; never root."""
    uid, gid = os.getuid(), os.getgid()
    return f"{uid or UNPRIVILEGED}:{gid or UNPRIVILEGED}"


def memory(docker: Docker) -> int:
    """Bytes that one server may take, in whole mebibytes."""
    if docker.memory is not None:
        return docker.memory
    from tasks.lib.common.hardware import detect

    return int(detect().memory * MEMORY_SHARE) >> 20 << 20


def _own_cpus() -> str:
    """The CPUs that this process was confined to, by taskset say; empty if it may use all.

    TensorFlow Serving takes as many threads as its affinity mask has CPUs, and both sides of a
    comparison get the same.
    """
    mine = pinning.usable()
    return "" if mine is None or len(mine) == os.cpu_count() else pinning.listed(mine)


def conditions(container: Mapping[str, Any], image: Mapping[str, Any], cpus: int) -> Conditions:
    """What Docker tells of a container, of its image, and of how many CPUs there are."""
    host = container["HostConfig"]
    return Conditions(
        cpus=pinning.parse(host.get("CpusetCpus") or f"0-{cpus - 1}"),
        memory=host.get("Memory") or None,
        processes=max(0, host.get("PidsLimit") or 0) or None,
        image_digest=next(iter(image.get("RepoDigests") or ()), ""),
    )


def name(server: Server, state: str) -> str:
    """The name of a server's container in that state: labels cannot change, names can."""
    return f"serving-suite-{server.id}-{state}"


def state(container_name: str) -> str:
    """The state of the server whose container has that name."""
    return container_name.rpartition("-")[2]


def owner(settings: Settings) -> str:
    """What marks the containers of this checkout."""
    return processes.marker(settings.paths.state, "", "").partition(":")[0]


_FIELDS = (
    *("model", "version", "host", "rest_port", "grpc_port", "started"),
    *("fingerprint", "temporary", "image", "image_id"),
)
_VARIANT = ("name", "backend", "precision")


def to_labels(settings: Settings, server: Server) -> dict[str, str]:
    """What a container carries, so that its server is known without a record on disk."""
    return {
        LABEL: "server",
        OWNER: owner(settings),
        SERVER: server.id,
        **{f"{LABEL}.{field}": str(getattr(server, field)) for field in _FIELDS},
        **{f"{LABEL}.variant.{field}": str(getattr(server.variant, field)) for field in _VARIANT},
    }


def from_labels(labels: Mapping[str, str]) -> Server:
    """The server of a container with these labels. Raises KeyError or ValueError for others."""
    # Containers that were started before there was a gRPC port do not tell it.
    told = {f"{LABEL}.grpc_port": "0", **labels}
    fields = {field: told[f"{LABEL}.{field}"] for field in _FIELDS}
    name, backend, precision = (labels[f"{LABEL}.variant.{field}"] for field in _VARIANT)
    return Server(
        id=labels[SERVER],
        engine="docker",
        model=fields["model"],
        version=int(fields["version"]),
        variant=Variant(name, backend, precision),
        host=fields["host"],
        rest_port=int(fields["rest_port"]),
        grpc_port=int(fields["grpc_port"]),
        started=fields["started"],
        fingerprint=fields["fingerprint"],
        temporary=fields["temporary"] == str(True),
        image=fields["image"],
        image_id=fields["image_id"],
    )


def without_recipe(server: Server) -> Server:
    """The server as its labels tell of it: how it was made is in the container."""
    return replace(server, variant=replace(server.variant, container=None))


def starter(labels: Mapping[str, str]) -> Identity:
    """The call of the suite that waits for the server, or once did. Raises KeyError or ValueError."""
    pid, created = labels[STARTER].split()
    return Identity(int(pid), float(created), "")

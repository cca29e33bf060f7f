"""The Docker engine: TensorFlow Serving, or the embedded server, in containers of this machine.

There are no records on disk: a container's labels tell whose and what it is, and its name ends in
the state of its server. What a killed call of the suite leaves is found by its labels and removed by
the next one. A server that ended by itself is dropped from the list; what it wrote is kept in
.state/servers/ended/.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.lib.common import console, locks
from tasks.lib.common.errors import DockerError, ServerError
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import EMBEDDED, Variant
from tasks.lib.engines import base, ended, ports, starting
from tasks.lib.engines.base import LOG_TAIL, READY, STOPPING, Conditions, Server
from tasks.lib.engines.docker import containers, image_name, serving_log
from tasks.lib.engines.ports import PortLost
from tasks.lib.engines.ready import stopped_meanwhile
from tasks.lib.engines.starting import Fate, Plan
from tasks.lib.images import daemon, pull, refusals
from tasks.lib.images.recipe import LABEL
from tasks.lib.models import artefact
from tasks.lib.models.store import Model

if TYPE_CHECKING:
    from docker.models.containers import Container

LOG_READ = 400
"""Lines in which a reason is looked for."""
OUT_OF_MEMORY, ILLEGAL_INSTRUCTION = 137, 132
"""Exit statuses: 128 and the signal that ended the server."""
NO_PROGRAM = (126, 127)
"""Exit statuses of an init or shell that finds nothing to execute."""
SETTLE = 0.5
"""Seconds after which a container that has ended tells the whole story."""


class DockerEngine:
    """See the module. Raises DockerError if no Docker Engine of this machine answers.

    `others` gives the servers of other engines: their ports may be promised, and not open yet.
    """

    name = "docker"

    def __init__(self, settings: Settings, others: Callable[[], Sequence[Server]] = tuple) -> None:
        self._settings = settings
        self._others = others
        self._client = daemon.connect()

    def __str__(self) -> str:
        """The daemon: "Docker 28.1.1"."""
        return f"Docker {self.version()['docker-engine']}".strip()

    # What every engine can do: tasks.lib.engines.base.Engine

    def start(
        self, model: Model, variant: Variant, port: int | None = None, *, temporary: bool = False
    ) -> Server:
        """See Engine.start. The image is pulled if it is a published one.

        Raises DockerError where Docker refuses.
        """
        image = self._provide(variant)
        return starting.start(self._settings, _Start(self, model, variant, image, temporary), port)

    def preview(self, model: Model, variant: Variant, port: int | None = None) -> None:
        """See Engine.preview."""
        image = self._provide(variant)
        starting.preview(self._settings, _Start(self, model, variant, image, temporary=False), port)

    def fingerprint(self, model: Model, variant: Variant) -> str:
        """See Engine.fingerprint. The image counts by its id: a name may mean another one by now."""
        image = image_name.name(self._settings, variant)
        present = pull.find(self._client, image)
        planned = base.planned(self._settings, self.name, model, variant)
        words = containers.plan(self._settings, planned, model, image).command()
        return base.digest(artefact.content_of(model, variant), str(present.id) if present else "", words)

    def servers(self) -> list[Server]:
        """The servers of this suite that run now, those still loading too, oldest first."""
        running = [
            server for container in self._containers() if (server := self._survey(container)) is not None
        ]
        return sorted(running, key=lambda server: server.started)

    def logs(self, server: Server, lines: int | None = None) -> str:
        """The last `lines` lines that the server wrote; all of them if None."""
        for container in self._containers(server.id):
            return self._text(container, lines)
        return ""

    def conditions(self, server: Server) -> Conditions:
        """Under what conditions the server runs, as Docker tells."""
        for container in self._containers(server.id):
            with _gone_is_fine():
                return containers.conditions(
                    container.attrs, container.image.attrs, self._client.info()["NCPU"]
                )
        return Conditions(None)

    def version(self) -> Mapping[str, str]:
        """That of the Docker Engine."""
        return {"docker-engine": str(self._client.version().get("Version", ""))}

    def stop(self, server: Server, grace: float) -> None:
        """End the server: politely, and after `grace` seconds by force. Done when it is gone."""
        for container in self._containers(server.id):
            # So that a call that lists the servers meanwhile does not take it for one that died.
            with _gone_is_fine():
                if containers.state(container.name) != STOPPING:
                    container.rename(containers.name(server, STOPPING))
            with _gone_is_fine():
                before = time.monotonic()
                container.stop(timeout=max(0, round(grace)))
                if grace > 0 and time.monotonic() - before >= round(grace):
                    console.note(
                        f"{server} did not end within {grace:g} s after the request to stop, and was killed"
                    )
            self._remove(container)

    # Its own

    def obstacle(self, variant: Variant) -> str | None:
        """Why the variant cannot be served at once: its image is not there and cannot be pulled either.

        None where it can.
        """
        name = image_name.name(self._settings, variant)
        try:
            present = pull.find(self._client, name)
            if present is not None:
                pull.check_fits(self._client, present, name)
            elif image_name.is_built(variant):
                return f"the image {name} is not built"
            else:
                pull.check_registry(name)
        except DockerError as error:
            return error.problem.rstrip(".")
        return None

    def _provide(self, variant: Variant) -> str:
        """The name of the variant's image, which is there when this returns (unless on --dry)."""
        name = image_name.name(self._settings, variant)
        present = pull.find(self._client, name)
        if present is None:
            if image_name.is_built(variant):
                raise image_name.not_built(variant, name)
            if self._settings.dry:
                console.command(["docker", "pull", name])
                return name
            pull.pull(name, self._settings.docker.pull_timeout)
            present = pull.find(self._client, name)
            if present is None:
                raise refusals.pulling(name, "no matching manifest")
        pull.check_fits(self._client, present, name)
        return name

    # Containers

    def _containers(self, server_id: str | None = None) -> list[Container]:
        """The containers of this checkout, whatever their state; only that of one server if it is named.

        Oldest first.
        """
        labels = [f"{LABEL}=server", f"{containers.OWNER}={containers.owner(self._settings)}"]
        if server_id is not None:
            labels.append(f"{containers.SERVER}={server_id}")
        listed: list[Container] = []
        with _gone_is_fine():
            listed += self._client.containers.list(all=True, filters={"label": labels}, ignore_removed=True)
        return listed[::-1]

    def _survey(self, container: Container) -> Server | None:
        """The server in the container; None, and put right what is not as it should be, if there is none.

        On --dry nothing is put right.
        """
        try:
            server, starter = containers.from_labels(container.labels), containers.starter(container.labels)
        except (KeyError, ValueError):
            return None
        is_up = container.status in ("running", "paused", "created", "restarting")
        fate = starting.fate(server, containers.state(container.name), starter, is_up=is_up)
        if fate is Fate.RUNNING:
            return server
        if not self._settings.dry:
            starting.put_right(
                server,
                fate,
                end=lambda: self._remove(container),
                forget=lambda: self._remove(container),
                keep_log=lambda: self._keep_log(server, container),
                shown=self._settings.paths.shown,
            )
        return None

    def _keep_log(self, server: Server, container: Container) -> Path:
        kept = ended.place(self._settings.paths, server)
        kept.write_text(self._text(container))
        ended.trim(self._settings.paths)
        return kept

    def _remove(self, container: Container) -> None:
        with _gone_is_fine():
            container.remove(v=True, force=True)

    def _text(self, container: Container, lines: int | None = None) -> str:
        with _gone_is_fine():
            log: bytes = container.logs(tail="all" if lines is None else lines)
            return log.decode(errors="replace").rstrip("\n")
        return ""

    # Steps of a start

    def locked(self) -> AbstractContextManager[None]:
        """Held while ports are chosen and the container is made."""
        return locks.held(self._settings.paths, "containers", "it is starting a server")

    def port_holders(self) -> list[Server]:
        """The servers of this suite, on every engine."""
        return [*self.servers(), *self._others()]

    def plan(
        self, model: Model, variant: Variant, image: str, rest_port: int, grpc_port: int, temporary: bool
    ) -> tuple[Plan, containers.Container]:
        """A server on these ports, and the container that it runs in."""
        present = pull.find(self._client, image)
        planned = base.planned(
            self._settings,
            self.name,
            model,
            variant,
            port=rest_port,
            grpc_port=grpc_port,
            fingerprint=self.fingerprint(model, variant),
            temporary=temporary,
            image=image,
            image_id=str(present.id) if present else "",
        )
        container = containers.plan(self._settings, planned, model, image)
        return Plan(containers.without_recipe(planned), container.command()), container

    def launch(self, server: Server, plan: containers.Container) -> Container:
        """Start the container. Raises DockerError, and PortLost."""
        import requests
        from docker.errors import DockerException

        try:
            container = self._client.containers.create(**plan.options())
            container.start()
        except (DockerException, requests.RequestException) as error:
            why = refusals.said(error)
            if refusals.is_port_taken(why):
                taken = ports.lost(server) or server.rest_port
                raise PortLost(taken, f"{server} was being started") from error
            raise refusals.running(plan.image, why) from error
        return container

    def check_running(self, server: Server, container: Container, pause: float) -> None:
        """Wait for `pause` seconds, then raise ServerError, its log shown, if it has ended or is hopeless."""
        time.sleep(pause)
        self._check_alive(server, container)
        reason = serving_log.hopeless(self._text(container, LOG_READ))
        if reason is not None:
            self.show_log(container)
            raise ServerError(f"{server} will never answer: {reason[0]}.", reason[1])

    def _check_alive(self, server: Server, container: Container) -> None:
        """Raises ServerError, saying why, if the container does not run any more."""
        from docker.errors import NotFound

        state: dict[str, Any] = {}
        # Looked at twice: one that was ended by a removal is still there for a moment.
        for pause in (0.0, SETTLE):
            time.sleep(pause)
            with _gone_is_fine():
                try:
                    container.reload()
                except NotFound:
                    raise _removed(server) from None
            state = container.attrs["State"]
            if containers.state(container.name) == STOPPING:
                raise stopped_meanwhile(server)
            if state.get("Running"):
                return
        if state.get("Dead") or state.get("Status") == "removing":
            raise _removed(server)
        self.show_log(container)
        raise self._died(server, state, self._text(container, LOG_READ))

    def _died(self, server: Server, state: dict[str, Any], log: str) -> ServerError:
        status = state.get("ExitCode")
        if state.get("OOMKilled") or status == OUT_OF_MEMORY:
            limit = console.size(containers.memory(self._settings.docker))
            sure = "ran out of memory" if state.get("OOMKilled") else "was killed, as if out of memory,"
            return ServerError(
                f"{server} {sure} while loading; it may take {limit}.",
                "Raise the setting docker.memory (INVOKE_DOCKER_MEMORY=8g), or stop what else runs.",
            )
        if status == ILLEGAL_INSTRUCTION:
            return ServerError(
                f"{server} was ended by an illegal instruction: {server.image} was compiled for another CPU.",
                "Compile it here with `invoke build.devel build.optimized`, or serve stock: `invoke serve`.",
            )
        if status in NO_PROGRAM:
            return ServerError(
                f"The image {server.image} is not a server image: it starts no program that takes arguments.",
                "Check the setting docker.image, and the variant's image in invoke.yaml.",
            )
        reason = serving_log.hopeless(log)
        if reason is not None:
            return ServerError(f"{server} died while loading: {reason[0]}.", reason[1])
        lines = [line.strip() for line in log.splitlines() if line.strip()]
        last = console.shortened(lines[-1].rstrip(".?! ")) if lines else "it said nothing"
        return ServerError(
            f"{server} died while loading, with exit status {status}: {last}.",
            "Fix the error shown above and try again.",
        )

    def settle(self, server: Server, container: Container) -> None:
        """Put on record that it is ready. Raises ServerError if it was removed or stopped meanwhile."""
        self._hint(server, container)
        self._check_alive(server, container)
        with _gone_is_fine():
            container.rename(containers.name(server, READY))
        self._check_alive(server, container)

    def discard(self, server: Server) -> None:
        """Remove what there is of the server's container."""
        for left in self._containers(server.id):
            self._remove(left)

    def _hint(self, server: Server, container: Container) -> None:
        missing = serving_log.missing_instructions(self._text(container))
        if missing and server.variant.backend not in EMBEDDED:  # its TensorFlow is a wheel, not compiled
            console.note(
                f"this image was not compiled for {missing}, which this CPU has: `invoke build.devel "
                "build.optimized` compiles one that is (hours), and `invoke benchmark` measures what it gains"
            )

    def show_log(self, container: Container) -> None:
        """Show the last lines that the server wrote."""
        console.note(f"the last lines of its log:\n{self._text(container, LOG_TAIL)}")


@dataclass
class _Start:
    """One start of a server: the steps that starting.start takes (starting.Steps)."""

    engine: DockerEngine
    model: Model
    variant: Variant
    image: str
    temporary: bool
    container: containers.Container | None = None
    """What `plan` has planned."""

    def locked(self) -> AbstractContextManager[None]:
        return self.engine.locked()

    def port_holders(self) -> list[Server]:
        return self.engine.port_holders()

    def plan(self, rest_port: int, grpc_port: int) -> Plan:
        plan, self.container = self.engine.plan(
            self.model, self.variant, self.image, rest_port, grpc_port, self.temporary
        )
        return plan

    def launch(self, plan: Plan) -> Container:
        assert self.container is not None
        return self.engine.launch(plan.server, self.container)

    def is_listening(self, server: Server, container: Container) -> bool:
        return True  # Docker publishes the port for this container alone

    def check_running(self, server: Server, container: Container, pause: float) -> None:
        self.engine.check_running(server, container, pause)

    def show_log(self, server: Server, container: Container) -> None:
        self.engine.show_log(container)

    def settle(self, server: Server, container: Container) -> None:
        self.engine.settle(server, container)

    def discard(self, server: Server, container: Container | None) -> None:
        self.engine.discard(server)


def _removed(server: Server) -> ServerError:
    return ServerError(
        f"The container of {server} was removed while it was loading, by another call or another program.",
        "Start it again.",
    )


@contextmanager
def _gone_is_fine() -> Iterator[None]:
    """For what is done to a container that others may remove at any moment.

    Raises DockerError for whatever else Docker answers, or does not.
    """
    import requests
    from docker.errors import DockerException, NotFound

    try:
        yield
    except NotFound:
        pass
    except (DockerException, requests.RequestException) as error:
        if not refusals.is_going(refusals.said(error)):
            raise refusals.anything(refusals.said(error)) from error

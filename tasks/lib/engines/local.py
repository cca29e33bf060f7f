"""The local engine: embedded servers as processes of this machine.

A server is known by its record, .state/servers/ID.json, and by the marker that its process carries.
The record is written before the process exists and completed after, and whatever a killed call of
the suite leaves is put right by the next one: a record without a process is removed, and a process
without a record, one that was still loading, or one that was up for that call only, is ended. A server
that ended by itself is dropped from the list; what it wrote is kept in .state/servers/ended/.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tasks.lib.common import console, disk, locks, pinning, processes
from tasks.lib.common.errors import ServerError
from tasks.lib.common.processes import Identity
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.embedded import environment
from tasks.lib.engines import base, ended, ports
from tasks.lib.engines.base import LOG_TAIL, READY, STARTING, STOPPING, Conditions, Server
from tasks.lib.engines.ports import PortLost
from tasks.lib.engines.ready import Trial, stopped_meanwhile, too_late
from tasks.lib.models import artefact
from tasks.lib.models.store import Model

MODULE = "embedded_server"

Command = Callable[[Sequence[str]], tuple[list[str], Mapping[str, str]]]
"""Server flags -> the command that starts it, and what must be added to its environment."""


@dataclass(frozen=True)
class Record:
    """What is on disk about a server."""

    server: Server
    state: str
    starter: Identity
    """The call of the suite that waits for it to answer, or once did."""
    process: Identity | None
    """None until it is known to have been started."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Record:
        """Raises ValueError, KeyError or TypeError for what `to_json` did not write."""
        fields = json.loads(text)
        server = dict(fields["server"])
        variant = dict(server["variant"])
        variant["arguments"] = tuple(variant.get("arguments", ()))  # an older record has none
        return cls(
            server=Server(**{**server, "variant": Variant(**variant)}),
            state=fields["state"],
            starter=Identity(**fields["starter"]),
            process=Identity(**fields["process"]) if fields["process"] else None,
        )


class LocalEngine:
    """See the module.

    `extra_flags` are added to every server's own; `command` replaces the embedded server by another
    program that understands its flags.
    """

    name = "local"

    def __init__(
        self, settings: Settings, *, extra_flags: Sequence[str] = (), command: Command | None = None
    ) -> None:
        self._settings = settings
        self._extra_flags = extra_flags
        self._command = command
        self._folder = settings.paths.state / "servers"

    # What every engine can do: tasks.lib.engines.base.Engine

    def start(
        self, model: Model, variant: Variant, port: int | None = None, *, temporary: bool = False
    ) -> Server:
        """Start a server and return once a real predict has answered. See Engine.start.

        On --dry the command is printed, and the server returned is the one that would be started.
        """
        if self._command is None and not self._settings.dry:
            environment.ensure(self._settings)
        for _ in range(ports.STARTS_TRIED - 1):
            try:
                return self._start(model, variant, port, temporary)
            except PortLost as lost:
                if port == lost.port:
                    raise
                console.note(f"{lost.problem} Starting it on another.")
        return self._start(model, variant, port, temporary)

    def fingerprint(self, model: Model, variant: Variant) -> str:
        """See Engine.fingerprint. The embedded server's own sources are part of it."""
        argv, added = self.command(base.planned(self._settings, self.name, model, variant), model)
        program = [] if self._command is not None else environment.program(self._settings)
        cpus = self._settings.serve.cpus or pinning.usable()
        return base.digest(artefact.content_of(model, variant), argv, dict(added), program, cpus)

    def servers(self) -> list[Server]:
        """The servers of this suite that run now, those still loading too, oldest first."""
        with self._locked():
            return [record.server for record in self._survey()]

    def logs(self, server: Server, lines: int | None = None) -> str:
        """The last `lines` lines that the server wrote; all of them if None."""
        return processes.tail(self._log(server.id), lines)

    def version(self) -> Mapping[str, str]:
        """Nothing: processes need no engine."""
        return {}

    def stop(self, server: Server, grace: float) -> None:
        """End the server: politely, and after `grace` seconds by force. Done when it is gone."""
        with self._locked():
            record = self._read(server.id)
            if record is not None:
                # So that whoever lists the servers meanwhile does not take it for one that died.
                self._write(replace(record, state=STOPPING))
        for identity in self._processes(server.id, record):
            if processes.terminate(identity, grace):
                console.note(f"{server} did not end within {grace:g} s of being asked to, and was killed")
        with self._locked():
            self._forget(server.id)

    def conditions(self, server: Server) -> Conditions:
        """Under what conditions the server runs."""
        record = self._read(server.id)
        cpus = None
        if record is not None and record.process is not None and hasattr(os, "sched_getaffinity"):
            with suppress(OSError):
                cpus = tuple(sorted(os.sched_getaffinity(record.process.pid)))
        return Conditions(cpus)

    # Its own

    def memory(self, server: Server) -> int | None:
        """Bytes of memory that the server's process takes; None if the system does not tell."""
        record = self._read(server.id)
        if record is None or record.process is None:
            return None
        return processes.memory(record.process)

    def command(self, server: Server, model: Model) -> tuple[list[str], Mapping[str, str]]:
        """The command that starts the server, and what must be added to its environment."""
        flags = [
            f"--rest_api_host={server.host}",
            f"--rest_api_port={server.rest_port}",
            f"--grpc_host={server.host}",
            f"--port={server.grpc_port}",
            f"--model_name={server.model}",
            f"--model_base_path={model.base}",
            f"--model_version={server.version}",
            f"--backend={server.variant.backend}",
            f"--precision={server.variant.precision}",
            # A second less than it gets before it is killed: time to end by itself.
            f"--shutdown_grace_seconds={max(0, int(self._settings.serve.stop_grace) - 1)}",
            *self._extra_flags,
            *server.variant.arguments,
        ]
        if self._command is not None:
            return self._command(flags)
        return environment.command(self._settings, MODULE, flags)

    def _shown(self, argv: Sequence[str]) -> list[str]:
        """A command as one would type it."""
        cpus = self._settings.serve.cpus
        prefix = ["taskset", "--cpu-list", pinning.listed(cpus)] if cpus else []
        return [*prefix, *environment.shown(self._settings, argv)]

    # Records

    def _locked(self) -> AbstractContextManager[None]:
        if self._settings.dry:
            return nullcontext()
        return locks.held(self._settings.paths, "servers", "it is starting or stopping a server")

    def _marker(self, server_id: str) -> str:
        return processes.marker(self._settings.paths.state, "server", server_id)

    def _path(self, server_id: str) -> Path:
        return self._folder / f"{server_id}.json"

    def _log(self, server_id: str) -> Path:
        return self._folder / f"{server_id}.log"

    def _write(self, record: Record) -> None:
        """Raises ServerError if the disk does not take it."""
        path = self._path(record.server.id)
        try:
            disk.make_folder(path.parent)
            disk.write_text(path, record.to_json())
        except OSError as error:
            raise ServerError(
                f"The server's record cannot be written: {error.strerror}.",
                f"Make room and access at {self._settings.paths.shown(self._folder)}.",
            ) from error

    def _read(self, server_id: str) -> Record | None:
        """None if there is no record, or one that nobody can read: its process is then without one."""
        try:
            return Record.from_json(self._path(server_id).read_text())
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def _forget(self, server_id: str) -> None:
        self._path(server_id).unlink(missing_ok=True)
        self._log(server_id).unlink(missing_ok=True)

    def _processes(self, server_id: str, record: Record | None) -> list[Identity]:
        """The server's own process, as recorded or as found by its marker: one, or none."""
        if record is not None and record.process is not None and processes.alive(record.process):
            return [record.process]
        mark = self._marker(server_id)
        return [found for found in processes.carriers(mark) if found.marker == mark][:1]

    def _survey(self) -> list[Record]:
        """The records of servers that run, oldest first, after putting right what is not as it should be.

        To be called with the lock held. On --dry nothing is put right.
        """
        running = {identity.marker: identity for identity in reversed(processes.carriers(self._marker("")))}
        found = []
        for path in self._folder.glob("*.json"):
            record = self._read(path.stem)
            identity = running.get(self._marker(path.stem))
            if record is None:
                continue  # its process, if there is one, is without a record
            running.pop(self._marker(path.stem), None)
            needs_starter = record.state == STARTING or record.server.temporary
            waited_for = not needs_starter or processes.runs(record.starter)
            if identity is not None and waited_for:
                found.append(record)
            elif not self._settings.dry:
                self._put_right(record, identity, waited_for)
        if not self._settings.dry:
            for mark, identity in running.items():
                console.note(f"process {identity.pid} is a server of this suite without a record; ending it")
                processes.terminate(identity, processes.JOB_GRACE)
                self._forget(mark.rsplit(":", 1)[1])
            self._sweep()
        return sorted(found, key=lambda r: (r.server.started, r.process.created if r.process else 0.0))

    def _put_right(self, record: Record, identity: Identity | None, waited_for: bool) -> None:
        """Deal with a server that is gone, or that was loading when the call that started it was killed."""
        server = record.server
        if identity is not None:
            console.note(f"{server} was left behind by a call that was killed; ending it")
            processes.terminate(identity, processes.JOB_GRACE)
            self._forget(server.id)
        elif record.state == READY:
            kept = self._keep_log(server)
            console.note(f"{server} has ended by itself; what it wrote is kept in {kept}")
            self._forget(server.id)
        elif record.state == STOPPING or not waited_for:
            self._forget(server.id)
        # A server that died while loading is the business of the call that is waiting for it.

    def _keep_log(self, server: Server) -> str:
        kept = ended.place(self._settings.paths, server)
        with suppress(FileNotFoundError):
            self._log(server.id).replace(kept)
        ended.trim(self._settings.paths)
        return self._settings.paths.shown(kept)

    def _sweep(self) -> None:
        """Remove logs, and records half written or unreadable, of servers that have no record."""
        for path in self._folder.glob("*"):
            if path.is_file() and self._read(path.name.partition(".")[0]) is None:
                path.unlink(missing_ok=True)

    def _discard(self, server: Server, process: subprocess.Popen[bytes] | None) -> None:
        """Undo a start, whatever point it had come to."""
        if process is not None:
            processes.end_child(process, self._marker(server.id))
        with self._locked():
            self._forget(server.id)

    # Starting

    def _start(self, model: Model, variant: Variant, port: int | None, temporary: bool) -> Server:
        server: Server | None = None
        process: subprocess.Popen[bytes] | None = None
        try:
            with self._locked():
                records = self._survey()
                ours = [record.server for record in records]
                rest, grpc = ports.choose(self._settings, port, ours)
                planned = base.planned(
                    self._settings,
                    self.name,
                    model,
                    variant,
                    port=rest,
                    grpc_port=grpc,
                    fingerprint=self.fingerprint(model, variant),
                    temporary=temporary,
                )
                argv, added = self.command(planned, model)
                console.command(self._shown(argv), added)
                if self._settings.dry:
                    return planned
                server = planned
                with processes.uninterrupted():
                    process = self._launch(server, argv, added)
            self._wait_until_it_answers(server, process)
            with self._locked(), processes.uninterrupted():
                record = self._read(server.id)
                if record is None or record.state != STARTING:
                    raise stopped_meanwhile(server)
                self._write(replace(record, state=READY))
        except BaseException:
            if server is not None:
                with processes.uninterrupted():
                    self._discard(server, process)
            raise
        processes.let_go(process)
        return server

    def _launch(
        self, server: Server, argv: Sequence[str], added: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        record = Record(server, STARTING, processes.myself(), None)
        self._write(record)
        mark = self._marker(server.id)
        try:
            process = processes.spawn(
                argv,
                marker=mark,
                log=self._log(server.id),
                cwd=self._settings.paths.root,
                environment={**environment.inherited(), **added},
                cpus=self._settings.serve.cpus,
            )
        except OSError as error:
            raise ServerError(
                f"The server cannot be started: {error.strerror} ({argv[0]}).",
                "Build its environment anew with `invoke teardown --environment build.embedded`.",
            ) from error
        try:
            self._write(replace(record, process=processes.child(process, mark)))
        except ServerError:
            processes.end_child(process, mark)
            raise
        return process

    def _wait_until_it_answers(self, server: Server, process: subprocess.Popen[bytes]) -> None:
        """Return once a predict was answered. Raises ServerError, its log shown, if that does not come."""
        limit = self._settings.serve.ready_timeout
        deadline = time.monotonic() + limit
        trial = Trial(self._settings, server)
        pause = 0.05
        with console.waiting(f"starting {server}") as line:
            while True:
                # Asked of the process and not only of the port, where a stranger might answer instead.
                identity = processes.identify(process.pid, self._marker(server.id))
                if (
                    identity is not None
                    and processes.listens(identity, server.rest_port)
                    and trial.passed(max(1.0, deadline - time.monotonic()))
                ):
                    return
                if time.monotonic() >= deadline:
                    self._show_log(server)
                    raise too_late(server, limit)
                line.tick()
                status = processes.wait(process, pause)
                if status is not None:
                    break
                pause = min(pause * 1.3, 0.5)
        record = self._read(server.id)
        if record is None or record.state != STARTING:
            raise stopped_meanwhile(server)
        taken = ports.lost(server)
        if taken is not None:
            raise PortLost(taken, f"{server} was loading")
        self._show_log(server)
        raise ServerError(
            f"{server} died while loading: {environment.ending(status, self.logs(server, LOG_TAIL))}.",
            "Fix the error shown above and try again.",
        )

    def _show_log(self, server: Server) -> None:
        console.note(f"the last lines of its log:\n{self.logs(server, LOG_TAIL)}")

"""The local engine: embedded servers as processes of this machine.

A server is known by its record, .state/servers/ID.json, and by the marker that its process carries.
The record is written before the process exists and completed after, and whatever a killed call of
the suite leaves is put right by the next one: a record without a process is removed, and a process
without a record, one that was still loading, or one that was up for that call only, is ended. A server
that ended by itself is dropped from the list; what it wrote is kept in .state/servers/ended/.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from tasks.lib.common import console, disk, locks, pinning, processes
from tasks.lib.common.errors import ServerError
from tasks.lib.common.processes import Identity
from tasks.lib.common.settings import Settings
from tasks.lib.common.variants import Variant
from tasks.lib.embedded import environment
from tasks.lib.engines import base, ended, ports, starting
from tasks.lib.engines.base import LOG_TAIL, READY, STARTING, STOPPING, Conditions, Server
from tasks.lib.engines.local.record import Record
from tasks.lib.engines.ports import PortLost
from tasks.lib.engines.ready import stopped_meanwhile
from tasks.lib.engines.starting import Fate, Plan
from tasks.lib.models import artefact
from tasks.lib.models.store import Model

MODULE = "embedded_server"

Command = Callable[[Sequence[str]], tuple[list[str], Mapping[str, str]]]
"""Server flags -> the command that starts it, and what must be added to its environment."""


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
        """See Engine.start."""
        if self._command is None:
            environment.ensure(self._settings)
        return starting.start(self._settings, _Start(self, model, variant, temporary), port)

    def preview(self, model: Model, variant: Variant, port: int | None = None) -> None:
        """See Engine.preview."""
        starting.preview(self._settings, _Start(self, model, variant, temporary=False), port)

    def fingerprint(self, model: Model, variant: Variant) -> str:
        """See Engine.fingerprint. The embedded server's own sources are part of it."""
        argv, added = self.command(base.planned(self._settings, self.name, model, variant), model)
        program = [] if self._command is not None else environment.program(self._settings)
        cpus = self._settings.serve.cpus or pinning.usable()
        return base.digest(artefact.content_of(model, variant), argv, dict(added), program, cpus)

    def servers(self) -> list[Server]:
        """The servers of this suite that run now, those still loading too, oldest first."""
        with self.locked():
            return [record.server for record in self.survey()]

    def logs(self, server: Server, lines: int | None = None) -> str:
        """The last `lines` lines that the server wrote; all of them if None."""
        return processes.tail(self._log(server.id), lines)

    def version(self) -> Mapping[str, str]:
        """Nothing: processes need no engine."""
        return {}

    def stop(self, server: Server, grace: float) -> None:
        """End the server: politely, and after `grace` seconds by force. Done when it is gone."""
        with self.locked():
            record = self._read(server.id)
            if record is not None:
                # So that a call that lists the servers meanwhile does not take it for one that died.
                self._write(replace(record, state=STOPPING))
        for identity in self._processes(server.id, record):
            if processes.terminate(identity, grace):
                console.note(
                    f"{server} did not end within {grace:g} s after the request to stop, and was killed"
                )
        with self.locked():
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

    def plan(
        self, model: Model, variant: Variant, rest_port: int, grpc_port: int, temporary: bool
    ) -> tuple[Plan, list[str]]:
        """A server on these ports, and the command that starts it."""
        planned = base.planned(
            self._settings,
            self.name,
            model,
            variant,
            port=rest_port,
            grpc_port=grpc_port,
            fingerprint=self.fingerprint(model, variant),
            temporary=temporary,
        )
        argv, added = self.command(planned, model)
        return Plan(planned, self._shown(argv), added), argv

    # Records

    def locked(self) -> AbstractContextManager[None]:
        """The lock on the records of servers; on --dry, none."""
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
                f"Free disk space, and check the permissions of {self._settings.paths.shown(self._folder)}.",
            ) from error

    def _read(self, server_id: str) -> Record | None:
        """None if there is no record, or an unreadable one: its process is then without one."""
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
        return [carrier for carrier in processes.carriers(mark) if carrier.marker == mark][:1]

    def survey(self) -> list[Record]:
        """The records of servers that run, oldest first, after putting right what is not as it should be.

        To be called with the lock held. On --dry nothing is put right.
        """
        running = {identity.marker: identity for identity in reversed(processes.carriers(self._marker("")))}
        running_records = []
        for path in self._folder.glob("*.json"):
            record = self._read(path.stem)
            identity = running.get(self._marker(path.stem))
            if record is None:
                continue  # its process, if there is one, is without a record
            running.pop(self._marker(path.stem), None)
            fate = starting.fate(record.server, record.state, record.starter, is_up=identity is not None)
            if fate is Fate.RUNNING:
                running_records.append(record)
            elif not self._settings.dry:
                self._put_right(record.server, fate, identity)
        if not self._settings.dry:
            for mark, identity in running.items():
                console.note(f"process {identity.pid} is a server of this suite without a record; ending it")
                processes.terminate(identity, processes.JOB_GRACE)
                self._forget(mark.rsplit(":", 1)[1])
            self._sweep()
        return sorted(
            running_records, key=lambda r: (r.server.started, r.process.created if r.process else 0.0)
        )

    def _put_right(self, server: Server, fate: Fate, identity: Identity | None) -> None:
        def end() -> None:
            if identity is not None:
                processes.terminate(identity, processes.JOB_GRACE)
            self._forget(server.id)

        starting.put_right(
            server,
            fate,
            end=end,
            forget=lambda: self._forget(server.id),
            keep_log=lambda: self._keep_log(server),
            shown=self._settings.paths.shown,
        )

    def _keep_log(self, server: Server) -> Path:
        kept = ended.place(self._settings.paths, server)
        with suppress(FileNotFoundError):
            self._log(server.id).replace(kept)
        ended.trim(self._settings.paths)
        return kept

    def _sweep(self) -> None:
        """Remove logs, and records half written or unreadable, of servers that have no record."""
        for path in self._folder.glob("*"):
            if path.is_file() and self._read(path.name.partition(".")[0]) is None:
                path.unlink(missing_ok=True)

    # Steps of a start

    def discard(self, server: Server, process: subprocess.Popen[bytes] | None) -> None:
        """Undo a start, however far it has come."""
        if process is not None:
            processes.end_child(process, self._marker(server.id))
        with self.locked():
            self._forget(server.id)

    def launch(
        self, server: Server, argv: Sequence[str], added: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start the server's process, and keep a record of it. Raises ServerError."""
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
                "Build its environment again with `invoke teardown --environment build.embedded`.",
            ) from error
        try:
            self._write(replace(record, process=processes.child(process, mark)))
        except ServerError:
            processes.end_child(process, mark)
            raise
        return process

    def is_listening(self, server: Server, process: subprocess.Popen[bytes]) -> bool:
        """Whether the server's own process listens on its port; on the port alone another might answer."""
        identity = processes.identify(process.pid, self._marker(server.id))
        return identity is not None and processes.listens(identity, server.rest_port)

    def raise_died(self, server: Server, status: int) -> NoReturn:
        """Raises ServerError: why the server ended with `status` before it answered."""
        record = self._read(server.id)
        if record is None or record.state != STARTING:
            raise stopped_meanwhile(server)
        taken = ports.lost(server)
        if taken is not None:
            raise PortLost(taken, f"{server} was loading")
        self.show_log(server)
        raise ServerError(
            f"{server} died while loading: {environment.ending(status, self.logs(server, LOG_TAIL))}.",
            "Fix the error shown above and try again.",
        )

    def settle(self, server: Server) -> None:
        """Put on record that the server is ready. Raises ServerError if it was stopped meanwhile."""
        with self.locked():
            record = self._read(server.id)
            if record is None or record.state != STARTING:
                raise stopped_meanwhile(server)
            self._write(replace(record, state=READY))

    def show_log(self, server: Server) -> None:
        """Show the last lines that the server wrote."""
        console.note(f"the last lines of its log:\n{self.logs(server, LOG_TAIL)}")


@dataclass
class _Start:
    """One start of a server: the steps that starting.start takes (starting.Steps)."""

    engine: LocalEngine
    model: Model
    variant: Variant
    temporary: bool
    argv: Sequence[str] = ()
    """The command that `plan` has planned."""

    def locked(self) -> AbstractContextManager[None]:
        """The lock on the records of servers; on --dry, none."""
        return self.engine.locked()

    def port_holders(self) -> list[Server]:
        return [record.server for record in self.engine.survey()]

    def plan(self, rest_port: int, grpc_port: int) -> Plan:
        plan, self.argv = self.engine.plan(self.model, self.variant, rest_port, grpc_port, self.temporary)
        return plan

    def launch(self, plan: Plan) -> subprocess.Popen[bytes]:
        return self.engine.launch(plan.server, self.argv, plan.environment)

    def is_listening(self, server: Server, process: subprocess.Popen[bytes]) -> bool:
        return self.engine.is_listening(server, process)

    def check_running(self, server: Server, process: subprocess.Popen[bytes], pause: float) -> None:
        status = processes.wait(process, pause)
        if status is not None:
            self.engine.raise_died(server, status)

    def show_log(self, server: Server, process: subprocess.Popen[bytes]) -> None:
        self.engine.show_log(server)

    def settle(self, server: Server, process: subprocess.Popen[bytes]) -> None:
        self.engine.settle(server)
        processes.let_go(process)

    def discard(self, server: Server, process: subprocess.Popen[bytes] | None) -> None:
        self.engine.discard(server, process)

"""Processes that prove, as bad ones would: started by test_proof.py."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing.connection import Connection

from embedded_server.proving.proof import OPTIMIZED, STOCK, Finding
from embedded_server.proving.worker import LOADING, Asking, Failed, Job, Proven

FINDING = Finding(5, 1e-6, None)


def _prove(job: Job, parent: Connection, fault: tuple[str, str, str] | None) -> None:
    """`fault`: precision, signature and who is asked when the process ends."""
    for precision in job.limits:
        parent.send(Asking(precision, None, OPTIMIZED, LOADING))
        for name, *_ in job.groups:
            if (precision, name) in job.proven:
                continue
            for who in (STOCK, OPTIMIZED):
                if (name, "one NaN") in job.skipped:
                    continue
                parent.send(Asking(precision, name, who, "one NaN"))
                if (precision, name, who) == fault:
                    os.kill(os.getpid(), signal.SIGKILL)
            parent.send(Proven(precision, name, FINDING))


def honest(job: Job, parent: Connection) -> None:
    print("this would spoil the JSON")
    _prove(job, parent, None)


def optimized_crashes(job: Job, parent: Connection) -> None:
    _prove(job, parent, ("f32", "b", OPTIMIZED))


def stock_crashes(job: Job, parent: Connection) -> None:
    _prove(job, parent, ("f32", "b", STOCK))


def crashes_while_loading(job: Job, parent: Connection) -> None:
    for precision in job.limits:
        if all((precision, group[0]) in job.proven for group in job.groups):
            continue
        parent.send(Asking(precision, None, OPTIMIZED, LOADING))
        if precision == "bf16":
            os.kill(os.getpid(), signal.SIGSEGV)
        for group in job.groups:
            if (precision, group[0]) not in job.proven:
                parent.send(Proven(precision, group[0], FINDING))


def hangs(job: Job, parent: Connection) -> None:
    if not job.proven:
        parent.send(Asking("f32", "a", OPTIMIZED, "one NaN"))
        time.sleep(600)
    _prove(job, parent, None)


def fails(job: Job, parent: Connection) -> None:
    parent.send(Failed("line 3 of it is not a request"))


def ends_at_once(job: Job, parent: Connection) -> None:
    os._exit(7)


def ends_badly(job: Job, parent: Connection) -> None:
    _prove(job, parent, None)
    os.kill(os.getpid(), signal.SIGSEGV)

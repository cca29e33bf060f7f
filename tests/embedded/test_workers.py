"""The queue before the threads: what is refused, what is never executed, and when a place is free again."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from conditions import wait_for
from embedded_server.common.errors import Unavailable
from embedded_server.http.workers import Call, Workers
from running import PATIENCE


class Held:
    """A function that has begun once it says so, and ends when it is let go."""

    def __init__(self) -> None:
        self.begun, self.let_go = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.let_go.wait(PATIENCE)
        return "done"


class Overs:
    """Counts how often each call was over."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __call__(self, name: str) -> Callable[[], None]:
        return lambda: self.names.append(name)


def run(body: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(body, PATIENCE))


async def begun(held: Held) -> None:
    assert await asyncio.to_thread(held.begun.wait, PATIENCE)


async def executing(workers: Workers, over: Callable[[], None]) -> tuple[Held, Call[str]]:
    """A call that a thread has begun with."""
    held = Held()
    call = workers.submit(held, over)
    await begun(held)
    return held, call


def test_answers_and_errors_come_back() -> None:
    async def body() -> None:
        workers, over = Workers(2, 0), Overs()
        assert await workers.submit(lambda: 5, over("good")).answer == 5
        with pytest.raises(ZeroDivisionError):
            await workers.submit(lambda: 1 / 0, over("bad")).answer
        assert over.names == ["good", "bad"]
        assert await workers.submit(lambda: 6, over("again")).answer == 6, "the thread is still there"

    run(body())


def test_as_many_are_executed_at_once_as_there_are_threads() -> None:
    async def body() -> None:
        workers, over = Workers(3, 3), Overs()
        helds = [Held() for _ in range(4)]
        calls = [workers.submit(held, over("")) for held in helds]
        for held in helds[:3]:
            await begun(held)
        assert not helds[3].begun.is_set()
        helds[1].let_go.set()
        await begun(helds[3])
        for held in helds:
            held.let_go.set()
        assert await asyncio.gather(*(call.answer for call in calls)) == ["done"] * 4

    run(body())


def test_a_full_queue_refuses_until_a_waiting_call_is_given_up() -> None:
    async def body() -> None:
        workers, over = Workers(1, 1), Overs()
        held, executed = await executing(workers, over("executed"))
        never = threading.Event()
        waiting = workers.submit(never.set, over("waiting"))
        with pytest.raises(Unavailable, match="1 are waiting already"):
            workers.submit(never.set, over("refused"))
        waiting.give_up()
        assert over.names == ["waiting"]
        last: Call[int] = workers.submit(lambda: 7, over("last"))
        held.let_go.set()
        assert await last.answer == 7
        assert await executed.answer == "done"
        assert not never.is_set()
        assert over.names == ["waiting", "executed", "last"]

    run(body())


def test_what_is_being_executed_keeps_its_place_until_it_ends() -> None:
    async def body() -> None:
        workers, over = Workers(1, 0), Overs()
        held, call = await executing(workers, over("held"))
        call.answer.cancel()
        call.give_up()
        with pytest.raises(Unavailable):
            workers.submit(int, over("refused"))
        assert over.names == []
        held.let_go.set()
        await asyncio.to_thread(wait_for, lambda: over.names)
        assert over.names == ["held"]
        assert await workers.submit(int, over("next")).answer == 0

    run(body())


def test_a_thread_that_cannot_be_started_takes_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def body() -> None:
        workers, over = Workers(2, 0), Overs()
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            for _ in range(3):
                with pytest.raises(Unavailable, match="can't start new thread"):
                    workers.submit(int, over("refused"))
        held, first = await executing(workers, over("first"))
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            second = workers.submit(int, over("second"))
        held.let_go.set()
        assert await first.answer == "done"
        assert await second.answer == 0, "the only thread executes it"

    run(body())


def test_a_thread_that_waits_holds_nothing_of_the_last_request() -> None:
    class Request:
        def __call__(self) -> None:
            pass

    async def body() -> None:
        workers = Workers(1, 0)
        request = Request()
        there = weakref.ref(request)
        await workers.submit(request, lambda: None).answer
        del request
        gc.collect()
        await asyncio.to_thread(wait_for, lambda: there() is None)

    run(body())


def test_a_call_may_end_after_the_loop() -> None:
    workers, held = Workers(1, 1), Held()

    async def leave() -> None:
        workers.submit(held, lambda: None)
        await begun(held)

    async def ask() -> None:
        assert await workers.submit(lambda: 8, lambda: None).answer == 8

    run(leave())
    held.let_go.set()
    run(ask())

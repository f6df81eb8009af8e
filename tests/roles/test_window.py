"""How many calls of a process may be under way: who may wait for a turn does, in order; who may not is refused."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from concoord_ray.client import Client
from concoord_ray.errors import Overloaded
from concoord_ray.handle import Handle
from concoord_ray.roles.calls import Waker
from concoord_ray.roles.window import Window, Windows
from concoord_ray.rsm.command import ObjectInfo

PATIENCE_S = 20.0


async def turns(window: Window, order: list[int], number: int) -> None:
    await window.turn()
    window.enter(1)
    order.append(number)


def test_turns_are_given_in_order_of_arrival() -> None:
    async def main() -> None:
        window = Window(2, 100)
        order: list[int] = []
        tasks = [asyncio.create_task(turns(window, order, n)) for n in range(6)]
        await asyncio.sleep(0)
        assert order == [0, 1]
        for ended in range(4):
            window.leave(1)
            await settle()
            assert order == list(range(3 + ended))
        await asyncio.gather(*tasks)

    asyncio.run(main())


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_bytes_count_too_and_one_call_may_be_larger_than_all_of_them() -> None:
    async def main() -> None:
        window = Window(100, 10)
        await window.turn()
        window.enter(1000)
        assert window.is_full
        waiting = asyncio.create_task(window.turn())
        await settle()
        assert not waiting.done()
        window.leave(1000)
        await asyncio.wait_for(waiting, PATIENCE_S)

    asyncio.run(main())


def test_a_turn_is_not_lost_with_who_does_not_come_any_more() -> None:
    async def main() -> None:
        window = Window(1, 100)
        window.enter(1)
        first, second, third = (asyncio.create_task(window.turn()) for _ in range(3))
        await settle()
        second.cancel()
        window.leave(1)  # For the first, whose task is cancelled before it hears of it.
        first.cancel()
        await asyncio.wait_for(third, PATIENCE_S)

    asyncio.run(main())


def test_all_who_fit_are_let_in_when_a_large_call_has_ended() -> None:
    async def main() -> None:
        window = Window(5, 100)
        window.enter(100)
        order: list[int] = []
        tasks = [asyncio.create_task(turns(window, order, n)) for n in range(10)]
        await settle()
        window.leave(100)
        await asyncio.wait_for(asyncio.gather(*tasks[:5]), PATIENCE_S)
        await settle()
        assert order == list(range(5))
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def test_not_more_are_woken_than_may_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[object] = []
    really_wake = Waker.wake

    def wake(waker: Waker, future: asyncio.Future[None]) -> None:
        woken.append(future)
        really_wake(waker, future)

    monkeypatch.setattr(Waker, "wake", wake)

    async def main() -> None:
        window = Window(10, 100)
        order: list[int] = []
        tasks = [asyncio.create_task(turns(window, order, n)) for n in range(30)]
        await settle()
        for _ in range(5):
            window.leave(1)
        await settle()
        assert order == list(range(15))
        assert len(woken) == 5
        for task in tasks:
            task.cancel()

    asyncio.run(main())


def test_the_turn_of_a_call_that_cannot_be_made_is_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument that cannot be pickled: the call neither enters nor leaves."""
    windows = Windows(100, 1000, "this process")

    class Attached:
        """A client that sends nothing."""

        turn, pass_turn = Client.turn, Client.pass_turn

        def __init__(self) -> None:
            self.client = self
            self.windows = windows

        async def call_async(self, *_: Any, **__: Any) -> str:
            return "called"

    attached = Attached()
    monkeypatch.setattr(Handle, "concoord_attachment", lambda _: attached)
    method = Handle[Any]("here", "e", ObjectInfo(1, None, "Sample", {"method": 0})).method

    async def main() -> None:
        windows.plain.enter(1000)
        bad, good = asyncio.create_task(method.aio(threading.Lock())), asyncio.create_task(method.aio(1))
        await settle()
        windows.plain.leave(1000)
        with pytest.raises(TypeError, match="pickle"):
            await bad
        assert await asyncio.wait_for(good, PATIENCE_S) == "called"

    asyncio.run(main())


def test_event_loops_share_one_window() -> None:
    window = Window(1, 100)
    window.enter(1)
    entered = threading.Event()

    async def other() -> None:
        asyncio.get_running_loop().call_soon(entered.set)
        await asyncio.wait_for(window.turn(), PATIENCE_S)

    thread = threading.Thread(target=lambda: asyncio.run(other()))
    thread.start()
    assert entered.wait(PATIENCE_S)
    window.leave(1)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_calls_that_may_wait_keep_no_others_out() -> None:
    windows = Windows(1, 100, "this process")
    windows.of(may_park=True).enter(1)
    with pytest.raises(Overloaded, match=r"may wait.*max_calls_per_process"):
        windows.check(may_park=True)
    windows.check(may_park=False)

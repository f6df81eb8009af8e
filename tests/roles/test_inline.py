"""Which calls a lane executes on the role's own loop, and what is known of one that proves to be slow there."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

from concoord_ray.config import Config
from concoord_ray.paxos.outputs import Decided
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.roles.lane import Lane
from concoord_ray.rsm.calls import Applied
from concoord_ray.rsm.command import Batch, Command, Entry, OpenSession, Reply
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.wire import encode_message
from tests.rsm.log import calling, creation, result

QUICK_RUNS = 3
CONFIG = Config(inline_after_runs=QUICK_RUNS, quick_call_s=0.1, slow_call_s=0.2, executing_report_s=0.05)
SLOW_S = 0.5


class Work:
    def work(self, duration_s: float) -> int:
        time.sleep(duration_s)
        return threading.get_ident()


def with_lane(test: Callable[[Lane, Callable[[float], Awaitable[int]]], Awaitable[None]]) -> None:
    """Run a test with a lane, and with what calls ``work`` and says on which thread it was executed."""

    async def main() -> None:
        replies: asyncio.Queue[Reply] = asyncio.Queue()
        broken: list[BaseException] = []
        slot = 0

        def executed(applied: Applied, _: list[Reply]) -> None:
            for reply in applied.replies:
                replies.put_nowait(reply)

        async def ask(command: Command, session: int = 1) -> Reply:
            nonlocal slot
            batch = Batch(1, 1, (Entry(session, slot + 1, (), encode_message(command)),))
            lane.execute([Decided(slot, encode_message(batch))], [])
            slot += 1
            return await replies.get()

        async def work(duration_s: float) -> int:
            thread = result(await ask(calling(1, "work", duration_s)))
            assert isinstance(thread, int)
            return thread

        lane = Lane(Executor("here"), CONFIG, executed, FailStop(broken.append))
        await ask(OpenSession(10**10, "test"), session=0)
        await ask(creation(Work))
        await test(lane, work)
        assert broken == []
        lane.close()

    asyncio.run(main())


def test_calls_that_have_proved_to_be_quick_are_executed_on_the_loop() -> None:
    async def test(lane: Lane, work: Callable[[float], Awaitable[int]]) -> None:
        threads = [await work(0.0) for _ in range(QUICK_RUNS + 2)]
        assert threads == [lane._thread.ident] * QUICK_RUNS + [threading.get_ident()] * 2

    with_lane(test)


def test_one_that_is_slow_after_all_is_named_while_the_loop_stands_still_and_does_not_come_back_there_soon() -> None:
    async def test(lane: Lane, work: Callable[[float], Awaitable[int]]) -> None:
        for _ in range(QUICK_RUNS):
            await work(0.0)
        named: list[str] = []
        watcher = threading.Timer(SLOW_S / 2, lambda: named.append(lane.executing()))  # As the status does.
        watcher.start()
        assert await work(SLOW_S) == threading.get_ident()
        watcher.join()
        assert named == ["Work.work"]
        assert lane.executing() == ""
        assert {await work(0.0) for _ in range(10 * QUICK_RUNS)} == {lane._thread.ident}

    with_lane(test)

"""The calls of a session are put back into the order of submission, with bounded patience."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from concoord_ray.roles.sequence import Sequencer

#: Of a sequencer that is not meant to lose its patience in a test, and of one that is.
LONG_S = 60.0
SHORT_S = 0.02


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_calls_that_come_out_of_order_are_forwarded_in_order() -> None:
    async def scenario() -> None:
        forwarded: list[str] = []
        sequencer = Sequencer(forwarded.append, LONG_S, 10)
        for order in (2, 0, 1, 4, 5, 3):
            sequencer.submit(7, order, str(order))
        assert forwarded == list("012345")

    run(scenario)


def test_sessions_do_not_wait_for_each_other() -> None:
    async def scenario() -> None:
        forwarded: list[str] = []
        sequencer = Sequencer(forwarded.append, LONG_S, 10)
        sequencer.submit(1, 1, "one later")
        sequencer.submit(2, 0, "two")
        assert forwarded == ["two"]

    run(scenario)


def test_a_call_from_the_past_goes_through_at_once() -> None:
    async def scenario() -> None:
        forwarded: list[str] = []
        sequencer = Sequencer(forwarded.append, LONG_S, 10)
        for item in ("first", "again"):
            sequencer.submit(1, 0, item)
        assert forwarded == ["first", "again"]

    run(scenario)


def test_a_missing_call_is_not_waited_for_for_ever_though_others_keep_coming() -> None:
    async def scenario() -> None:
        forwarded: list[int] = []
        sequencer = Sequencer(forwarded.append, SHORT_S, 10)
        order = 0
        while not forwarded:  # ``run`` bounds it. A pause between the calls is far shorter than the patience.
            order += 1
            sequencer.submit(1, order, order)
            await asyncio.sleep(SHORT_S / 10)
        assert forwarded[0] == 1

    run(scenario)


def test_many_gaps_cost_one_wait() -> None:
    """As after the gateway's death, when every second call of a session had ended."""

    async def scenario() -> None:
        forwarded: list[int] = []
        all_came = asyncio.Event()

        def forward(order: int) -> None:
            forwarded.append(order)
            if len(forwarded) == 10_000:
                all_came.set()

        sequencer = Sequencer(forward, SHORT_S, 10)
        for order in range(0, 20_000, 2):
            sequencer.submit(1, order + 1, order + 1)
        await all_came.wait()
        assert forwarded == list(range(1, 20_000, 2))
        sequencer.submit(1, 20_000, 20_000)
        assert forwarded[-1] == 20_000

    run(scenario)


def test_only_so_many_sessions_are_remembered_and_none_loses_a_call() -> None:
    async def scenario() -> None:
        forwarded: list[str] = []
        sequencer = Sequencer(forwarded.append, LONG_S, 2)
        sequencer.submit(1, 5, "held")
        sequencer.submit(2, 0, "two")
        sequencer.submit(3, 0, "three")
        assert forwarded == ["two", "held", "three"]

    run(scenario)

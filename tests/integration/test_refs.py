"""What ``.remote()`` returns is a real ObjectRef: wait, await, cancel, time limits."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.samples import Journal, Tally
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


def taken_semaphore() -> Handle[Any]:
    """A semaphore whose one permit this test holds."""
    semaphore = concoord.Semaphore.remote(1)
    assert semaphore.acquire()
    return semaphore


def cancelled(ref: ray.ObjectRef[Any]) -> None:
    """Cancel, as often as Ray needs to be told; it may take 2 s for a call that has just been made."""

    def is_cancelled() -> bool:
        ray.cancel(ref)
        try:
            ray.get(ref, timeout=3)
        except ray.exceptions.TaskCancelledError:
            return True
        except ray.exceptions.GetTimeoutError:
            return False
        raise AssertionError("the call was answered")

    until(is_cancelled)


def test_it_is_an_object_ref() -> None:
    assert isinstance(Tally.remote().increment.remote(), ray.ObjectRef)


def test_ray_wait_tells_what_is_ready() -> None:
    semaphore = taken_semaphore()
    parked = [semaphore.acquire.remote() for _ in range(3)]
    assert ray.wait(parked, timeout=0.3) == ([], parked)
    semaphore.release()
    assert ray.wait(parked, timeout=30) == ([parked[0]], parked[1:])
    semaphore.release(2)
    assert ray.get(parked, timeout=30) == [True, True, True]


def test_a_ref_can_be_awaited() -> None:
    async def main() -> list[int]:
        tally = Tally.remote()
        return [await tally.increment.remote(), *await asyncio.gather(*(tally.increment.remote() for _ in range(3)))]

    assert asyncio.run(main()) == [1, 2, 3, 4]


def test_a_ref_can_be_given_to_a_task() -> None:
    @ray.remote
    def double(value: int) -> int:
        return 2 * value

    assert ray.get(double.remote(Tally.remote(20).increment.remote()), timeout=60) == 42


def test_calls_of_one_process_are_applied_in_the_order_of_submission() -> None:
    journal = Journal.remote()
    refs = [journal.add.remote(n) for n in range(1000)]
    assert ray.get(refs, timeout=60) == list(range(1, 1001))
    assert journal.all() == list(range(1000))


def test_coroutines_are_applied_in_the_order_in_which_they_were_started() -> None:
    async def main() -> list[Any]:
        journal = await Journal.aio()
        await asyncio.gather(*(journal.add.aio(n) for n in range(1000)))
        result: list[Any] = await journal.all.aio()
        return result

    assert asyncio.run(main()) == list(range(1000))


def test_each_process_keeps_its_own_order() -> None:
    @ray.remote
    def write(journal: Handle[Any], writer: int) -> None:
        ray.get([journal.add.remote((writer, n)) for n in range(200)], timeout=60)

    journal = Journal.remote()
    ray.get([write.remote(journal, writer) for writer in range(3)], timeout=90)
    entries = journal.all()
    for writer in range(3):
        assert [n for who, n in entries if who == writer] == list(range(200))


def test_a_cancelled_acquire_leaves_the_queue() -> None:
    semaphore = taken_semaphore()
    first, second, third = (semaphore.acquire.remote() for _ in range(3))
    assert ray.wait([first, second, third], timeout=0.3)[0] == []
    cancelled(second)
    semaphore.release()
    assert ray.get(first, timeout=30) is True
    semaphore.release()
    assert ray.get(third, timeout=30) is True
    semaphore.release()
    until(lambda: "count=1" in semaphore.describe())


def test_a_cancel_that_races_the_grant_loses_no_permit() -> None:
    """Whichever comes first, grant or cancel: a caller that was told of a cancel holds nothing."""
    semaphore = taken_semaphore()
    held = 1
    for round_ in range(15):
        ref = semaphore.acquire.remote()
        time.sleep(0.001 * (round_ % 5))
        semaphore.release()
        ray.cancel(ref)
        held -= 1
        try:
            held += bool(ray.get(ref, timeout=10))
        except ray.exceptions.TaskCancelledError:
            until(lambda: semaphore.acquire(timeout=1))
            held += 1
        assert held == 1
    semaphore.release()
    until(lambda: "count=1" in semaphore.describe())


def test_a_cancelled_await_leaves_the_queue() -> None:
    async def main() -> None:
        semaphore = taken_semaphore()
        waiting = asyncio.create_task(semaphore.acquire.aio())
        await asyncio.sleep(0.2)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        semaphore.release()
        assert await semaphore.acquire.aio(timeout=30)

    asyncio.run(main())


def test_an_await_that_is_cancelled_when_its_grant_is_here_gives_it_back() -> None:
    """A loop that is busy for a moment, while the answer comes and a time limit is over."""

    async def main() -> None:
        semaphore = concoord.Semaphore.remote(1)
        for _ in range(3):
            waiting = asyncio.create_task(semaphore.acquire.aio())
            await asyncio.sleep(0)
            until(lambda: "count=0" in semaphore.describe())
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await asyncio.sleep(1.0)  # For as long as it takes to acknowledge what was answered.
            assert "count=1" in semaphore.describe()

    asyncio.run(main())


def test_get_with_a_time_limit_leaves_the_call_waiting() -> None:
    semaphore = taken_semaphore()
    ref = semaphore.acquire.remote()
    with pytest.raises(ray.exceptions.GetTimeoutError):
        ray.get(ref, timeout=0.3)
    semaphore.release()
    assert ray.get(ref, timeout=30) is True


def test_a_calls_own_time_limit_withdraws_it_on_the_direct_paths() -> None:
    semaphore = taken_semaphore()
    with pytest.raises(concoord.CallTimeout):
        semaphore.acquire.options(timeout=0.3)()
    with pytest.raises(TimeoutError):
        asyncio.run(semaphore.acquire.options(timeout=0.3).aio())
    semaphore.release()
    assert semaphore.acquire(blocking=False) is True


def test_a_calls_own_time_limit_withdraws_it_on_the_remote_path() -> None:
    semaphore = taken_semaphore()
    ref = semaphore.acquire.options(timeout=0.3).remote()
    with pytest.raises(concoord.CallTimeout):
        ray.get(ref, timeout=30)
    semaphore.release()
    assert semaphore.acquire(blocking=False) is True


def test_a_time_limit_that_is_not_reached_changes_nothing() -> None:
    tally = Tally.remote()
    increment = tally.increment.options(timeout=30)
    assert [increment(), asyncio.run(increment.aio()), ray.get(increment.remote())] == [1, 2, 3]
    assert tally.get.options(timeout=30)() == 3


def test_a_timed_out_acquire_answers_false() -> None:
    semaphore = taken_semaphore()
    assert semaphore.acquire(timeout=0.2) is False
    assert ray.get(semaphore.acquire.remote(timeout=0.2), timeout=30) is False
    assert asyncio.run(semaphore.acquire.aio(blocking=False)) is False
    semaphore.release()
    assert semaphore.acquire(timeout=30) is True

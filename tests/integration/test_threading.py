"""The threading family over real Ray, by ``.remote()`` and directly: as Python's ``threading`` documents it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from concoord_ray.threadingobject.dsemaphore import DSemaphore
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]

#: Begins a call that may wait; the result is there when it has ended.
Begin = Callable[..., "Future[Any]"]
WAIT_S = 30.0


@pytest.fixture(params=["remote", "direct", "aio"])
def begin(request: pytest.FixtureRequest) -> Iterator[Begin]:
    """Calls by one of the three paths, in the name of the caller."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with ThreadPoolExecutor(16) as pool:

        def call(method: Any, *args: Any, **kwargs: Any) -> Future[Any]:
            mine = method.of_caller()
            if request.param == "remote":
                future: Future[Any] = mine.remote(*args, **kwargs).future()
                return future
            if request.param == "aio":
                return asyncio.run_coroutine_threadsafe(mine.aio(*args, **kwargs), loop)
            return pool.submit(mine, *args, **kwargs)

        yield call
        loop.call_soon_threadsafe(loop.stop)
    thread.join(WAIT_S)
    loop.close()


def waiters(handle: Handle[Any]) -> int:
    return len(handle.inspect().waiting)


def test_an_rlock_is_reentrant_and_another_threads_is_not(begin: Begin) -> None:
    lock = concoord.RLock.remote()
    assert begin(lock.acquire).result(WAIT_S) is True
    assert begin(lock.acquire).result(WAIT_S) is True
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lock.acquire, blocking=False).result(WAIT_S) is False
        with pytest.raises(RuntimeError, match="cannot release un-acquired lock"):
            other.submit(lock.release).result(WAIT_S)
    begin(lock.release).result(WAIT_S)
    begin(lock.release).result(WAIT_S)
    with pytest.raises(RuntimeError, match="cannot release un-acquired lock"):
        begin(lock.release).result(WAIT_S)


def test_acquire_gives_true_or_false(begin: Begin) -> None:
    lock = concoord.Lock.remote()
    assert begin(lock.acquire).result(WAIT_S) is True
    assert begin(lock.acquire, blocking=False).result(WAIT_S) is False
    assert begin(lock.acquire, timeout=0.05).result(WAIT_S) is False


def test_a_timeout_bounds_the_waiting_not_the_round_trip(begin: Begin) -> None:
    semaphore = concoord.Semaphore.remote(1)
    assert begin(semaphore.acquire, timeout=0.005).result(WAIT_S) is True
    semaphore.release()
    assert begin(semaphore.acquire, timeout=1e-9).result(WAIT_S) is True


@pytest.mark.parametrize(
    ("cls", "args", "error"),
    [
        (concoord.Lock, (False, 1), ValueError),
        (concoord.Lock, (True, -2), ValueError),
        (concoord.Lock, (True, 1e12), OverflowError),
        (concoord.RLock, (False, 1), ValueError),
        (concoord.RLock, (True, 1e12), OverflowError),
        (concoord.Semaphore, (False, 1), ValueError),
    ],
)
def test_bad_arguments_raise_what_threading_raises(begin: Begin, cls: Any, args: tuple[Any, ...], error: Any) -> None:
    theirs = getattr(threading, cls.__name__)()
    with pytest.raises(error):
        theirs.acquire(*args)
    with pytest.raises(error):
        begin(cls.remote().acquire, *args).result(WAIT_S)


def test_bad_constructors_raise_at_construction() -> None:
    with pytest.raises(ValueError, match=">= 0"):
        concoord.BoundedSemaphore.remote(-1)
    with pytest.raises(ValueError, match="parties"):
        concoord.Barrier.remote(0)
    with pytest.raises(TypeError, match="Lock or RLock"):
        concoord.Condition.remote(lock=concoord.Semaphore.remote())


def test_a_bounded_semaphore_refuses_a_release_too_many(begin: Begin) -> None:
    semaphore = concoord.BoundedSemaphore.remote(1)
    assert begin(semaphore.acquire).result(WAIT_S) is True
    begin(semaphore.release).result(WAIT_S)
    with pytest.raises(ValueError, match="Semaphore released too many times"):
        begin(semaphore.release).result(WAIT_S)


def test_a_condition_wakes_who_waits(begin: Begin) -> None:
    condition = concoord.Condition.remote()
    condition.acquire()
    woken = begin(condition.wait)
    until(lambda: waiters(condition) == 1)
    with ThreadPoolExecutor(1) as other:

        def notify() -> None:
            with condition:
                condition.notify()

        other.submit(notify).result(WAIT_S)
    assert woken.result(WAIT_S) is True
    condition.release()
    with pytest.raises(RuntimeError, match="un-acquired"):
        begin(condition.wait).result(WAIT_S)
    with pytest.raises(RuntimeError, match="un-acquired"):
        begin(condition.notify_all).result(WAIT_S)


def test_a_wait_that_times_out_has_its_lock_back(begin: Begin) -> None:
    condition = concoord.Condition.remote()
    condition.acquire()
    assert begin(condition.wait, timeout=0.05).result(WAIT_S) is False
    with ThreadPoolExecutor(1) as other:
        assert other.submit(condition.acquire, blocking=False).result(WAIT_S) is False
    condition.release()


def test_two_conditions_share_the_lock_that_they_were_given() -> None:
    lock = concoord.Lock.remote()
    full, empty = concoord.Condition.remote(lock=lock), concoord.Condition.remote(lock=lock)
    with full, ThreadPoolExecutor(1) as other:
        assert lock.locked()
        assert other.submit(empty.acquire, blocking=False).result(WAIT_S) is False
    assert not lock.locked()


def test_a_wait_within_with_leaves_by_the_lock_that_it_has_again() -> None:
    lock = concoord.Lock.remote()
    condition = concoord.Condition.remote(lock=lock)
    with lock as token:
        assert condition.wait(timeout=0.05) is False
        assert (lock.inspect().holders[0].token or 0) > token
    assert not lock.locked()


def test_wait_for_runs_its_predicate_in_the_caller() -> None:
    condition, items = concoord.Condition.remote(), []

    def produce() -> None:
        until(lambda: waiters(condition) == 1)
        with condition:
            items.append("a")
            condition.notify()

    with ThreadPoolExecutor(1) as producer:
        done = producer.submit(produce)
        with condition:
            assert condition.wait_for(lambda: items, timeout=WAIT_S) == ["a"]
            assert condition.wait_for(lambda: len(items) > 5, timeout=0.05) is False
            with pytest.raises(TypeError, match="runs in the calling process"):
                condition.wait_for.remote(lambda: True)
        done.result(WAIT_S)


def test_wait_for_of_asyncio_is_the_same_and_its_caller_is_the_task_that_calls() -> None:
    async def main() -> None:
        condition, items = concoord.Condition.remote(), []

        async def produce() -> None:
            while not (await condition.inspect.aio()).waiting:  # noqa: ASYNC110 (no event tells)
                await asyncio.sleep(0.01)
            async with condition:
                items.append("a")
                await condition.notify_all.aio()

        producing = asyncio.create_task(produce())
        async with condition:
            assert await asyncio.wait_for(condition.wait_for.aio(lambda: items), WAIT_S) == ["a"]
            assert await asyncio.wait_for(condition.wait.aio(timeout=0.01), WAIT_S) is False
        await producing

    asyncio.run(main())


def test_a_barrier_wakes_all_and_can_be_used_again(begin: Begin) -> None:
    barrier = concoord.Barrier.remote(4)
    for _ in range(2):
        numbers = [begin(barrier.wait) for _ in range(4)]
        assert sorted(each.result(WAIT_S) for each in numbers) == [0, 1, 2, 3]
    assert (barrier.parties(), barrier.n_waiting(), barrier.broken()) == (4, 0, False)


@pytest.mark.parametrize("how", ["abort", "reset", "timeout"])
def test_a_barrier_breaks_for_all(begin: Begin, how: str) -> None:
    barrier = concoord.Barrier.remote(3)
    first = begin(barrier.wait)
    until(lambda: barrier.n_waiting() == 1)
    second = begin(barrier.wait, timeout=0.05 if how == "timeout" else None)
    if how != "timeout":
        until(lambda: barrier.n_waiting() == 2)
        getattr(barrier, how)()
    for each in (first, second):
        with pytest.raises(threading.BrokenBarrierError):
            each.result(WAIT_S)
    assert barrier.broken() is (how != "reset")


def test_an_event_wakes_all_and_stays_set(begin: Begin) -> None:
    event = concoord.Event.remote()
    assert begin(event.wait, timeout=0.05).result(WAIT_S) is False
    waiting = [begin(event.wait) for _ in range(3)]
    until(lambda: waiters(event) == 3)
    event.set()
    assert [each.result(WAIT_S) for each in waiting] == [True] * 3
    assert event.is_set()
    event.clear()
    assert not event.is_set()


def test_lost_tells_a_release_from_a_loss(begin: Begin) -> None:
    lock = concoord.Lock.remote()
    lock.acquire()
    news = begin(lock.lost)
    until(lambda: lock.inspect().awaiting_loss)
    lock.release()
    assert news.result(WAIT_S) is False
    token = lock.acquire_fenced()
    news = begin(lock.lost, token)
    until(lambda: lock.inspect().awaiting_loss)
    assert lock.force_release() is True
    assert news.result(WAIT_S) is True
    with pytest.raises(RuntimeError, match="not held"):
        begin(lock.lost).result(WAIT_S)


def test_with_frees_no_grant_but_its_own() -> None:
    lock = concoord.Lock.remote()

    def lose_it() -> None:
        with lock:
            lock.force_release()
            assert ThreadPoolExecutor(1).submit(lock.acquire).result(WAIT_S)

    with pytest.raises(RuntimeError, match="stale"):
        lose_it()
    assert lock.locked()


def test_a_stuck_job_can_be_looked_into() -> None:
    lock = concoord.Lock.remote()
    token = lock.acquire_fenced()
    waiting = lock.acquire.remote()
    until(lambda: waiters(lock) == 1)
    seen = lock.inspect()
    assert seen.primitive == "<DLock locked>"
    assert seen.holders[0].token == token
    assert "pid" in seen.holders[0].process
    lock.release()
    assert ray.get(waiting, timeout=WAIT_S) is True


class Buffer:
    """A bounded buffer."""

    def __init__(self, capacity: int) -> None:
        self.items: list[Any] = []
        self.capacity = capacity

    @concoord.when(lambda self: len(self.items) < self.capacity)
    def put(self, item: Any) -> None:
        self.items.append(item)

    @concoord.when(lambda self: self.items)
    def take(self) -> Any:
        return self.items.pop(0)


Buffers = concoord.replicated(Buffer)


def test_a_guarded_method_waits_for_its_guard(begin: Begin) -> None:
    buffer = Buffers.remote(2)
    first = begin(buffer.take)
    puts = [begin(buffer.put, n) for n in range(4)]
    assert first.result(WAIT_S) in range(4)
    rest = [begin(buffer.take).result(WAIT_S) for _ in range(3)]
    assert sorted([first.result(), *rest]) == [0, 1, 2, 3]
    assert [each.result(WAIT_S) for each in puts] == [None] * 4
    with pytest.raises(concoord.CallTimeout):
        buffer.take.options(timeout=0.1)()


class OriginalSemaphore:
    """As ConCoord's own: its methods take the command, and pass it on."""

    def __init__(self, count: int = 1) -> None:
        self.semaphore = DSemaphore(count)

    def __repr__(self) -> str:
        return repr(self.semaphore)

    def acquire(self, _concoord_command: Any) -> Any:
        return self.semaphore.acquire(_concoord_command)

    def release(self, _concoord_command: Any) -> Any:
        return self.semaphore.release(_concoord_command)

    @concoord.readonly
    def show(self) -> str:
        return repr(self)


OriginalSemaphores = concoord.replicated(OriginalSemaphore)


def test_objects_of_the_original_kind_block(begin: Begin) -> None:
    semaphore = OriginalSemaphores.remote(1)
    assert begin(semaphore.acquire).result(WAIT_S) is True
    assert semaphore.show() == "<DSemaphore count=0>"
    second = begin(semaphore.acquire)
    assert begin(semaphore.release).result(WAIT_S) is None
    assert second.result(WAIT_S) is True
    semaphore.release()
    assert semaphore.show() == "<DSemaphore count=1>"

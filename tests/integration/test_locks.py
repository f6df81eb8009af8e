"""Locks and semaphores as ``threading`` has them, over several processes."""

from __future__ import annotations

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.samples import Journal

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


def test_with_a_lock_gives_a_fencing_token_that_grows() -> None:
    tokens = []
    for _ in range(3):
        with concoord.Lock.options(name="ledger", get_if_exists=True).remote() as token:
            assert concoord.get("ledger").locked()
            tokens.append(token)
    assert not concoord.get("ledger").locked()
    assert all(type(token) is int and token > 0 for token in tokens)
    assert tokens == sorted(set(tokens))


def test_async_with_is_the_same() -> None:
    async def main() -> None:
        lock = concoord.Lock.remote()
        async with lock as token:
            assert isinstance(token, int)
            assert await lock.locked.aio()
        assert not await lock.locked.aio()

    asyncio.run(main())


def test_a_body_that_raises_frees_the_lock() -> None:
    lock = concoord.Lock.remote()
    with pytest.raises(ZeroDivisionError), lock:
        raise ZeroDivisionError
    assert not lock.locked()


def test_tokens_grow_over_all_locks_of_an_ensemble() -> None:
    first, second = concoord.Lock.remote(), concoord.Lock.remote()
    with first as earlier, second as later:
        assert earlier < later
    concoord.delete(first)
    with concoord.Lock.remote() as latest:
        assert later < latest


def test_what_has_no_acquire_is_no_context_manager() -> None:
    with pytest.raises(TypeError, match="context manager"), Journal.remote():
        pass


def test_one_at_a_time_over_processes_and_paths() -> None:
    @ray.remote
    def critical(lock: Handle[Any], journal: Handle[Any], worker: int) -> None:
        for _ in range(5):
            with lock:
                journal.add(("enter", worker))
                journal.add(("leave", worker))

    lock, journal = concoord.Lock.remote(), Journal.remote()
    ray.get([critical.remote(lock, journal, worker) for worker in range(4)], timeout=90)
    entries = journal.all()
    assert len(entries) == 40
    for enter, leave in zip(entries[::2], entries[1::2], strict=True):
        assert (enter[0], leave[0]) == ("enter", "leave")
        assert enter[1] == leave[1]


def test_threads_of_one_process_exclude_each_other() -> None:
    lock = concoord.Lock.remote()
    inside, most = 0, 0
    guard = threading.Lock()

    def work(_: int) -> None:
        nonlocal inside, most
        with lock:
            with guard:
                inside += 1
                most = max(most, inside)
            with guard:
                inside -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(40)))
    assert most == 1


def test_grants_are_first_come_first_served() -> None:
    semaphore, journal = concoord.Semaphore.remote(0), Journal.remote()
    refs = [semaphore.acquire.remote() for _ in range(10)]
    assert ray.wait(refs, timeout=0.3)[0] == []
    for n in range(10):
        semaphore.release()
        assert ray.get(refs[n], timeout=30) is True
        assert n == 9 or ray.wait(refs[n + 1 :], timeout=0)[0] == []
        journal.add(n)
    assert journal.all() == list(range(10))


def test_release_of_what_is_free_is_an_error_as_in_threading() -> None:
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        concoord.Lock.remote().release()
    with pytest.raises(ValueError, match="one or more"):
        concoord.Semaphore.remote(1).release(0)
    with pytest.raises(ValueError, match=">= 0"):
        concoord.Semaphore.remote(-1)


def test_a_stale_token_releases_nothing() -> None:
    lock = concoord.Lock.remote()
    old = lock.acquire_fenced()
    lock.release(token=old)
    new = lock.acquire_fenced()
    with pytest.raises(RuntimeError, match="stale"):
        lock.release(token=old)
    assert lock.locked()
    lock.release(token=new)


def test_interrupted_waiting_leaves_the_queue() -> None:
    """Ctrl-C in a blocking acquire: the permit that comes later is for somebody else."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # A shell's background jobs ignore it.
    semaphore = concoord.Semaphore.remote(0)
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        semaphore.acquire()
    timer.join(30)
    semaphore.release()
    assert semaphore.acquire(timeout=30) is True


def test_a_block_may_be_left_by_another_thread_than_entered_it() -> None:
    lock = concoord.Lock.remote()
    lock.__enter__()
    leaving = threading.Thread(target=lock.__exit__, args=(None, None, None))
    leaving.start()
    leaving.join(30)
    assert not lock.locked()
    with pytest.raises(RuntimeError, match="not entered"):
        lock.__exit__(None, None, None)

"""What a Ray task holds ends with the task, not with the worker that ran it, and no sooner."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.conftest import INIT_TIMEOUT_S
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray]

#: So long that no test waits for a lease to run out.
TTL_S = 600.0
WAIT_S = 60.0
#: Many times what it takes to see that a worker is idle.
LONG_S = 1.5


@pytest.fixture(scope="module")
def name(cluster: str) -> Iterator[str]:
    """An ensemble with leases that outlast every test."""
    yield concoord.init("tasks", acceptors=1, replicas=2, session_ttl_s=TTL_S, timeout_s=INIT_TIMEOUT_S).name
    concoord.shutdown("tasks")


def lock_in(name: str) -> Any:
    return concoord.Lock.options(ensemble=name).remote()


def test_a_thread_of_a_task_is_part_of_it(name: str) -> None:
    """To Ray each thread has a task id of its own: it is no other task, after which this one would be over."""

    @ray.remote
    def hold(mine: Handle[Any], its: Handle[Any], done: Handle[Any]) -> None:
        mine.acquire()
        thread = threading.Thread(target=its.acquire)
        thread.start()
        thread.join()
        assert done.wait(timeout=WAIT_S)

    mine, its, done = lock_in(name), lock_in(name), concoord.Event.options(ensemble=name).remote()
    holding = hold.remote(mine, its, done)
    until(its.locked)
    assert mine.acquire(timeout=LONG_S) is False
    assert its.acquire(blocking=False) is False
    done.set()
    ray.get(holding, timeout=WAIT_S)
    assert mine.acquire(timeout=WAIT_S) is True
    assert its.acquire(timeout=WAIT_S) is True


def test_a_task_whose_threads_alone_call_gives_back(name: str) -> None:
    @ray.remote
    def hold(lock: Handle[Any], done: Handle[Any]) -> None:
        def work() -> None:
            lock.acquire()
            assert done.wait(timeout=WAIT_S)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

    lock, done = lock_in(name), concoord.Event.options(ensemble=name).remote()
    holding = hold.remote(lock, done)
    until(lock.locked)
    assert lock.acquire(timeout=LONG_S) is False
    done.set()
    ray.get(holding, timeout=WAIT_S)
    assert lock.acquire(timeout=WAIT_S) is True


def test_a_thread_that_outlives_its_task_works_for_the_process_then(name: str, tmp_path: Path) -> None:
    @ray.remote
    def leave(lock: Handle[Any], path: Path) -> None:
        def work() -> None:
            until(path.exists)
            lock.acquire()

        threading.Thread(target=work, daemon=True).start()

    lock, path = lock_in(name), tmp_path / "go"
    ray.get(leave.remote(lock, path), timeout=WAIT_S)
    path.touch()
    until(lock.locked)
    assert lock.acquire(timeout=LONG_S) is False


def test_a_generator_keeps_what_it_holds_while_its_consumer_takes_its_time(name: str) -> None:
    """Its worker looks idle meanwhile: nothing of the task is on any stack."""
    options: dict[str, Any] = {"num_returns": "streaming", "_generator_backpressure_num_objects": 1}

    def count(lock: Handle[Any]) -> Iterator[int]:
        with lock:
            for number in range(3):  # noqa: UP028 (Ray sends into a generator, which "yield from" passes on)
                yield number
        lock.acquire()

    lock = lock_in(name)
    counting: Any = ray.remote(**options)(count).remote(lock)
    assert ray.get(next(counting), timeout=WAIT_S) == 0
    assert lock.acquire(timeout=LONG_S) is False
    assert [ray.get(ref, timeout=WAIT_S) for ref in counting] == [1, 2]
    assert lock.acquire(timeout=WAIT_S) is True


def test_a_task_that_is_run_again_does_not_own_what_it_held_before(name: str, tmp_path: Path) -> None:
    """Its id is the same, and often its worker too."""

    @ray.remote(max_retries=3, retry_exceptions=True)
    def enter(lock: Handle[Any], path: Path) -> int:
        assert lock.acquire(timeout=WAIT_S)
        if not path.exists():
            path.touch()
            raise ValueError
        depth: int = lock.inspect().holders[0].depth
        return depth

    lock = concoord.RLock.options(ensemble=name).remote()
    assert ray.get(enter.remote(lock, tmp_path / "ran"), timeout=WAIT_S) == 1


def test_a_worker_that_is_busy_with_another_task_has_ended_the_last_one(name: str, tmp_path: Path) -> None:
    """Though the other one has nothing to do with the ensemble."""

    @ray.remote(num_cpus=0.1)
    def forget(lock: Handle[Any]) -> int:
        lock.acquire()
        return os.getpid()

    @ray.remote(num_cpus=0.1)
    def work(path: Path) -> None:
        (path.parent / str(os.getpid())).touch()
        until(path.exists)

    lock, path = lock_in(name), tmp_path / "go"
    forgetting = forget.remote(lock)
    working: list[Any] = []
    try:
        pid = ray.get(forgetting, timeout=WAIT_S)
        while pid not in started(tmp_path):
            assert len(working) < 20, "no task came to the worker"
            working.append(work.remote(path))
            until(lambda: len(started(tmp_path)) == len(working))
        assert lock.acquire(timeout=WAIT_S) is True
    finally:
        path.touch()
        ray.get(working, timeout=WAIT_S)


def started(folder: Path) -> list[int]:
    """The workers that have left a note there."""
    return [int(note.name) for note in folder.glob("[0-9]*")]


def test_an_acquire_that_a_task_left_behind_is_given_back(name: str) -> None:
    @ray.remote
    def leave(lock: Handle[Any]) -> None:
        lock.acquire.remote()

    lock = lock_in(name)
    token = lock.acquire_fenced()
    ray.get(leave.remote(lock), timeout=WAIT_S)
    lock.release(token=token)
    assert lock.acquire(timeout=WAIT_S) is True

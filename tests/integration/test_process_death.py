"""A process that dies gives back what it held at once, when its node's gateway sees it die; so does a Ray task."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.conftest import INIT_TIMEOUT_S
from tests.integration.drivers import Drivers
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray]

#: So long that no test waits for a lease to run out.
TTL_S = 600.0
WAIT_S = 60.0


@pytest.fixture(scope="module")
def name(cluster: str) -> Any:
    """An ensemble with leases that outlast every test."""
    yield concoord.init("patient", acceptors=1, replicas=2, session_ttl_s=TTL_S, timeout_s=INIT_TIMEOUT_S).name
    concoord.shutdown("patient")


def lock_in(name: str) -> Any:
    return concoord.Lock.options(ensemble=name).remote()


def test_a_killed_driver_gives_back_at_once(name: str, drivers: Drivers) -> None:
    lock = concoord.Lock.options(name="held", ensemble=name).remote()
    holder = drivers.start(
        """
        import time
        lock = concoord.get("held", ensemble=name)
        print(lock.acquire(), flush=True)
        time.sleep(600)
        """,
        name=name,
    )
    assert holder.line() == "True"
    mine = lock.acquire.remote()
    assert ray.wait([mine], timeout=1)[0] == []
    holder.kill()
    assert ray.get(mine, timeout=WAIT_S) is True


def test_a_killed_actor_gives_back_and_waits_no_more(name: str) -> None:
    @ray.remote
    class Worker:
        def hold(self, lock: Handle[Any]) -> int:
            lock.acquire()
            return os.getpid()

        def wait(self, lock: Handle[Any]) -> None:
            lock.acquire()

    held, wanted = lock_in(name), lock_in(name)
    wanted.acquire()
    worker = Worker.remote()  # type: ignore[attr-defined]
    pid = ray.get(worker.hold.remote(held), timeout=WAIT_S)
    worker.wait.remote(wanted)
    until(lambda: len(wanted.inspect().waiting) == 1)
    os.kill(pid, signal.SIGKILL)
    assert held.acquire(timeout=WAIT_S) is True
    until(lambda: len(wanted.inspect().waiting) == 0)
    wanted.release()
    assert wanted.acquire(timeout=WAIT_S) is True


def test_a_gateway_that_was_killed_watches_again(name: str, drivers: Drivers) -> None:
    lock = concoord.Lock.options(name="held again", ensemble=name).remote()
    holder = drivers.start(
        """
        import time
        lock = concoord.get("held again", ensemble=name)
        print(lock.acquire(), flush=True)
        for _ in range(600):
            time.sleep(1)
        """,
        name=name,
    )
    assert holder.line() == "True"
    (gateway,) = until(lambda: [g for g in concoord.status(name).gateways if g.alive])
    assert gateway.pid is not None
    os.kill(gateway.pid, signal.SIGKILL)
    until(lambda: [g for g in concoord.status(name).gateways if g.alive and g.pid != gateway.pid])
    assert ray.get(lock.locked.remote(), timeout=WAIT_S) is True
    mine = lock.acquire.remote()
    assert ray.wait([mine], timeout=2)[0] == []  # Time for the holder to tell the new gateway who it is.
    holder.kill()
    assert ray.get(mine, timeout=WAIT_S) is True


def test_a_ray_task_that_ends_gives_back_what_it_held(name: str) -> None:
    @ray.remote
    def forget(lock: Handle[Any], semaphore: Handle[Any]) -> bool:
        return bool(lock.acquire() and ray.get(semaphore.acquire.remote()))

    lock, semaphore = lock_in(name), concoord.Semaphore.options(ensemble=name).remote(1)
    assert ray.get(forget.remote(lock, semaphore), timeout=WAIT_S) is True
    assert lock.acquire(timeout=WAIT_S) is True
    assert semaphore.acquire(timeout=WAIT_S) is True


def test_a_ray_task_keeps_what_it_holds_while_it_runs(name: str) -> None:
    @ray.remote
    def hold(lock: Handle[Any], go: Handle[Any]) -> bool:
        lock.acquire()
        ray.get(ray.remote(lambda: None).remote())  # Blocked in Ray's own code, a task still runs.
        assert go.wait(timeout=WAIT_S)
        return bool(lock.inspect().holders)

    lock, go = lock_in(name), concoord.Event.options(ensemble=name).remote()
    held = hold.remote(lock, go)
    until(lock.locked)
    assert lock.acquire(timeout=2) is False
    go.set()
    assert ray.get(held, timeout=WAIT_S) is True
    assert lock.acquire(timeout=WAIT_S) is True


def test_the_next_task_of_a_worker_does_not_own_what_the_last_one_held(name: str) -> None:
    @ray.remote
    def enter(lock: Handle[Any]) -> tuple[int, bool, int]:
        return os.getpid(), lock.acquire(timeout=WAIT_S), lock.inspect().holders[0].depth

    lock = concoord.RLock.options(ensemble=name).remote()
    for _ in range(4):
        _, entered, depth = ray.get(enter.remote(lock), timeout=WAIT_S)
        assert (entered, depth) == (True, 1)


def test_an_actor_keeps_what_it_holds_between_its_tasks(name: str) -> None:
    @ray.remote
    class Worker:
        def take(self, lock: Handle[Any]) -> bool:
            return bool(lock.acquire())

        def give(self, lock: Handle[Any]) -> None:
            lock.release()

    lock = concoord.RLock.options(ensemble=name).remote()
    worker = Worker.remote()  # type: ignore[attr-defined]
    assert ray.get(worker.take.remote(lock), timeout=WAIT_S)
    assert lock.acquire(timeout=2) is False
    ray.get(worker.give.remote(lock), timeout=WAIT_S)
    assert lock.acquire(timeout=WAIT_S) is True

"""What a process holds goes with it: at once if it ends well, within the session's TTL if it is killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from tests.integration.conftest import INIT_TIMEOUT_S
from tests.integration.drivers import Drivers
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray]

#: Long enough for a busy machine, short enough for a test.
TTL_S = 3.0

HOLD = """
import time
lock = concoord.get("lock", ensemble=name)
semaphore = concoord.get("semaphore", ensemble=name)
print(lock.acquire(), ray.get(semaphore.acquire.remote()), flush=True)
"""


@pytest.fixture(scope="module")
def short_lived(cluster: str) -> Iterator[str]:
    """An ensemble with short leases."""
    with contextlib.ExitStack() as started:
        started.callback(concoord.shutdown, "short-lived")
        settings: dict[str, Any] = {"acceptors": 1, "replicas": 2, "session_ttl_s": TTL_S, "timeout_s": INIT_TIMEOUT_S}
        yield concoord.init("short-lived", **settings).name


@pytest.fixture
def name(short_lived: str) -> Iterator[str]:
    """The ensemble, with a lock and a semaphore of one permit."""
    lock = concoord.Lock.options(name="lock", ensemble=short_lived).remote()
    semaphore = concoord.Semaphore.options(name="semaphore", ensemble=short_lived).remote(1)
    yield short_lived
    concoord.delete(lock)
    concoord.delete(semaphore)


def test_a_killed_process_loses_what_it_held(name: str, drivers: Drivers) -> None:
    holder = drivers.start(HOLD + "time.sleep(600)", name=name)
    assert holder.line() == "True True"
    lock, semaphore = concoord.get("lock", ensemble=name), concoord.get("semaphore", ensemble=name)
    waiting = [lock.acquire_fenced.remote(), semaphore.acquire.remote()]
    # As long as it lives it keeps what it holds, though it calls nothing for longer than its TTL.
    assert ray.wait(waiting, timeout=2 * TTL_S)[0] == []
    holder.kill()
    token, permit = ray.get(waiting, timeout=TTL_S + 30)
    assert token
    assert permit is True


def test_a_killed_process_waits_no_more(name: str, drivers: Drivers) -> None:
    """Its place in the queue is nobody's: the permit goes to the next one."""
    semaphore = concoord.get("semaphore", ensemble=name)
    assert semaphore.acquire()
    source = """
    semaphore = concoord.get("semaphore", ensemble=name)
    ref = semaphore.acquire.remote()
    print(ray.wait([ref], timeout=1)[0], flush=True)
    semaphore.acquire()
    """
    waiter = drivers.start(source, name=name)
    assert waiter.line() == "[]"
    mine = semaphore.acquire.remote()
    waiter.kill()
    assert ray.wait([mine], timeout=TTL_S + 5)[0] == []
    semaphore.release()
    assert ray.get(mine, timeout=30) is True


def test_a_clean_exit_gives_back_at_once(name: str, drivers: Drivers) -> None:
    """Before the process has ended, rather than by the judgement of a lease."""
    drivers.run(HOLD, name=name)
    assert concoord.get("lock", ensemble=name).acquire(blocking=False) is True
    assert concoord.get("semaphore", ensemble=name).acquire(blocking=False) is True


def test_an_exit_by_an_exception_gives_back_at_once(name: str, drivers: Drivers) -> None:
    holder = drivers.start(HOLD + "raise SystemExit(0)", name=name)
    holder.finish()
    assert concoord.get("lock", ensemble=name).acquire(blocking=False) is True


def test_ray_shutdown_gives_back(name: str, drivers: Drivers) -> None:
    holder = drivers.start(HOLD + "ray.shutdown()\nprint('shut', flush=True)\ntime.sleep(600)", name=name)
    assert holder.line() == "True True"
    assert holder.line() == "shut"
    assert concoord.get("lock", ensemble=name).acquire(timeout=TTL_S + 30) is True


def test_a_paused_process_is_told_that_its_session_is_over(name: str, drivers: Drivers) -> None:
    """It must not go on as if it still held the lock; told once, it may begin anew."""
    holder = drivers.start(
        HOLD
        + """
while not semaphore.acquire(blocking=False):
    time.sleep(0.1)
""",
        name=name,
    )
    assert holder.line() == "True True"
    os.kill(holder.pid, signal.SIGSTOP)
    token = concoord.get("lock", ensemble=name).acquire_fenced(timeout=TTL_S + 30)
    assert token
    os.kill(holder.pid, signal.SIGCONT)
    until(lambda: "SessionExpired" in holder.stderr())
    assert concoord.get("lock", ensemble=name).locked()


def test_after_an_expired_session_the_next_call_opens_another(name: str, drivers: Drivers) -> None:
    counter = concoord.Counter.options(name="counter", ensemble=name, get_if_exists=True).remote()
    holder = drivers.start(
        """
import time
counter = concoord.get("counter", ensemble=name)
print(counter.increment(), flush=True)
while True:
    try:
        counter.decrement(0)
    except concoord.SessionExpired as error:
        print("expired", flush=True)
        break
    time.sleep(0.05)
print(counter.increment(), ray.get(counter.increment.remote()))
""",
        name=name,
    )
    assert holder.line() == "1"
    semaphore = concoord.get("semaphore", ensemble=name)
    os.kill(holder.pid, signal.SIGSTOP)
    # Time for the lease to run out; the ensemble's own clock tells.
    assert semaphore.acquire()
    assert semaphore.acquire(timeout=2 * TTL_S) is False
    os.kill(holder.pid, signal.SIGCONT)
    assert holder.line() == "expired"
    assert holder.line() == "2 3"
    assert counter.getvalue() == 3
    holder.finish()


def test_a_live_holder_keeps_its_lease_through_changes_of_leader_and_long_holds_of_the_interpreter(
    name: str, drivers: Drivers
) -> None:
    """A new leader restarts the clock; and who is silent for less than the TTL, whenever that begins, is not judged."""
    holder = drivers.start(
        """
        import ctypes
        lock = concoord.get("lock", ensemble=name)
        token = lock.acquire_fenced()
        print("held", flush=True)
        for _ in range(3):
            ctypes.PyDLL(None).usleep(int(silent_s * 1e6))  # With the interpreter's lock, so no thread of ours runs.
            lock.locked()
        lock.release(token=token)
        print("released", flush=True)
        """,
        name=name,
        silent_s=0.9 * TTL_S,
    )
    assert holder.line() == "held"
    for _ in range(2):
        leader = until(lambda: concoord.status(name).leader)
        assert leader is not None
        assert leader.pid is not None
        os.kill(leader.pid, signal.SIGKILL)
        until(lambda pid=leader.pid: all(r.alive and r.pid != pid for r in concoord.status(name).replicas))  # type: ignore[misc]
    assert holder.line() == "released"
    holder.finish()

"""RWLock, CountDownLatch, Queue and Election over real Ray."""

from __future__ import annotations

import itertools
import queue
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.drivers import Drivers
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]
WAIT_S = 60.0


def test_readers_share_and_a_writer_waits_for_them() -> None:
    @ray.remote
    def write(lock: Handle[Any]) -> bool:
        taken: bool = lock.acquire_write()
        lock.release_write()
        return taken

    lock = concoord.RWLock.remote()
    assert lock.acquire_read()
    writer = write.remote(lock)
    until(lambda: len(lock.inspect().waiting) == 1)
    with pytest.raises(RuntimeError, match="release_read comes before acquire_write"):
        lock.acquire_write()
    lock.release_read()
    assert ray.get(writer, timeout=WAIT_S) is True
    with pytest.raises(RuntimeError, match="does not hold"):
        lock.release_write()


def test_a_latch_waits_for_tasks_of_other_processes() -> None:
    @ray.remote
    def work(latch: Handle[Any]) -> None:
        latch.count_down()

    latch = concoord.CountDownLatch.remote(3)
    opened = latch.wait.remote()
    ray.get([work.remote(latch) for _ in range(3)], timeout=WAIT_S)
    assert ray.get(opened, timeout=WAIT_S) is True
    assert latch.count() == 0


def test_every_item_of_a_queue_is_taken_once() -> None:
    @ray.remote
    def consume(jobs: Handle[Any], count: int) -> list[int]:
        return [jobs.get(timeout=WAIT_S) for _ in range(count)]

    jobs = concoord.Queue.remote(5)
    taken = [consume.remote(jobs, 20) for _ in range(3)]
    for item in range(60):
        jobs.put(item, timeout=WAIT_S)
    assert sorted(itertools.chain(*ray.get(taken, timeout=WAIT_S))) == list(range(60))
    with pytest.raises(queue.Empty):
        jobs.get_nowait()
    with pytest.raises(queue.Empty):
        ray.get(jobs.get.remote(timeout=0.05), timeout=WAIT_S)
    for item in range(5):
        jobs.put_nowait(item)
    with pytest.raises(queue.Full):
        jobs.put(6, timeout=0.05)
    assert (jobs.qsize(), jobs.full(), jobs.empty()) == (5, True, False)


def test_when_the_leader_is_killed_the_next_candidate_leads(drivers: Drivers) -> None:
    election = concoord.Election.options(name="scheduler", get_if_exists=True).remote()
    first = drivers.start(
        """
        import time
        print(concoord.get("scheduler").campaign(), flush=True)
        time.sleep(600)
        """
    )
    earlier = int(first.line())
    mine = election.campaign.remote()
    until(lambda: len(election.candidates()) == 1)
    first.kill()
    token = ray.get(mine, timeout=WAIT_S)
    assert token > earlier
    leader = election.leader()
    assert leader is not None
    assert leader.token == token
    election.resign(token)
    assert election.leader() is None


def test_what_is_an_attribute_in_threading_is_no_truth_value_here() -> None:
    barrier = concoord.Barrier.remote(2)
    with pytest.raises(TypeError, match="is a method: call it"):
        bool(barrier.broken)
    assert barrier.broken() is False

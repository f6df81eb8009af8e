"""Every role in turn is killed while calls run on all paths: all are answered, each took effect once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import EnsembleStatus, MemberStatus
from tests.integration.casualties import a_follower, a_voter, kill, leader, reborn, settled
from tests.integration.conftest import MakeEnsemble
from tests.integration.load import Load
from tests.sim.linearizability import assert_linearizable
from tests.sim.models import Counter

pytestmark = [pytest.mark.ray, pytest.mark.slow]

Victim = Callable[[EnsembleStatus], MemberStatus]

#: Whom to kill, and where in the status its successor appears.
VICTIMS: tuple[tuple[str, Victim], ...] = (
    ("replicas", leader),
    ("gateways", lambda status: status.gateways[0]),
    ("replicas", a_follower),
    ("registries", lambda status: status.registries[0]),
    ("acceptors", a_voter),
    ("replicas", leader),
)
CALLS_PER_PATH = 112


def test_two_thousand_calls_survive_the_death_of_each_role(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("each-role").name
    load = Load(concoord.Counter.options(name="counter", ensemble=name).remote(), "counter")
    for role, choose in VICTIMS:
        load.run(8, lambda: None)  # So that there is a gateway, and everybody has found everybody.
        status = concoord.status(name)
        victim = choose(status)

        def disturb(victim: MemberStatus = victim) -> None:
            kill(victim)

        load.run(CALLS_PER_PATH, disturb)
        reborn(name, role, victim)

    operations = load.operations()
    assert len(operations) >= 2000
    assert not any(operation.is_open for operation in operations)
    results = [operation.result for operation in operations if operation.op == "increment"]
    assert sorted(results) == list(range(1, load.increments + 1))
    assert concoord.get("counter", ensemble=name).getvalue() == load.increments
    assert_linearizable(operations, Counter())


def test_leader_and_a_follower_may_die_at_once(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("two-replicas").name
    load = Load(concoord.Counter.options(ensemble=name).remote(), "counter")
    load.run(8, lambda: None)

    def disturb() -> None:
        status = settled(name)
        kill(a_follower(status))
        kill(leader(status))

    load.run(60, disturb)
    results = [operation.result for operation in load.operations() if operation.op == "increment"]
    assert sorted(results) == list(range(1, load.increments + 1))
    assert_linearizable(load.operations(), Counter())


def test_a_restarted_replica_catches_up_and_can_lead(own_ensemble: MakeEnsemble) -> None:
    """Each replica is killed in turn, so that in the end only restarted ones are there to remember."""
    name = own_ensemble("all-replicas-anew", acceptors=1).name
    counter = concoord.Counter.options(name="c", ensemble=name).remote()
    calls = 0
    for index in range(3):
        for _ in range(20):
            calls += 1
            assert counter.increment() == calls
        status = settled(name)
        kill(status.replicas[index])
        reborn(name, "replicas", status.replicas[index])
        until_applied(name)
    assert counter.getvalue() == calls
    assert ray.get(counter.increment.remote(), timeout=60) == calls + 1


def until_applied(name: str) -> None:
    """Wait until every replica has applied what the leader has."""
    for _ in range(600):
        status = settled(name)
        if len({replica.applied_slot for replica in status.replicas}) == 1:
            return
        time.sleep(0.05)
    raise AssertionError(f"the replicas do not agree: {concoord.status(name).replicas}")


def test_parked_calls_survive_leader_and_gateway_and_keep_their_order(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("parked").name
    semaphore = concoord.Semaphore.options(ensemble=name).remote(0)
    parked = [semaphore.acquire.remote() for _ in range(30)]
    assert ray.wait(parked, timeout=0.5)[0] == []

    def answered_in_order(first: int) -> None:
        for n in range(first, first + 10):
            semaphore.release()
            assert ray.wait(parked[n:], timeout=60)[0] == [parked[n]]
            assert ray.get(parked[n], timeout=1) is True

    answered_in_order(0)
    status = settled(name)
    kill(leader(status))
    answered_in_order(10)
    reborn(name, "replicas", leader(status))
    status = settled(name)
    kill(status.gateways[0])
    kill(leader(status))
    answered_in_order(20)


def test_blocked_and_awaited_acquires_survive_the_leader_too(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("blocked").name
    semaphore = concoord.Semaphore.options(ensemble=name).remote(0)
    status = settled(name)

    async def both() -> list[bool]:
        waiting = [asyncio.create_task(semaphore.acquire.aio()) for _ in range(5)]
        await asyncio.sleep(0.3)
        kill(leader(status))
        await semaphore.release.aio(10)
        return list(await asyncio.wait_for(asyncio.gather(*waiting), 60))

    with ThreadPoolExecutor(5) as pool:
        blocked = [pool.submit(semaphore.acquire) for _ in range(5)]
        assert asyncio.run(both()) == [True] * 5
        assert [each.result(60) for each in blocked] == [True] * 5


def test_a_gateways_next_life_is_not_held_up_by_the_calls_that_had_ended(own_ensemble: MakeEnsemble) -> None:
    """Every second call of the session has ended; the others are run again, and a new one does not wait for gaps."""
    name = own_ensemble("gaps", acceptors=1, replicas=1).name
    semaphore = concoord.Semaphore.options(ensemble=name).remote(0)
    counter = concoord.Counter.options(ensemble=name).remote()
    parked, ended = [], []
    for _ in range(300):
        parked.append(semaphore.acquire.remote())
        ended.append(counter.increment.remote())
    assert ray.get(ended, timeout=60) == list(range(1, 301))
    kill(settled(name).gateways[0])
    assert ray.get(counter.increment.remote(), timeout=30) == 301
    semaphore.release(300)
    assert ray.get(parked, timeout=30) == [True] * 300

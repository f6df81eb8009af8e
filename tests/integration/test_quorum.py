"""Lost majorities: two acceptors that lost their memory at once are not made up for, and there is no silence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from tests.integration.casualties import a_voter, kill, leader, reborn, settled
from tests.integration.conftest import MakeEnsemble
from tests.integration.samples import Tally
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_a_lost_majority_is_said_and_never_made_up_for(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("majority", quorum_timeout_s=3).name
    tally = Tally.options(name="t", ensemble=name).remote()
    assert ray.get(tally.increment.remote()) == 1

    first, second = [acceptor for acceptor in settled(name).acceptors if acceptor.in_view][:2]
    kill(first)
    kill(second)
    # Soon three acceptors are alive again, and two of them know nothing. No leader may take them for a majority.
    for error in errors_of(calls_of(tally)):
        assert isinstance(error, (concoord.QuorumLost, concoord.OutcomeUnknown))
        assert "concoord.status" in str(error)
    for lost in (first, second):
        again = reborn(name, "acceptors", lost)
        assert again.alive
        assert not again.in_view
    status = concoord.status(name)
    assert not status.has_quorum
    assert status.leader is None
    assert [acceptor.alive for acceptor in status.acceptors] == [True] * 3
    assert sum(acceptor.in_view for acceptor in status.acceptors) == 1
    # What was never sent anywhere is told to be safe to retry.
    looks = [lambda: concoord.get("t", ensemble=name), lambda: concoord.list_objects(ensemble=name)]
    for error in errors_of([*calls_of(tally), *looks]):
        assert isinstance(error, concoord.QuorumLost)
        assert "retry" in str(error)


def calls_of(tally: concoord.Handle[Any]) -> list[Callable[[], Any]]:
    """Writes and reads on every path."""
    return [
        tally.increment,
        tally.get,
        lambda: ray.get(tally.increment.remote(), timeout=60),
        lambda: ray.get(tally.get.remote(), timeout=60),
        lambda: asyncio.run(tally.increment.aio()),
        lambda: asyncio.run(tally.get.aio()),
    ]


def errors_of(calls: list[Callable[[], Any]]) -> list[BaseException | None]:
    """What each call raises, all made at once."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [each.exception(timeout=60) for each in [pool.submit(call) for call in calls]]


def test_a_parked_call_is_told_of_a_lost_majority(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("parked-lost", acceptors=1, replicas=2, quorum_timeout_s=3).name
    semaphore = concoord.Semaphore.options(ensemble=name).remote(0)
    parked = semaphore.acquire.remote()
    assert ray.wait([parked], timeout=0.5)[0] == []
    kill(a_voter(settled(name)))
    with pytest.raises(concoord.OutcomeUnknown):
        ray.get(parked, timeout=60)


def test_status_works_while_members_are_dead(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("status", replicas=2).name
    Tally.options(ensemble=name).remote().increment()
    healthy = settled(name)
    assert (healthy.name, healthy.epoch) == (name, 0)
    assert healthy.leader in healthy.replicas
    for role in ("replicas", "acceptors", "registries", "gateways"):
        members = getattr(healthy, role)
        assert [member.role for member in members] == [role.removesuffix("s").replace("rie", "ry")] * len(members)
        for member in members:
            assert member.alive
            assert member.pid
            assert member.node_id == ray.get_runtime_context().get_node_id()
            assert member.address is not None
    assert [member.index for member in healthy.acceptors] == [0, 1, 2]
    until(lambda: all(replica.applied_slot for replica in concoord.status(name).replicas))

    old = leader(healthy)
    kill(old)
    kill(healthy.registries[0])

    def someone_else_leads() -> bool:
        status = concoord.status(name)
        return status.leader is not None and status.leader.incarnation != old.incarnation

    until(someone_else_leads)
    settled(name)

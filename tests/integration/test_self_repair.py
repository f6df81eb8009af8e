"""Whoever dies is replaced with no human, and the ensemble changes its size while it is in use."""

from __future__ import annotations

import os
import signal

import pytest

import concoord_ray as concoord
from concoord_ray import ConfigurationError, resizing
from tests.integration.casualties import a_follower, a_voter, kill, leader, reborn, strong
from tests.integration.conftest import MakeEnsemble
from tests.integration.load import Load
from tests.integration.waiting import until
from tests.sim.linearizability import assert_linearizable
from tests.sim.models import Counter

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]


def test_every_acceptor_may_die_one_after_the_other(own_ensemble: MakeEnsemble) -> None:
    """In memory, each comes back as somebody else: after three view changes no acceptor is left of the first view."""
    name = own_ensemble("all-acceptors-anew").name
    load = Load(concoord.Counter.options(ensemble=name).remote(), "counter")
    for index in range(3):
        old = strong(name).acceptors[index]
        load.run(8, lambda old=old: kill(old))
        new = reborn(name, "acceptors", old)
        status = strong(name)
        assert status.epoch == index + 1
        assert status.acceptors[index].incarnation == new.incarnation
    assert_linearizable(load.operations(), Counter())
    results = [operation.result for operation in load.operations() if operation.op == "increment"]
    assert sorted(results) == list(range(1, load.increments + 1))


def test_an_acceptor_that_still_answers_is_not_replaced(own_ensemble: MakeEnsemble) -> None:
    """A pause is no death: without another life at its index there is nobody to take its place."""
    name = own_ensemble("paused").name
    counter = concoord.Counter.options(ensemble=name).remote()
    paused = a_voter(strong(name))
    assert paused.pid is not None
    os.kill(paused.pid, signal.SIGSTOP)
    try:
        assert [counter.increment() for _ in range(50)] == list(range(1, 51))
    finally:
        os.kill(paused.pid, signal.SIGCONT)
    status = strong(name)
    assert status.epoch == 0
    assert status.acceptors[paused.index].incarnation == paused.incarnation


def test_a_replica_that_missed_more_than_the_log_keeps_gets_a_snapshot(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("truncated", truncate_slots=20).name
    counter = concoord.Counter.options(name="c", ensemble=name).remote()
    lock = concoord.Lock.options(name="l", ensemble=name).remote()
    token = lock.acquire()
    assert token
    for _ in range(200):
        counter.increment()
    for victim in ("follower", "leader", "follower"):
        status = strong(name)
        old = leader(status) if victim == "leader" else a_follower(status)
        kill(old)
        reborn(name, "replicas", old)

        def is_level() -> bool:
            return len({replica.applied_slot for replica in strong(name).replicas}) == 1

        until(is_level)
    # By now two of three replicas, and with them the leader, know all of it from snapshots.
    assert counter.getvalue() == 200
    assert lock.locked()
    lock.release()
    assert counter.increment() == 201


def test_an_ensemble_grows_and_shrinks_while_it_is_used(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble("resized")
    counter = concoord.Counter.options(ensemble=ensemble.name).remote()
    load = Load(counter, "counter")
    load.run(40, lambda: ensemble.resize(acceptors=5))
    status = strong(ensemble.name)
    assert [acceptor.index for acceptor in status.acceptors] == [0, 1, 2, 3, 4]
    for acceptor in status.acceptors[:2]:  # Two of five may die now.
        kill(acceptor)
    load.run(8, lambda: None)
    strong(ensemble.name)
    load.run(40, lambda: ensemble.resize(acceptors=1, replicas=2))
    status = strong(ensemble.name)
    assert (len(status.acceptors), len(status.replicas)) == (1, 2)
    assert_linearizable(load.operations(), Counter())
    assert counter.getvalue() == load.increments


def test_what_was_being_made_smaller_stays_so_when_the_other_number_changes(
    own_ensemble: MakeEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever resized it has not seen the end: there are still the actors of the larger ensemble."""
    ensemble = own_ensemble("resized-twice", acceptors=3, replicas=1)
    with monkeypatch.context() as patched:
        patched.setattr(resizing, "is_reached", lambda *_: False)
        with pytest.raises(concoord.CallTimeout):
            ensemble.resize(acceptors=1, timeout_s=3.0)
    assert len(ensemble.status().acceptors) == 3
    status = ensemble.resize(replicas=2)
    assert (len(status.acceptors), len(status.replicas), status.voters) == (1, 2, 1)


def test_a_size_that_cannot_be_is_refused(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble("refused", acceptors=1, replicas=1)
    with pytest.raises(ConfigurationError, match="resize"):
        ensemble.resize(acceptors=0)
    assert len(ensemble.status().acceptors) == 1

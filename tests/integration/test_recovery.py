"""A majority lost for good: nothing starts over by itself, and ``recover`` begins again from what is left."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest
import ray

import concoord_ray as concoord
from concoord_ray.cli.status import as_table
from tests.integration.casualties import kill, settled, strong
from tests.integration.conftest import MakeEnsemble
from tests.integration.drivers import Drivers
from tests.integration.waiting import PATIENCE_S, until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]


def test_an_ensemble_without_a_majority_begins_again_from_a_replica(
    own_ensemble: MakeEnsemble, caplog: pytest.LogCaptureFixture
) -> None:
    old = own_ensemble("recovered", session_ttl_s=3.0, quorum_timeout_s=2.0)
    counter = concoord.Counter.options(name="c", ensemble=old.name).remote(0)
    lock = concoord.Lock.options(name="l", ensemble=old.name).remote()
    token = lock.acquire_fenced()
    for _ in range(20):
        counter.increment()
    with pytest.raises(concoord.ConfigurationError, match="nothing to recover"):
        concoord.recover(old.name)
    until(lambda: len({replica.applied_slot for replica in settled(old.name).replicas}) == 1)
    for acceptor in settled(old.name).acceptors[:2]:
        kill(acceptor)
    with pytest.raises((concoord.QuorumLost, concoord.OutcomeUnknown)):
        counter.increment()
    until(lambda: not concoord.status(old.name).has_quorum)
    with caplog.at_level(logging.WARNING):
        new = concoord.recover(old.name)
    assert "whatever was acknowledged after that is lost" in caplog.text
    assert new.id != old.id
    with pytest.raises(concoord.NoSuchObject):
        counter.getvalue()
    again = concoord.get("c", ensemble=new.name)
    assert again.getvalue() in (20, 21)  # The call that failed may have been applied.
    # Who held the lock is of an ensemble that is no more.
    now = concoord.get("l", ensemble=new.name).acquire_fenced(timeout=30)
    assert now > token + (1 << 39)
    strong(new.name)
    assert new.resize(acceptors=4).epoch >= 1


def test_remote_calls_that_are_pending_are_told_what_is_known_of_them(own_ensemble: MakeEnsemble) -> None:
    old = own_ensemble("told", quorum_timeout_s=60.0)
    counter = concoord.Counter.options(name="c", ensemble=old.name).remote(0)
    semaphore = concoord.Semaphore.options(ensemble=old.name).remote(0)
    lock = concoord.Lock.options(ensemble=old.name).remote()
    assert lock.acquire()
    parked, lost = [semaphore.acquire.remote() for _ in range(500)], lock.lost.remote()
    until(lambda: len(semaphore.inspect().waiting) == len(parked) and lock.inspect().awaiting_loss)
    for acceptor in settled(old.name).acceptors[:2]:
        kill(acceptor)
    until(lambda: concoord.status(old.name).leader is None)
    unsent = [counter.increment.remote() for _ in range(10)]
    read = counter.getvalue.remote()
    assert ray.wait([*parked, lost, *unsent, read], timeout=2.0)[0] == []
    concoord.recover(old.name)
    for ref in parked:
        with pytest.raises(concoord.OutcomeUnknown, match=r"concoord\.get"):
            ray.get(ref, timeout=PATIENCE_S)
    for unmade in (*unsent, read):
        with pytest.raises(concoord.NoSuchObject, match=r"concoord\.get"):
            ray.get(unmade, timeout=PATIENCE_S)
    assert ray.get(lost, timeout=PATIENCE_S) is True
    assert concoord.get("c", ensemble=old.name).increment() == 1


def test_an_ensemble_begins_again_from_a_backup(own_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    old = own_ensemble("restored", acceptors=1, replicas=2)
    counter = concoord.Counter.options(name="c", ensemble=old.name).remote(0)
    concoord.Lock.options(name="l", ensemble=old.name).remote()
    assert counter.increment() == 1
    concoord.backup(tmp_path / "backup", old.name)
    assert counter.increment() == 2
    concoord.shutdown(old.name)
    with pytest.raises(concoord.ConfigurationError, match="source="):
        concoord.recover(old.name)
    new = concoord.recover(old.name, source=tmp_path / "backup", acceptors=1, replicas=3)
    again = concoord.get("c", ensemble=new.name)
    assert again.increment() == 2
    kill(strong(new.name).replicas[0])
    assert again.increment() == 3
    strong(new.name)
    token = concoord.get("l", ensemble=new.name).acquire_fenced()
    assert token < 1 << 63
    concoord.shutdown(old.name)  # Of what came of the backup nothing is left, as when Ray is started anew.
    concoord.recover(old.name, source=tmp_path / "backup", acceptors=1, replicas=1)
    assert concoord.get("l", ensemble=new.name).acquire_fenced() > token


def test_going_back_to_a_backup_says_how_much_is_undone(
    own_ensemble: MakeEnsemble, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old = own_ensemble("undone", acceptors=1, replicas=1)
    counter = concoord.Counter.options(name="c", ensemble=old.name).remote(0)
    assert counter.increment() == 1
    slot = concoord.backup(tmp_path / "backup", old.name)
    for _ in range(10):
        counter.increment()
    reached = old.status().replicas[0].applied_slot
    assert reached is not None
    with pytest.raises(concoord.ConfigurationError, match="no such file"):
        concoord.recover(old.name, source=tmp_path / "nothing")
    assert old.status().is_healthy
    with caplog.at_level(logging.WARNING):
        new = concoord.recover(old.name, source=tmp_path / "backup")
    assert f"{reached - slot} slots further, at slot {reached}" in caplog.text
    assert concoord.get("c", ensemble=new.name).getvalue() == 1


def test_a_recovery_that_was_cut_short_is_done_again_and_nobody_begins_an_empty_ensemble_meanwhile(
    own_ensemble: MakeEnsemble, drivers: Drivers, tmp_path: Path
) -> None:
    old = own_ensemble("cut-short", acceptors=1, replicas=1, storage=str(tmp_path))
    counter = concoord.Counter.options(name="c", ensemble=old.name).remote(0)
    assert counter.increment() == 1
    concoord.backup(tmp_path / "backup", old.name)
    kill(settled(old.name).acceptors[0])
    recovering = drivers.start(
        """
        import os
        from concoord_ray import actors
        actors_seed = actors.seed

        def seed_and_die(*args):
            actors_seed(*args)
            print("dies", flush=True)
            os._exit(9)

        actors.seed = seed_and_die
        concoord.recover(name, source=backup)
        """,
        name=old.name,
        backup=str(tmp_path / "backup"),
    )
    assert recovering.line() == "dies"
    with pytest.raises(concoord.ConfigurationError, match=r"recovery.*not ended.*source="):
        concoord.init(old.name, timeout_s=1.0)
    # Of the seeds that are left on the disk no later start takes notice.
    concoord.shutdown(old.name)
    again = own_ensemble(old.name, storage=str(tmp_path))
    assert again.id == old.id
    assert concoord.get("c", ensemble=old.name).getvalue() == 1


class ClockState:
    """Not the same on any two replicas."""

    def __init__(self) -> None:
        self.at_ns = 0

    def look(self) -> None:
        self.at_ns = time.time_ns()


def test_a_diverged_ensemble_says_so_and_is_recovered_from_a_backup_alone(
    own_ensemble: MakeEnsemble, tmp_path: Path
) -> None:
    ensemble = own_ensemble("diverged", acceptors=1, replicas=2, checkpoint_interval_slots=20)
    concoord.Counter.options(name="c", ensemble=ensemble.name).remote(5)
    concoord.backup(tmp_path / "backup", ensemble.name)
    clock = concoord.replicated(determinism="ignore")(ClockState).options(ensemble=ensemble.name).remote()
    with pytest.raises(concoord.Diverged):
        [clock.look() for _ in range(1000)]
    until(lambda: concoord.status(ensemble.name).has_diverged)
    status = concoord.status(ensemble.name)
    assert not status.is_healthy
    (said, *_) = [replica.fault for replica in status.replicas if replica.fault is not None]
    assert "ClockState" in said
    assert "HAVE DIVERGED" in as_table(status)
    with pytest.raises(concoord.ConfigurationError, match=r"diverged.*source=.*ClockState"):
        concoord.recover(ensemble.name)
    new = concoord.recover(ensemble.name, source=tmp_path / "backup")
    assert new.status().is_healthy
    assert concoord.get("c", ensemble=new.name).getvalue() == 5

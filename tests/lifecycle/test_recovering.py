"""An ensemble begins again from what is left, whoever is in the way, and wherever it is cut short."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from concoord_ray import ensemble, genesis, recovery
from concoord_ray.config import Config
from concoord_ray.errors import CallTimeout, ConfigurationError
from concoord_ray.genesis import Plan, Rescued
from concoord_ray.paxos.view import Role, View
from concoord_ray.rsm.snapshot import header
from concoord_ray.status import EnsembleStatus
from concoord_ray.storage.snapshots import read_file, write_file
from tests.lifecycle.conftest import Cluster, Elsewhere, Stop, state

OLD = "e" * 32


class Died(BaseException):
    """The process is no more."""


def die() -> None:
    raise Died


def fail() -> None:
    raise ConfigurationError("No room")


@pytest.fixture
def lost(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cluster:
    """The only ensemble has lost its majority, and two of its replicas know its state."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    plan = Plan("here", OLD, b"s" * 32, Config())
    assert genesis.propose_plan(plan, genesis.find_holder("here"))
    ensemble.init("here")
    cluster.replicas.update({(OLD, 0): 480, (OLD, 1): 500})
    return cluster


def holder() -> Plan:
    plan = genesis.find_plan("here")
    assert plan is not None
    return plan


def begins_at(cluster: Cluster) -> int:
    """The slot where the ensemble that holds the name begins, by its view and by what its replicas were given."""
    view = genesis.find_view(holder())
    assert view is not None
    assert header(cluster.seeds[holder().ensemble]).next_slot == view.first_slot
    return view.first_slot


def recover_and_die(cluster: Cluster, point: str) -> None:
    """A process recovers it, and dies when it has come so far."""
    cluster.at(point, die)
    with pytest.raises(Died):
        recovery.recover("here")


def kept() -> Rescued:
    """Where the state is kept that a recovery had, which has not come to its end."""
    rescued = holder().rescued
    assert rescued is not None
    return rescued


def test_it_begins_where_the_furthest_replica_was(lost: Cluster, tmp_path: Path) -> None:
    new = recovery.recover("here")
    assert new.id == holder().ensemble != OLD
    assert begins_at(lost) == 500
    assert lost.lives_of("here") == {holder().life}
    assert list(tmp_path.iterdir()) == []


def test_who_calls_init_meanwhile_waits_for_it(lost: Cluster) -> None:
    seeding = Stop()
    lost.at("seed", seeding)
    recovering = Elsewhere(lambda: recovery.recover("here"))
    seeding.wait()
    with pytest.raises(ConfigurationError, match=r"recovery.*not ended.*concoord\.recover\('here'\)"):
        ensemble.init("here", timeout_s=0.0)
    waiting = Elsewhere(lambda: ensemble.init("here"))
    seeding.go_on()
    recovering.join()
    waiting.join()
    assert begins_at(lost) == 500


def test_between_the_old_ensemble_and_the_new_nobody_begins_another(lost: Cluster) -> None:
    """Also who has waited for the end of the old one."""
    leaving = Stop()
    lost.at("leave", leaving)
    recovering = Elsewhere(lambda: recovery.recover("here"))
    leaving.wait()
    waiting = Elsewhere(lambda: ensemble.init("here"))
    leaving.go_on()
    recovering.join()
    waiting.join()
    assert begins_at(lost) == 500


@pytest.mark.parametrize("point", ["leave", "start", "started", "seed", "seeded"])
def test_wherever_it_is_cut_short_it_can_be_done_again(lost: Cluster, point: str, tmp_path: Path) -> None:
    recover_and_die(lost, point)
    with pytest.raises(ConfigurationError):
        ensemble.init("here", timeout_s=0.0)
    recovery.recover("here")
    assert begins_at(lost) == 500
    assert lost.lives_of("here") == {holder().life}
    assert list(tmp_path.iterdir()) == []


def test_if_it_fails_the_error_says_where_the_state_is(lost: Cluster) -> None:
    lost.at("seed", fail)
    with pytest.raises(ConfigurationError, match=r"No room.*is kept in (\S+) on .*concoord\.recover") as raised:
        recovery.recover("here")
    rescued = kept()
    assert str(rescued) in str(raised.value)
    assert header(read_file(Path(rescued.path))[1]).next_slot == 500
    with pytest.raises(ConfigurationError, match=rescued.path):
        ensemble.init("here", timeout_s=0.0)


def test_who_finds_the_old_ensemble_half_stopped_is_told_where_its_state_is(lost: Cluster) -> None:
    """To shut it down, as is right otherwise, would be to lose it."""
    recover_and_die(lost, "leave")
    rescued = kept()
    with pytest.raises(ConfigurationError, match=rf"{rescued.path}.*concoord\.recover\('here'\)"):
        ensemble.init("here", timeout_s=0.0)


def test_an_ensemble_that_is_well_again_when_it_is_half_stopped_can_be_recovered(
    lost: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    recover_and_die(lost, "leave")
    monkeypatch.setattr(EnsembleStatus, "is_healthy", property(lambda _: True))
    recovery.recover("here")
    assert begins_at(lost) == 500
    with pytest.raises(ConfigurationError, match="nothing to recover"):
        recovery.recover("here")


def test_who_shuts_it_down_instead_is_told_which_file_nothing_refers_to_any_more(
    lost: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    recover_and_die(lost, "leave")
    rescued = kept()
    caplog.clear()
    ensemble.shutdown("here")
    assert rescued.path in caplog.text
    recovery.recover("here", source=rescued.path)
    assert begins_at(lost) == 500


def test_the_state_is_kept_on_a_disk_of_the_ensemble_if_there_is_one_here(cluster: Cluster, tmp_path: Path) -> None:
    plan = Plan("here", OLD, b"s" * 32, Config(storage=str(tmp_path)))
    rescued = recovery._rescue(plan, state(OLD, 7))
    assert Path(rescued.path).is_relative_to(tmp_path / "here")
    assert Path(rescued.path).parent.stat().st_mode & 0o777 == 0o700
    recovery._discard(rescued)
    assert list((tmp_path / "here").iterdir()) == []


def test_a_state_on_another_machine_is_asked_for(lost: Cluster) -> None:
    recover_and_die(lost, "seed")
    rescued = kept()
    Path(rescued.path).unlink()
    with pytest.raises(ConfigurationError, match=rf"{rescued.path} on \S+, which is not on this machine.*source="):
        recovery.recover("here")


def test_of_two_recoveries_the_later_wins(lost: Cluster) -> None:
    seeding = Stop()
    lost.at("seed", seeding)
    first = Elsewhere(lambda: recovery.recover("here"))
    seeding.wait()
    second = recovery.recover("here")
    seeding.go_on()
    with pytest.raises(ConfigurationError, match="was stopped while it was starting"):
        first.join()
    assert holder().ensemble == second.id
    assert begins_at(lost) == 500
    assert lost.lives_of("here") == {holder().life}


def test_from_a_backup_it_is_cut_short_and_done_again(lost: Cluster, tmp_path: Path) -> None:
    write_file(tmp_path / "backup", state(OLD, 300), ensemble=OLD, slot=300)
    lost.at("seed", die)
    with pytest.raises(Died):
        recovery.recover("here", source=tmp_path / "backup")
    with pytest.raises(ConfigurationError, match="source="):
        ensemble.init("here", timeout_s=0.0)
    with pytest.raises(ConfigurationError, match=r"from a backup.*source="):
        recovery.recover("here")
    recovery.recover("here", source=tmp_path / "backup")
    assert begins_at(lost) == 300


def test_what_was_begun_by_others_is_noticed(lost: Cluster) -> None:
    view = genesis.find_view(holder())
    assert view is not None

    def begin(other: View = view) -> None:
        genesis.propose_view(holder(), other)

    lost.at("seeded", begin)
    with pytest.raises(ConfigurationError, match="begun by somebody else, at slot 0, not 500"):
        recovery.recover("here")


def test_of_replicas_that_have_left_the_furthest_counts(lost: Cluster) -> None:
    lost.replicas.update({(OLD, 0): 510, (OLD, 1): 500, (OLD, 2): 530})
    lost.left.update({(OLD, 0): "a slot that kills", (OLD, 2): "a slot that kills"})
    recovery.recover("here")
    assert begins_at(lost) == 530


def test_one_that_has_left_and_was_behind_does_not_count(lost: Cluster) -> None:
    lost.replicas[OLD, 0] = 400
    lost.left[OLD, 0] = "its disk"
    recovery.recover("here")
    assert begins_at(lost) == 500


def test_if_the_furthest_does_not_answer_the_next_is_asked(lost: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    lost.silent.add(1)
    with caplog.at_level(logging.WARNING):
        recovery.recover("here")
    assert begins_at(lost) == 480
    assert "replica 1 of 'here', at slot 500, gives no state" in caplog.text


def test_if_none_answers_the_ensemble_stays_and_it_is_said(lost: Cluster) -> None:
    lost.silent.update({0, 1})
    with pytest.raises(CallTimeout, match=r"No replica of 'here'.*source=.*replica 1: .*replica 0: "):
        recovery.recover("here")
    assert holder().ensemble == OLD
    assert genesis.is_running(holder())


def test_what_it_was_recovered_from_is_forgotten_once_it_runs(lost: Cluster) -> None:
    recovery.recover("here")
    assert holder().generation
    assert holder().rescued is None


def test_an_old_ensemble_that_is_half_stopped_says_where_its_state_is(lost: Cluster) -> None:
    """The furthest replica was the first to be stopped."""
    recover_and_die(lost, "leave")
    assert holder().ensemble == OLD
    lost.running.discard(holder().actor_name(Role.REPLICA, 1))
    recovery.recover("here")
    assert begins_at(lost) == 500

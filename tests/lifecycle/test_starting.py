"""Several processes start an ensemble at once; some are slow, some give up, some die."""

from __future__ import annotations

import time
from typing import Any

import pytest

from concoord_ray import actors, building, ensemble, genesis, restart
from concoord_ray.config import Config
from concoord_ray.errors import ConfigurationError
from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.restart import Found
from tests.lifecycle.conftest import PATIENCE_S, Cluster, Elsewhere, Stop


class Interrupted(BaseException):
    """As by Ctrl-C."""


def interrupt() -> None:
    raise Interrupted


def cannot_be_placed() -> None:
    raise ConfigurationError("Ray could not place them")


@pytest.fixture
def durable(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data of an ensemble of three acceptors and three replicas are on the disks."""

    def ask(*_: Any) -> list[Any]:
        cluster.reach("survey")
        return []

    def judge(*_: Any) -> tuple[Found, str]:
        plan = Plan("here", "e" * 32, b"s" * 32, Config(storage="/x"))
        return Found(plan, View(0, (Member(Role.ACCEPTOR, 0, 1),), (0,), 0), {0: "n"}, Size(3, 3)), ""

    monkeypatch.setattr(restart, "_ask_nodes", ask)
    monkeypatch.setattr(restart, "judge", judge)


def test_a_start_that_fails_leaves_nothing(cluster: Cluster) -> None:
    cluster.at("started", cannot_be_placed)
    with pytest.raises(ConfigurationError, match="could not place"):
        ensemble.init("here")
    assert not cluster.running
    assert genesis.find_plan("here") is None


def test_who_helped_with_a_start_that_was_given_up_stops_what_he_started(cluster: Cluster) -> None:
    helping, placing = Stop(), Stop()
    cluster.at("start", placing)
    first = Elsewhere(lambda: ensemble.init("here"))
    placing.wait()
    cluster.at("start", helping)
    second = Elsewhere(lambda: ensemble.init("here"))
    helping.wait()
    cluster.at("started", cannot_be_placed)
    placing.go_on()
    with pytest.raises(ConfigurationError, match="could not place"):
        first.join()
    helping.go_on()
    with pytest.raises(ConfigurationError, match="has given up"):
        second.join()
    assert not cluster.running
    assert ensemble.init("here").status().id


def test_who_gives_up_leaves_alone_what_others_have_finished(cluster: Cluster) -> None:
    first_is_placing = Stop()
    cluster.at("start", first_is_placing)
    first = Elsewhere(lambda: ensemble.init("here"))
    first_is_placing.wait()
    second = ensemble.init("here")
    cluster.at("started", interrupt)
    first_is_placing.go_on()
    with pytest.raises(Interrupted):
        first.join()
    assert cluster.running
    assert ensemble.init("here").id == second.id


def test_who_helps_with_a_start_hears_at_once_that_it_is_given_up(cluster: Cluster) -> None:
    def shut_down() -> None:
        assert genesis.find_plan("here") is not None
        ensemble.shutdown("here")

    cluster.at("started", shut_down)
    began_s = time.monotonic()
    with pytest.raises(ConfigurationError, match="was stopped while it was starting"):
        ensemble.init("here", timeout_s=PATIENCE_S)
    assert time.monotonic() - began_s < PATIENCE_S / 2
    assert not cluster.running


def test_who_waits_for_a_place_hears_at_once_that_the_start_is_given_up(cluster: Cluster) -> None:
    plan = Plan("here", "e" * 32, b"s" * 32, Config())
    assert genesis.propose_plan(plan, genesis.find_holder("here"))

    class Group:
        """Has no place; meanwhile the ensemble is shut down."""

        waits = 0

        def wait(self, timeout_s: float) -> bool:
            self.waits += 1
            assert timeout_s < PATIENCE_S / 2
            ensemble.shutdown("here")
            return False

    group: Any = Group()
    with pytest.raises(ConfigurationError, match="was stopped while it was starting"):
        building._await_group(plan, group, time.monotonic() + PATIENCE_S)
    assert group.waits == 1


def test_a_start_that_was_left_half_way_is_finished_by_the_next(cluster: Cluster) -> None:
    plan = Plan("here", "e" * 32, b"s" * 32, Config())
    assert genesis.propose_plan(plan, genesis.find_holder("here"))
    assert ensemble.init("here").id == plan.ensemble
    assert genesis.is_running(plan)


def test_who_is_slow_to_see_that_his_start_has_begun_leaves_it_as_it_is(cluster: Cluster) -> None:
    """Others have finished it meanwhile."""
    finished: list[ensemble.Ensemble] = []
    put = cluster.store._internal_kv_put

    def slowly(key: bytes, value: bytes, *, overwrite: bool, namespace: bytes) -> bool:
        existed = put(key, value, overwrite=overwrite, namespace=namespace)
        cluster.reach("put")
        return existed

    cluster.store._internal_kv_put = slowly  # type: ignore[method-assign]
    cluster.at("put", lambda: finished.append(ensemble.init("here")))
    mine = ensemble.init("here")
    assert finished[0].id == mine.id
    plan = genesis.find_plan("here")
    assert plan is not None
    assert genesis.is_running(plan)
    assert genesis.find_valid_view(plan) is not None


def surveyed_slowly(cluster: Cluster) -> tuple[Stop, Elsewhere]:
    """Somebody starts it from its data, and has come no further than to look for them."""
    surveying = Stop()
    cluster.at("survey", surveying)
    slow = Elsewhere(lambda: ensemble.init("here", storage="/x"))
    surveying.wait()
    return surveying, slow


@pytest.mark.usefixtures("durable")
def test_who_starts_from_data_slowly_does_not_undo_a_resizing(cluster: Cluster) -> None:
    surveying, slow = surveyed_slowly(cluster)
    ensemble.init("here", storage="/x")
    plan = genesis.find_plan("here")
    assert plan is not None
    genesis.put_size(plan, Size(5, 5))
    surveying.go_on()
    slow.join()
    assert genesis.find_plan("here") == plan
    assert genesis.find_size(plan) == Size(5, 5)
    assert cluster.lives_of("here") == {plan.life}


@pytest.mark.usefixtures("durable")
def test_data_are_looked_at_again_if_the_ensemble_ran_meanwhile(cluster: Cluster) -> None:
    """They are not those that were found any more."""
    surveying, slow = surveyed_slowly(cluster)
    ensemble.init("here", storage="/x")
    ensemble.shutdown("here")
    surveyed_again: list[bool] = []
    cluster.at("survey", lambda: surveyed_again.append(True))
    surveying.go_on()
    slow.join()
    assert surveyed_again
    assert len(cluster.lives_of("here")) == 1


@pytest.mark.usefixtures("durable")
def test_a_slow_shutdown_does_not_stop_the_next_life(cluster: Cluster) -> None:
    ensemble.init("here", storage="/x")
    leaving = Stop()
    cluster.at("leave", leaving)
    slow = Elsewhere(lambda: ensemble.shutdown("here"))
    leaving.wait()
    ensemble.shutdown("here")
    ensemble.init("here", storage="/x")
    runs = set(cluster.running)
    assert runs
    leaving.go_on()
    slow.join()
    assert cluster.running == runs
    plan = genesis.find_plan("here")
    assert plan is not None
    assert genesis.is_running(plan)


def test_whoever_dies_while_stopping_is_followed_by_another(cluster: Cluster) -> None:
    ensemble.init("here")
    cluster.at("leave", interrupt)
    with pytest.raises(Interrupted):
        ensemble.shutdown("here")
    with pytest.raises(ConfigurationError, match=r"being stopped.*concoord\.shutdown"):
        ensemble.init("here", timeout_s=0.0)
    ensemble.shutdown("here")
    assert not cluster.running
    assert ensemble.init("here").id


def test_what_was_left_of_a_life_that_is_over_goes_with_the_next_shutdown(cluster: Cluster) -> None:
    """Who started it was slow, and died."""
    plan = Plan("here", "e" * 32, b"s" * 32, Config())
    ensemble.init("here")
    other = ensemble.init("here.too")
    ensemble.shutdown("here")
    left = {plan.actor_name(Role.GATEWAY, "a node"), plan.actor_name(Role.REPLICA, 0)}
    cluster.running |= left
    assert left < cluster.running
    ensemble.init("here")
    ensemble.shutdown("here")
    assert {actor.split(":")[1] for actor in cluster.running} == {other.id}


@pytest.mark.usefixtures("durable")
@pytest.mark.parametrize("function", ["erase", "all_names"])
def test_what_begins_when_a_shutdown_looks_for_what_was_left_stays(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    """Whether it begins before that is looked for, or before it is looked who holds the name."""
    ensemble.init("here", storage="/x")
    where = genesis if function == "erase" else actors
    really = getattr(where, function)

    def slowly(*of: Any) -> Any:
        gives = really(*of)
        if genesis.find_plan("here") is None:
            cluster.reach("gone")
        return gives

    begun: list[ensemble.Ensemble] = []
    monkeypatch.setattr(where, function, slowly)
    cluster.at("gone", lambda: begun.append(ensemble.init("here", storage="/x")))
    ensemble.shutdown("here")
    assert len(begun) == 1
    plan = genesis.find_plan("here")
    assert plan is not None
    assert cluster.lives_of("here") == {plan.life}
    assert set(actors.actor_names(plan)) == {
        plan.actor_name(*member) for member in actors.members_of(plan, genesis.find_size(plan))
    }

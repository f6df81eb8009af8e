"""Which life holds a name: a row of records that only goes on from the last."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from concoord_ray import genesis
from concoord_ray.config import Config
from concoord_ray.genesis import Plan
from concoord_ray.paxos.view import Member, Role, View
from tests.lifecycle.conftest import Cluster

pytestmark = pytest.mark.usefixtures("cluster")


def plan_of(ensemble: str = "e" * 32) -> Plan:
    return Plan("here", ensemble, b"s" * 32, Config())


def begun(plan: Plan) -> Plan:
    assert genesis.propose_plan(plan, genesis.find_holder(plan.name))
    return plan


def test_a_life_goes_from_its_start_to_its_end(cluster: Cluster) -> None:
    plan = begun(plan_of())
    assert genesis.find_plan("here") == plan
    assert genesis.plan_names() == ["here"]
    assert genesis.is_held_by(plan)
    assert not genesis.is_running(plan)
    assert genesis.mark_running(plan)
    assert genesis.is_running(plan)
    assert genesis.mark_ending(plan)
    assert genesis.find_holder("here").is_ending
    assert not genesis.is_held_by(plan)
    genesis.erase(plan)
    assert genesis.find_plan("here") is None
    assert genesis.plan_names() == []
    assert len(cluster.store.records) == 1  # That there is nothing.


@pytest.mark.parametrize(
    ("first", "second"), [(genesis.mark_running, genesis.give_up), (genesis.give_up, genesis.mark_running)]
)
def test_a_start_is_finished_or_given_up(first: Callable[[Plan], bool], second: Callable[[Plan], bool]) -> None:
    plan = begun(plan_of())
    assert first(plan)
    assert not second(plan)
    assert first(plan)  # Again, by another hand.


def test_a_proposal_fails_if_anything_has_happened_since(cluster: Cluster) -> None:
    """Even if all is as it was: the data of the ensemble may not be."""
    seen = genesis.find_holder("here")
    passing = begun(plan_of())
    assert not genesis.propose_plan(plan_of(), seen)
    genesis.mark_ending(passing)
    genesis.erase(passing)
    assert genesis.find_plan("here") is None
    assert not genesis.propose_plan(plan_of(), seen)
    assert genesis.find_plan("here") is None
    assert len(cluster.store.records) == 1
    begun(plan_of())


def test_another_life_of_the_same_ensemble_is_another() -> None:
    first = begun(plan_of())
    genesis.mark_ending(first)
    genesis.erase(first)
    second = begun(plan_of())
    for late in (genesis.mark_running, genesis.give_up, genesis.mark_ending):
        assert not late(first)
    genesis.erase(first)
    assert genesis.find_plan("here") == second
    assert first.actor_name(Role.REPLICA, 0) != second.actor_name(Role.REPLICA, 0)
    assert first.group_name != second.group_name


def test_a_view_that_is_decided_when_the_life_is_over_is_none() -> None:
    """Whoever took part in it would leave data of an ensemble that nobody knows."""
    plan = begun(plan_of())
    view = View(0, (Member(Role.ACCEPTOR, 0, 1),), (0,), 0)
    genesis.mark_ending(plan)
    genesis.erase(plan)
    assert genesis.propose_view(plan, view) == view
    assert genesis.find_valid_view(plan) is None
    again = begun(plan_of())
    genesis.propose_view(again, view)
    assert genesis.find_valid_view(again) == view
    genesis.mark_ending(again)
    assert genesis.find_valid_view(again) is None


def test_what_takes_its_place_does_so_without_a_gap() -> None:
    old, new, other = begun(plan_of()), plan_of("f" * 32), plan_of("9" * 32)
    genesis.mark_ending(old)
    genesis.erase(old, new)
    assert genesis.find_plan("here") == new
    genesis.erase(old, other)
    assert genesis.find_plan("here") == new


def test_an_answer_of_the_store_that_is_lost_changes_nothing(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray puts again, and is told that the record is there."""
    put = cluster.store._internal_kv_put

    def twice(*args: Any, **settings: Any) -> bool:
        put(*args, **settings)
        return put(*args, **settings)

    monkeypatch.setattr(cluster.store, "_internal_kv_put", twice)
    plan = begun(plan_of())
    assert genesis.mark_running(plan)


def test_of_many_at_once_one_begins() -> None:
    for _ in range(20):
        won: list[Plan] = []

        def race(won: list[Plan] = won) -> None:
            plan = plan_of()
            if genesis.propose_plan(plan, genesis.find_holder("here")):
                won.append(plan)

        threads = [threading.Thread(target=race) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (plan,) = won
        assert genesis.find_plan("here") == plan
        genesis.mark_ending(plan)
        genesis.erase(plan)

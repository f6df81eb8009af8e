"""A size that cannot be leaves nothing behind, and two resizings at once do no harm to each other."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import ConfigurationError, actors, genesis, placement
from concoord_ray.config import MAX_MEMBERS
from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size
from tests.integration.conftest import MakeEnsemble
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.timeout(120)]


def plan_of(ensemble: concoord.Ensemble) -> Plan:
    plan = genesis.find_plan(ensemble.name)
    assert plan is not None
    return plan


def started(plan: Plan) -> tuple[Size, set[str], set[str]]:
    """What there is of an ensemble: its size in the record, its actors, its placement groups."""
    table: dict[str, dict[str, object]] = ray.util.placement_group_table()
    groups = {str(group["name"]) for group in table.values() if group["state"] != "REMOVED"}
    return (
        genesis.find_size(plan),
        {name for name in actors.actor_names(plan) if not name.endswith(":resizing")},
        {name for name in groups if name.startswith(plan.group_name)},
    )


def test_a_size_that_cannot_be_placed_leaves_nothing_behind(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble("strict", acceptors=1, replicas=1, placement="STRICT_SPREAD")
    plan = plan_of(ensemble)
    before = started(plan)
    with pytest.raises(ConfigurationError, match=r"STRICT_SPREAD.*a node for each"):
        ensemble.resize(acceptors=3, replicas=3, timeout_s=2.0)
    assert started(plan) == before
    assert len(ensemble.status().acceptors) == 1
    assert len(ensemble.resize(acceptors=1, replicas=1).acceptors) == 1


def test_what_a_resizing_that_died_could_not_place_keeps_nobody_from_another(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble("orphaned", acceptors=1, replicas=1, placement="STRICT_SPREAD")
    plan = plan_of(ensemble)
    before = started(plan)
    genesis.put_size(plan, Size(3, 3))
    placement.create_group_for(plan, 1, "", placement.nodes_of(placement.first_group_of(plan)[0]))
    assert len(ensemble.resize(acceptors=1, replicas=1, timeout_s=30.0).acceptors) == 1
    assert started(plan) == before


def test_one_resizing_waits_for_the_other(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble("waits", acceptors=1, replicas=1, placement="STRICT_SPREAD")
    plan = plan_of(ensemble)
    before = started(plan)
    with ThreadPoolExecutor(1) as others:
        impossible = others.submit(ensemble.resize, acceptors=3, timeout_s=4.0)
        until(lambda: genesis.find_size(plan) != before[0])
        with pytest.raises(concoord.CallTimeout, match="Somebody else"):
            ensemble.resize(acceptors=1, timeout_s=0.5)
        assert len(ensemble.resize(acceptors=1, timeout_s=30.0).acceptors) == 1
        assert isinstance(impossible.exception(), ConfigurationError)
    assert started(plan) == before


def test_of_resizings_at_once_one_is_the_last(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble("at-once", acceptors=1, replicas=1)
    counter = concoord.Counter.options(ensemble=ensemble.name).remote()
    sizes = [{"acceptors": 3}, {"acceptors": 2, "replicas": 2}, {"acceptors": 1, "replicas": 1}]
    resizing = [threading.Thread(target=ensemble.resize, kwargs=size) for size in sizes]
    for thread in resizing:
        thread.start()
    calls = 0
    while any(thread.is_alive() for thread in resizing):
        calls += 1
        assert counter.increment() == calls
        time.sleep(0.01)
    status = ensemble.status()
    assert status.has_quorum
    assert status.voters == len(status.acceptors)
    assert all(member.alive and member.in_view for member in (*status.acceptors, *status.replicas))


def test_who_is_being_stopped_is_taken_into_no_view(
    own_ensemble: MakeEnsemble, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = own_ensemble("going", acceptors=2, replicas=1)
    counter = concoord.Counter.options(ensemble=ensemble.name).remote()
    monkeypatch.setattr(actors, "kill", lambda _: None)  # Processes take their time to end.
    ensemble.resize(acceptors=1)
    with pytest.raises(concoord.CallTimeout, match="not of the new size yet"):
        ensemble.resize(acceptors=2, timeout_s=4)
    assert ensemble.status().voters == 1
    assert counter.increment() == 1


@pytest.mark.parametrize("number", [0, MAX_MEMBERS + 1, 2**70, True, 2.0])
def test_numbers_that_cannot_be_are_refused_before_anything_happens(ensemble: concoord.Ensemble, number: int) -> None:
    plan = plan_of(ensemble)
    before = started(plan)
    with pytest.raises(ConfigurationError, match=f"1 to {MAX_MEMBERS}"):
        ensemble.resize(acceptors=number)
    assert started(plan) == before


def test_an_ensemble_that_is_no_more_is_not_resized(own_ensemble: MakeEnsemble) -> None:
    old = own_ensemble("replaced", acceptors=1, replicas=1)
    plan = plan_of(old)
    old.shutdown()
    own_ensemble("replaced", acceptors=1, replicas=1)
    with pytest.raises(ConfigurationError, match="was shut down"):
        old.resize(acceptors=3)
    assert actors.actor_names(plan) == []

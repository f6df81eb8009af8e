"""Who resizes does it to the life that the ensemble has now, whatever it was when he got hold of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from concoord_ray import genesis, resizing
from concoord_ray.config import Config
from concoord_ray.ensemble import Ensemble
from concoord_ray.errors import CallTimeout, ConfigurationError
from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size
from concoord_ray.rsm.command import Resize
from tests.lifecycle.conftest import Cluster


def begin(plan: Plan) -> Plan:
    """Have this life hold its name."""
    assert genesis.propose_plan(plan, genesis.find_holder(plan.name))
    assert genesis.mark_running(plan)
    return plan


def end(plan: Plan) -> None:
    """Stop a life."""
    assert genesis.mark_ending(plan)
    genesis.erase(plan)


@pytest.fixture
def attach(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan], list[Resize]]:
    """Have this process be attached to a life; what its log is told is in the list."""
    monkeypatch.setattr(resizing, "start_members", cluster.start_members)
    monkeypatch.setattr(resizing, "_alone", lambda *_: contextlib.nullcontext())

    def attach(plan: Plan) -> list[Resize]:
        told: list[Resize] = []

        def call(command: Resize, *, timeout_s: float) -> tuple[int, int, int]:
            told.append(command)
            cluster.reach("told")
            return 5, command.acceptors or 3, command.replicas or 3

        attachment = SimpleNamespace(plan=plan, client=SimpleNamespace(call=call))
        monkeypatch.setattr(resizing, "attachment_to", lambda *_: attachment)
        return told

    return attach


def test_an_ensemble_of_an_earlier_life_resizes_the_life_that_runs(
    cluster: Cluster, attach: Callable[[Plan], list[Resize]]
) -> None:
    old = begin(Plan("here", "e" * 32, b"s" * 32, Config()))
    end(old)
    new = begin(Plan("here", "e" * 32, b"s" * 32, Config()))
    attach(new)
    with pytest.raises(CallTimeout):  # The replicas of this cluster never say which view they have.
        Ensemble(old).resize(acceptors=5, timeout_s=0.0)
    assert cluster.lives_of("here") == {new.life}
    assert genesis.find_size(new) == Size(5, 3)
    assert genesis.find_size(old) == Size(3, 3)


def test_nothing_of_a_life_that_was_shut_down_is_resized(
    cluster: Cluster, attach: Callable[[Plan], list[Resize]]
) -> None:
    """Also if this process is attached to it still."""
    old = begin(Plan("here", "e" * 32, b"s" * 32, Config()))
    told = attach(old)
    end(old)
    begin(Plan("here", "e" * 32, b"s" * 32, Config()))
    with pytest.raises(ConfigurationError, match="was shut down"):
        Ensemble(old).resize(acceptors=5, timeout_s=0.0)
    assert not told
    assert not cluster.running


def test_what_a_resizing_started_after_a_shutdown_does_not_stay(
    cluster: Cluster, attach: Callable[[Plan], list[Resize]]
) -> None:
    plan = begin(Plan("here", "e" * 32, b"s" * 32, Config()))
    attach(plan)
    cluster.at("told", lambda: end(plan))
    with pytest.raises(CallTimeout):
        Ensemble(plan).resize(acceptors=5, timeout_s=0.0)
    assert not cluster.running
    assert not [key for key in cluster.store.records if not key.startswith(b"plan:")]

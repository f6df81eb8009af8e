"""Replicas that come to different states: named, mended from the majority, or stopped where there is none."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from msgspec.structs import replace

from concoord_ray.config import Config
from concoord_ray.rsm.divergence import Reinstall
from tests.cluster import Client, Cluster
from tests.rsm.log import calling, refused

CONFIG = Config(checkpoint_interval_slots=10)


class Careless:
    """Does not do the same on every replica: each test tells its instances which replica they are on."""

    #: No part of the state.
    number = -1

    def __init__(self) -> None:
        self.total = 0

    def __getstate__(self) -> dict[str, Any]:
        return {"total": self.total}

    def add(self) -> int:
        self.total += 1
        return self.total

    def odd(self, replica: int) -> int:
        """Answers otherwise on one replica, and changes nothing."""
        return int(self.number == replica)

    def drift(self, replica: int) -> None:
        """Changes something on one replica, and says nothing of it."""
        self.total += self.number == replica


def started(config: Config = CONFIG) -> tuple[Cluster, Client, int]:
    cluster = Cluster(config)
    client = cluster.client()
    careless = client.create(Careless)
    cluster.run(0.2)
    for node in cluster.nodes.values():
        ((_, instance),) = node.executor._objects.instances()
        instance.number = node.me.index
    return cluster, client, careless


def follow(cluster: Cluster, client: Client, careless: int, calls: int = 30) -> None:
    for _ in range(calls):
        client.call(careless, "add")
    cluster.run(1.0)


def test_a_follower_that_differs_is_named_and_mended(caplog: pytest.LogCaptureFixture) -> None:
    cluster, client, careless = started()
    wrong = next(index for index, node in cluster.nodes.items() if node is not cluster.leader)
    client.call(careless, "drift", wrong)
    with caplog.at_level(logging.CRITICAL):
        for _ in range(12):
            client.call(careless, "odd", 99)
        follow(cluster, client, careless)
    said = caplog.records[0].getMessage()
    assert f"replica{wrong}" in said
    assert "All replies agree" in said
    assert "Careless.drift" in said
    assert not cluster.nodes[wrong].service.state.is_wrong
    totals = {each.total for node in cluster.nodes.values() for _, each in node.executor._objects.instances()}
    assert totals == {30}


def test_a_method_that_answers_otherwise_is_named(caplog: pytest.LogCaptureFixture) -> None:
    cluster, client, careless = started()
    wrong = next(index for index, node in cluster.nodes.items() if node is not cluster.leader)
    client.call(careless, "odd", wrong)
    with caplog.at_level(logging.CRITICAL):
        follow(cluster, client, careless)
    assert all("Careless.odd" in record.getMessage() for record in caplog.records)
    assert caplog.records


def test_a_leader_that_differs_steps_down_first() -> None:
    cluster, client, careless = started()
    old = cluster.leader.me.index
    client.call(careless, "drift", old)
    for _ in range(30):
        client.submit(calling(careless, "add"))
        cluster.run(0.1)
    cluster.run(3.0)
    assert cluster.leader.me.index != old
    totals = {each.total for node in cluster.nodes.values() for _, each in node.executor._objects.instances()}
    assert totals == {30}


def test_without_a_majority_for_any_state_nothing_is_answered_any_more() -> None:
    cluster, client, careless = started(replace(CONFIG, replicas=2))
    client.call(careless, "drift", 0)
    for _ in range(15):
        client.submit(calling(careless, "add"))
        cluster.run(0.1)
    assert all(node.service.state.halted for node in cluster.nodes.values())
    seq = client.submit(calling(careless, "add"))
    cluster.run(3.0)
    assert refused(client.ended[seq]) == "Diverged"  # type: ignore[arg-type]


def test_replicas_that_agree_raise_no_alarm(caplog: pytest.LogCaptureFixture) -> None:
    cluster, client, careless = started()
    with caplog.at_level(logging.CRITICAL):
        follow(cluster, client, careless, 60)
    assert not caplog.records


def told_wrong(cluster: Cluster) -> int:
    """The leader's state is found to be wrong, and no snapshot reaches it: its links to the other replicas are cut."""
    wrong = cluster.leader
    others = tuple(node.me for node in cluster.nodes.values() if node is not wrong)
    for other in others:
        cluster.cut.add(frozenset((wrong.me, other)))
    wrong.service.receive_peer(others[0], Reinstall(1, others), cluster.now_s)
    return wrong.me.index


def test_who_is_wrong_does_not_lead_however_long_nobody_else_does() -> None:
    cluster, client, careless = started()
    client.call(careless, "add")
    wrong = told_wrong(cluster)
    for index in [index for index in cluster.nodes if index != wrong]:
        cluster.kill(index)
    cluster.run(20.0)
    assert not cluster.nodes[wrong].service.replica.is_leader
    assert not cluster.nodes[wrong].service.state.wants_snapshot


def test_what_it_has_saved_is_set_aside_and_it_leads_again_once_it_is_mended() -> None:
    cluster, client, careless = started()
    client.call(careless, "add")
    wrong = told_wrong(cluster)
    state = cluster.nodes[wrong].service.state
    assert (state.is_wrong, state.discard_saved) == (True, True)
    cluster.heal()
    cluster.run(5.0)
    assert not state.is_wrong
    for index in [index for index in cluster.nodes if index != wrong]:
        cluster.kill(index)
    cluster.run(20.0)
    assert cluster.leader.me.index == wrong
    assert client.call(careless, "add") == 2

"""Replicas that come to different states: named, mended from the majority, or stopped where there is none."""

from __future__ import annotations

import logging
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace

from concoord_ray.config import Config
from concoord_ray.paxos.messages import SnapshotChunk, SnapshotComing, SnapshotPull
from concoord_ray.rsm.calls import Applied
from concoord_ray.rsm.checkpoint import Checkpoint
from concoord_ray.rsm.command import NotLeader, Outcome, Read, Reply, Request
from concoord_ray.rsm.divergence import Comparison, Reinstall
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.state import StateKeeping
from concoord_ray.rsm.transfer import Snapshot
from tests.cluster import Client, Cluster, entry_of
from tests.paxos.pieces import follower, replica, sent
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


def test_who_is_wrong_gives_its_state_to_nobody() -> None:
    """It may hold a snapshot that it has made for somebody before."""
    one = follower(0)
    one.learner.jump(50)
    state = StateKeeping(one, CONFIG)
    pull = SnapshotPull(10, -1, 0)
    state.receive(replica(2), pull, 0.0)
    state.made(Snapshot(50, Rope.of(b"wrong")), 0.1)
    assert any(isinstance(message, SnapshotChunk) and message.data for _, message in sent(one.outputs))
    state.receive(replica(1), Reinstall(40, (replica(1),)), 0.2)
    state.receive(replica(2), pull, 0.3)
    state.made(Snapshot(50, Rope.of(b"wrong")), 0.3)  # Begun before.
    ((_, answer),) = sent(one.outputs)
    assert isinstance(answer, SnapshotChunk)
    assert (answer.slot, answer.data) == (10, b""), "another is to be asked"
    state._right = ()
    state.receive(replica(2), pull, 0.4)
    ((_, again),) = sent(one.outputs)
    assert isinstance(again, SnapshotComing), "it is made anew, of a state that is right"


def test_who_is_about_to_lead_and_is_wrong_does_not() -> None:
    one = follower(0)
    one._scout(0.0)
    StateKeeping(one, CONFIG).receive(replica(1), Reinstall(40, (replica(1),)), 0.2)
    assert not one.leader.is_scouting


def test_what_a_leader_has_executed_when_it_is_found_to_be_wrong_is_not_answered() -> None:
    cluster, client, _ = started()
    service = cluster.leader.service
    service.receive_client(client.me, Read(entry_of(client, 7, b"read")), cluster.now_s)
    service.receive_client(client.me, Request(entry_of(client, 8, b"call")), cluster.now_s)
    service.to_clients.clear()
    others = tuple(node.me for node in cluster.nodes.values() if node is not cluster.leader)
    session = entry_of(client, 0).session
    read, called = (Reply(session, seq, Outcome.VALUE, b"wrong") for seq in (7, 8))
    last = Checkpoint(service.applied_slot, 0, (), (), b"")
    with patch.object(Comparison, "add", lambda *_: [(service.replica.me, Reinstall(0, others))]):
        service.executed(Applied(service.applied_slot, checkpoints=[last], replies=[called]), cluster.now_s)
    service.answer(read)
    assert not any(isinstance(message, Reply) for _, message in service.to_clients)
    assert service.reads == []
    assert any(isinstance(message, NotLeader) for _, message in service.to_clients)

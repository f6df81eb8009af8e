"""An epoch is entered together: what waits for whom, and for how long."""

from __future__ import annotations

import math
import random

import pytest
from msgspec.structs import replace

from concoord_ray.config import Config
from concoord_ray.paxos.messages import Decisions, Heartbeat, P2a, Progress
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import View, stop_sign
from tests.paxos.pieces import CONFIG, NOOP, acceptor, ballot, promise, replica, sent, view

#: The second epoch begins at slot 5.
SECOND = view(epoch=1, first_slot=5)
TIMEOUT_S = CONFIG.election_timeout_s


def entered(config: Config = CONFIG, linked: tuple[int, ...] = (1, 2)) -> Replica:
    """A replica that has just ended phase 1 of the second epoch, at time 0."""
    one = Replica(replica(0), SECOND, config, noop=NOOP, rng=random.Random(0), now_s=0.0)
    one.set_members(tuple(map(acceptor, range(3))), tuple(map(replica, range(3))))
    for index in linked:
        one.connected(replica(index), 0.0)
    one.learner.jump(SECOND.first_slot)
    one.truncation.applied_slot = SECOND.first_slot
    one._scout(0.0)
    for index in (0, 1):
        shown = replace(promise(one.leader.ballot, from_slot=SECOND.first_slot), epoch=1)
        one.receive(acceptor(index), shown, 0.0)
    assert one.is_leader
    return one


def tell(one: Replica, index: int, epoch: int = 1, now_s: float = 0.01, durable_slot: int = 0) -> None:
    one.receive(replica(index), Progress(epoch, 5, durable_slot), now_s)


def test_nothing_is_proposed_before_the_others_know_of_the_epoch() -> None:
    one = entered()
    assert any(isinstance(message, Heartbeat) for _, message in sent(one.outputs)), "they hear of it at once"
    assert not one.leader.may_propose
    tell(one, 1)
    assert not one.leader.may_propose
    tell(one, 2, epoch=0)
    assert not one.leader.may_propose
    tell(one, 2)
    assert one.leader.may_propose


def test_who_is_not_there_is_not_waited_for() -> None:
    one = entered(linked=(1,))
    tell(one, 1)
    assert one.leader.may_propose
    assert entered(linked=()).truncation.progress == {}
    one = entered()
    tell(one, 1)
    one.disconnected(replica(2), 0.02)
    one.tick(0.02)
    assert one.leader.may_propose


@pytest.mark.parametrize("is_back", [False, True])
def test_who_has_been_silent_for_long_does_not_hold_up_every_epoch(is_back: bool) -> None:
    """Its process is stopped, say, with its connections open."""
    one = entered()
    heartbeats = math.ceil(TIMEOUT_S / CONFIG.heartbeat_interval_s) + 1
    for now_s in (1.01 * CONFIG.heartbeat_interval_s * number for number in range(heartbeats)):
        tell(one, 1, now_s=now_s)
        one.majority_heard_at_s = now_s
        one.tick(now_s)
    if is_back:
        one.disconnected(replica(2), now_s)
        one.connected(replica(2), now_s)
    third = View(2, SECOND.acceptors, SECOND.replicas, 6)
    one.receive(replica(1), Decisions(1, 5, (stop_sign(third),), 6), now_s)
    for index in (0, 1):
        one.receive(acceptor(index), replace(promise(one.leader.ballot, from_slot=6), epoch=2), now_s)
    assert one.is_leader
    assert not one.leader.may_propose
    tell(one, 1, epoch=2, now_s=now_s)
    assert one.leader.may_propose is not is_back


def test_nobody_is_waited_for_without_end() -> None:
    one = entered()
    for now_s, may in ((0.5 * TIMEOUT_S, False), (TIMEOUT_S, True)):
        one.majority_heard_at_s = now_s
        one.tick(now_s)
        assert one.leader.may_propose is may


def test_an_epoch_that_something_has_happened_in_is_known() -> None:
    one = Replica(replica(0), SECOND, CONFIG, noop=NOOP, rng=random.Random(0), now_s=0.0)
    one.connected(replica(1), 0.0)
    one.learner.jump(SECOND.first_slot)
    one._scout(0.0)
    number = one.leader.ballot
    shown = replace(promise(number, (ballot(0, 1), 5, b"v"), from_slot=5), epoch=1)
    one.receive(acceptor(0), shown, 0.0)
    one.receive(acceptor(1), replace(promise(number, from_slot=5), epoch=1), 0.0)
    assert one.leader.may_propose
    assert any(isinstance(message, P2a) and message.value == b"v" for _, message in sent(one.outputs))


def next_view_is_proposed(one: Replica, now_s: float) -> bool:
    """Acceptor 2 is replaced by another life, which answers."""
    one.majority_heard_at_s = now_s
    other = acceptor(2, incarnation=1)
    one.set_members((acceptor(0), acceptor(1), other), tuple(map(replica, range(3))))
    for member in (acceptor(0), acceptor(1), other):
        one.membership.heard(member, now_s)
    sent(one.outputs)
    one.tick(now_s)
    return any(isinstance(m, P2a) and m.value == stop_sign(following(other)) for _, m in sent(one.outputs))


def following(other: object) -> View:
    return View(2, (acceptor(0), acceptor(1), other), SECOND.replicas, 6)  # type: ignore[arg-type]


def test_the_next_view_waits_for_those_that_are_behind() -> None:
    one = entered()
    tell(one, 1)
    tell(one, 2, epoch=0)
    one.leader.is_held = False
    assert not next_view_is_proposed(one, 1.0)
    tell(one, 2, now_s=1.0)
    assert next_view_is_proposed(one, 1.2)


def test_a_leader_that_has_heard_from_nobody_yet_changes_nothing() -> None:
    """Somebody whom it has not heard from may be in the epoch before, and need its acceptors."""
    one = entered()
    one.leader.is_held = False
    tell(one, 1)
    assert not next_view_is_proposed(one, 0.5 * TIMEOUT_S)
    assert next_view_is_proposed(one, TIMEOUT_S)


def test_who_has_not_executed_what_was_said_in_the_epoch_before_judges_nothing() -> None:
    """How many members there are to be may have been said in its last slot."""
    one = entered()
    tell(one, 1)
    tell(one, 2)
    one.truncation.applied_slot = 4
    assert not next_view_is_proposed(one, 0.5)
    one.truncation.applied_slot = 5
    assert next_view_is_proposed(one, 0.7)


def test_and_not_without_end() -> None:
    """Somebody may be unable to follow: no dead acceptor would ever be replaced."""
    one = entered()
    tell(one, 1)
    one.leader.is_held = False
    tell(one, 2, epoch=0, now_s=9.5 * TIMEOUT_S)
    assert not next_view_is_proposed(one, 9.6 * TIMEOUT_S)
    tell(one, 2, epoch=0, now_s=10.1 * TIMEOUT_S)
    assert next_view_is_proposed(one, 10.2 * TIMEOUT_S)


def test_with_storage_the_next_view_waits_for_two_disks() -> None:
    one = entered(replace(CONFIG, storage="/data"))
    tell(one, 1, durable_slot=5)
    tell(one, 2, durable_slot=4)
    assert not next_view_is_proposed(one, 1.0)
    for index in (1, 2):
        tell(one, index, durable_slot=5, now_s=1.1)
    assert next_view_is_proposed(one, 1.2)


def test_a_replica_that_is_alone_waits_for_its_own_disk_only() -> None:
    """The others are gone for good: its acceptors are replaced all the same."""
    one = entered(replace(CONFIG, storage="/data"), linked=())
    one.leader.is_held = False
    assert not next_view_is_proposed(one, 1.0)
    one.truncation.durable_slot = 5
    assert next_view_is_proposed(one, 1.2)

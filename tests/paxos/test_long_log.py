"""While the log is long, who is away is left out of the view: only who was asked, and has not answered."""

from __future__ import annotations

import math
import random

from msgspec.structs import replace

from concoord_ray.paxos.messages import P2a, Pong, Progress
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import following_view
from tests.paxos.pieces import CONFIG, NOOP, acceptor, promise, replica, sent, view

TIMEOUT_S, HEARTBEAT_S = CONFIG.election_timeout_s, CONFIG.heartbeat_interval_s
SHORT = replace(CONFIG, max_log_bytes=100, truncate_log_bytes=10)
#: So many heartbeats are sent in an election timeout.
PATIENCE = math.ceil(TIMEOUT_S / HEARTBEAT_S)


def leading(linked: tuple[int, ...] = (1, 2)) -> Replica:
    """A replica that begins to lead, with a long log, at time 0."""
    one = Replica(replica(0), view(), SHORT, noop=NOOP, rng=random.Random(0), now_s=0.0)
    one.set_members(tuple(map(acceptor, range(3))), tuple(map(replica, range(3))))
    for index in linked:
        one.connected(replica(index), 0.0)
    one.learner.learn(0, b"x" * 60, is_final=True)
    one.truncation.applied_slot = 1
    one._scout(0.0)
    for index in (0, 1):
        one.receive(acceptor(index), promise(one.leader.ballot, from_slot=1), 0.0)
    assert one.is_leader
    return one


def replicas_proposed(one: Replica) -> list[tuple[int, ...]]:
    """The replicas of the views that were proposed since the last look."""
    values = {message.value for _, message in sent(one.outputs) if isinstance(message, P2a)}
    return [following.replicas for value in values if (following := following_view(value)) is not None]


def lead(
    one: Replica, now_s: float, heartbeats: int, answering: tuple[int, ...], moving: tuple[int, ...] = ()
) -> float:
    """Let it send so many heartbeats, which these replicas answer, those that move with more executed each time; gives
    back when that was done.
    """
    for _ in range(heartbeats):
        now_s += 1.01 * HEARTBEAT_S
        for index in range(3):
            one.receive(acceptor(index), Pong(0, one.leader.ballot, 0, 0), now_s)
        one.tick(now_s)
        for index in answering:
            slot = one.truncation.applied_slot - 1 if index in moving else 0
            one.receive(replica(index), Progress(0, slot, 0), now_s)
        one.truncation.applied_slot += bool(moving)
    return now_s


def test_a_new_leader_leaves_nobody_out_before_it_has_asked_them() -> None:
    one = leading()
    assert replicas_proposed(one) == []
    assert one.truncation.below == 0
    lead(one, 0.0, 5 * PATIENCE, answering=(1, 2))
    assert replicas_proposed(one) == []
    assert one.truncation.below == 0


def test_nor_those_whose_connections_are_not_open_yet() -> None:
    one = leading(linked=())
    now_s = lead(one, 0.0, PATIENCE // 2, answering=())
    lead(one, now_s, 5 * PATIENCE, answering=(1, 2))
    assert replicas_proposed(one) == []


def test_who_has_not_answered_for_an_election_timeout_is_left_out() -> None:
    one = leading()
    now_s = lead(one, 0.0, PATIENCE - 1, answering=(1,))
    assert replicas_proposed(one) == []
    lead(one, now_s, 2, answering=(1,))
    assert replicas_proposed(one) == [(0, 1)]


def test_a_pause_of_the_leader_itself_is_nobody_elses_silence() -> None:
    one = leading()
    now_s = lead(one, 0.0, 3, answering=(1, 2))
    lead(one, now_s + 2 * TIMEOUT_S, 1, answering=())
    assert replicas_proposed(one) == []
    assert one.truncation.present(view()) == 2


def test_a_connection_that_is_made_again_costs_nobody_the_place() -> None:
    one = leading()
    now_s = lead(one, 0.0, 3, answering=(1, 2))
    one.disconnected(replica(2), now_s)
    now_s = lead(one, now_s, 2, answering=(1,))
    one.connected(replica(2), now_s)
    lead(one, now_s, PATIENCE, answering=(1, 2))
    assert replicas_proposed(one) == []


def test_a_leadership_that_begins_again_asks_again() -> None:
    one = leading()
    now_s = lead(one, 0.0, PATIENCE - 1, answering=(1,))
    one.abdicate(now_s)
    one._scout(now_s)
    for index in (0, 1):
        one.receive(acceptor(index), promise(one.leader.ballot, from_slot=1), now_s)
    assert one.is_leader
    lead(one, now_s, PATIENCE - 1, answering=(1,))
    assert replicas_proposed(one) == []


def test_who_answers_and_comes_no_further_for_long_is_left_out_until_it_does() -> None:
    one = leading()
    now_s = lead(one, 0.0, 10 * PATIENCE, answering=(1, 2), moving=(1,))
    assert replicas_proposed(one) == []
    now_s = lead(one, now_s, 3, answering=(1, 2), moving=(1,))
    assert replicas_proposed(one) == [(0, 1)]
    left = view(epoch=1, replicas=2)
    wanted = one.membership.wanted
    assert wanted(left, one.truncation, 60, now_s)[1] == (0, 1)
    one.receive(replica(2), Progress(0, one.truncation.applied_slot, 0), now_s)
    one.truncation.decide(left, one.learner)
    assert wanted(left, one.truncation, 60, now_s)[1] == (0, 1, 2)


def test_not_while_the_log_is_short() -> None:
    one = leading()
    one.learner.truncate(1)
    lead(one, 0.0, 12 * PATIENCE, answering=(1, 2), moving=(1,))
    assert replicas_proposed(one) == []


def test_nor_if_the_leader_were_then_alone() -> None:
    """What the others have not executed would be in one place."""
    one = leading()
    lead(one, 0.0, 12 * PATIENCE, answering=(1, 2))
    assert replicas_proposed(one) == []

"""Views: the stop-sign ends an epoch, and nothing of the epoch counts above it (*Stoppable Paxos*)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from concoord_ray.errors import Diverged, ProtocolViolation
from concoord_ray.paxos.ballot import BOTTOM
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.messages import (
    Behind,
    CatchUp,
    Decisions,
    Heartbeat,
    NewerView,
    P1a,
    P2a,
    Ping,
    Pong,
    Progress,
)
from concoord_ray.paxos.outputs import Decided
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import View, following_view, is_stop_sign, stop_sign
from tests.paxos.pieces import acceptance, acceptor, ballot, follower, promise, replica, scouting, sent, sent_by, view

SECOND = view(epoch=1, first_slot=1)


def leading(index: int = 0, now_s: float = 0.0) -> Replica:
    one = follower(index, now_s)
    one.tick(now_s + index)
    nonce = next(m.nonce for _, m in reversed(sent(one.outputs)) if isinstance(m, Ping))
    for each in (0, 1):
        one.receive(acceptor(each), Pong(0, BOTTOM, nonce, 0), now_s)
    for each in (0, 1):
        one.receive(acceptor(each), promise(one.leader.ballot), now_s)
    assert one.is_leader
    sent(one.outputs)
    return one


def accept(one: Replica, slot: int, *by: int) -> None:
    for index in by or (0, 1):
        one.receive(acceptor(index), acceptance(one.leader.ballot, slot), 0.0)


def test_a_stop_sign_says_which_view_follows() -> None:
    assert following_view(stop_sign(SECOND)) == SECOND
    assert following_view(b"a batch") is None
    assert not is_stop_sign(b"")
    with pytest.raises(ProtocolViolation, match="stop-sign"):
        following_view(stop_sign(SECOND)[:5])


def test_nothing_is_proposed_above_a_stop_sign() -> None:
    leader = scouting(ballot(1))
    shown = ((ballot(0), 0, b"a"), (ballot(0), 1, stop_sign(view(epoch=1, first_slot=2))), (ballot(0), 2, b"void"))
    leader.receive_p1b(acceptor(0), promise(ballot(1), *shown), lambda slot: None, 0.0)
    leader.receive_p1b(acceptor(1), promise(ballot(1)), lambda slot: None, 0.0)
    proposed = {message.slot for _, message in sent_by(leader) if isinstance(message, P2a)}
    assert proposed == {0, 1}
    assert leader.is_leading
    assert not leader.may_propose


def test_a_stop_sign_that_is_known_stops_a_leader_too() -> None:
    leader = scouting(ballot(1))
    known = {1: stop_sign(view(epoch=1, first_slot=2))}
    for index in (0, 1):
        leader.receive_p1b(acceptor(index), promise(ballot(1), (ballot(0), 2, b"void")), known.get, 0.0)
    assert {message.slot for _, message in sent_by(leader) if isinstance(message, P2a)} == {0}
    assert not leader.may_propose


def test_a_leader_that_has_proposed_a_stop_sign_confirms_no_reads() -> None:
    one = leading()
    assert one.may_confirm
    one.leader.propose(stop_sign(SECOND), 0.0)
    assert not one.may_confirm


def test_whoever_led_runs_phase_1_of_the_next_epoch_at_once() -> None:
    one = leading()
    accept(one, one.leader.propose(stop_sign(SECOND), 0.0))
    assert one.view == SECOND
    assert one.leader.is_scouting
    asked = {(to, m.view, m.from_slot) for to, m in sent(one.outputs) if isinstance(m, P1a)}
    assert asked == {(each, SECOND, 1) for each in SECOND.acceptors}


def test_what_an_epoch_decided_above_its_stop_sign_is_void() -> None:
    """PROTOCOL rule 4: a leader that never saw the stop-sign decides above it; a later one finds it below."""
    one = leading()
    one.propose(b"lost", 0.0)
    accept(one, one.propose(b"void", 0.0))
    assert one.learner.value_of(1) == b"void"
    one.receive(replica(1), Decisions(1, 0, (stop_sign(SECOND),), 0), 1.0)
    assert one.view == SECOND
    assert one.learner.next_slot == 1
    assert one.learner.value_of(1) is None
    one.receive(replica(1), Decisions(1, 1, (b"executed",), 0), 1.0)
    assert one.outputs.take().decisions == [(0, stop_sign(SECOND)), (1, b"executed")]


@pytest.mark.parametrize("stop_first", [True, False])
def test_what_another_has_handed_on_replaces_what_was_decided_beyond_a_gap(stop_first: bool) -> None:
    learner = Learner()
    assert learner.learn(1, b"void", is_final=False) == []
    if stop_first:
        assert learner.learn(0, stop_sign(SECOND), is_final=True) == [Decided(0, stop_sign(SECOND))]
        assert learner.learn(1, b"executed", is_final=True) == [Decided(1, b"executed")]
    else:
        assert learner.learn(1, b"executed", is_final=True) == []
        assert learner.learn(1, b"void", is_final=False) == []
        assert learner.learn(0, stop_sign(SECOND), is_final=True) == [Decided(0, stop_sign(SECOND))]
        assert learner.ready() == [Decided(1, b"executed")]


def test_a_view_that_does_not_follow_stops_the_replica() -> None:
    one = follower()
    with pytest.raises(Diverged, match="wrong view"):
        one.receive(replica(1), Decisions(0, 0, (stop_sign(view(epoch=2, first_slot=1)),), 0), 0.0)


def test_a_leader_of_a_later_epoch_is_followed_and_asked_for_what_is_missing() -> None:
    one = leading()
    one.receive(replica(1), Heartbeat(3, ballot(0, 1), 9, 0), 1.0)
    assert not one.is_leader
    assert one.election.leader == replica(1)
    # It tells that it is behind, too: who is on its way is not left behind for good.
    assert sent(one.outputs) == [(replica(1), Progress(0, 0, 0)), (replica(1), CatchUp(0, 0))]


def test_a_leader_of_an_epoch_that_is_over_is_told_of_the_next() -> None:
    one = follower()
    one.receive(replica(1), Decisions(1, 0, (stop_sign(SECOND),), 0), 0.0)
    sent(one.outputs)
    one.receive(replica(2), Heartbeat(0, ballot(9, 2), 0, 0), 0.0)
    assert sent(one.outputs) == [(replica(2), NewerView(SECOND))]
    lagging = follower(2)
    lagging.receive(replica(0), NewerView(SECOND), 0.0)
    assert (replica(0), CatchUp(0, 0)) in sent(lagging.outputs)


# Truncation.


def test_phase_1_counts_no_acceptor_that_has_dropped_what_it_is_asked_for() -> None:
    leader = scouting(ballot(1))
    gone = replace(promise(ballot(1), (ballot(0), 7, b"h")), truncated_below=5)
    for index in (0, 1):
        leader.receive_p1b(acceptor(index), gone, lambda slot: None, 0.0)
    assert leader.dropped_below == 5
    assert not leader.is_leading


def scouting_behind() -> Replica:
    """A replica in phase 1, from slot 0 on, that has met an acceptor which has dropped the slots below 2."""
    one = follower()
    one.election.wait(0.0)
    one._scout(0.0)
    one.receive(acceptor(0), replace(promise(one.leader.ballot), truncated_below=2), 0.0)
    assert one.is_behind
    sent(one.outputs)
    return one


def test_a_scout_that_has_learned_what_its_acceptors_have_dropped_asks_again() -> None:
    one = scouting_behind()
    first = one.leader.ballot
    one.receive(replica(1), Decisions(0, 0, (b"v", b"w"), 2), 0.0)
    one.receive(acceptor(1), replace(promise(first), truncated_below=2), 0.1)
    asked = {(m.ballot, m.from_slot) for _, m in sent(one.outputs) if isinstance(m, P1a)}
    assert asked == {(one.leader.ballot, 2)}
    for index in (0, 1):
        shown = replace(promise(one.leader.ballot, from_slot=2), truncated_below=2)
        one.receive(acceptor(index), shown, 0.2)
    assert one.is_leader
    assert not any(isinstance(m, P1a) for _, m in sent(one.outputs)), "once is enough"


def test_a_scout_that_is_behind_is_not_followed() -> None:
    """Others would wait for it for as long as it may take to become one that leads."""
    one = scouting_behind()
    deadline_s = one.election.deadline_s
    one.tick(0.1)
    nonce = next(m.nonce for _, m in sent(one.outputs) if isinstance(m, Ping))
    for index in (1, 2):
        one.receive(acceptor(index), Pong(0, one.leader.ballot, nonce, 0), 0.2)
    assert not any(isinstance(m, Heartbeat) for _, m in sent(one.outputs))
    assert one.election.deadline_s == deadline_s


def test_who_leads_misses_nothing() -> None:
    """It would pull a snapshot, and be no leader any more when that comes."""
    one = scouting_behind()
    for index in (1, 2):
        one.receive(acceptor(index), promise(one.leader.ballot, (ballot(0, 1), 0, b"v")), 0.0)
    assert one.is_leader
    assert one.leader.dropped_below == 0
    assert not one.is_behind


def test_a_leader_that_goes_on_from_a_snapshot_does_not_follow_itself() -> None:
    one = leading()
    assert one.install(one.view, 50, 0.1)
    assert not one.is_leader
    assert one.election.leader is None


def test_a_candidate_whose_acceptors_have_dropped_what_it_needs_raises_no_ballot() -> None:
    one = follower()
    one.tick(0.0)
    nonce = next(m.nonce for _, m in sent(one.outputs) if isinstance(m, Ping))
    for index in range(3):
        one.receive(acceptor(index), Pong(0, ballot(4, 1), nonce, 5), 0.0)
    assert one.is_behind
    assert not any(isinstance(m, P1a) for _, m in sent(one.outputs))


def test_a_log_that_begins_above_what_is_asked_for_says_so() -> None:
    one = follower()
    for slot in range(4):
        one.receive(replica(1), Decisions(0, slot, (b"v",), 0), 0.0)
    one.truncation.applied_slot = 4
    one.receive(replica(1), Heartbeat(0, ballot(1, 1), 4, 3), 0.0)
    one.tick(0.0)
    assert one.learner.first_slot == 3
    sent(one.outputs)
    one.receive(replica(2), CatchUp(0, 2), 0.0)
    assert (replica(2), Behind(0, 2)) in sent(one.outputs)
    behind = follower(2)
    behind.receive(replica(0), Behind(0, 0), 0.0)
    was_behind = behind.is_behind
    assert behind.install(view(), 4, 0.0)
    assert (was_behind, behind.is_behind) == (True, False)
    assert behind.learner.next_slot == 4


def test_the_log_is_kept_until_every_replica_of_the_view_has_executed_it() -> None:
    one = leading()
    for _ in range(one._config.truncate_slots + 1):
        accept(one, one.propose(b"v", 0.0))
    one.truncation.applied_slot = one.learner.next_slot
    reached = one.learner.next_slot
    now_s = 1.0
    for told, below in (((1, reached),), 0), (((1, reached), (2, 7)), 0), (((1, reached), (2, reached)), reached):
        for index, slot in told:
            one.receive(replica(index), Progress(0, slot, 0), now_s)
        for index in (0, 1):
            one.receive(acceptor(index), Pong(0, one.leader.ballot, 0, 0), now_s)
        one.tick(now_s)
        assert one.truncation.below == below
        now_s += 0.2
    one.tick(now_s)
    assert one.learner.first_slot == reached
    assert any(isinstance(m, Ping) and m.truncate_below == reached for _, m in sent(one.outputs))


def test_a_snapshot_of_a_later_epoch_brings_its_view() -> None:
    one = follower()
    third = View(2, (acceptor(0), acceptor(3), acceptor(4)), (0, 1, 2), 40)
    assert one.install(third, 50, 0.0)
    assert one.view == third
    assert not one.install(third, 50, 0.0)
    assert (one.learner.next_slot, one.learner.first_slot) == (50, 50)


def test_nobody_stands_before_the_snapshot_is_restored_from_which_it_goes_on() -> None:
    one = follower()
    assert one.install(view(), 50, 0.0)
    one.tick(0.0)
    assert not any(isinstance(m, Ping) for _, m in sent(one.outputs))
    one.truncation.applied_slot = 50
    one.tick(0.02)
    assert any(isinstance(m, Ping) for _, m in sent(one.outputs))


def test_adoption_looks_at_every_ballot_shown_for_a_stop_sign() -> None:
    """P2c holds for stop-signs as for any value: a higher ballot's other value replaces it."""
    leader = scouting(ballot(5))
    stop = stop_sign(SECOND)
    leader.receive_p1b(acceptor(0), promise(ballot(5), (ballot(1), 0, stop)), lambda slot: None, 0.0)
    leader.receive_p1b(acceptor(1), promise(ballot(5), (ballot(2), 0, b"v")), lambda slot: None, 0.0)
    values = {message.value for _, message in sent_by(leader) if isinstance(message, P2a)}
    assert values == {b"v"}
    assert leader.may_propose

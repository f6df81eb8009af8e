"""Phases 1 and 2 (*Paxos Made Moderately Complex*, figures 6 and 7)."""

from __future__ import annotations

import pytest

from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.leader import Leader
from concoord_ray.paxos.messages import P1a, P1b, P2a, P2b
from concoord_ray.paxos.outputs import Decided
from tests.paxos.pieces import (
    NOOP,
    acceptance,
    acceptor,
    answers,
    ballot,
    joined,
    no_decisions,
    promise,
    proposals,
    replica,
    scouting,
    sent_by,
    view,
)

B1, B2, B3, B4, MINE = ballot(1, 2), ballot(2), ballot(3, 1), ballot(4), ballot(9)


def leading(number: Ballot = MINE, acceptors: int = 3) -> Leader:
    """A leader at the end of a phase 1 that showed nothing."""
    leader = scouting(number, acceptors=acceptors)
    for index in range(view(acceptors).quorum):
        leader.receive_p1b(acceptor(index), promise(number), no_decisions, 0.0)
    assert leader.is_leading
    sent_by(leader)
    return leader


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (2, 0), (1, 2)])
def test_the_value_of_the_highest_ballot_is_proposed_again(order: tuple[int, int]) -> None:
    """Whatever the order in which the promises come. ConCoord's own pmax ignored ballots."""
    shows = {
        0: promise(MINE, (B3, 0, b"three"), (B1, 1, b"one")),
        1: promise(MINE, (B1, 0, b"one"), (B4, 1, b"four")),
        2: promise(MINE, (B2, 0, b"two"), (B2, 1, b"two")),
    }
    leader = scouting(MINE)
    ended = [leader.receive_p1b(acceptor(i), shows[i], no_decisions, 0.0) for i in order]
    assert ended == [False, True]
    ballots = {0: {0: B3, 1: B1, 2: B2}, 1: {0: B1, 1: B4, 2: B2}}
    names = {B1: b"one", B2: b"two", B3: b"three", B4: b"four"}
    assert proposals(leader) == {slot: names[max(ballots[slot][i] for i in order)] for slot in (0, 1)}


def test_phase_2_starts_only_after_a_majority_of_distinct_acceptors() -> None:
    leader = scouting(MINE, acceptors=5)
    for source in (0, 0, 1, 1, 0):
        assert not leader.receive_p1b(acceptor(source), promise(MINE), no_decisions, 0.0)
    assert leader.is_scouting
    assert leader.receive_p1b(acceptor(2), promise(MINE), no_decisions, 0.0)
    assert leader.is_leading


def test_a_promise_counts_only_once_every_page_was_shown() -> None:
    leader = scouting(MINE)
    assert not leader.receive_p1b(acceptor(0), promise(MINE, (B1, 0, b"a"), next_slot=4), no_decisions, 0.0)
    assert sent_by(leader) == [(acceptor(0), P1a(view(), MINE, 4))]
    assert not leader.receive_p1b(acceptor(1), promise(MINE), no_decisions, 0.0)
    repeated = promise(MINE, (B1, 0, b"a"), next_slot=4)
    assert not leader.receive_p1b(acceptor(0), repeated, no_decisions, 0.0)
    assert leader.receive_p1b(acceptor(0), promise(MINE, (B1, 4, b"b"), from_slot=4), no_decisions, 0.0)
    assert proposals(leader) == {0: b"a", 1: NOOP, 2: NOOP, 3: NOOP, 4: b"b"}


def test_a_promise_of_another_ballot_counts_for_nothing() -> None:
    leader = scouting(MINE)
    for other in (B1, ballot(10, 1)):
        for source in range(3):
            assert not leader.receive_p1b(acceptor(source), promise(other), no_decisions, 0.0)
    assert leader.is_scouting


def test_a_promise_from_outside_of_the_view_counts_for_nothing() -> None:
    leader = scouting(MINE)
    for stranger in (acceptor(1, incarnation=1), acceptor(7), replica(1)):
        assert not leader.receive_p1b(stranger, promise(MINE), no_decisions, 0.0)
    assert not leader.receive_p1b(acceptor(0), promise(MINE), no_decisions, 0.0)


def test_the_refusal_of_an_earlier_scout_is_not_a_promise() -> None:
    """A late p1a of this replica's earlier ballot is refused with the ballot that it has now: that shows nothing."""
    holder = joined(0)
    answers(holder, P2a(0, B1, 0, b"chosen"))
    answers(holder, P1a(view(), B4, 0))
    (refusal,) = answers(holder, P1a(view(), B2, 0))
    leader = scouting(B4)
    assert not leader.receive_p1b(acceptor(1), promise(B4), no_decisions, 0.0)
    assert isinstance(refusal, P1b)
    assert not leader.receive_p1b(acceptor(0), refusal, no_decisions, 0.0)
    assert leader.is_scouting
    (page,) = answers(holder, P1a(view(), B4, 0))
    assert isinstance(page, P1b)
    assert leader.receive_p1b(acceptor(0), page, no_decisions, 0.0)
    assert proposals(leader) == {0: b"chosen"}


def test_the_refusal_of_an_earlier_proposal_is_not_an_acceptance() -> None:
    """A late p2a of this replica's earlier ballot is refused with the ballot that it has now: nothing was accepted."""
    one = joined(0)
    answers(one, P1a(view(), B4, 0))
    (refusal,) = answers(one, P2a(0, B2, 0, b"old"))
    leader = leading(B4)
    leader.propose(b"new", 0.0)
    assert leader.receive_p2b(acceptor(1), acceptance(B4, 0)) is None
    assert isinstance(refusal, P2b)
    assert leader.receive_p2b(acceptor(0), refusal) is None
    assert leader.receive_p2b(acceptor(0), acceptance(B4, 0)) == Decided(0, b"new")


def test_slots_that_are_decided_are_not_proposed_again() -> None:
    leader = scouting(MINE)
    known = {1: b"decided"}.get
    leader.receive_p1b(acceptor(0), promise(MINE, (B1, 0, b"a"), (B1, 1, b"decided"), (B1, 2, b"c")), known, 0.0)
    leader.receive_p1b(acceptor(1), promise(MINE), known, 0.0)
    assert proposals(leader) == {0: b"a", 2: b"c"}
    assert leader.adopted_below == 3
    assert leader.propose(b"d", 0.0) == 3


def test_a_slot_is_decided_by_a_majority_of_distinct_acceptors() -> None:
    leader = leading(acceptors=5)
    slot = leader.propose(b"v", 0.0)
    for source in (0, 1, 0, 1, 0):
        assert leader.receive_p2b(acceptor(source), acceptance(MINE, slot)) is None
    assert leader.receive_p2b(acceptor(2), acceptance(MINE, slot)) == Decided(slot, b"v")


def test_a_duplicate_p2b_is_not_counted_twice() -> None:
    leader = leading()
    slot = leader.propose(b"v", 0.0)
    assert leader.receive_p2b(acceptor(0), acceptance(MINE, slot)) is None
    assert leader.receive_p2b(acceptor(0), acceptance(MINE, slot)) is None
    assert leader.receive_p2b(acceptor(1), acceptance(MINE, slot)) == Decided(slot, b"v")
    assert leader.receive_p2b(acceptor(2), acceptance(MINE, slot)) is None


def test_an_acceptance_from_outside_of_the_view_is_not_counted() -> None:
    leader = leading()
    slot = leader.propose(b"v", 0.0)
    assert leader.receive_p2b(acceptor(0), acceptance(MINE, slot)) is None
    for stranger in (acceptor(0, incarnation=1), acceptor(7), replica(1)):
        assert leader.receive_p2b(stranger, acceptance(MINE, slot)) is None


def test_an_acceptance_of_another_ballot_is_not_counted() -> None:
    leader = leading()
    slot = leader.propose(b"v", 0.0)
    for source in range(3):
        assert leader.receive_p2b(acceptor(source), acceptance(B4, slot)) is None


def test_a_retired_leader_decides_nothing_and_its_next_ballot_starts_afresh() -> None:
    leader = leading()
    slot = leader.propose(b"old", 0.0)
    leader.receive_p2b(acceptor(0), acceptance(MINE, slot))
    leader.retire()
    assert leader.receive_p2b(acceptor(1), acceptance(MINE, slot)) is None
    assert leader.slots_in_flight == 0
    later = ballot(11)
    leader.scout(later, 0, 1.0)
    assert not leader.receive_p1b(acceptor(0), promise(MINE), no_decisions, 1.0)
    leader.receive_p1b(acceptor(0), promise(later), no_decisions, 1.0)
    leader.receive_p1b(acceptor(1), promise(later), no_decisions, 1.0)
    sent_by(leader)
    assert leader.propose(b"new", 1.0) == 0
    assert leader.receive_p2b(acceptor(1), acceptance(later, 0)) is None
    assert leader.receive_p2b(acceptor(0), acceptance(MINE, 0)) is None
    assert leader.receive_p2b(acceptor(0), acceptance(later, 0)) == Decided(0, b"new")


def test_retransmission_repeats_the_value_to_those_that_have_not_accepted() -> None:
    leader = leading()
    slot = leader.propose(b"v", 0.0)
    sent_by(leader)
    leader.receive_p2b(acceptor(2), acceptance(MINE, slot))
    leader.tick(0.2)
    assert sent_by(leader) == []
    leader.tick(0.25)
    repeated = P2a(0, MINE, slot, b"v")
    assert [one for one in sent_by(leader) if isinstance(one[1], P2a)] == [
        (acceptor(0), repeated),
        (acceptor(1), repeated),
    ]


def test_an_acceptor_that_comes_back_is_told_what_it_missed() -> None:
    leader = leading()
    slot = leader.propose(b"v", 0.0)
    sent_by(leader)
    leader.resend_to(acceptor(2))
    assert sent_by(leader) == [(acceptor(2), P1a(view(), MINE, 0)), (acceptor(2), P2a(0, MINE, slot, b"v"))]
    leader.receive_p2b(acceptor(2), acceptance(MINE, slot))
    leader.receive_p1b(acceptor(2), promise(MINE), no_decisions, 0.0)
    leader.resend_to(acceptor(2))
    assert sent_by(leader) == []


def test_phase_1_keeps_asking_until_every_acceptor_has_joined() -> None:
    leader = leading()
    leader.tick(0.3)
    assert sent_by(leader) == [(acceptor(2), P1a(view(), MINE, 0))]
    assert not leader.receive_p1b(acceptor(2), promise(MINE, (B1, 5, b"late")), no_decisions, 0.3)
    leader.tick(0.6)
    assert sent_by(leader) == []
    assert leader.next_slot == 0

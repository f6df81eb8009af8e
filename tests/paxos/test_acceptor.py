"""The acceptor's rules (*Paxos Made Moderately Complex*, section 2.2)."""

from __future__ import annotations

import pytest

from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.messages import NewerView, P1a, P1b, P2a, P2b, Ping, Pong, PValue
from concoord_ray.paxos.outputs import Accepted, Joined, Promised, Record, Truncated
from concoord_ray.paxos.view import View
from tests.paxos.pieces import acceptor, answers, ballot, joined, replica, sent, view

LOW, MIDDLE, HIGH = ballot(1), ballot(2), ballot(3)


def test_a_promise_is_never_taken_back() -> None:
    one = joined()
    answers(one, P1a(view(), HIGH, 0))
    assert answers(one, P1a(view(), LOW, 0)) == [P1b(0, LOW, HIGH, 0, (), None, 0)]
    assert answers(one, P2a(0, LOW, 0, b"late")) == [P2b(0, LOW, HIGH, 0)]
    assert answers(one, P1a(view(), HIGH, 0)) == [P1b(0, HIGH, HIGH, 0, (), None, 0)]


def test_a_pvalue_is_accepted_in_the_promised_ballot_or_a_higher_one() -> None:
    one = joined()
    answers(one, P1a(view(), MIDDLE, 0))
    assert answers(one, P2a(0, LOW, 0, b"low")) == [P2b(0, LOW, MIDDLE, 0)]
    assert answers(one, P2a(0, MIDDLE, 0, b"middle")) == [P2b(0, MIDDLE, MIDDLE, 0)]
    assert answers(one, P2a(0, HIGH, 0, b"high")) == [P2b(0, HIGH, HIGH, 0)]
    assert answers(one, P1a(view(), HIGH, 0)) == [P1b(0, HIGH, HIGH, 0, (PValue(HIGH, 0, b"high"),), None, 0)]


def test_an_acceptance_promises_its_ballot_too() -> None:
    one = joined()
    answers(one, P2a(0, HIGH, 0, b"high"))
    assert answers(one, P1a(view(), MIDDLE, 0)) == [P1b(0, MIDDLE, HIGH, 0, (), None, 0)]


def test_p1b_lists_the_highest_ballot_of_each_slot() -> None:
    one = joined()
    for number, slot, value in ((LOW, 0, b"a"), (LOW, 1, b"b"), (MIDDLE, 1, b"c")):
        answers(one, P2a(0, number, slot, value))
    assert answers(one, P1a(view(), HIGH, 0)) == [
        P1b(0, HIGH, HIGH, 0, (PValue(LOW, 0, b"a"), PValue(MIDDLE, 1, b"c")), None, 0)
    ]


def test_p1b_begins_at_the_slot_that_was_asked_for() -> None:
    one = joined()
    for slot in range(3):
        answers(one, P2a(0, LOW, slot, b"v%d" % slot))
    assert answers(one, P1a(view(), HIGH, 2)) == [P1b(0, HIGH, HIGH, 2, (PValue(LOW, 2, b"v2"),), None, 0)]


def test_what_an_answer_says_is_durable_before_it_leaves() -> None:
    one = Acceptor(acceptor(0), page_bytes=100)
    one.receive(replica(0), P1a(view(), LOW, 0))
    asked = one.outputs.take()
    assert asked.persist == [Joined(view()), Promised(0, LOW)]
    assert len(asked.send) == 1
    one.receive(replica(0), P2a(0, LOW, 0, b"v"))
    assert one.outputs.take().persist == [Accepted(0, PValue(LOW, 0, b"v"))]


def test_a_duplicate_is_answered_again_and_not_written_again() -> None:
    one = joined()
    first = answers(one, P2a(0, LOW, 0, b"v"))
    one.receive(replica(0), P2a(0, LOW, 0, b"v"))
    again = one.outputs.take()
    assert [send.message for send in again.send] == first
    assert again.persist == []
    one.receive(replica(0), P1a(view(), LOW, 0))
    assert one.outputs.take().persist == []


@pytest.mark.parametrize("page_bytes", [1, 3, 5, 1000])
def test_pages_together_show_every_slot_once(page_bytes: int) -> None:
    one = joined(page_bytes=page_bytes)
    accepted = {0: b"a", 1: b"bbbb", 3: b"c", 7: b"dd"}
    for slot, value in accepted.items():
        answers(one, P2a(0, LOW, slot, value))
    shown: list[tuple[int, bytes]] = []
    from_slot: int | None = 0
    while from_slot is not None:
        (page,) = answers(one, P1a(view(), HIGH, from_slot))
        assert isinstance(page, P1b)
        assert len(page.accepted) == 1 or sum(len(p.value) for p in page.accepted) <= page_bytes
        shown += [(p.slot, p.value) for p in page.accepted]
        from_slot = page.next_slot
    assert shown == list(accepted.items())


def test_a_page_asked_for_after_a_preemption_carries_no_values() -> None:
    one = joined(page_bytes=1)
    for slot in range(2):
        answers(one, P2a(0, LOW, slot, b"v"))
    (page,) = answers(one, P1a(view(), MIDDLE, 0))
    assert isinstance(page, P1b)
    assert page.next_slot == 1
    answers(one, P1a(view(), HIGH, 0), replica(1))
    assert answers(one, P1a(view(), MIDDLE, 1)) == [P1b(0, MIDDLE, HIGH, 1, (), None, 0)]


def test_an_acceptor_takes_part_only_in_a_view_that_names_its_incarnation() -> None:
    reborn = Acceptor(acceptor(0, incarnation=1), page_bytes=100)
    reborn.receive(replica(0), P1a(view(), LOW, 0))
    reborn.receive(replica(0), P2a(0, LOW, 0, b"v"))
    asked = reborn.outputs.take()
    assert asked.persist == []
    assert asked.send == []
    assert reborn.view is None


def test_an_epoch_has_one_view() -> None:
    """Two views for one epoch would be two ensembles with one name, each with a majority of its own."""
    one = joined()
    other = View(0, (acceptor(0), acceptor(8), acceptor(9)), view().replicas)
    assert answers(one, P1a(other, HIGH, 0)) == []
    assert not one.join(other)
    assert answers(one, P1a(view(), LOW, 0)) == [P1b(0, LOW, LOW, 0, (), None, 0)]


def test_a_pong_tells_the_promise_and_gives_the_nonce_back() -> None:
    fresh = Acceptor(acceptor(0), page_bytes=100)
    fresh.receive(replica(0), Ping(0, 7, 0))
    assert sent(fresh.outputs) == [(replica(0), Pong(0, BOTTOM, 7, 0))]
    one = joined()
    answers(one, P1a(view(), HIGH, 0))
    one.receive(replica(1), Ping(0, 8, 0))
    assert sent(one.outputs) == [(replica(1), Pong(0, HIGH, 8, 0))]


def test_an_epoch_that_has_ended_is_served_until_it_is_dropped() -> None:
    """A replica that lags finds its stop-sign here."""
    one = joined()
    answers(one, P2a(0, MIDDLE, 0, b"stop"))
    newer = view(epoch=1, first_slot=1)
    answers(one, P1a(newer, LOW, 1))
    shown = P1b(0, HIGH, HIGH, 0, (PValue(MIDDLE, 0, b"stop"),), None, 0)
    assert answers(one, P1a(view(), HIGH, 0)) == [shown]
    one.receive(replica(0), Ping(1, 1, 1))
    one.outputs.take()
    for message in (P1a(view(), HIGH, 0), P2a(0, HIGH, 0, b"v"), Ping(0, 1, 0)):
        one.receive(replica(2), message)
        assert sent(one.outputs) == [(replica(2), NewerView(newer))]


def test_what_is_truncated_is_not_shown_and_said_to_be_gone() -> None:
    one = joined()
    for slot in range(5):
        answers(one, P2a(0, LOW, slot, b"%d" % slot))
    one.receive(replica(0), Ping(0, 1, 3))
    assert one.outputs.take().persist == [Truncated(3, 0)]
    page = (PValue(LOW, 3, b"3"), PValue(LOW, 4, b"4"))
    assert answers(one, P1a(view(), MIDDLE, 0)) == [P1b(0, MIDDLE, MIDDLE, 0, page, None, 3)]
    one.receive(replica(0), Ping(0, 2, 1))
    assert one.truncated_below == 3
    assert one.outputs.take().persist == []


def test_a_slot_that_is_truncated_is_answered_and_not_kept_again() -> None:
    """The proposal comes late: its slot was decided and executed by all."""
    one = joined()
    answers(one, P2a(0, LOW, 0, b"v"))
    one.receive(replica(0), Ping(0, 1, 1))
    one.outputs.take()
    one.receive(replica(0), P2a(0, LOW, 0, b"v"))
    outputs = one.outputs.take()
    assert outputs.persist == []
    assert [send.message for send in outputs.send] == [P2b(0, LOW, LOW, 0)]


def test_an_epoch_that_was_dropped_is_never_joined_again() -> None:
    """Its promises and values are gone: to join it anew would be amnesia."""
    one = joined()
    answers(one, P1a(view(epoch=1, first_slot=4), LOW, 4))
    one.receive(replica(0), Ping(1, 1, 4))
    records: list[Record] = [Joined(view(epoch=1, first_slot=4)), Promised(1, LOW), Truncated(4, 1)]
    for acceptor_ in (one, restored(records)):
        acceptor_.outputs.take()
        assert not acceptor_.join(view())
        assert answers(acceptor_, P1a(view(), HIGH, 0)) == [NewerView(view(epoch=1, first_slot=4))]


def restored(records: list[Record]) -> Acceptor:
    one = Acceptor(acceptor(0), page_bytes=1000)
    one.restore(records)
    return one


def test_what_was_made_durable_is_what_comes_back() -> None:
    one = Acceptor(acceptor(0), page_bytes=1000)
    one.receive(replica(0), P1a(view(), LOW, 0))
    one.receive(replica(0), P2a(0, LOW, 0, b"a"))
    one.receive(replica(1), P2a(0, MIDDLE, 0, b"b"))
    one.receive(replica(1), P1a(view(), HIGH, 0))
    restored = Acceptor(acceptor(0), page_bytes=1000)
    restored.restore(one.outputs.take().persist)
    assert restored.view == view()
    assert answers(restored, P1a(view(), MIDDLE, 0)) == [P1b(0, MIDDLE, HIGH, 0, (), None, 0)]
    assert answers(restored, P1a(view(), HIGH, 0)) == [P1b(0, HIGH, HIGH, 0, (PValue(MIDDLE, 0, b"b"),), None, 0)]


def test_ballots_are_ordered_by_round_then_replica_then_incarnation() -> None:
    ordered = [BOTTOM, Ballot(0, 0, 1), Ballot(0, 0, 2), Ballot(0, 1, 0), Ballot(1, 0, 0)]
    assert sorted(ordered, reverse=True) == ordered[::-1]


@pytest.mark.parametrize(("acceptors", "quorum"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_two_majorities_share_an_acceptor(acceptors: int, quorum: int) -> None:
    assert view(acceptors).quorum == quorum
    assert 2 * quorum > acceptors

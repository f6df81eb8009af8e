"""One replica in consensus: who leads, who steps down, who catches up, and when a read may be served."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from concoord_ray.config import Config
from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.election import Standing
from concoord_ray.paxos.messages import CatchUp, Decisions, Heartbeat, Message, P1a, P1b, P2a, P2b, Ping, Pong, Progress
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member
from tests.paxos.pieces import CONFIG, acceptance, acceptor, ballot, follower, promise, replica, sent, view


def pong_from(one: Replica, *indices: int, promised: Ballot = BOTTOM, now_s: float = 0.0) -> None:
    """Answer the ping that ``one`` has just sent."""
    nonce = next(m.nonce for _, m in reversed(sent(one.outputs)) if isinstance(m, Ping))
    for index in indices:
        one.receive(acceptor(index), Pong(0, promised, nonce, 0), now_s)


def scout(index: int = 0, now_s: float = 0.0, config: Config = CONFIG) -> Replica:
    """A replica in phase 1."""
    one = follower(index, now_s, config=config)
    one.tick(now_s + index)
    pong_from(one, 0, 1, now_s=now_s + index)
    assert one.election.standing is Standing.SCOUT
    sent(one.outputs)
    return one


def leader(now_s: float = 0.0, config: Config = CONFIG) -> Replica:
    one = scout(now_s=now_s, config=config)
    for index in (0, 1):
        one.receive(acceptor(index), promise(one.leader.ballot), now_s)
    assert one.is_leader
    sent(one.outputs)
    return one


def told(one: Replica) -> list[tuple[tuple[Member, ...], Message]]:
    """The decisions sent since the last look."""
    return [(send.to, send.message) for send in one.outputs.take().send if isinstance(send.message, Decisions)]


def decide(one: Replica, value: bytes, now_s: float = 0.0) -> int:
    slot = one.propose(value, now_s)
    for index in (0, 1):
        one.receive(acceptor(index), acceptance(one.leader.ballot, slot), now_s)
    return slot


# Elections.


def test_a_candidate_first_asks_whether_it_reaches_a_majority() -> None:
    one = follower()
    one.tick(0.0)
    assert {type(message) for _, message in sent(one.outputs)} == {Ping, CatchUp}
    assert one.election.standing is Standing.CANDIDATE
    one.receive(acceptor(0), Pong(0, BOTTOM, 0, 0), 0.0)
    one.receive(acceptor(0), Pong(0, BOTTOM, 0, 0), 0.0)
    assert one.election.standing is Standing.CANDIDATE
    one.receive(acceptor(2), Pong(0, BOTTOM, 0, 0), 0.0)
    assert [message for _, message in sent(one.outputs)] == [P1a(view(), one.leader.ballot, 0)] * 3


def test_an_acceptor_outside_of_the_view_is_no_part_of_a_majority() -> None:
    one = follower()
    one.tick(0.0)
    for stranger in (acceptor(1, incarnation=1), acceptor(1, incarnation=2), replica(1)):
        one.receive(stranger, Pong(0, BOTTOM, 0, 0), 0.0)
    one.receive(acceptor(0), Pong(0, BOTTOM, 0, 0), 0.0)
    assert one.election.standing is Standing.CANDIDATE


def test_a_candidate_goes_above_every_ballot_that_it_has_heard_of() -> None:
    one = follower(now_s=0.0)
    one.receive(replica(1), Heartbeat(0, ballot(3, 1), 0, 0), 0.0)
    one.disconnected(replica(1), 0.0)
    one.tick(1.0)
    pong_from(one, 0, promised=ballot(7, 2), now_s=1.0)
    one.receive(acceptor(1), Pong(0, ballot(5, 1), 0, 0), 1.0)
    assert one.leader.ballot == ballot(8, 0)


def test_a_candidate_does_not_count_the_answers_to_an_earlier_question() -> None:
    one = follower()
    one.tick(0.0)
    one.tick(10.0)
    for index in range(3):
        one.receive(acceptor(index), Pong(0, BOTTOM, 0, 0), 10.0)
    assert one.election.standing is Standing.CANDIDATE


def test_a_replica_that_restarts_does_not_depose_a_leader_that_lives() -> None:
    """It remembers nobody; but the acceptors tell it that somebody led, who deserves the time to be heard."""
    one = follower(0, incarnation=1)
    one.tick(0.0)
    pong_from(one, 0, 1, promised=ballot(4, 1))
    assert [message for _, message in sent(one.outputs) if isinstance(message, P1a)] == []
    one.tick(0.1)
    one.receive(replica(1), Heartbeat(0, ballot(4, 1), 0, 0), 0.2)
    assert one.election.leader == replica(1)
    assert one.election.standing is Standing.FOLLOWER


def test_a_replica_that_restarts_leads_in_the_end_if_nobody_else_does() -> None:
    one = follower(0, incarnation=1)
    one.tick(0.0)
    pong_from(one, 0, 1, promised=ballot(4, 1))
    one.tick(2 * CONFIG.election_timeout_s)
    pong_from(one, 0, 1, promised=ballot(4, 1), now_s=2.0)
    assert not one.leader.is_scouting, "others may hear from a leader"
    one.tick(2 * CONFIG.election_timeout_s + CONFIG.heartbeat_interval_s)
    assert one.leader.ballot > ballot(4, 1)
    assert one.leader.is_scouting


def test_no_ballot_is_used_in_two_lives() -> None:
    lives = [follower(0, incarnation=n).election.next_ballot() for n in range(3)]
    assert len(set(lives)) == 3


def test_the_next_in_line_stands_first_when_the_leader_is_gone() -> None:
    deadlines = {}
    for index in (0, 2):
        one = follower(index)
        one.receive(replica(1), Heartbeat(0, ballot(1, 1), 0, 0), 5.0)
        assert one.election.deadline_s >= 5.0 + CONFIG.election_timeout_s
        one.disconnected(replica(1), 6.0)
        deadlines[index] = one.election.deadline_s
    assert deadlines[2] == 6.0 < deadlines[0] < 6.0 + CONFIG.election_timeout_s


def test_the_end_of_somebody_elses_connection_is_no_suspicion() -> None:
    one = follower(2)
    one.receive(replica(1), Heartbeat(0, ballot(1, 1), 0, 0), 5.0)
    for other in (replica(0), replica(1, incarnation=1), acceptor(1)):
        one.disconnected(other, 5.0)
    assert one.election.leader == replica(1)


@pytest.mark.parametrize(
    ("heard", "follows"),
    [(ballot(9, 1), True), (ballot(0, 2), True), (Ballot(-1, 2, 3), False)],
)
def test_a_leader_follows_a_higher_ballot_only(heard: Ballot, follows: bool) -> None:
    one = leader()
    source = Member(replica(0).role, heard.replica, heard.incarnation)
    one.receive(source, Heartbeat(0, heard, 0, 0), 0.1)
    assert one.is_leader is not follows
    assert (one.election.leader == source) is follows


@pytest.mark.parametrize(
    "message", [P1b(0, ballot(0), ballot(5, 1), 0, (), None, 0), P2b(0, ballot(0), ballot(5, 1), 0)]
)
def test_a_leader_that_is_preempted_steps_down(message: P1b | P2b) -> None:
    one = leader()
    one.propose(b"v", 0.0)
    one.receive(acceptor(2), message, 0.0)
    assert not one.is_leader
    assert one.leader.slots_in_flight == 0
    assert one.election.next_ballot() > ballot(5, 1)


def test_a_leader_without_a_majority_abdicates() -> None:
    one = leader()
    one.tick(CONFIG.election_timeout_s)
    led = [one.is_leader]
    one.receive(acceptor(0), Pong(0, one.leader.ballot, 99, 0), 1.5)
    one.receive(acceptor(1, incarnation=1), Pong(0, BOTTOM, 99, 0), 1.5)
    one.tick(1.6)
    assert [*led, one.is_leader] == [True, False]
    assert not one.has_quorum(1.6)


def test_heartbeats_among_replicas_are_no_quorum_of_acceptors() -> None:
    one = leader()
    for tenth in range(1, 12):
        one.receive(replica(1), CatchUp(0, 0), tenth / 10)
        one.tick(tenth / 10)
    assert not one.is_leader


@pytest.mark.parametrize("answering", [(0, 1), (0,), ()])
def test_a_scout_goes_on_for_as_long_as_a_majority_stands_by_its_ballot(answering: tuple[int, ...]) -> None:
    """A promise may bring 50 MB over a slow network. Whoever raised the ballot meanwhile would have them sent again."""
    one = scout()
    beats = []
    for step in range(1, 100):
        one.tick(step / 10)
        messages = [message for _, message in sent(one.outputs)]
        for ping in [message for message in messages if isinstance(message, Ping)]:
            for index in answering:
                one.receive(acceptor(index), Pong(0, one.leader.ballot, ping.nonce, 0), step / 10)
        beats += [message for message in messages if isinstance(message, Heartbeat)]
    goes_on = len(answering) == 2
    assert one.leader.is_scouting is goes_on
    assert {beat.ballot for beat in beats} == ({one.leader.ballot} if goes_on else set())
    assert goes_on is (len(beats) > 90)


def test_a_scout_that_was_overtaken_is_not_followed() -> None:
    one = scout()
    one.tick(0.2)
    pong_from(one, 0, promised=one.leader.ballot, now_s=0.2)
    one.tick(0.5)
    pong_from(one, 1, 2, promised=ballot(9, 1), now_s=0.5)
    assert not [message for _, message in sent(one.outputs) if isinstance(message, Heartbeat)]
    assert not one.leader.is_scouting


# Deciding and learning.


def test_decisions_are_told_to_every_other_replica_once_a_tick() -> None:
    one = leader()
    decide(one, b"v")
    decide(one, b"w")
    one.tick(0.0)
    outputs = one.outputs.take()
    assert [(s.to, s.message) for s in outputs.send if isinstance(s.message, Decisions)] == [
        ((replica(1), replica(2)), Decisions(0, 0, (b"v", b"w"), 2))
    ]
    assert outputs.decisions == [(0, b"v"), (1, b"w")]
    one.tick(0.0)
    assert not [s for s in one.outputs.take().send if isinstance(s.message, Decisions)]


def test_what_is_told_is_told_of_its_own_slot() -> None:
    """A late word of an earlier leader fills the middle, and what this leader decides there is no news any more."""
    one = scout()
    number, old = one.leader.ballot, Ballot(-1, 2, 7)
    for index in (0, 1):
        shown = [(old, slot, b"%d" % slot) for slot in range(4)]
        one.receive(acceptor(index), promise(number, *shown), 0.0)
    for slot in range(4):
        for index in (0, 1):
            one.receive(acceptor(index), acceptance(number, slot), 0.0)
        if slot == 0:
            one.receive(replica(2), Decisions(0, 1, (b"1",), 0), 0.0)
    assert one.learner.next_slot == 4
    sent(one.outputs)
    one.tick(0.02)
    assert [message for _, message in told(one)] == [Decisions(0, 0, (b"0",), 4), Decisions(0, 2, (b"2", b"3"), 4)]


def test_a_page_that_is_not_the_last_is_followed_by_the_next() -> None:
    """Simulator seeds 6954 and 7666: a page an election timeout took longer than the patience of those who wait."""
    one = follower()
    one.receive(replica(1), Decisions(0, 0, (b"0", b"1"), 5), 0.0)
    assert sent(one.outputs) == [(replica(1), CatchUp(0, 2))]
    one.receive(replica(1), Decisions(0, 0, (b"0", b"1"), 5), 0.0)
    one.receive(replica(1), Decisions(0, 2, (b"2", b"3", b"4"), 5), 0.0)
    assert sent(one.outputs) == []


@pytest.mark.parametrize("sizes", [[1], [9, 9, 9], [5, 5, 5, 5], [30], [1, 30, 1]])
def test_decisions_are_told_a_page_at_a_time(sizes: list[int]) -> None:
    one = leader(config=replace(CONFIG, catch_up_page_bytes=10))
    for size in sizes:
        decide(one, b"x" * size)
    one.tick(0.02)
    pages = [message for _, message in told(one) if isinstance(message, Decisions)]
    assert [len(value) for page in pages for value in page.values] == sizes
    assert all(len(page.values) == 1 or sum(map(len, page.values)) <= 10 for page in pages)
    assert [page.first_slot for page in pages] == [
        sum(len(earlier.values) for earlier in pages[:at]) for at in range(len(pages))
    ]


def test_a_follower_that_misses_a_decision_asks_for_it() -> None:
    behind, ahead = follower(2), follower(1)
    for slot in range(3):
        ahead.receive(replica(0), Decisions(0, slot, (b"%d" % slot,), 0), 0.0)
    behind.receive(replica(0), Decisions(0, 2, (b"2",), 0), 0.0)
    behind.receive(replica(1), Heartbeat(0, ballot(1, 1), 3, 0), 0.0)
    assert sent(behind.outputs) == [(replica(1), Progress(0, 0, 0)), (replica(1), CatchUp(0, 0))]
    ahead.outputs.take()
    ahead.receive(replica(2), CatchUp(0, 0), 0.0)
    for to, message in sent(ahead.outputs):
        assert to == replica(2)
        behind.receive(replica(1), message, 0.0)
    assert behind.outputs.take().decisions == [(0, b"0"), (1, b"1"), (2, b"2")]


def test_an_answer_of_another_epoch_counts_for_nothing() -> None:
    one = leader()
    slot = one.propose(b"v", 0.0)
    number = one.leader.ballot
    for index in range(3):
        one.receive(acceptor(index), P2b(1, number, number, slot), 0.0)
        one.receive(acceptor(index), P2b(1, ballot(0), ballot(8, 1), slot), 0.0)
    assert one.is_leader
    assert one.learner.next_slot == 0


def test_the_current_incarnation_of_a_peer_hears_decisions() -> None:
    one = leader()
    one.set_members((), (replica(0), replica(1, incarnation=1), replica(2)))
    decide(one, b"v")
    one.tick(0.0)
    assert {to for to, message in sent(one.outputs) if isinstance(message, Decisions)} == {
        replica(1, incarnation=1),
        replica(2),
    }


# Reads.


def test_a_read_is_confirmed_by_a_majority_that_still_promises_this_ballot() -> None:
    one = leader()
    nonce = one.confirm(0.0)
    one.receive(acceptor(0), Pong(0, one.leader.ballot, nonce, 0), 0.0)
    assert one.confirmed_nonce < nonce
    one.receive(acceptor(0), Pong(0, one.leader.ballot, nonce, 0), 0.0)
    one.receive(acceptor(1, incarnation=1), Pong(0, one.leader.ballot, nonce, 0), 0.0)
    one.receive(acceptor(1), Pong(0, BOTTOM, nonce, 0), 0.0)
    assert one.confirmed_nonce < nonce
    one.receive(acceptor(2), Pong(0, one.leader.ballot, nonce, 0), 0.0)
    assert one.confirmed_nonce == nonce


def test_a_round_that_began_before_the_read_does_not_confirm_it() -> None:
    one = leader()
    before = one.confirm(0.0)
    nonce = one.confirm(0.0)
    for index in range(3):
        one.receive(acceptor(index), Pong(0, one.leader.ballot, before, 0), 0.0)
    assert one.confirmed_nonce < before < nonce


def test_a_pong_with_a_higher_promise_ends_the_leadership() -> None:
    one = leader()
    nonce = one.confirm(0.0)
    one.receive(acceptor(0), Pong(0, ballot(5, 1), nonce, 0), 0.0)
    assert not one.is_leader
    for index in (1, 2):
        one.receive(acceptor(index), Pong(0, one.leader.ballot, nonce, 0), 0.0)
    assert one.confirmed_nonce < nonce


def test_a_nonce_is_never_used_again_not_even_in_the_next_leadership() -> None:
    one = leader()
    first = one.confirm(0.0)
    one.receive(acceptor(0), P2b(0, ballot(0), ballot(5, 1), 0), 0.0)
    one.tick(5.0)
    pong_from(one, 0, 1, promised=ballot(5, 1), now_s=5.0)
    one.tick(5.0 + CONFIG.heartbeat_interval_s)
    for index in (0, 1):
        one.receive(acceptor(index), promise(one.leader.ballot), 5.1)
    assert one.is_leader
    assert one.confirm(5.0) > first
    assert one.confirmed_nonce < first


def test_the_barrier_covers_what_was_adopted_and_what_was_decided() -> None:
    one = scout()
    number = one.leader.ballot
    old = Ballot(-1, 2, 7)
    one.receive(acceptor(0), promise(number, (old, 0, b"a"), (old, 4, b"e")), 0.0)
    one.receive(acceptor(1), promise(number), 0.0)
    assert one.read_barrier == 5
    assert one.propose(b"mine", 0.0) == 5
    for slot in range(6):
        for index in (0, 1):
            one.receive(acceptor(index), acceptance(number, slot), 0.0)
    assert one.read_barrier == 6


def test_a_lost_ping_is_sent_again_to_those_that_have_not_answered() -> None:
    one = leader()
    nonce = one.confirm(0.0)
    sent(one.outputs)
    one.receive(acceptor(1), Pong(0, one.leader.ballot, nonce, 0), 0.0)
    one.tick(CONFIG.retransmit_interval_s)
    again = [to for to, message in sent(one.outputs) if message == Ping(0, nonce, 0)]
    assert again == [acceptor(0), acceptor(2)]
    one.connected(acceptor(2), 0.3)
    assert (acceptor(2), Ping(0, nonce, 0)) in sent(one.outputs)


# All of it together: three replicas, three acceptors, and messages in any order.


def test_p2a_is_never_sent_with_two_values_in_one_ballot() -> None:
    one = leader()
    given: dict[tuple[Ballot, int], bytes] = {}
    for number in range(20):
        one.propose(b"%d" % number, number / 100)
        one.tick(number / 20)
        one.connected(acceptor(2), number / 20)
        for _, message in sent(one.outputs):
            if isinstance(message, P2a):
                assert given.setdefault((message.ballot, message.slot), message.value) == message.value
    assert len(given) == 20

"""The client's side of exactly once: numbering, finding the leader, sending again, acknowledging, giving up."""

from __future__ import annotations

import pytest

from concoord_ray.config import Config
from concoord_ray.errors import OutcomeUnknown, Overloaded, QuorumLost
from concoord_ray.leadership import Absence
from concoord_ray.rsm.command import (
    Busy,
    Cancel,
    Entry,
    KeepAlive,
    Kept,
    Leading,
    NotLeader,
    OpenSession,
    Outcome,
    Read,
    Reply,
    Request,
)
from concoord_ray.rsm.wire import decode_command
from concoord_ray.session import Courier, Failed, Session, ToReplica

CONFIG = Config()
PATIENCE_S = CONFIG.quorum_timeout_s


def request(seq: int = 1, session: int = 5) -> Request:
    return Request(Entry(session, seq, (), b"command"))


def read(seq: int = -1) -> Read:
    return Read(Entry(5, seq, (), b"command"))


def reply(seq: int = 1, session: int = 5) -> Reply:
    return Reply(session, seq, Outcome.VALUE, b"")


def courier(leader: int | None = 0) -> Courier:
    one = Courier(CONFIG, 0.0)
    if leader is not None:
        one.receive(leader, Leading(), 0.0)
    return one


def sent(one: Courier) -> list[ToReplica]:
    taken, one.outbox = one.outbox, []
    return taken


def ended(one: Courier) -> list[Reply | Failed]:
    taken, one.endings = one.endings, []
    return taken


# Who leads.


def test_nothing_is_sent_before_a_replica_says_that_it_leads() -> None:
    one = courier(leader=None)
    one.submit(request(), 0.0)
    one.receive(0, NotLeader(1, True), 0.0)
    assert sent(one) == []
    one.receive(1, Leading(), 0.1)
    assert sent(one) == [(1, request())]


def test_what_is_unanswered_is_sent_unchanged_to_each_new_leader() -> None:
    one = courier()
    one.submit(request(1), 0.0)
    one.submit(request(2), 0.0)
    one.receive(0, reply(1), 0.0)
    assert sent(one) == [(0, request(1)), (0, request(2))]
    one.receive(0, NotLeader(None, True), 0.1)
    one.receive(2, Leading(), 0.2)
    assert sent(one) == [(2, request(2))]


def test_a_closed_connection_is_a_lost_leader() -> None:
    one = courier()
    one.submit(request(), 0.0)
    sent(one)
    leaders = []
    for index in (1, 0):
        one.disconnected(index, 0.1)
        leaders.append(one.leader)
    assert leaders == [0, None]
    one.receive(0, Leading(), 0.2)
    assert sent(one) == [(0, request())]


def test_of_two_that_say_that_they_lead_the_latest_is_believed() -> None:
    one = courier(leader=0)
    one.submit(request(), 0.0)
    one.receive(1, Leading(), 0.1)
    assert sent(one) == [(0, request()), (1, request())]


@pytest.mark.parametrize("lost", ["it says so", "its connection is closed"])
def test_when_a_stale_leader_gives_up_the_one_before_it_is_found_again(lost: str) -> None:
    """The real leader said so once, and has no reason to say it again."""
    one = courier(leader=1)
    one.receive(0, Leading(), 0.1)
    one.submit(request(), 0.2)
    assert sent(one) == [(0, request())]
    if lost == "it says so":
        one.receive(0, NotLeader(None, False), 0.3)
    else:
        one.disconnected(0, 0.3)
    assert one.leader == 1
    assert sent(one) == [(1, request())]


def test_the_same_leader_again_is_not_flooded() -> None:
    one = courier()
    one.submit(request(), 0.0)
    sent(one)
    one.receive(0, Leading(), 0.1)
    assert sent(one) == []


# Replies.


def test_what_somebody_before_us_may_have_sent_may_have_run() -> None:
    """Whatever becomes of it with us: a gateway's next life gets the calls of the one before."""
    one = courier(leader=None)
    one.submit(request(), 0.0, was_sent=True)
    one.tick(PATIENCE_S + 1)
    (ending,) = ended(one)
    assert isinstance(ending, Failed)
    assert isinstance(ending.error, OutcomeUnknown)
    one.receive(0, Leading(), PATIENCE_S + 1)
    one.submit(request(2), PATIENCE_S + 1, was_sent=True)
    one.receive(0, Busy(5, 2), PATIENCE_S + 1)
    one.tick(2 * PATIENCE_S + 2)
    (ending,) = ended(one)
    assert isinstance(ending, Failed)
    assert isinstance(ending.error, OutcomeUnknown)


def test_a_call_ends_once() -> None:
    one = courier()
    one.submit(request(), 0.0)
    for _ in range(3):
        one.receive(0, reply(), 0.0)
    assert ended(one) == [reply()]
    assert one.unanswered == 0


def test_a_reply_counts_whoever_sends_it() -> None:
    one = courier()
    one.submit(request(), 0.0)
    one.receive(2, reply(), 0.0)
    assert ended(one) == [reply()]


def test_a_forgotten_call_does_not_end() -> None:
    one = courier()
    one.submit(request(), 0.0)
    one.forget(5, 1)
    one.receive(0, reply(), 0.0)
    assert ended(one) == []


def test_a_busy_leader_is_asked_again_a_little_later() -> None:
    one = courier()
    one.submit(request(), 0.0)
    sent(one)
    one.receive(0, Busy(5, 1), 1.0)
    one.tick(1.0 + CONFIG.retransmit_interval_s / 2)
    assert sent(one) == []
    one.tick(1.0 + CONFIG.retransmit_interval_s)
    assert sent(one) == [(0, request())]
    one.tick(10.0)
    assert sent(one) == []


# A busy leader.


def seqs(messages: list[ToReplica]) -> list[int]:
    return [message.message.entry.seq for message in messages if isinstance(message.message, (Request, Read))]


def refuse(one: Courier, messages: list[ToReplica], now_s: float) -> None:
    for seq in seqs(messages):
        one.receive(0, Busy(5, seq), now_s)


def test_what_is_submitted_to_a_busy_leader_stays_in_order() -> None:
    one = courier()
    for seq in (1, 2, 3):
        one.submit(request(seq), 0.0)
    first = sent(one)
    one.receive(0, reply(1), 0.0)
    refuse(one, first[1:], 0.0)
    one.submit(request(4), 0.1)
    assert sent(one) == []
    one.tick(CONFIG.retransmit_interval_s)
    assert seqs(sent(one)) == [2, 3, 4]


def test_each_reply_of_a_busy_leader_makes_room_for_one_more() -> None:
    one = courier()
    for seq in range(1, 7):
        one.submit(request(seq), 0.0)
    refuse(one, sent(one)[2:], 0.0)
    one.receive(0, reply(1), 0.01)
    one.receive(0, reply(2), 0.01)
    assert seqs(sent(one)) == [3, 4]


def test_a_busy_leader_is_offered_less_and_one_that_takes_all_is_offered_more() -> None:
    """A leader that refused everything again and again would have no time for anything else."""
    one = courier()
    for seq in range(1, 1001):
        one.submit(request(seq), 0.0)
    refuse(one, sent(one), 0.0)
    now_s, offered = 0.0, []
    for takes_all in (False, False, False, False, True, True, True):
        now_s += CONFIG.retransmit_interval_s
        one.tick(now_s)
        messages = sent(one)
        offered.append(len(messages))
        if not takes_all:
            refuse(one, messages, now_s)
    assert offered == [8, 4, 2, 1, 1, 2, 4]


def test_a_new_leader_is_sent_everything() -> None:
    one = courier()
    for seq in (1, 2, 3):
        one.submit(request(seq), 0.0)
    refuse(one, sent(one), 0.0)
    one.receive(1, Leading(), 0.1)
    assert seqs(sent(one)) == [1, 2, 3]


def test_a_leader_that_takes_nothing_is_given_up_in_the_end() -> None:
    one = courier()
    one.submit(request(1), 0.0)
    now_s = 0.0
    while not one.endings:
        refuse(one, sent(one), now_s)
        now_s += 0.2
        one.tick(now_s)
        assert now_s < PATIENCE_S + 2
    assert now_s > PATIENCE_S
    (failed,) = ended(one)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Overloaded)
    assert one.unanswered == 0


def test_one_that_answers_others_is_waited_for() -> None:
    one = courier()
    for seq in range(1, 200):
        one.submit(request(seq), 0.0)
    now_s, taken = 0.0, 0
    while now_s < 3 * PATIENCE_S:
        messages = sent(one)
        refuse(one, messages[1:], now_s)
        for seq in seqs(messages[:1]):
            one.receive(0, reply(seq), now_s)
            taken += 1
        now_s += 0.5
        one.tick(now_s)
    assert taken > 50
    assert all(isinstance(ending, Reply) for ending in ended(one))


def test_what_an_earlier_leader_may_have_taken_is_not_told_to_be_safe() -> None:
    one = courier()
    one.submit(request(1), 0.0)
    sent(one)  # To the first, which does not say what has become of it.
    one.receive(1, Leading(), 0.0)
    now_s = 0.0
    while not one.endings:
        assert now_s < PATIENCE_S + 2
        for _ in sent(one):
            one.receive(1, Busy(5, 1), now_s)
        now_s += 0.2
        one.tick(now_s)
    (failed,) = ended(one)
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, OutcomeUnknown)


# Giving up.


@pytest.mark.parametrize(
    ("message", "was_sent", "error"),
    [
        (request(), False, QuorumLost),
        (request(), True, OutcomeUnknown),
        (read(), False, QuorumLost),
        (read(), True, QuorumLost),
    ],
)
def test_what_was_never_proposed_is_told_apart_from_what_may_have_been(
    message: Request | Read, was_sent: bool, error: type[Exception]
) -> None:
    one = courier(leader=0 if was_sent else None)
    one.submit(message, 0.0)
    one.disconnected(0, 1.0)
    one.tick(PATIENCE_S)
    assert ended(one) == []
    one.tick(PATIENCE_S + 1.5)
    (failed,) = ended(one)
    assert isinstance(failed, Failed)
    assert type(failed.error) is error
    assert "concoord.status()" in str(failed.error)
    assert one.unanswered == 0


def test_a_call_has_all_of_the_patience_for_itself() -> None:
    one = courier(leader=None)
    one.submit(request(1), 0.0)
    one.submit(request(2), PATIENCE_S - 1)
    one.tick(PATIENCE_S + 1)
    assert [failed.seq for failed in ended(one)] == [1]
    one.tick(2 * PATIENCE_S)
    assert [failed.seq for failed in ended(one)] == [2]


def ticked(one: Courier, from_s: float, to_s: float, *, answers: bool = False) -> list[int]:
    """Let time pass; whom it asked for a sign of life, which they gave if they ``answer``."""
    asked = []
    for tenth in range(round(from_s * 10), round(to_s * 10)):
        one.tick(tenth / 10)
        for index, message in [each for each in one.outbox if isinstance(each.message, KeepAlive)]:
            assert isinstance(message, KeepAlive)
            one.outbox.remove(ToReplica(index, message))
            assert message.session == 0
            asked.append(index)
            if answers:
                one.receive(index, Kept(0, message.sent_ns), tenth / 10)
    return asked


def test_while_somebody_leads_nothing_is_given_up() -> None:
    """Whoever waits for hours asks it now and then whether it lives."""
    one = courier()
    one.submit(request(), 0.0)
    asked = ticked(one, 0, 10 * PATIENCE_S, answers=True)
    assert ended(one) == []
    assert 50 < len(asked) <= 100


def test_a_leader_of_whom_nothing_is_awaited_is_not_asked() -> None:
    one = courier()
    assert ticked(one, 0, 10 * PATIENCE_S) == []
    assert one.leader == 0


def test_a_leader_that_speaks_otherwise_is_not_asked() -> None:
    one = courier()
    one.submit(request(1), 0.0)
    for second in range(round(3 * PATIENCE_S)):
        one.receive(0, Kept(5, 0), float(second))
        assert ticked(one, second, second + 1) == []
    assert one.leader == 0


def test_a_leader_that_falls_silent_is_none_and_leads_again_when_it_speaks() -> None:
    """Its connection is open: its process stands still."""
    one = courier()
    one.submit(request(1), 0.0)
    one.submit(read(), 0.0)
    sent(one)
    assert len(ticked(one, 0, PATIENCE_S)) >= 3
    one.submit(request(2), PATIENCE_S)
    assert sent(one) == [(0, request(2))]
    ticked(one, PATIENCE_S, PATIENCE_S + 1)
    assert one.leader is None
    assert one.leaderless_s(PATIENCE_S + 1) > PATIENCE_S
    kinds = {failed.seq: type(failed.error) for failed in ended(one) if isinstance(failed, Failed)}
    assert kinds == {1: OutcomeUnknown, -1: QuorumLost}
    one.submit(request(3), PATIENCE_S + 1)
    assert sent(one) == []
    assert set(ticked(one, PATIENCE_S + 1, PATIENCE_S + 5)) == {0}
    one.receive(0, Kept(0, 0), PATIENCE_S + 5)
    assert sent(one) == [(0, request(2)), (0, request(3))]
    ticked(one, PATIENCE_S + 5, 4 * PATIENCE_S, answers=True)
    assert ended(one) == []


def test_one_that_was_silent_does_not_displace_its_successor() -> None:
    one = courier()
    one.submit(request(), 0.0)
    ticked(one, 0, PATIENCE_S + 1)
    one.receive(1, Leading(), PATIENCE_S + 1)
    one.receive(0, Kept(0, 0), PATIENCE_S + 2)
    assert one.leader == 1
    one.disconnected(1, PATIENCE_S + 3)
    assert one.leader == 0


def test_our_own_pause_is_not_the_leaders_silence() -> None:
    one = courier()
    one.submit(request(), 0.0)
    ticked(one, 0, PATIENCE_S / 2)
    one.tick(10 * PATIENCE_S)
    assert one.leader == 0
    assert ended(one) == []


@pytest.mark.parametrize(
    ("said", "reason", "is_advised_to_recover"),
    [
        ([], "connected to none", False),
        ([NotLeader(None, has_quorum=False)], "majority of its acceptors cannot be reached", True),
        ([NotLeader(None, has_quorum=True)], "none of them leads", False),
        ([NotLeader(2, has_quorum=True)], "replica 2 leads, as the others say", False),
        ([Leading()], "says nothing though its connection is open", False),
    ],
)
def test_why_there_is_no_leader_is_said(
    said: list[NotLeader | Leading], reason: str, is_advised_to_recover: bool
) -> None:
    one = courier(leader=None)
    one.submit(read(), 0.0)
    for message in said:
        one.receive(0, message, 0.0)
    ticked(one, 0, PATIENCE_S + 1)
    (failed,) = ended(one)
    assert isinstance(failed, Failed)
    text = str(failed.error)
    assert reason in text
    assert "retry" in text
    assert ("recover" in text) == is_advised_to_recover


def test_who_knows_more_says_why_nobody_can_be_reached() -> None:
    one = Courier(CONFIG, 0.0, lambda: Absence("the network is down", "mend it, and retry"))
    one.submit(read(), 0.0)
    ticked(one, 0, PATIENCE_S + 1)
    (failed,) = ended(one)
    assert isinstance(failed, Failed)
    assert "the network is down" in str(failed.error)
    assert "mend it" in str(failed.error)


# What is certain not to have been taken.


def test_what_is_submitted_again_was_sent_all_the_same() -> None:
    """Ray repeats a call whose answer it has lost, perhaps when the leader is gone."""
    one = courier(0)
    one.submit(request(1), 0.0)
    one.disconnected(0, 0.0)
    one.submit(request(1), 0.0)
    assert one.may_have_run(5, 1)
    assert not one.take_back(5, 1)


def test_what_no_leader_took_can_be_taken_back() -> None:
    one = courier(leader=None)
    one.submit(request(1), 0.0)
    one.submit(request(2), 0.0, was_sent=True)
    assert one.take_back(5, 1)
    assert not one.take_back(5, 2)
    assert not one.take_back(5, 9)
    one.receive(0, Leading(), 0.0)
    assert seqs(sent(one)) == [2]
    one.submit(request(3), 0.0)
    assert not one.take_back(5, 3)
    assert seqs(sent(one)) == [3]
    one.receive(0, Busy(5, 3), 0.0)
    assert one.take_back(5, 3)
    one.tick(1.0)
    assert sent(one) == []


# The session.


def session(leader: int | None = 0) -> tuple[Session, Courier]:
    one = courier(leader)
    opening = Session(one, CONFIG, nonce=77, description="me", now_s=0.0)
    opening.open(0.0)
    opening.opened(5)
    sent(one)
    return opening, one


def commands(one: Courier) -> list[object]:
    return [
        decode_command(message.entry.command) if isinstance(message, Request) else message for _, message in sent(one)
    ]


def test_a_session_is_opened_in_the_log_under_a_nonce() -> None:
    one = courier()
    opening = Session(one, CONFIG, nonce=77, description="me", now_s=0.0)
    opening.open(0.0)
    ((_, message),) = sent(one)
    assert isinstance(message, Request)
    assert (message.entry.session, message.entry.seq) == (0, 77)
    assert decode_command(message.entry.command) == OpenSession(int(CONFIG.session_ttl_s * 1.1e9), "me")
    assert opening.is_opening(reply(77, session=0))
    assert not opening.is_opening(reply(77, session=5))
    with pytest.raises(RuntimeError, match="not open"):
        opening.entry(Cancel(1))
    opening.opened(5)
    assert opening.entry(Cancel(1)).session == 5


def test_commands_are_numbered_from_1_and_reads_apart() -> None:
    one, _ = session()
    seqs = [one.entry(Cancel(0), readonly=readonly).seq for readonly in (False, True, False, True, True, False)]
    assert seqs == [1, -1, 2, -2, -3, 3]


def test_a_lease_is_kept_several_times_in_its_length() -> None:
    one, carrier = session()
    kept = 0
    for tenth in range(round(CONFIG.session_ttl_s * 10)):
        one.tick(tenth / 10)
        kept += sum(isinstance(each, KeepAlive) and each.session == 5 for each in commands(carrier))
    assert 9 <= kept <= 11


def test_the_lease_may_be_lost_when_it_was_last_renewed_a_ttl_ago() -> None:
    """Counted from when the keepalive was sent, for nobody knows when it arrived."""
    one, carrier = session()
    one.tick(1.0)
    ((_, keep_alive),) = sent(carrier)
    assert isinstance(keep_alive, KeepAlive)
    one.kept(Kept(keep_alive.session, keep_alive.sent_ns))
    assert not one.may_be_lost(1.0 + CONFIG.session_ttl_s)
    assert one.may_be_lost(1.1 + CONFIG.session_ttl_s)
    one.kept(Kept(keep_alive.session + 1, int(9e9)))
    assert one.may_be_lost(1.1 + CONFIG.session_ttl_s)


def test_nothing_is_kept_alive_without_a_leader() -> None:
    one, carrier = session()
    carrier.disconnected(0, 0.0)
    one.tick(100.0)
    assert commands(carrier) == []

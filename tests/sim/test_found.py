"""What the simulator has found, each in the smallest form that shows it."""

from __future__ import annotations

import random

import pytest

from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.paxos.ballot import BOTTOM
from concoord_ray.paxos.messages import P1b, Ping, Pong
from concoord_ray.paxos.replica import Replica
from concoord_ray.rsm.command import Cancel, CloseSession, Withdrawal
from concoord_ray.rsm.sessions import EndedSessions, Session
from tests.paxos.pieces import CONFIG, NOOP, acceptor, replica, sent, view
from tests.rsm.log import Log, calling, refused, result
from tests.sim.run import run
from tests.sim.scenario import Kind

#: Seeds that broke while these mistakes were in the code.
FOUND = (45, 100, 141, 269, 422, 588, 624, 678, 781, 884, 1221, 200204, 200455, 200681)


@pytest.mark.parametrize("seed", FOUND)
def test_a_seed_that_once_broke_is_fine(seed: int) -> None:
    assert run(seed, Kind.FULL).failure == ""


def test_a_retry_after_the_end_of_its_session_is_not_told_that_it_never_ran() -> None:
    log = Log()
    client, other = log.open(), log.open()
    counter = client.create(Counter)
    increment = calling(counter, "increment")
    client.send(increment)  # Executed, and the reply is lost with the leader.
    executed = client.seq
    client.send(CloseSession())
    (reply,) = log.decide(client.again(executed, increment))
    assert refused(reply) == "OutcomeUnknown"
    (reply,) = log.decide(client.again(executed + 7, increment))
    assert refused(reply) == "SessionExpired"
    assert result(other.read(counter, "getvalue")) == 1


def test_an_acknowledged_call_of_an_ended_session_did_run_too() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    client.send(calling(counter, "increment"))
    executed = client.seq
    client.send(CloseSession(), (executed, executed))
    (reply,) = log.decide(client.again(executed, calling(counter, "increment")))
    assert refused(reply) == "OutcomeUnknown"


def test_a_waiter_whose_session_ended_is_told_that_it_had_no_effect() -> None:
    log = Log()
    holder, waiter = log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    parked = waiter.park(lock, "acquire")
    replies = waiter.send(CloseSession())
    assert [refused(reply) for reply in replies if reply.seq == parked] == ["SessionExpired"]
    (reply,) = log.decide(waiter.again(parked, calling(lock, "acquire")))
    assert refused(reply) == "SessionExpired"


def test_what_is_forgotten_of_ended_sessions_is_answered_with_doubt() -> None:
    ended = EndedSessions(limit=1)
    assert type(ended.error(1, 1)).__name__ == "SessionExpired"  # No session has been forgotten: 1 never was one.
    for number in (1, 2):
        session = Session(number, number, 1, "")
        session.acknowledge(((1, 1),))
        ended.add(session)
    assert type(ended.error(2, 1)).__name__ == "OutcomeUnknown"
    assert type(ended.error(2, 2)).__name__ == "SessionExpired"
    assert type(ended.error(1, 2)).__name__ == "OutcomeUnknown"


def test_a_read_does_not_wait_for_ever_for_an_acceptor_that_promised_late() -> None:
    """One acceptor is dead, another has answered the read's ping before the p1a reached it."""
    one = Replica(replica(0), view(), CONFIG, noop=NOOP, rng=random.Random(1), now_s=0.0)
    one.tick(0.0)
    for index in (0, 1):
        one.receive(acceptor(index), Pong(0, BOTTOM, 0, 0), 0.0)
    for index in (0, 1):
        one.receive(acceptor(index), P1b(0, one.leader.ballot, one.leader.ballot, 0, (), None, 0), 0.0)
    assert one.is_leader
    nonce = one.confirm(0.1)
    one.receive(acceptor(0), Pong(0, one.leader.ballot, nonce, 0), 0.1)
    one.receive(acceptor(2), Pong(0, BOTTOM, nonce, 0), 0.1)
    one.outputs.take()
    one.tick(0.2 + CONFIG.retransmit_interval_s)
    asked = [to.index for to, message in sent(one.outputs) if isinstance(message, Ping) and message.nonce == nonce]
    assert asked == [1, 2]
    one.receive(acceptor(2), Pong(0, one.leader.ballot, nonce, 0), 0.5)
    assert one.confirmed_nonce == nonce


def test_a_timeout_does_not_take_back_a_grant_whose_reply_is_on_its_way() -> None:
    log = Log()
    client, other = log.open(), log.open()
    lock = client.create(Lock)
    token = client.call(lock, "acquire_fenced")
    granted = client.seq
    assert result(client.ask(Cancel(granted, timed_out=True))) == Withdrawal.APPLIED
    assert other.call(lock, "acquire_fenced", blocking=False) == 0
    client.call(lock, "release", token)

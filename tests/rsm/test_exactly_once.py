"""Per seq one execution and one answer, however often it is sent (PROTOCOL rules 10 and 11)."""

from __future__ import annotations

import pytest

from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.rsm.command import Acknowledge, Call, Entry, ExpireSession, Lookup, OpenSession
from concoord_ray.rsm.wire import encode_message
from tests.rsm.log import Log, calling, refused, result
from tests.rsm.samples import Register


def test_a_command_sent_again_is_answered_and_not_executed_again() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    once = client.entry(calling(counter, "increment"))
    (first,) = log.decide(once)
    for _ in range(3):
        assert log.decide(once) == [first]
    assert result(client.read(counter, "getvalue")) == 1


def test_a_command_twice_in_one_batch_is_executed_once() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    once = client.entry(calling(counter, "increment"))
    replies = log.decide(once, once)
    assert [result(reply) for reply in replies] == [1, 1]


def test_an_error_is_an_answer_like_any_other() -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    once = client.entry(calling(register, "append_and_raise", "x"))
    (first,) = log.decide(once)
    assert log.decide(once) == [first]
    assert result(client.read(register, "get")) == ["x"]


def test_a_seq_that_was_acknowledged_is_told_that_its_outcome_is_unknown() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    once = client.entry(calling(counter, "increment"))
    log.decide(once)
    client.send(Acknowledge(), (once.seq, once.seq))
    (again,) = log.decide(once)
    assert refused(again) == "OutcomeUnknown"
    assert result(client.read(counter, "getvalue")) == 1


def test_a_seq_that_was_acknowledged_before_it_came_never_executes() -> None:
    """The caller gave it up, and said so before the request that was still under way arrived."""
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    late = client.entry(calling(counter, "increment"))
    client.send(Acknowledge(), (late.seq, late.seq))
    (reply,) = log.decide(late)
    assert refused(reply) == "OutcomeUnknown"
    assert result(client.read(counter, "getvalue")) == 0


def test_an_entry_may_acknowledge_itself_only_by_being_answered() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    for expected in (1, 2, 3):
        assert result(client.ask(calling(counter, "increment"), (client.seq, client.seq))) == expected
    assert result(client.ask(calling(counter, "increment"))) == 4


def test_answers_are_kept_until_they_are_acknowledged() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    for _ in range(50):
        client.call(counter, "increment")
    session = log.executors[0]._sessions[client.session]
    assert len(session.answers) == 51
    client.send(Acknowledge(), (1, 51))
    assert session.answers == {}
    assert session.acknowledged.ranges() == ((1, 52),)


def test_an_acknowledgement_needs_none_itself() -> None:
    log = Log()
    client = log.open()
    for _ in range(5):
        assert result(client.ask(Acknowledge())) is None
    session = log.executors[0]._sessions[client.session]
    assert session.answers == {}
    assert session.acknowledged.ranges() == ((1, 5),)


def test_a_parked_call_does_not_pin_the_acknowledgement_of_later_ones() -> None:
    log = Log()
    client, other = log.open(), log.open()
    lock, counter = client.create(Lock), client.create(Counter)
    other.call(lock, "acquire")
    parked = client.park(lock, "acquire")
    for _ in range(10):
        client.call(counter, "increment")
    client.send(Acknowledge(), (1, parked - 1), (parked + 1, client.seq))
    session = log.executors[0]._sessions[client.session]
    assert session.answers == {}
    replies = other.send(calling(lock, "release"))
    assert [(r.session, r.seq, result(r)) for r in replies] == [
        (client.session, parked, True),
        (other.session, other.seq, None),
    ]


def test_a_parked_call_sent_again_keeps_its_place() -> None:
    log = Log()
    holder, first, second = log.open(), log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    waiting = first.entry(calling(lock, "acquire"))
    assert log.decide(waiting) == []
    second.park(lock, "acquire")
    assert log.decide(waiting) == []
    replies = holder.send(calling(lock, "release"))
    assert [r.session for r in replies] == [first.session, holder.session]


def test_a_parked_call_that_is_acknowledged_waits_no_longer() -> None:
    """Nobody would know of the grant, and nobody release it."""
    log = Log()
    holder, given_up, next_one = log.open(), log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    parked = given_up.park(lock, "acquire")
    next_one.park(lock, "acquire")
    replies = given_up.send(Acknowledge(), (parked, parked))
    assert [(r.seq, r.outcome.name) for r in replies if r.seq == parked] == [(parked, "REFUSED")]
    session = log.executors[0]._sessions[given_up.session]
    assert session.parked == {}
    assert session.answers == {}
    replies = holder.send(calling(lock, "release"))
    assert [r.session for r in replies] == [next_one.session, holder.session]


@pytest.mark.parametrize("seq", [0, -1])
def test_a_command_without_a_number_of_its_own_is_refused(seq: int) -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    (reply,) = log.decide(client.again(seq, calling(counter, "increment")))
    assert refused(reply) == "ProtocolViolation"
    assert result(client.read(counter, "getvalue")) == 0


def test_a_request_of_an_unknown_session_never_executes() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    (reply,) = log.decide(Entry(999, 1, (), encode_message(calling(counter, "increment"))))
    assert refused(reply) == "SessionExpired"
    assert result(client.read(counter, "getvalue")) == 0


def test_a_command_that_cannot_be_decoded_is_an_error_and_the_log_moves_on() -> None:
    log = Log()
    client = log.open()
    broken = encode_message(Lookup("a name")).replace(b"a name", b"a\xffname")
    for nonsense in (b"", b"\xc1", encode_message([99]), encode_message("x"), broken):
        client.seq += 1
        entry = Entry(client.session, client.seq, (), nonsense)
        assert log.executors[0].kinds_of([entry]) == frozenset()
        assert log.executors[0].calls_in([entry]) == []
        (reply,) = log.decide(entry)
        assert refused(reply) == "ProtocolViolation"
        assert log.decide(entry) == [reply]
        assert refused(log.executors[0].read(entry)) == "ProtocolViolation"
    assert client.create(Counter) == 1


def test_an_opening_sent_again_finds_the_session_that_it_opened() -> None:
    log = Log()
    opening = Entry(0, 12345, (), encode_message(OpenSession(10, "me")))
    (first,) = log.decide(opening)
    assert log.applied.opened == [(result(first), 10)]
    (again,) = log.decide(opening)
    assert again == first
    assert log.applied.opened == []
    (other,) = log.decide(Entry(0, 54321, (), encode_message(OpenSession(10, "another"))))
    assert result(other) != result(first)


def test_a_session_number_is_never_given_twice() -> None:
    log = Log()
    opening = Entry(0, 12345, (), encode_message(OpenSession(10, "me")))
    (reply,) = log.decide(opening)
    first = result(reply)
    log.decide(Entry(0, 0, (), encode_message(ExpireSession(first, 1_000))))
    (reply,) = log.decide(opening)
    assert result(reply) != first


@pytest.mark.parametrize("command", [OpenSession(10, "nested"), ExpireSession(1, 1_000)])
def test_what_is_the_ensembles_own_is_not_for_clients(command: OpenSession | ExpireSession) -> None:
    log = Log()
    client = log.open()
    assert client.session == 1
    assert refused(client.ask(command)) == "ProtocolViolation"
    assert log.applied.opened == []
    assert log.applied.ended == []


def test_a_call_of_a_method_that_does_not_exist_is_an_error() -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    for method in ("nope", "_hidden", "__init__", "items"):
        reply = client.ask(Call(register, method, "main", b""))
        assert reply.outcome.name == "RAISED"

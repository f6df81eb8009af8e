"""The caller: what it says of its process, and how it gives back what nobody waits for."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

import pytest

from concoord_ray.client import Client
from concoord_ray.errors import (
    CallCancelled,
    CallTimeout,
    ConfigurationError,
    OutcomeUnknown,
    Overloaded,
    QuorumLost,
    SessionExpired,
)
from concoord_ray.paxos.view import Role
from concoord_ray.roles.boot import WireMessage
from concoord_ray.roles.caller import Caller
from concoord_ray.roles.calls import PendingCall
from concoord_ray.roles.watch import LeaseOver, Watch
from concoord_ray.rsm.command import (
    Busy,
    Call,
    Cancel,
    CloseSession,
    Command,
    EndTask,
    Entry,
    Leading,
    Lookup,
    MethodFlag,
    NotLeader,
    Outcome,
    Refusal,
    Reply,
    Request,
)
from concoord_ray.rsm.wire import decode_command, encode_message, encode_plain
from tests.roles.conftest import GATEWAY, LEADER, NoDiscovery, Sent, boot

SESSION = 7


class Process:
    """A caller whose session is open, and which Ray tasks run in it."""

    def __init__(self, sent: Sent) -> None:
        self.running: set[str] = set()
        self.sent = sent
        self.caller = Caller(
            boot(Role.CLIENT), NoDiscovery(), "a test", gateway=GATEWAY.index, is_task_running=self.running.__contains__
        )
        self.caller.connected(LEADER)
        self.receive(Leading())
        self.caller.open_session(None)
        self.caller.perform()
        self.open(SESSION)

    def open(self, session: int) -> None:
        ((_, opening),) = self.taken()
        assert isinstance(opening, Request)
        self.receive(Reply(0, opening.entry.seq, Outcome.PLAIN, encode_plain(session)))

    def receive(self, message: WireMessage) -> None:
        self.caller.receive(LEADER, [message])

    def answer(self, seq: int, value: object = None, session: int = SESSION) -> None:
        self.receive(Reply(session, seq, Outcome.PLAIN, encode_plain(value)))

    def begin(self, *, owner: str = "1", awaits_loss: bool = False) -> PendingCall:
        flags = MethodFlag.PARKS | MethodFlag.AWAITS_LOSS if awaits_loss else MethodFlag.PARKS
        call = PendingCall(acquire(owner), False, flags)
        self.caller.begin(call)
        self.caller.perform()
        return call

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.caller.tick(time.monotonic())

    def taken(self) -> Sent:
        taken, self.sent[:] = list(self.sent), []
        return taken

    def commands(self) -> list[tuple[int, Command]]:
        """The commands that it has sent to the leader, with their numbers, but for acknowledgements."""
        entries = [message.entry for to, message in self.taken() if to == LEADER and isinstance(message, Request)]
        return [(entry.seq, decode_command(entry.command)) for entry in entries]

    def acks(self) -> tuple[tuple[int, int], ...]:
        """What it acknowledges next."""
        call = PendingCall(CloseSession(), readonly=False)
        self.caller.begin(call)
        self.caller.perform()
        assert call.entry is not None
        self.sent[:] = [each for each in self.sent if getattr(each[1], "entry", None) != call.entry]
        return call.entry.acks


def acquire(owner: str) -> Call:
    return Call(1, "acquire", owner, b"")


@pytest.fixture
def process(sent: Sent) -> Process:
    return Process(sent)


# Ray tasks.


def test_a_task_has_ended_when_it_does_not_run_whenever_one_looks(process: Process) -> None:
    looks = process.caller.node.boot.config.idle_looks
    process.running.add("t")
    process.caller.used_by_task("t")
    process.look(10)
    process.running.clear()
    process.look(looks - 1)
    process.running.add("t")
    process.look()
    process.running.clear()
    process.look(looks - 1)
    assert process.commands() == []
    process.look()
    assert process.commands() == [(1, EndTask("t"))]
    process.answer(1)
    process.look(10)
    assert process.commands() == []


def test_the_end_of_a_task_leaves_another_alone(process: Process) -> None:
    process.running.add("second")
    for task in ("first", "second"):
        process.caller.used_by_task(task)
    process.look(10)
    assert process.commands() == [(1, EndTask("first"))]


def test_calls_that_a_task_left_at_the_gateway_go_before_its_end(process: Process) -> None:
    """The gateway may be slow, or gone: an acquire that came after the end would hold on for ever."""
    process.caller.used_by_task("t")
    left = process.caller.number(acquire("1@t"), False, "t")
    known = process.caller.number(acquire("1@t"), False, "t")
    other = process.caller.number(acquire("1@u"), False, "u")
    assert left is not None
    assert known is not None
    assert other is not None
    process.caller.acknowledge([known])
    process.look(10)
    sent = process.commands()
    assert sent == [(left.seq, acquire("1@t")), (4, EndTask("t"))]
    process.answer(left.seq, True)  # To the gateway too; its caller is who acknowledges it.
    process.answer(4)
    process.caller.acknowledge([left])
    process.look(10)
    assert process.commands() == []


def test_the_end_of_a_task_is_told_until_the_ensemble_has_heard_it(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    process.caller.used_by_task("t")
    process.look(10)
    assert process.commands() == [(1, EndTask("t"))]
    process.receive(NotLeader(None, True))
    late_s = time.monotonic() + 2 * process.caller.node.boot.config.quorum_timeout_s
    monkeypatch.setattr(time, "monotonic", lambda: late_s)
    process.caller.tick(late_s)
    process.receive(Leading())
    assert process.commands() == [(2, EndTask("t"))]


# The lease.


def test_who_cannot_keep_its_lease_is_told_so_by_itself(process: Process) -> None:
    lost, acquiring = process.begin(awaits_loss=True), process.begin()
    process.caller.connected(GATEWAY)
    process.taken()
    ttl_s = process.caller.node.boot.config.session_ttl_s
    process.caller.tick(time.monotonic() + ttl_s - 1)
    assert lost.ending is None
    process.caller.tick(time.monotonic() + ttl_s + 1)
    assert lost.result() is True
    assert acquiring.ending is None
    assert [message for to, message in process.taken() if to == GATEWAY] == [LeaseOver(SESSION)]
    process.caller.tick(time.monotonic() + ttl_s + 2)
    assert [message for to, message in process.taken() if to == GATEWAY] == []


# The gateway that watches.


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc to tell a process by")
def test_each_gateway_is_told_who_to_watch_and_each_session_too(process: Process) -> None:
    def told() -> list[tuple[int, int]]:
        watches = [message for to, message in process.taken() if to == GATEWAY]
        assert all(isinstance(each, Watch) for each in watches)
        return [(each.session, each.pid) for each in watches if isinstance(each, Watch)]

    process.caller.connected(GATEWAY)
    assert told() == [(SESSION, os.getpid())]
    process.caller.disconnected(GATEWAY)
    process.caller.connected(GATEWAY)
    assert told() == [(SESSION, os.getpid())]


# What nobody waits for.


def test_a_grant_that_comes_after_the_cancel_is_not_acknowledged_before_it_is_given_back(process: Process) -> None:
    call = process.begin()
    assert process.commands() == [(1, acquire("1"))]
    process.caller.cancel(call)
    process.caller.perform()
    assert process.commands() == [(2, Cancel(1))]
    process.answer(1, True)
    assert process.acks() == ()
    process.answer(2, 1)
    assert process.acks() == ((1, 2),)


def test_a_grant_is_acknowledged_when_its_caller_has_taken_it(process: Process) -> None:
    call = process.begin()
    process.answer(1, True)
    process.look()
    assert process.acks() == ()
    assert call.result() is True
    process.look()
    assert process.acks() == ((1, 1),)


def test_a_grant_whose_caller_is_cancelled_before_it_takes_it_is_given_back(process: Process) -> None:
    """Its event loop, or its thread, did not get to see it."""
    call = process.begin()
    process.answer(1, True)
    process.caller.cancel(call)
    process.caller.perform()
    assert process.commands() == [(1, acquire("1")), (2, Cancel(1))]
    process.look()
    assert process.acks() == ()
    process.answer(2, 1)
    assert process.acks() == ((1, 2),)
    process.caller.cancel(call)
    process.caller.perform()
    assert process.commands() == []


def test_what_can_be_granted_nothing_is_acknowledged_at_once(process: Process) -> None:
    process.begin()
    process.receive(Reply(SESSION, 1, Outcome.REFUSED, encode_message(Refusal("Overloaded", "no more can wait"))))
    assert process.acks() == ((1, 1),)
    plain = PendingCall(acquire("1"), readonly=False)
    process.caller.begin(plain)
    process.answer(3, 1)
    process.caller.cancel(plain)
    assert process.acks() == ((3, 3),)


def test_a_withdrawal_that_finds_a_grant_leaves_it_to_who_still_waits_for_it(process: Process) -> None:
    """The answer of one leader is lost; the next takes the withdrawal, and is too busy for the call."""
    call = process.begin()
    process.caller.time_out(call)
    process.caller.perform()
    process.receive(Busy(SESSION, 1))
    process.answer(2, 2)
    assert process.acks() == ((2, 2),)
    process.answer(1, True)
    process.look()
    assert process.acks() == ()
    assert call.result() is True
    process.look()
    assert process.acks() == ((1, 1),)


def test_a_call_that_was_given_up_is_withdrawn_when_there_is_a_leader_again(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = process.begin()
    process.receive(NotLeader(None, True))
    late_s = time.monotonic() + 2 * process.caller.node.boot.config.quorum_timeout_s
    monkeypatch.setattr(time, "monotonic", lambda: late_s)
    process.caller.tick(late_s)
    with pytest.raises(OutcomeUnknown):
        call.result()
    process.taken()
    process.receive(Leading())
    assert process.commands() == [(2, Cancel(1))]


def test_a_call_of_which_nothing_is_heard_in_time_ends_and_is_not_sent_again(process: Process) -> None:
    """Whatever becomes of its withdrawal: what it is granted nobody would know of."""
    grace_s = process.caller.node.boot.config.withdrawal_grace_s
    call = process.begin()
    process.caller.time_out(call)
    process.caller.perform()
    assert process.commands() == [(1, acquire("1")), (2, Cancel(1, timed_out=True))]
    process.caller.tick(time.monotonic() + grace_s - 1)
    assert call.ending is None
    process.caller.tick(time.monotonic() + grace_s)
    with pytest.raises(OutcomeUnknown, match="may yet be"):
        call.result()
    assert process.commands() == [(3, Cancel(1))]
    process.receive(NotLeader(None, True))
    process.receive(Leading())
    assert process.commands() == [(2, Cancel(1, timed_out=True)), (3, Cancel(1))]
    process.answer(1, True)  # It was granted after all.
    process.answer(2, 2)
    assert process.acks() == ((2, 2),)
    process.answer(3, 1)
    assert process.acks() == ((1, 1), (3, 3))


def test_a_withdrawal_that_is_confirmed_in_time_says_that_a_retry_is_safe(process: Process) -> None:
    call = process.begin()
    process.caller.time_out(call)
    refusal = encode_message(Refusal("CallTimeout", "withdrawn"))
    process.receive(Reply(SESSION, 1, Outcome.REFUSED, refusal))
    process.answer(2, 0)
    with pytest.raises(CallTimeout, match="withdrawn"):
        call.result()
    process.taken()
    process.caller.tick(time.monotonic() + process.caller.node.boot.config.withdrawal_grace_s + 1)
    assert [command for _, command in process.commands() if isinstance(command, Cancel)] == []


def test_a_call_that_no_leader_took_is_over_at_once(process: Process) -> None:
    process.caller.acknowledge([Entry(SESSION, 9, (), b"")])
    process.receive(NotLeader(None, False))
    call = process.begin()
    process.caller.time_out(call)
    with pytest.raises(CallTimeout, match="majority of its acceptors"):
        call.result()
    process.taken()
    process.receive(Leading())
    assert process.commands() == [(2, Cancel(1))]
    process.look()
    assert process.acks() == ((9, 9),)  # Which the call was to carry.


def test_what_travels_through_a_gateway_is_not_acknowledged_before_its_caller_has_its_end(process: Process) -> None:
    """Its ref may say that the outcome is unknown, when its withdrawal has just found it granted."""

    async def timed_out() -> Entry:
        entry = process.caller.number(acquire("1"), False)
        assert entry is not None
        process.caller.time_out_entry((entry, 0.01))
        await asyncio.sleep(0.1)
        return entry

    entry = asyncio.run(timed_out())
    assert process.commands() == [(2, Cancel(1, timed_out=True))]
    process.answer(2, 2)
    assert process.acks() == ((2, 2),)
    process.caller.cancel_entry(entry)
    process.caller.perform()
    assert process.commands() == [(4, Cancel(1))]
    process.answer(4, 1)
    assert process.acks() == ((1, 1), (4, 4))


def test_why_nobody_leads_is_said_when_no_registry_answers(sent: Sent) -> None:
    caller = Caller(boot(Role.CLIENT), NoDiscovery(), "a test")
    call = PendingCall(acquire("1"), readonly=False)
    caller.begin(call)
    caller.perform()
    caller.tick(time.monotonic() + 2 * caller.node.boot.config.quorum_timeout_s)
    with pytest.raises(QuorumLost, match=r"heard of no replica.* registry 0, .* does not answer") as raised:
        call.result()
    assert "concoord.recover" not in str(raised.value)
    assert sent == []


def test_a_session_that_is_refused_is_told_to_whoever_waits_and_asked_for_again(sent: Sent) -> None:
    caller = Caller(boot(Role.CLIENT), NoDiscovery(), "a test")
    caller.connected(LEADER)
    caller.receive(LEADER, [Leading()])
    call = PendingCall(acquire("1"), readonly=False)
    caller.begin(call)
    caller.perform()
    ((_, opening),) = sent
    assert isinstance(opening, Request)
    refusal = encode_message(Refusal("Overloaded", "max_sessions is 1"))
    caller.receive(LEADER, [Reply(0, opening.entry.seq, Outcome.REFUSED, refusal)])
    with pytest.raises(Overloaded, match="max_sessions"):
        call.result()
    sent.clear()
    caller.begin(PendingCall(acquire("1"), readonly=False))
    caller.perform()
    ((_, again),) = sent
    assert isinstance(again, Request)
    assert again.entry.seq != opening.entry.seq


def test_a_call_that_is_cancelled_before_there_is_a_session_is_never_sent(sent: Sent) -> None:
    caller = Caller(boot(Role.CLIENT), NoDiscovery(), "a test")
    call = PendingCall(acquire("1"), readonly=False)
    caller.begin(call)
    caller.cancel(call)
    with pytest.raises(CallCancelled, match="before it was sent"):
        call.result()
    assert sent == []


@pytest.mark.parametrize("name", ["\ud800", object()])
@pytest.mark.parametrize("readonly", [False, True])
def test_a_call_that_cannot_be_encoded_fails_alone(process: Process, name: Any, readonly: bool) -> None:
    first = process.begin()
    assert first.entry is not None
    process.answer(first.entry.seq, True)
    assert first.result() is True
    process.look()  # And acknowledges it with the next call.
    call = PendingCall(Lookup(name), readonly)
    process.caller.begin(call)
    with pytest.raises(ConfigurationError, match="cannot be encoded"):
        call.result()
    following = process.begin()
    assert following.entry is not None
    assert following.entry.seq == first.entry.seq + 1
    assert following.entry.acks == ((first.entry.seq, first.entry.seq),)


def test_a_call_that_cannot_be_encoded_fails_when_there_is_a_session(sent: Sent) -> None:
    caller = Caller(boot(Role.CLIENT), NoDiscovery(), "a test")
    call, following = PendingCall(Lookup("\ud800"), readonly=False), PendingCall(acquire("1"), readonly=False)
    caller.begin(call)
    caller.begin(following)
    caller.connected(LEADER)
    caller.receive(LEADER, [Leading()])
    opening = next(message for _, message in sent if isinstance(message, Request))
    caller.receive(LEADER, [Reply(0, opening.entry.seq, Outcome.PLAIN, encode_plain(SESSION))])
    with pytest.raises(ConfigurationError, match="cannot be encoded"):
        call.result()
    assert following.entry is not None


def closed(process: Process) -> None:
    """What the process's client does at its end, of whatever kind that is."""
    client = Client(boot(Role.CLIENT), NoDiscovery(), "a test")
    client._caller = process.caller
    client._abandon()
    client._loop.close()


@pytest.mark.parametrize("is_leaderless", [False, True])
def test_a_call_that_some_leader_was_sent_may_have_run_though_the_connection_is_closed(
    sent: Sent, is_leaderless: bool
) -> None:
    """As by concoord.shutdown(), or ray.shutdown(), in another thread."""
    process = Process(sent)
    first = process.begin()
    if is_leaderless:
        process.caller.disconnected(LEADER)
    second = process.begin()
    closed(process)
    with pytest.raises(OutcomeUnknown):
        first.result()
    with pytest.raises(SessionExpired if is_leaderless else OutcomeUnknown):
        second.result()


def test_a_read_never_ran(sent: Sent) -> None:
    process = Process(sent)
    call = PendingCall(acquire("1"), readonly=True)
    process.caller.begin(call)
    process.caller.perform()
    closed(process)
    with pytest.raises(SessionExpired):
        call.result()

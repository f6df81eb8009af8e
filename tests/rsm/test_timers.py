"""Time enters only through the log: a timeout is a logged event with one outcome."""

from __future__ import annotations

import pytest

from concoord_ray.objects.lock import Lock
from concoord_ray.objects.semaphore import Semaphore
from concoord_ray.rsm.command import Cancel
from tests.rsm.log import SECOND_NS, Log, calling, result
from tests.rsm.samples import Register


def held(log: Log) -> int:
    """A lock that somebody holds."""
    holder = log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    return lock


def test_a_wait_ends_at_its_deadline_and_not_before() -> None:
    log = Log()
    lock, client = held(log), log.open()
    parked = client.park(lock, "acquire", timeout=1.0)
    assert log.applied.next_deadline_ns == log.time_ns + SECOND_NS
    assert log.pass_time(0.999) == []
    (reply,) = log.pass_time(0.001)
    assert (reply.seq, result(reply)) == (parked, False)
    assert log.applied.next_deadline_ns is None


def test_waits_end_in_the_order_of_their_deadlines() -> None:
    log = Log()
    lock, client = held(log), log.open()
    parked = {s: client.park(lock, "acquire", timeout=s) for s in (3.0, 1.0, 2.0, 1.5)}
    assert [r.seq for r in log.pass_time(10.0)] == [parked[s] for s in (1.0, 1.5, 2.0, 3.0)]


def test_waits_with_one_deadline_end_in_the_order_of_arrival() -> None:
    log = Log()
    lock, client = held(log), log.open()
    entries = [client.entry(calling(lock, "acquire", timeout=1.0)) for _ in range(5)]
    assert log.decide(*entries) == []
    assert [r.seq for r in log.pass_time(1.0)] == [entry.seq for entry in entries]


def test_a_deadline_is_handled_before_the_commands_of_the_batch_that_passes_it() -> None:
    log = Log()
    holder, client = log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    client.park(lock, "acquire", timeout=1.0)
    log.time_ns += SECOND_NS
    late, released = holder.send(calling(lock, "release"))
    assert result(late) is False
    assert released.session == holder.session
    assert client.call(lock, "acquire", blocking=False) is True


def test_a_call_that_was_woken_in_time_does_not_time_out() -> None:
    log = Log()
    holder, client = log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    client.park(lock, "acquire", timeout=1.0)
    holder.call(lock, "release")
    assert log.applied.next_deadline_ns is None
    assert log.pass_time(2.0) == []
    assert result(client.read(lock, "locked")) is True


def test_a_call_that_was_cancelled_does_not_time_out() -> None:
    log = Log()
    lock, client = held(log), log.open()
    parked = client.park(lock, "acquire", timeout=1.0)
    client.send(Cancel(parked))
    assert log.applied.next_deadline_ns is None
    assert log.pass_time(2.0) == []


def test_a_waiter_that_timed_out_is_not_granted() -> None:
    log = Log()
    holder, hasty, patient = log.open(), log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    hasty.park(lock, "acquire", timeout=1.0)
    patient.park(lock, "acquire")
    log.pass_time(1.0)
    woken, _ = holder.send(calling(lock, "release"))
    assert woken.session == patient.session


@pytest.mark.parametrize("timeout", [1e-9, 1e-12])
def test_even_the_shortest_deadline_is_in_the_future(timeout: float) -> None:
    """One that is not would never be proposed: the stamp that reaches it is in the log already."""
    log = Log()
    lock, client = held(log), log.open()
    client.park(lock, "acquire", timeout=timeout)
    assert log.applied.next_deadline_ns is not None
    assert log.applied.next_deadline_ns > log.applied.time_ns
    assert len(log.pass_time(1e-9)) == 1


@pytest.mark.parametrize("timeout", [0.005, 1e-12, 0])
def test_a_free_permit_is_granted_however_short_the_timeout(timeout: float) -> None:
    log = Log()
    client = log.open()
    assert client.call(client.create(Semaphore, 1), "acquire", timeout=timeout) is True
    assert client.call(client.create(Lock), "acquire", timeout=timeout) is True


def test_time_never_goes_back() -> None:
    log = Log()
    lock, client = held(log), log.open()
    register = client.create(Register)
    before = client.call(register, "draw")[0]
    log.time_ns -= SECOND_NS // 2
    client.park(lock, "acquire", timeout=1.0)
    assert log.applied.next_deadline_ns == 2 * SECOND_NS
    assert client.call(register, "draw")[0] == before
    assert log.applied.time_ns == SECOND_NS


def test_timers_of_calls_that_were_woken_do_not_pile_up() -> None:
    log = Log()
    holder, client = log.open(), log.open()
    lock = holder.create(Lock)
    for _ in range(300):
        holder.call(lock, "acquire")
        client.park(lock, "acquire", timeout=1_000_000.0)
        holder.call(lock, "release")
        client.call(lock, "release")
    assert len(log.executors[0]._timers) < 100


def test_now_and_random_are_the_same_on_every_replica_and_differ_between_calls() -> None:
    log = Log()
    client = log.open()
    register = client.create(Register)
    drawn = [client.call(register, "draw") for _ in range(3)]
    assert {now for now, _, _ in drawn} == {1.0}
    assert len({number for _, one, other in drawn for number in (one, other)}) == 6

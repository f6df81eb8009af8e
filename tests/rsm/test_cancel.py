"""Cancel is a logged command with one outcome: leave the queue, give the grant back, or stay applied."""

from __future__ import annotations

import pytest

from concoord_ray.objects.condition import Condition
from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.objects.semaphore import Semaphore
from concoord_ray.rsm.command import Acknowledge, Cancel, CloseSession, Reply, Withdrawal
from concoord_ray.rsm.methods import readonly, when
from concoord_ray.rsm.wire import decode_refusal
from concoord_ray.threadingobject.dlock import DLock
from tests.rsm.log import Log, calling, refused, result
from tests.rsm.samples import Blocker


class Gate:
    """Never opens."""

    @when(lambda self: False)
    def enter(self) -> None:
        raise AssertionError("it is shut")


def test_a_parked_call_that_is_cancelled_leaves_the_queue() -> None:
    log = Log()
    holder, cancelled, next_one = log.open(), log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    parked = cancelled.park(lock, "acquire")
    next_one.park(lock, "acquire")
    told, reply = cancelled.send(Cancel(parked))
    assert (told.seq, refused(told)) == (parked, "CallCancelled")
    assert result(reply) == Withdrawal.WITHDRAWN
    woken, _ = holder.send(calling(lock, "release"))
    assert woken.session == next_one.session


def test_a_cancel_of_what_has_not_come_leaves_a_tombstone() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    late = client.entry(calling(counter, "increment"))
    assert result(client.ask(Cancel(late.seq))) == Withdrawal.WITHDRAWN
    (reply,) = log.decide(late)
    assert refused(reply) == "CallCancelled"
    assert result(client.read(counter, "getvalue")) == 0


def test_a_grant_that_nobody_has_seen_is_given_back() -> None:
    log = Log()
    client, other = log.open(), log.open()
    lock = client.create(Lock)
    client.call(lock, "acquire")
    granted = client.seq
    other.park(lock, "acquire")
    replies = client.send(Cancel(granted))
    assert [(r.session, r.seq) for r in replies] == [
        (other.session, other.seq),
        (client.session, granted),
        (client.session, client.seq),
    ]
    assert result(replies[-1]) == Withdrawal.GIVEN_BACK
    (again,) = log.decide(client.again(granted, calling(lock, "acquire")))
    assert refused(again) == "CallCancelled"


def test_a_grant_made_by_a_wake_up_is_given_back_too() -> None:
    log = Log()
    holder, woken, other = log.open(), log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    parked = woken.park(lock, "acquire")
    other.park(lock, "acquire")
    holder.call(lock, "release")
    replies = woken.send(Cancel(parked))
    assert replies[0].session == other.session
    assert result(replies[-1]) == Withdrawal.GIVEN_BACK


class Pair:
    """Two locks that are taken by one call."""

    def __init__(self) -> None:
        self.first = DLock()
        self.second = DLock()

    def both(self) -> bool:
        self.first.acquire()
        return self.second.acquire()

    def only_second(self) -> bool:
        return self.second.acquire()

    def free_second(self) -> None:
        self.second.release()

    @readonly
    def locked(self) -> tuple[bool, bool]:
        return self.first.locked(), self.second.locked()


def grants_kept(log: Log) -> int:
    return max(len(executor._grants) for executor in log.executors)


@pytest.mark.parametrize("waits", [False, True])
def test_all_that_a_call_was_granted_is_given_back(waits: bool) -> None:
    log = Log()
    other, client = log.open(), log.open()
    pair = client.create(Pair)
    if waits:
        other.call(pair, "only_second")
        granted = client.park(pair, "both")
        other.call(pair, "free_second")
    else:
        client.call(pair, "both")
        granted = client.seq
    assert result(client.ask(Cancel(granted))) == Withdrawal.GIVEN_BACK
    assert result(client.read(pair, "locked")) == (False, False)
    assert grants_kept(log) == 0


@pytest.mark.parametrize("how", ["cancelled", "given up", "session ended"])
def test_what_was_granted_to_a_call_that_still_waits_goes_with_it(how: str) -> None:
    log = Log()
    other, client = log.open(), log.open()
    pair = client.create(Pair)
    other.call(pair, "only_second")
    parked = client.park(pair, "both")
    if how == "cancelled":
        assert result(client.ask(Cancel(parked))) == Withdrawal.WITHDRAWN
    elif how == "given up":
        client.send(Acknowledge(), (parked, parked))
    else:
        client.send(CloseSession())
    assert result(other.read(pair, "locked")) == (False, True)
    assert grants_kept(log) == 0


def test_a_cancel_sent_again_gives_nothing_back_twice() -> None:
    log = Log()
    client = log.open()
    semaphore = client.create(Semaphore, 1)
    client.call(semaphore, "acquire")
    granted = client.seq
    cancel = client.entry(Cancel(granted))
    log.decide(cancel)
    log.decide(cancel)
    assert result(client.ask(Cancel(granted))) == Withdrawal.APPLIED
    assert result(client.read(semaphore, "describe")) == "<DSemaphore count=1>"


def test_what_was_released_meanwhile_is_not_given_back_again() -> None:
    log = Log()
    client, other = log.open(), log.open()
    lock, semaphore = client.create(Lock), client.create(Semaphore, 1)
    for thing in (lock, semaphore):
        client.call(thing, "acquire")
        granted = client.seq
        other.call(thing, "release")
        other.call(thing, "acquire")
        client.send(Cancel(granted))
    assert result(client.read(lock, "locked")) is True
    assert result(client.read(semaphore, "describe")) == "<DSemaphore count=0>"


def test_a_grant_that_was_acknowledged_stays() -> None:
    log = Log()
    client = log.open()
    lock = client.create(Lock)
    client.call(lock, "acquire")
    granted = client.seq
    client.send(Acknowledge(), (granted, granted))
    assert result(client.ask(Cancel(granted))) == Withdrawal.APPLIED
    assert result(client.read(lock, "locked")) is True


def test_a_timeout_that_comes_after_the_grant_changes_nothing() -> None:
    """The reply is on its way to a caller who still waits, and who will believe it."""
    log = Log()
    holder, client = log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    parked = client.park(lock, "acquire")
    holder.call(lock, "release")
    assert result(client.ask(Cancel(parked, timed_out=True))) == Withdrawal.APPLIED
    assert result(client.read(lock, "locked")) is True
    (again,) = log.decide(client.again(parked, calling(lock, "acquire")))
    assert result(again) is True


def test_a_timeout_that_comes_before_the_grant_is_told_as_such() -> None:
    log = Log()
    holder, client = log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    parked = client.park(lock, "acquire")
    told, reply = client.send(Cancel(parked, timed_out=True))
    assert (told.seq, refused(told)) == (parked, "CallTimeout")
    assert result(reply) == Withdrawal.WITHDRAWN
    assert holder.call(lock, "release") is None


def test_any_other_method_stays_applied() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    client.call(counter, "increment")
    done = client.seq
    assert result(client.ask(Cancel(done))) == Withdrawal.APPLIED
    assert result(client.read(counter, "getvalue")) == 1


def test_a_refused_acquire_gives_nothing_back() -> None:
    log = Log()
    client, other = log.open(), log.open()
    lock = client.create(Lock)
    other.call(lock, "acquire")
    assert client.call(lock, "acquire", blocking=False) is False
    assert result(client.ask(Cancel(client.seq))) == Withdrawal.APPLIED
    assert result(client.read(lock, "locked")) is True


def test_a_session_cancels_only_calls_of_its_own() -> None:
    log = Log()
    holder, waiting, other = log.open(), log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    parked = waiting.park(lock, "acquire")
    other.seq = parked
    assert result(other.ask(Cancel(parked))) == Withdrawal.WITHDRAWN
    woken, _ = holder.send(calling(lock, "release"))
    assert (woken.session, woken.seq) == (waiting.session, parked)


def test_a_cancelled_wait_leaves_the_other_objects_alone() -> None:
    log = Log()
    client = log.open()
    blocker = client.create(Blocker)
    parked = client.park(blocker, "take_permit")
    client.send(Cancel(parked))
    client.call(blocker, "put_permit")
    assert result(client.read(blocker, "describe")) == "<DLock unlocked> <DSemaphore count=1>"


def text(reply: Reply) -> str:
    assert refused(reply) == "CallTimeout"
    return decode_refusal(reply.payload).message


def test_a_timeout_of_what_has_not_run_says_that_a_retry_is_safe() -> None:
    log = Log()
    client = log.open()
    late = client.entry(calling(client.create(Counter), "increment"))
    client.send(Cancel(late.seq, timed_out=True))
    (unsent,) = log.decide(late)
    guarded = client.park(client.create(Gate), "enter")
    told, _ = client.send(Cancel(guarded, timed_out=True))
    for reply in (unsent, told):
        assert "had no effect: a retry is safe" in text(reply)


def test_a_timeout_of_a_method_that_waits_says_that_what_it_did_before_is_done() -> None:
    """``Condition.wait`` has given its lock up: another has it, and a retry raises."""
    log = Log()
    client, other = log.open(), log.open()
    condition = client.create(Condition)
    client.call(condition, "acquire")
    told, _ = client.send(Cancel(client.park(condition, "wait"), timed_out=True))
    assert other.call(condition, "acquire", blocking=False) is True
    assert "had no effect" not in text(told)
    assert "Condition.wait has given its lock up" in text(told)

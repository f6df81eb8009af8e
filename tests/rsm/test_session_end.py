"""A session that ends: everything it waited for is answered, what it held is free, and none of it goes to the dead."""

from __future__ import annotations

import pytest

from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.objects.semaphore import Semaphore
from concoord_ray.rsm.command import CloseSession, Delete, Entry, ExpireSession, Reply
from concoord_ray.rsm.methods import when
from concoord_ray.rsm.wire import decode_refusal, encode_message
from concoord_ray.threadingobject.dsemaphore import DSemaphore
from tests.rsm.log import Handle, Log, calling, creation, refused, result
from tests.rsm.samples import Blocker


def expire(log: Log, session: int, seen_slot: int = 1_000) -> list[Reply]:
    return log.decide(Entry(0, 0, (), encode_message(ExpireSession(session, seen_slot))))


def woken(replies: list[Reply]) -> list[tuple[int, int]]:
    return [(r.session, r.seq) for r in replies if r.outcome.name in ("VALUE", "PLAIN")]


@pytest.mark.parametrize("cleanly", [True, False])
def test_what_the_session_held_goes_to_the_first_in_line(cleanly: bool) -> None:
    log = Log()
    dead, first, second = log.open(), log.open(), log.open()
    lock = dead.create(Lock)
    dead.call(lock, "acquire")
    waiting = first.park(lock, "acquire")
    second.park(lock, "acquire")
    replies = dead.send(CloseSession()) if cleanly else expire(log, dead.session)
    assert woken(replies)[0] == (first.session, waiting)
    assert (second.session, second.seq) not in woken(replies)
    assert log.applied.ended == [dead.session]


def test_no_dead_waiter_is_granted() -> None:
    """It holds a lock and waits for it as well, and for another, which it must not get while it dies."""
    log = Log()
    dead, other = log.open(), log.open()
    lock = dead.create(Lock)
    dead.call(lock, "acquire")
    mine = dead.park(lock, "acquire")
    theirs = other.park(lock, "acquire")
    replies = expire(log, dead.session)
    assert [(r.session, r.seq) for r in replies] == [(dead.session, mine), (other.session, theirs)]
    assert refused(replies[0]) == "SessionExpired"
    assert result(replies[1]) is True


def test_two_sessions_that_end_in_one_batch_leave_nothing_locked() -> None:
    log = Log()
    first, second, last = log.open(), log.open(), log.open()
    lock = last.create(Lock)
    first.call(lock, "acquire")
    second.park(lock, "acquire")
    waiting = last.park(lock, "acquire")
    ends = [Entry(0, 0, (), encode_message(ExpireSession(one.session, 1_000))) for one in (first, second)]
    assert woken(log.decide(*ends))[-1] == (last.session, waiting)


def test_every_parked_call_of_the_session_is_answered() -> None:
    log = Log()
    dead = log.open()
    locks = [dead.create(Blocker) for _ in range(3)]
    parked = [dead.park(lock, "take_permit") for lock in locks]
    replies = expire(log, dead.session)
    assert [(r.seq, refused(r)) for r in replies] == [(seq, "SessionExpired") for seq in parked]


class Tally:
    """Counts, and then waits; or waits for its guard first."""

    def __init__(self) -> None:
        self.count = 0
        self.permits = DSemaphore(0)

    def count_and_wait(self) -> bool:
        self.count += 1
        return self.permits.acquire()

    @when(lambda self: self.count > 1)
    def wait_and_count(self) -> None:
        self.count += 1


@pytest.mark.parametrize(
    ("method", "told"), [("count_and_wait", "began to wait is done"), ("wait_and_count", "not ex")]
)
def test_whoever_waited_is_told_whether_its_method_had_begun(method: str, told: str) -> None:
    log = Log()
    dead = log.open()
    tally = dead.create(Tally)
    parked = dead.park(tally, method)
    (at_the_end,) = expire(log, dead.session)
    (to_a_retry,) = log.decide(dead.again(parked, calling(tally, method)))
    for reply in (at_the_end, to_a_retry):
        assert refused(reply) == "SessionExpired"
        assert told in decode_refusal(reply.payload).message


def test_a_session_that_ended_executes_nothing_any_more() -> None:
    log = Log()
    dead, other = log.open(), log.open()
    counter = dead.create(Counter)
    expire(log, dead.session)
    assert refused(dead.ask(calling(counter, "increment"))) == "SessionExpired"
    assert refused(dead.ask(creation(Counter))) == "SessionExpired"
    assert result(other.read(counter, "getvalue")) == 0


def test_an_expiry_is_void_if_the_session_logged_anything_since() -> None:
    log = Log()
    client = log.open()
    counter = client.create(Counter)
    seen = log.executors[0].next_slot - 1
    client.call(counter, "increment")
    assert expire(log, client.session, seen) == []
    assert log.applied.ended == []
    assert client.call(counter, "increment") == 2


def test_a_session_expires_once() -> None:
    log = Log()
    client = log.open()
    expire(log, client.session)
    assert expire(log, client.session) == []
    assert log.applied.ended == []


@pytest.mark.parametrize(("taken", "given_back"), [(1, 0), (2, 1), (3, 3), (2, 2)])
def test_only_the_permits_that_are_still_out_come_back(taken: int, given_back: int) -> None:
    log = Log()
    dead, other = log.open(), log.open()
    semaphore = dead.create(Semaphore, 3)
    for _ in range(taken):
        dead.call(semaphore, "acquire")
    for _ in range(given_back):
        dead.call(semaphore, "release")
    expire(log, dead.session)
    assert result(other.read(semaphore, "describe")) == "<DSemaphore count=3>"


def test_the_end_of_a_session_does_not_touch_what_it_released() -> None:
    log = Log()
    dead, other = log.open(), log.open()
    lock = dead.create(Lock)
    dead.call(lock, "acquire")
    dead.call(lock, "release")
    other.call(lock, "acquire")
    expire(log, dead.session)
    assert result(other.read(lock, "locked")) is True


def test_a_closing_session_gets_its_reply() -> None:
    log = Log()
    client = log.open()
    (reply,) = client.send(CloseSession())
    assert result(reply) is None


# Deletion.


def test_whoever_waits_in_a_deleted_object_is_told_so() -> None:
    log = Log()
    client, other = log.open(), log.open()
    lock = client.create(Lock)
    client.call(lock, "acquire")
    parked = other.park(lock, "acquire")
    told, reply = client.send(Delete(lock))
    assert (told.session, told.seq, refused(told)) == (other.session, parked, "NoSuchObject")
    assert result(reply) is None
    assert refused(client.ask(calling(lock, "release"))) == "NoSuchObject"
    assert refused(client.ask(Delete(lock))) == "NoSuchObject"


def test_a_wait_for_a_deleted_object_does_not_time_out_later() -> None:
    log = Log()
    client, other = log.open(), log.open()
    lock = client.create(Lock)
    client.call(lock, "acquire")
    other.park(lock, "acquire", timeout=1.0)
    client.send(Delete(lock))
    assert log.pass_time(5.0) == []


def test_a_lock_that_outlives_the_object_through_which_it_was_taken_is_freed_all_the_same() -> None:
    log = Log()
    dead, other = log.open(), log.open()
    lock = dead.create(Lock)
    door = dead.create(Blocker, Handle(lock))
    dead.call(door, "acquire")
    dead.send(Delete(door))
    waiting = other.park(lock, "acquire")
    assert woken(expire(log, dead.session)) == [(other.session, waiting)]

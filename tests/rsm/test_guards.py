"""Guarded methods: calls that wait until their object is ready for them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from concoord_ray.rsm.command import Acknowledge, Cancel, CloseSession, Delete, Entry, MethodFlag
from concoord_ray.rsm.methods import method_flags, readonly, when
from concoord_ray.rsm.wire import encode_message
from concoord_ray.threadingobject.dbarrier import DBarrier
from concoord_ray.threadingobject.dsemaphore import DSemaphore
from tests.rsm.log import Handle, Log, calling, error, refused, result


class Buffer:
    """A bounded buffer."""

    def __init__(self, capacity: int = 2) -> None:
        self.items: list[Any] = []
        self.capacity = capacity
        self.guards_seen = 0

    @when(lambda self: len(self.items) < self.capacity)
    def put(self, item: Any) -> None:
        self.items.append(item)

    @when(lambda self: self.items)
    def take(self) -> Any:
        return self.items.pop(0)

    @when(lambda self: len(self.items) >= 2)
    def take_two(self) -> list[Any]:
        return [self.items.pop(0), self.items.pop(0)]

    @when(lambda self: self.items)
    def take_and_raise(self) -> None:
        raise KeyError(self.items.pop(0))

    @when(lambda self: self.no_such_attribute)
    def blunder(self) -> None:
        raise AssertionError("its guard cannot hold")

    @when(lambda self: 10 // (2 - len(self.items)) and self.items)
    def half_blunder(self) -> None:
        raise AssertionError("its guard raises before it holds twice")

    @readonly
    def count(self) -> int:
        return len(self.items)


class Feeder:
    """Fills a buffer that it was given, and one that it was given once."""

    def __init__(self, kept: Buffer | None = None) -> None:
        self.kept = kept

    def feed(self, buffer: Buffer, item: Any) -> None:
        buffer.items.append(item)

    @readonly
    def sees(self, buffer: Buffer) -> bool:
        return not buffer.items

    def feed_kept(self, item: Any) -> None:
        assert self.kept is not None
        self.kept.items.append(item)


class Gate:
    """A guard, and then a semaphore."""

    def __init__(self) -> None:
        self.is_open = False
        self.permits = DSemaphore(1)

    @when(lambda self: self.is_open)
    def enter(self) -> bool:
        return self.permits.acquire()

    @when(lambda self: self.permits.acquire())
    def grab(self) -> bool:
        return True

    def open(self) -> None:
        self.is_open = True

    def leave(self) -> None:
        self.permits.release()


def test_a_call_whose_guard_holds_runs_at_once() -> None:
    log = Log()
    client = log.open()
    buffer = client.create(Buffer)
    assert client.call(buffer, "put", "a") is None
    assert client.call(buffer, "take") == "a"


def test_a_call_waits_until_its_guard_holds() -> None:
    log = Log()
    consumer, producer = log.open(), log.open()
    buffer = consumer.create(Buffer)
    waiting = consumer.park(buffer, "take")
    replies = producer.send(calling(buffer, "put", "a"))
    assert {(r.session, r.seq): result(r) for r in replies} == {
        (producer.session, producer.seq): None,
        (consumer.session, waiting): "a",
    }
    assert result(producer.read(buffer, "count")) == 0


def test_waiting_calls_run_in_order_of_arrival_whatever_their_methods() -> None:
    log = Log()
    first, second, third, producer = (log.open() for _ in range(4))
    buffer = first.create(Buffer, 5)
    two = first.park(buffer, "take_two")
    one = second.park(buffer, "take")
    assert [r.seq for r in producer.send(calling(buffer, "put", "a")) if r.session == second.session] == [one]
    late = third.park(buffer, "take")
    replies = producer.send(calling(buffer, "put", "b"))
    assert [result(r) for r in replies if r.session == third.session and r.seq == late] == ["b"]
    assert len(producer.send(calling(buffer, "put", "c"))) == 1
    replies = producer.send(calling(buffer, "put", "d"))
    assert [result(r) for r in replies if r.session == first.session and r.seq == two] == [["c", "d"]]


def test_one_call_may_set_off_a_chain() -> None:
    """A take makes room for a put that waits, which lets the next take go on."""
    log = Log()
    client, producer, consumer = log.open(), log.open(), log.open()
    buffer = client.create(Buffer, 1)
    client.call(buffer, "put", "a")
    producer.park(buffer, "put", "b")
    consumer.park(buffer, "take_two")
    replies = client.send(calling(buffer, "take"))
    assert [result(r) for r in replies] == ["a", None]


def test_what_a_woken_call_raises_is_its_own() -> None:
    log = Log()
    consumer, producer = log.open(), log.open()
    buffer = consumer.create(Buffer)
    consumer.park(buffer, "take_and_raise")
    own, woken = producer.send(calling(buffer, "put", "a"))
    assert result(own) is None
    assert isinstance(error(woken), KeyError)


def test_a_guard_that_raises_is_its_callers_error() -> None:
    log = Log()
    client, producer = log.open(), log.open()
    buffer = client.create(Buffer)
    (reply,) = client.send(calling(buffer, "blunder"))
    assert isinstance(error(reply), AttributeError)
    one, two = client.park(buffer, "half_blunder"), client.park(buffer, "half_blunder")
    replies = producer.send(calling(buffer, "put", "a"))
    assert {r.seq for r in replies if r.session == client.session} == {one, two}


def test_a_guard_can_change_nothing() -> None:
    log = Log()
    client = log.open()
    gate = client.create(Gate)
    (reply,) = client.send(calling(gate, "grab"))
    assert "readonly" in str(error(reply))


def test_a_guarded_call_may_go_on_to_wait_elsewhere() -> None:
    log = Log()
    holder, waiter, opener = log.open(), log.open(), log.open()
    gate = opener.create(Gate)
    first = holder.park(gate, "enter")
    second = waiter.park(gate, "enter")
    replies = opener.send(calling(gate, "open"))
    assert {(r.session, r.seq) for r in replies} == {(opener.session, opener.seq), (holder.session, first)}
    replies = opener.send(calling(gate, "leave"))
    assert [(r.session, r.seq, result(r)) for r in replies if r.session != opener.session] == [
        (waiter.session, second, True)
    ]


def test_a_cancelled_call_never_runs() -> None:
    log = Log()
    consumer, producer = log.open(), log.open()
    buffer = consumer.create(Buffer)
    waiting = consumer.park(buffer, "take")
    consumer.send(Cancel(waiting))
    (own,) = producer.send(calling(buffer, "put", "a"))
    assert result(own) is None
    assert producer.call(buffer, "take") == "a"


def test_a_session_that_ends_waits_no_more() -> None:
    log = Log()
    consumer, producer = log.open(), log.open()
    buffer = consumer.create(Buffer)
    consumer.park(buffer, "take")
    consumer.send(CloseSession())
    assert len(producer.send(calling(buffer, "put", "a"))) == 1
    assert producer.call(buffer, "take") == "a"


class Room:
    """One may clean it when nobody waits in it."""

    def __init__(self) -> None:
        self.barrier = DBarrier(5)

    def wait(self) -> int:
        return self.barrier.wait()

    def nothing(self) -> None:
        """As it says."""

    @when(lambda self: self.barrier.n_waiting == 0)
    def clean(self) -> str:
        return "cleaned"


@pytest.mark.parametrize("how", ["acknowledged", "elsewhere", "cancelled"])
def test_a_guard_may_come_to_hold_because_a_call_waits_no_more(how: str) -> None:
    log = Log()
    waiter, cleaner = log.open(), log.open()
    room, elsewhere = waiter.create(Room), waiter.create(Room)
    parked = waiter.park(room, "wait")
    cleaner.park(room, "clean")
    if how == "acknowledged":
        replies = waiter.send(Acknowledge(), (parked, parked))
    elif how == "elsewhere":
        replies = waiter.send(calling(elsewhere, "nothing"), (parked, parked))
    else:
        replies = waiter.send(Cancel(parked))
    assert [result(reply) for reply in replies if reply.session == cleaner.session] == ["cleaned"]


def test_deleting_the_object_ends_the_waiting() -> None:
    log = Log()
    consumer, other = log.open(), log.open()
    buffer = consumer.create(Buffer)
    waiting = consumer.park(buffer, "take")
    replies = other.send(Delete(buffer))
    assert [refused(r) for r in replies if (r.session, r.seq) == (consumer.session, waiting)] == ["NoSuchObject"]
    assert other.call(other.create(Buffer), "put", "a") is None


@pytest.mark.parametrize("method", ["feed", "feed_kept"])
def test_a_change_by_another_object_that_holds_it_counts_too(method: str) -> None:
    log = Log()
    consumer, producer = log.open(), log.open()
    buffer = consumer.create(Buffer)
    feeder = producer.create(Feeder, Handle(buffer))
    waiting = consumer.park(buffer, "take")
    args = (Handle(buffer), "a") if method == "feed" else ("a",)
    replies = producer.send(calling(feeder, method, *args))
    assert [result(r) for r in replies if (r.session, r.seq) == (consumer.session, waiting)] == ["a"]


class Relay:
    """Shares what another one shares with its own other, and so on."""

    def __init__(self, other: Relay | None = None) -> None:
        self.items: list[Any] = [] if other is None else other.items

    def put(self, item: Any) -> None:
        self.items.append(item)

    @when(lambda self: self.items)
    def take(self) -> Any:
        return self.items.pop(0)


@pytest.mark.parametrize("is_restored", [False, True])
def test_what_was_shared_through_an_object_is_so_after_its_deletion(is_restored: bool) -> None:
    log = Log()
    producer, consumer = log.open(), log.open()
    first = producer.create(Relay)
    between = producer.create(Relay, Handle(first))
    last = producer.create(Relay, Handle(between))
    producer.send(Delete(between))
    waiting = consumer.park(last, "take")
    if is_restored:
        for executor in log.executors:
            executor.restore(executor.snapshot())
            executor.take_applied()
    replies = producer.send(calling(first, "put", "a"))
    assert [result(r) for r in replies if (r.session, r.seq) == (consumer.session, waiting)] == ["a"]


def test_what_objects_were_given_does_not_make_other_calls_dear() -> None:
    """Five hundred items were looked at after each call on one of them, as long as one call waited."""
    log = Log()
    client = log.open()
    hub = client.create(Feeder)
    items = [client.create(Buffer) for _ in range(500)]
    for item in items:
        client.call(hub, "feed", Handle(item), "a")
    waiting = client.create(Buffer)
    client.call(hub, "feed", Handle(waiting), "a")
    client.call(waiting, "take")
    client.park(waiting, "take")
    table = log.executors[0]._objects
    assert table.may_be_ready(items[0]) == [waiting]
    steps = 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        table.may_be_ready(items[0])
    finally:
        sys.setprofile(before)
    assert steps < 20
    for item in (hub, *items):
        client.send(Delete(item))
    client.send(Delete(waiting))
    assert not table._groups


def test_a_read_links_no_objects() -> None:
    """The leader alone runs it: there a later command woke a call that still waited on all the other replicas."""
    log = Log()
    client = log.open()
    feeder, buffer = client.create(Feeder), client.create(Buffer)
    command = encode_message(calling(feeder, "sees", Handle(buffer)))
    leader, follower = log.executors
    assert result(leader.read(Entry(client.session, -1, (), command))) is True
    assert client.call(feeder, "sees", Handle(buffer)) is True
    client.park(buffer, "take")
    assert leader._objects.may_be_ready(feeder) == follower._objects.may_be_ready(feeder) == []


def test_a_command_elsewhere_evaluates_no_guard() -> None:
    log = Log()
    client, other = log.open(), log.open()
    buffer, unrelated = client.create(Buffer), other.create(Buffer)
    client.park(buffer, "take")
    for executor in log.executors:
        assert executor._objects.may_be_ready(unrelated) == []
        assert executor._objects.may_be_ready(buffer) == [buffer]


def test_a_guarded_method_is_known_to_park_and_cannot_be_readonly() -> None:
    assert method_flags(Buffer)["take"] == MethodFlag.GUARDED | MethodFlag.PARKS
    with pytest.raises(TypeError, match="guarded"):
        readonly(Buffer.take)
    with pytest.raises(TypeError, match="readonly"):
        when(lambda self: True)(Buffer.count)
    with pytest.raises(TypeError, match="function of the object"):
        when(True)  # type: ignore[arg-type]

"""Bounds of the replicated state: the log refuses what goes beyond them, alike on every replica, and goes on."""

from __future__ import annotations

from typing import Any

import pytest

from concoord_ray.config import Config
from concoord_ray.errors import ConfigurationError, Overloaded
from concoord_ray.objects.condition import Condition
from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.rsm.command import Acknowledge, Batch, Cancel, CloseSession, Delete, Entry, OpenSession, Reply
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.methods import when
from concoord_ray.rsm.wire import encode_message
from tests.rsm.log import SECOND_NS, Client, Log, calling, creation, error, refused, result
from tests.rsm.samples import Register


def log_with(**bounds: Any) -> Log:
    """Two executors that refuse the same, or ``Log`` would find out."""
    log = Log()
    log.executors = [Executor("here", Config(**bounds)) for _ in log.executors]
    return log


def opening(log: Log, nonce: int) -> Reply:
    entry = Entry(0, nonce, (), encode_message(OpenSession(10 * SECOND_NS, "one more")))
    (reply,) = log.decide(entry)
    return reply


# Waiting calls.


def assert_cannot_wait(reply: Reply) -> None:
    told = error(reply)
    assert isinstance(told, Overloaded)
    assert "max_parked_calls" in str(told)


def test_only_so_many_calls_wait_and_the_release_goes_through() -> None:
    log = log_with(max_parked_calls=3)
    client = log.open()
    lock = client.create(Lock)
    client.call(lock, "acquire")
    waiting = [client.park(lock, "acquire", owner=str(n)) for n in range(3)]
    assert_cannot_wait(client.ask(calling(lock, "acquire", owner="one too many")))
    free = client.create(Lock)
    assert client.call(free, "acquire") is True  # Which others may wait for.
    woken = [reply.seq for reply in client.send(calling(lock, "release"))]
    assert waiting[0] in woken
    client.park(lock, "acquire", owner="again")


def test_a_refused_wait_has_no_effect_at_all() -> None:
    """A condition gives its lock away before it waits."""
    log = log_with(max_parked_calls=1)
    client = log.open()
    condition = client.create(Condition)
    client.call(condition, "acquire", owner="a")
    client.park(condition, "wait", owner="a")
    client.call(condition, "acquire", owner="b")
    assert_cannot_wait(client.ask(calling(condition, "wait", owner="b")))
    assert isinstance(error(client.ask(calling(condition, "notify", owner="c"))), RuntimeError)
    client.call(condition, "notify", owner="b")
    client.call(condition, "release", owner="b")


class Shelf:
    """Two guards."""

    def __init__(self) -> None:
        self.items: list[Any] = []

    @when(lambda self: self.items)
    def take(self) -> Any:
        return self.items.pop()

    @when(lambda self: len(self.items) > 1)
    def take_all(self) -> list[Any]:
        taken, self.items = self.items, []
        return taken

    def put(self, *items: Any) -> None:
        self.items.extend(items)


def test_a_refused_guarded_call_leaves_no_trace_in_its_object() -> None:
    """It left an empty queue: later calls had to wait behind nobody, and one that waited stopped every replica."""
    log = log_with(max_parked_calls=1)
    client = log.open()
    full, shelf = client.create(Shelf), client.create(Shelf)
    parked = client.park(full, "take")
    assert_cannot_wait(client.ask(calling(shelf, "take")))
    client.call(shelf, "put", "a")
    assert client.call(shelf, "take") == "a"
    client.send(Cancel(parked))
    waiting = client.park(shelf, "take_all")
    woken = client.send(calling(shelf, "put", "b", "c"))
    assert [result(reply) for reply in woken if reply.seq == waiting] == [["b", "c"]]


def test_a_call_that_was_refused_does_not_run_when_it_is_sent_again() -> None:
    log = log_with(max_parked_calls=1)
    client = log.open()
    lock = client.create(Lock)
    client.call(lock, "acquire")
    parked = client.park(lock, "acquire")
    command = calling(lock, "acquire", owner="other")
    assert_cannot_wait(client.ask(command))
    seq = client.seq
    client.send(Cancel(parked))
    assert_cannot_wait(again(client, seq, command))


def again(client: Client, seq: int, command: Any) -> Reply:
    """The reply to a command that is sent once more."""
    (reply,) = [reply for reply in client.log.decide(client.again(seq, command)) if reply.seq == seq]
    return reply


# Results that are kept.


def test_a_process_that_does_not_say_what_it_has_gets_no_more() -> None:
    log = log_with(max_unacknowledged_bytes=10_000)
    client, other = log.open(), log.open()
    register = client.create(Register)
    client.call(register, "append", "x" * 4_000)
    kept = []
    while refused_or_not(reply := client.ask(calling(register, "echo", "y" * 4_000))) is None:
        kept.append(reply.seq)
        assert len(kept) < 10
    assert len(kept) == 3
    assert other.call(register, "echo", 1) == 1
    # What it is told of, and what it says, goes through.
    assert result(client.ask(Cancel(kept[0]))) == 2
    client.send(Acknowledge(), *((seq, seq) for seq in kept))
    assert client.call(register, "echo", 2) == 2


def test_answers_count_however_small_they_are_also_after_a_restore() -> None:
    """One of three bytes takes some 200: a bound on the bytes alone would allow so many that no memory holds them."""
    config = Config(max_unacknowledged_bytes=10_000)
    log = log_with(max_unacknowledged_bytes=10_000)
    client = log.open()
    register = client.create(Register)
    kept = []
    while refused_or_not(reply := client.ask(calling(register, "echo", 1))) is None:
        kept.append(reply.seq)
        assert len(kept) < 100
        if len(kept) == 20:
            log.executors[1] = Executor("here", config)
            log.executors[1].restore(log.executors[0].snapshot())
            log.executors[1].take_applied()
    assert 40 < len(kept) < 60
    assert len({executor._kept_bytes for executor in log.executors}) == 1
    client.send(Acknowledge(), (1, client.seq))
    assert client.call(register, "echo", 2) == 2
    client.send(Acknowledge(), (1, client.seq))
    assert [executor._sessions[client.session].kept_bytes for executor in log.executors] == [
        executor._kept_bytes for executor in log.executors
    ]
    assert log.executors[0]._kept_bytes < 500


def refused_or_not(reply: Reply) -> str | None:
    return refused(reply) if reply.outcome.name == "REFUSED" else None


def test_all_processes_together_are_bounded_too() -> None:
    log = log_with(max_kept_bytes=25_000)
    clients = [log.open() for _ in range(4)]
    register = clients[0].create(Register)
    told = [refused_or_not(client.ask(calling(register, "echo", "y" * 9_000))) for client in clients[:3]]
    assert told == [None] * 3
    for client in clients[:3]:
        assert refused(client.ask(calling(register, "echo", 1))) == "Overloaded"
    assert clients[3].call(register, "echo", 1) == 1  # Who has taken everything goes on.
    log.decide(clients[0].entry(Acknowledge(), (1, clients[0].seq)))
    assert clients[1].call(register, "echo", 1) == 1


def test_what_a_session_kept_is_forgotten_with_it() -> None:
    log = log_with(max_kept_bytes=10_000)
    client, other = log.open(), log.open()
    register = client.create(Register)
    other.ask(calling(register, "echo", "z" * 4_000))
    client.ask(calling(register, "echo", "y" * 12_000))
    assert refused(other.ask(calling(register, "echo", 1))) == "Overloaded"
    log.decide(client.entry(CloseSession()))
    assert other.call(register, "echo", 1) == 1


def test_how_much_is_kept_survives_a_snapshot() -> None:
    log = log_with(max_kept_bytes=10_000)
    client = log.open()
    register = client.create(Register)
    client.ask(calling(register, "echo", "y" * 12_000))
    restored = Executor("here", Config(max_kept_bytes=10_000))
    restored.restore(bytes(log.executors[0].snapshot()))
    assert restored.take_applied().crowded == (client.session,)
    log.executors[1] = restored
    assert refused(client.ask(calling(register, "echo", 1))) == "Overloaded"
    log.decide(client.entry(Acknowledge(), (1, client.seq)))
    assert client.call(register, "echo", 1) == 1


def test_what_is_refused_is_said_in_the_log_and_not_found_by_each_replica_for_itself() -> None:
    """Pickles of equal values have other sizes on other replicas, and a call must run on all of them or on none."""
    log = log_with(max_unacknowledged_bytes=10_000)
    client = log.open()
    register = client.create(Register)
    client.ask(calling(register, "echo", "y" * 12_000))
    leader, follower = log.executors
    follower._sessions[client.session].kept_bytes -= 5_000
    for crowded, told in (((), None), ((client.session,), "Overloaded")):
        batch = encode_message(
            Batch(log.time_ns, log.time_ns, (client.entry(calling(register, "append", 1)),), b"", crowded)
        )
        for executor in (leader, follower):
            executor.apply(executor.next_slot, batch)
            (reply,) = executor.take_applied().replies
            assert refused_or_not(reply) == told


def test_results_of_calls_that_were_on_their_way_are_bounded_in_the_end() -> None:
    log = log_with(max_unacknowledged_bytes=10_000)
    client = log.open()
    register = client.create(Register)
    calls = [client.entry(calling(register, "echo", f"{n}" * 6_000)) for n in range(5)]
    counted = client.entry(calling(register, "append", "executed"))
    replies = log.decide(*calls, counted)
    assert [refused_or_not(reply) for reply in replies[:5]] == [None] * 3 + ["OutcomeUnknown"] * 2
    assert result(replies[5]) == 1  # What is small is kept all the same.
    assert all(executor._kept_bytes < 21_000 for executor in log.executors)


def test_a_result_that_no_frame_takes_is_not_kept() -> None:
    log = log_with(max_frame_bytes=64 << 10)
    client = log.open()
    register = client.create(Register)
    assert refused(client.ask(calling(register, "echo", "y" * (64 << 10)))) == "FrameTooLarge"
    assert all(executor._kept_bytes < 1000 for executor in log.executors)


# Sessions and objects.


def test_only_so_many_processes_have_a_session() -> None:
    log = log_with(max_sessions=2)
    first = log.open()
    second = opening(log, 7)
    assert refused(opening(log, 8)) == "Overloaded"
    assert result(opening(log, 7)) == result(second)  # It has one already.
    log.decide(first.entry(CloseSession()))
    assert isinstance(result(opening(log, 8)), int)


def test_only_so_many_objects_exist() -> None:
    log = log_with(max_objects=2)
    client = log.open()
    client.create(Counter, name="first")
    second = client.create(Counter)
    assert refused(client.ask(creation(Counter))) == "Overloaded"
    assert result(client.ask(creation(Counter, name="first", get_if_exists=True))).name == "first"
    client.ask(Delete(second))
    client.create(Counter)


@pytest.mark.parametrize("bound", [name for name in Config.__struct_fields__ if name.startswith("max_")])
def test_a_bound_of_nothing_is_refused(bound: str) -> None:
    settings: dict[str, Any] = {bound: 0}
    with pytest.raises(ConfigurationError, match=bound):
        Config(**settings)

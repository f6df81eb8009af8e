"""What was restored from a snapshot is what it was taken of. Each primitive: tests/threadingobject/test_snapshots."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from concoord_ray.objects import Condition, Lock, Semaphore
from concoord_ray.rsm import snapshot
from concoord_ray.rsm.command import Cancel, CloseSession, EndTask, Entry, OpenSession, Reply
from concoord_ray.rsm.context import CallContext
from concoord_ray.rsm.executor import STATE, Executor
from concoord_ray.rsm.snapshot import SnapshotUnusable
from concoord_ray.rsm.wire import encode_message
from tests.rsm import shop
from tests.rsm.log import SECOND_NS, Handle, calling, creation, error, refused, result
from tests.rsm.restored import RestoredLog, told
from tests.rsm.samples import Register

# Classes.


def test_what_methods_construct_is_what_was_restored() -> None:
    log = RestoredLog()
    client = log.open()
    one = client.create(shop.Shop)
    other = client.create(shop.Shop, Handle(one))
    client.call(other, "stock", "a")
    assert isinstance(error(client.ask(calling(one, "fail"))), shop.OutOfStock)
    for _ in range(3):
        log.restore()
        for each in (one, other):
            verdict = client.call(each, "judge")
            assert "False" not in verdict
            assert "'opened': 2" in verdict
        client.call(one, "stock", "b")
        again = error(client.ask(calling(one, "fail_again")))
        assert isinstance(again, shop.OutOfStock)
        assert again.wanted == 7


def test_what_comes_with_a_later_call_is_of_the_restored_class() -> None:
    log = RestoredLog()
    client = log.open()
    register, one = client.create(Register), client.create(shop.Shop)
    client.call(one, "stock", "a", shop.Colour.GREEN)
    client.call(register, "append", shop.Box("in no shop"))
    log.restore()
    assert client.call(one, "is_item", shop.Item("a")) is True
    assert client.call(one, "stock", "b", shop.Colour.GREEN) == 2
    assert "False" not in client.call(one, "judge")
    assert type(result(client.ask(calling(register, "get")))[0]) is shop.Box


def test_executors_of_one_process_share_no_class() -> None:
    log = RestoredLog()
    client = log.open()
    shops = [client.create(shop.Shop) for _ in range(3)]
    client.call(shops[0], "stock", "a")
    log.restore()
    client.create(shop.Shop)
    assert "'opened': 4" in client.call(shops[0], "judge")
    assert shop.Shop.opened == 0
    assert shop.ORDERS_SEEN == []


_ELSEWHERE = """
import pickle, sys
from concoord_ray.rsm.executor import Executor
data, batches = pickle.load(sys.stdin.buffer)
executor, replies = Executor("here"), []
if data is not None:
    executor.restore(data)
for batch in batches:
    executor.apply(executor.next_slot, batch)
    replies += [(r.session, r.seq, int(r.outcome), r.payload) for r in executor.take_applied().replies]
assert not [name for name in sys.modules if name.partition(".")[0] == "tests"]
pickle.dump((executor.snapshot(), replies), sys.stdout.buffer)
"""


def _elsewhere(cwd: Path, hash_seed: int, data: bytes | None, batches: list[bytes]) -> tuple[bytes, list[Reply]]:
    done = subprocess.run(
        [sys.executable, "-c", _ELSEWHERE],
        input=pickle.dumps((data, batches)),
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        cwd=cwd,
        capture_output=True,
        check=True,
        timeout=60,
    )
    data, replies = pickle.loads(done.stdout)
    return data, [Reply(*reply) for reply in replies]


def test_processes_that_cannot_import_the_users_code_go_on_one_after_the_other(tmp_path: Path) -> None:
    log = RestoredLog()
    first, second = log.open(), log.open()
    one = first.create(shop.Shop, name="one")
    other = second.create(shop.Shop, Handle(one))
    second.send(calling(one, "sell"))
    cuts = [len(log.batches)]
    first.call(one, "stock", "a", shop.Colour.GREEN)
    second.send(calling(other, "fail"))
    first.call(one, "take")
    second.send(calling(other, "take"))
    cuts.append(len(log.batches))
    first.call(other, "stock", "b")
    first.send(calling(other, "stock", "c"))  # That makes the sale.
    first.send(calling(one, "judge"))
    second.send(calling(other, "judge"))
    first.send(calling(one, "is_item", shop.Item("b")))
    first.send(calling(other, "fail_again"))
    first.send(CloseSession())  # That frees the lock.
    alone = Executor("here")
    for slot, batch in enumerate(log.batches):
        alone.apply(slot, batch)
    expected = told(alone.take_applied().replies)
    replies: list[tuple[int, int, str]] = []
    data = None
    for hash_seed, (begin, end) in enumerate(zip([0, *cuts], [*cuts, None], strict=True)):
        data, some = _elsewhere(tmp_path, hash_seed, data, log.batches[begin:end])
        replies += told(some)
    assert replies == expected
    verdicts = [outcome for _, _, outcome in replies if "'self': True" in outcome]
    assert len(verdicts) == 2
    assert "False" not in "".join(verdicts)


# Calls and sessions.


def test_nothing_runs_twice_because_of_a_restore() -> None:
    log = RestoredLog()
    client, gone = log.open(), log.open()
    register = client.create(Register)
    append = calling(register, "append", "once")
    client.ask(append)
    kept = client.seq
    client.ask(append)
    client.call(register, "who", owner="x")
    acknowledged = client.seq
    client.send(calling(register, "who"), (acknowledged, acknowledged))
    gone.ask(append)
    gone.send(CloseSession())
    client.send(Cancel(40))
    log.restore()
    assert [result(reply) for reply in log.decide(client.again(kept, append))] == [1]
    assert [refused(reply) for reply in log.decide(client.again(acknowledged, append))] == ["OutcomeUnknown"]
    assert [refused(reply) for reply in log.decide(gone.again(1, append))] == ["OutcomeUnknown"]
    assert [refused(reply) for reply in log.decide(gone.again(9, append))] == ["SessionExpired"]
    assert [refused(reply) for reply in log.decide(client.again(40, append))] == ["CallCancelled"]
    assert len(client.call(register, "get")) == 3


def test_numbers_go_on() -> None:
    log = RestoredLog()
    client = log.open()
    register, lock = client.create(Register), client.create(Lock, name="lock")
    token = client.call(lock, "acquire_fenced")
    log.restore()
    opening = Entry(0, 1001, (), encode_message(OpenSession(SECOND_NS, "again")))
    assert [result(reply) for reply in log.decide(opening)] == [client.session]
    assert log.open().session == client.session + 1
    assert refused(client.ask(creation(Lock, name="lock"))) == "ObjectExists"
    assert client.create(Register) == lock + 1
    assert client.call(lock, "force_release") is True
    assert client.call(lock, "acquire_fenced") == token + 2
    assert len({client.call(register, "draw") for _ in range(3)}) == 3


def test_deadlines_go_on_and_those_that_are_over_are_left_behind() -> None:
    log = RestoredLog()
    holder, one, other, late = log.open(), log.open(), log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    one.park(lock, "acquire", timeout=2)
    withdrawn = other.park(lock, "acquire", timeout=5)
    other.send(Cancel(withdrawn))
    other.park(lock, "acquire", timeout=2)
    applied = log.restore()
    assert len(log.executors[1]._timers) == 2
    assert log.applied.next_deadline_ns == applied.next_deadline_ns == 3 * SECOND_NS
    late.park(lock, "acquire", timeout=2)
    assert log.pass_time(1.5) == []
    log.restore()
    assert [(r.session, result(r)) for r in log.pass_time(0.5)] == [
        (one.session, False),
        (other.session, False),
        (late.session, False),
    ]


def test_a_task_that_has_ended_holds_nothing_afterwards_either() -> None:
    log = RestoredLog()
    client = log.open()
    lock = client.create(Lock)
    client.send(EndTask("task"))
    log.restore()
    assert client.call(lock, "acquire", owner="late@task") is True
    assert result(client.read(lock, "locked")) is False


def test_a_grant_is_given_back_after_a_restore() -> None:
    log = RestoredLog()
    holder, waiter = log.open(), log.open()
    lock = holder.create(Lock)
    conditions = [holder.create(Condition, Handle(lock)) for _ in range(2)]
    holder.call(conditions[0], "acquire")
    waiting = waiter.park(conditions[1], "acquire")
    log.restore()
    holder.send(Cancel(holder.seq))
    assert result(holder.read(lock, "locked")) is True
    log.restore()
    waiter.send(Cancel(waiting))
    assert result(holder.read(lock, "locked")) is False


def test_the_sessions_are_told_to_whoever_restores() -> None:
    log = RestoredLog()
    one, other = log.open(ttl_s=3), log.open(ttl_s=4)
    executor = Executor("here")
    executor.restore(log.executors[0].snapshot())
    assert executor.take_applied().opened == [(one.session, 3 * SECOND_NS), (other.session, 4 * SECOND_NS)]
    one.send(CloseSession())
    late = log.open()
    executor.restore(log.executors[0].snapshot())
    applied = executor.take_applied()
    assert [session for session, _ in applied.opened] == [other.session, late.session]
    assert applied.ended == [one.session]
    assert applied.next_slot == log.executors[0].next_slot


def test_twenty_thousand_calls_keep_their_places() -> None:
    log = RestoredLog()
    holder, other = log.open(), log.open()
    lock = holder.create(Lock)
    holder.call(lock, "acquire")
    waiting = [other.entry(calling(lock, "acquire", owner=str(n), timeout=5 + n % 7)) for n in range(20_000)]
    log.decide(*waiting)
    log.restore()
    assert log.executors[1]._parked == 20_000
    replies = [reply for _ in range(50) for reply in holder.send(calling(lock, "release")) if reply.session == 2]
    assert [reply.seq for reply in replies] == [entry.seq for entry in waiting[:50]]
    assert len(log.pass_time(30)) == 20_000 - 50


def test_every_part_of_the_state_is_kept() -> None:
    given = {"_ensemble", "_config", "_first_token"}
    passing = {"_applied", "_draws", "_refusing"}
    assert set(vars(Executor("here"))) == set(STATE) | given | passing


def test_a_method_may_keep_its_command() -> None:
    class Keeper:
        command: Any = None

        def keep(self, _concoord_command: CallContext) -> bool:
            is_known = self.command is not None and self.command.effects is _concoord_command.effects
            self.command = _concoord_command
            return is_known

    log = RestoredLog()
    client = log.open()
    keeper = client.create(Keeper)
    assert client.call(keeper, "keep") is False
    log.restore()
    assert client.call(keeper, "keep") is True


# Deep graphs.


@dataclass
class Link:
    key: tuple[int, Any]
    before: Any = None
    after: Any = None


class Chain:
    """A doubly linked list, with a deep tree."""

    def __init__(self, length: int = 0) -> None:
        self.by_key: dict[Any, Link] = {}
        self.first: Link | None = None
        last = None
        for number in range(length):
            last = self._append(last, number)

    def _append(self, last: Link | None, number: int) -> Link:
        entry = self.by_key[shop.Key(shop.Place(number, "x"), shop.Colour.RED)] = Link((number, {number}), last)
        if last is None:
            self.first = entry
        else:
            last.after = entry
        return entry

    def walk(self) -> list[Any]:
        entry, seen, before = self.first, 0, None
        while entry is not None:
            assert entry.before is before
            assert self.by_key[shop.Key(shop.Place(seen, "x"), shop.Colour.RED)] is entry
            assert entry.key == (seen, {seen})
            seen, before, entry = seen + 1, entry, entry.after
        return [seen, len(self.by_key)]


def test_a_long_linked_list_is_no_deep_recursion() -> None:
    log = RestoredLog()
    client = log.open()
    chain = client.create(Chain, 20_000)
    parked = client.create(Semaphore, 0)
    client.park(parked, "acquire")
    log.restore()
    assert result(client.ask(calling(chain, "walk"))) == [20_000, 20_000]
    assert len(client.send(calling(parked, "release"))) == 2


class City:
    """Hashed by its name, which it would not have yet if it were first met in its neighbour's roads."""

    def __init__(self, name: str) -> None:
        self.roads: dict[City, int] = {}
        self.name = name

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, City) and other.name == self.name


class Map:
    def __init__(self) -> None:
        self.start = City("a")

    def build(self) -> None:
        city = City("b")
        self.start.roads[city] = 7
        city.roads[self.start] = 8

    def way(self) -> list[int]:
        city = City("b")
        return [self.start.roads[city], next(iter(self.start.roads)).roads[City("a")]]


def test_keys_that_are_in_one_anothers_dicts_are_hashed_when_they_can_be() -> None:
    log = RestoredLog()
    client = log.open()
    one = client.create(Map)
    client.call(one, "build")
    log.restore()
    assert result(client.ask(calling(one, "way"))) == [7, 8]


# The bytes.


def test_the_header_tells_what_a_snapshot_is_of() -> None:
    log = RestoredLog()
    log.open()
    header = snapshot.header(log.executors[0].snapshot(b"the view"))
    assert (header.ensemble, header.next_slot, header.extra) == ("here", 1, b"the view")
    assert header.python == sys.version_info[:2]


def _spoiled(data: bytes) -> dict[str, bytes]:
    size = int.from_bytes(data[6:10], "big")
    other = encode_message(snapshot.Header("here", 5, python=(2, 7)))
    return {
        "empty": b"",
        "garbage": b"garbage that is long enough",
        "cut in the header": data[: size // 2],
        "cut": data[:-20],
        "another format": data[:4] + b"\x00\xff" + data[6:],
        "another python": data[:6] + len(other).to_bytes(4, "big") + other + data[10 + size :],
        "a damaged header": data[:10] + bytes(size) + data[10 + size :],
        "a damaged pickle": data[: 10 + size] + b"\x80\x05garbage.",
    }


@pytest.mark.parametrize("how", _spoiled(bytes(100)))
def test_what_cannot_be_restored_changes_nothing(how: str) -> None:
    log = RestoredLog()
    client = log.open()
    register = client.create(Register, 1)
    data = _spoiled(bytes(log.executors[0].snapshot()))[how]
    with pytest.raises(SnapshotUnusable):
        log.executors[1].restore(data)
    assert client.call(register, "append", 2) == 2
    log.restore()


def test_another_ensembles_snapshot_is_refused() -> None:
    with pytest.raises(SnapshotUnusable, match="there"):
        Executor("here").restore(Executor("there").snapshot())

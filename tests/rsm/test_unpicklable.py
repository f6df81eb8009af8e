"""What cannot be in a snapshot is found when an object is created, or else named when a snapshot is taken."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from concoord_ray.objects import Lock
from concoord_ray.rsm.command import Batch, Delete
from concoord_ray.rsm.snapshot import SnapshotFailed
from concoord_ray.rsm.wire import encode_message
from tests.rsm.log import Client, Handle, Log, calling, creation, error
from tests.rsm.restored import RestoredLog
from tests.rsm.samples import Blocker, Register
from tests.rsm.shop import Place
from tests.threadingobject.test_cost import calls_of


def closed_over() -> Callable[[], Any]:
    lock = threading.Lock()
    return lambda: lock


def bad(attribute: Callable[[], Any]) -> type:
    class Bad:
        def __init__(self) -> None:
            self.jobs: list[Any] = []
            self.put("constructed")

        def put(self, name: str) -> None:
            self.jobs.append({name: attribute()})

    return Bad


class Proxy:
    """Cannot be made again: before it has its attributes, it looks for them in them."""

    def __init__(self) -> None:
        self.attributes = {"a": 1}

    def __getattr__(self, name: str) -> Any:
        return self.attributes[name]


class WithoutItsLock:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.items = [1]

    def __getstate__(self) -> dict[str, Any]:
        return {"items": self.items}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.items = state["items"]
        self.lock = threading.Lock()

    def count(self) -> int:
        with self.lock:
            return len(self.items)


@pytest.mark.parametrize(
    ("attribute", "named"),
    [
        (threading.Lock, r"self\.jobs\[0\]\['constructed'\] \(_thread.lock\)"),
        (lambda: (number for number in range(3)), r"self\.jobs\[0\]\['constructed'\] \(generator\)"),
        (closed_over, r"self\.jobs\[0\]\['constructed'\]\.<lock> \(_thread.lock\)"),
    ],
)
def test_an_object_that_no_snapshot_could_hold_does_not_come_to_exist(attribute: Callable[[], Any], named: str) -> None:
    log = RestoredLog()
    client = log.open()
    refusal = error(client.ask(creation(bad(attribute), name="bad")))
    assert isinstance(refusal, TypeError)
    assert re.search(named, str(refusal))
    assert " at 0x" not in str(refusal)
    assert log.executors[0]._objects.instances() == []
    client.create(Register, name="bad")


def test_nor_does_one_that_could_not_be_made_again() -> None:
    log = RestoredLog()
    refusal = error(log.open().ask(creation(Proxy)))
    assert isinstance(refusal, TypeError)
    assert "__getattr__" in str(refusal) or "__getstate__" in str(refusal)


def test_a_class_may_say_what_its_state_is() -> None:
    log = RestoredLog()
    client = log.open()
    one = client.create(WithoutItsLock)
    log.restore()
    assert client.call(one, "count") == 1


def _waited_for(client: Client, size: int) -> int:
    """A lock in which so many wait."""
    lock = client.create(Lock)
    client.call(lock, "acquire")
    client.log.decide(*(client.entry(calling(lock, "acquire", owner=str(n))) for n in range(size)))
    return lock


def _full(client: Client, size: int) -> int:
    return client.create(Register, *(Place(n, "x") for n in range(size)))


@pytest.mark.parametrize(("cls", "shared"), [(Blocker, _waited_for), (Register, _full)])
def test_a_new_object_is_looked_at_without_what_it_shares(cls: type, shared: Callable[[Client, int], int]) -> None:
    """Its creation costs the same, however much there is in what it was given."""
    costs = []
    for size in (10, 5_000):
        log = Log()
        client = log.open()
        given = shared(client, size)
        create = client.entry(creation(cls, Handle(given)))
        costs.append(calls_of(log.executors[0], encode_message(Batch(log.time_ns, log.time_ns, (create,)))))
        assert len(log.executors[0]._objects.instances()) == 2
    assert abs(costs[0] - costs[1]) < 50  # The garbage of earlier tests may be found meanwhile.


@pytest.mark.parametrize("name", ["late", None])
def test_what_a_method_makes_unpicklable_is_named_and_the_log_goes_on(name: str | None) -> None:
    class Late:
        def __init__(self) -> None:
            self.deep: dict[str, Any] = {"locks": []}

        def spoil(self) -> None:
            self.deep["locks"].append(threading.Lock())

        def mend(self) -> None:
            self.deep["locks"].clear()

    log = RestoredLog()
    client = log.open()
    register = client.create(Register)
    late = client.create(Late, name=name)
    client.call(register, "append", Handle(late))
    client.call(late, "spoil")
    with pytest.raises(SnapshotFailed, match="lock") as failed:
        log.executors[0].snapshot()
    found = failed.value
    assert (found.object_id, found.class_name, found.path) == (late, "Late", "self.deep['locks'][0]")
    client.call(late, "mend")
    log.restore()
    assert client.send(Delete(late))


def test_a_shortage_of_memory_is_not_the_objects_fault() -> None:
    class Hungry:
        is_hungry = False

        def __getstate__(self) -> dict[str, Any]:
            if type(self).is_hungry:
                raise MemoryError
            return {}

        def eat(self) -> None:
            type(self).is_hungry = True

    log = RestoredLog()
    client = log.open()
    client.call(client.create(Hungry), "eat")
    with pytest.raises(MemoryError):
        log.executors[0].snapshot()


def test_lists_that_are_too_deep_are_named() -> None:
    class Nest:
        def __init__(self) -> None:
            self.nested: list[Any] = []

        def nest(self) -> None:
            for _ in range(100_000):
                self.nested = [self.nested]

        def unnest(self) -> None:
            while self.nested:  # Or Python would free it by recursion.
                self.nested = self.nested.pop()

    log = RestoredLog()
    client = log.open()
    nest = client.create(Nest)
    client.call(nest, "nest")
    with pytest.raises(SnapshotFailed, match="Nest, object 1: self is nested too deeply"):
        log.executors[0].snapshot()
    client.call(nest, "unnest")
    log.restore()


class Unique:
    def __reduce__(self) -> Any:
        return int, ("there is no second one",)


class Shy:
    def __init__(self) -> None:
        self.parts: list[Any] = []

    def grow(self) -> None:
        self.parts.append(Unique())


def test_a_snapshot_that_could_not_be_restored_is_not_given_away() -> None:
    log = RestoredLog()
    client = log.open()
    client.create(Register)
    shy = client.create(Shy)
    client.call(shy, "grow")
    with pytest.raises(SnapshotFailed, match="Shy, object 2") as failed:
        log.executors[0].snapshot()
    assert failed.value.object_id == shy

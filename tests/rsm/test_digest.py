"""Equal state has an equal digest, however it came about; other state has another; and it is never expensive."""

from __future__ import annotations

import collections
import copy
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import functools
import math
import os
import pathlib
import pickle
import random
import re
import struct
import subprocess
import sys
import threading
import types
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concoord_ray.objects.condition import Condition
from concoord_ray.objects.lock import Lock
from concoord_ray.objects.queue import Queue
from concoord_ray.rsm import memory
from concoord_ray.rsm.digest import digest
from concoord_ray.rsm.sampling import spread
from tests.rsm.log import Client, Handle, Log, calling

BUDGET = 100_000


def of(value: Any, budget: int = BUDGET, seed: int = 1) -> bytes:
    return digest(value, budget=budget, seed=seed)


def again(value: Any) -> Any:
    """As a snapshot keeps it."""
    return pickle.loads(pickle.dumps(value))


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntFlag):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: int


@dataclasses.dataclass
class Account:
    owner: str
    balance: float
    history: list[Any] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: Any


class Slotted:
    __slots__ = ("__secret", "unset", "x")

    def __init__(self, x: Any) -> None:
        self.x = x
        self.__secret = x


class MoreSlots(Slotted):
    """With a ``__dict__`` as well."""


class Struct(msgspec.Struct):
    a: int
    b: Any


class Stack(list[Any]):
    def __init__(self, *items: Any, name: str = "") -> None:
        super().__init__(items)
        self.name = name

    def __iter__(self) -> Any:
        raise AssertionError("not to be iterated by its own method")


class Table(dict[Any, Any]):
    def items(self) -> Any:
        raise AssertionError("nor this")

    def __iter__(self) -> Any:
        raise AssertionError("nor this")


class Celsius(float):
    pass


class Flags(set[Any]):
    pass


class Money(decimal.Decimal):
    pass


class Failure(Exception):
    def __init__(self, code: int) -> None:
        super().__init__("failed")
        self.code = code


class Hostile:
    """Whoever compares, hashes or shows it loses."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared")

    def __hash__(self) -> int:
        if _hashing:
            return len(self.name)
        raise AssertionError("hashed")

    def __repr__(self) -> str:
        raise AssertionError("shown")

    __str__ = __repr__

    def __bool__(self) -> bool:
        raise AssertionError("judged")

    def __len__(self) -> int:
        raise AssertionError("measured")


_hashing: list[bool] = []


class HostileType(type):
    def __hash__(cls) -> int:
        raise AssertionError("hashed")

    def __eq__(cls, other: object) -> bool:
        raise AssertionError("compared")


class OfHostileType(metaclass=HostileType):
    def __init__(self) -> None:
        self.x = 1


class Caching:
    """Keeps what it has computed; a snapshot does not."""

    def __init__(self, x: int) -> None:
        self.x = x
        self.cache: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"x": self.x}

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.x


class Deriving:
    def __init__(self, x: int) -> None:
        self.x = x

    @functools.cached_property
    def double(self) -> int:
        return 2 * self.x


class Raising:
    def __init__(self, error: type[BaseException], x: int = 0) -> None:
        self.error = error
        self.x = x

    def __reduce__(self) -> str:
        raise self.error


def different() -> tuple[Any, ...]:
    """Values that all differ from each other."""
    return (
        None, 0, False, 0.0, -0.0, math.nan, struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0], math.inf,
        0j, 1, True, 1.0, -1, 2**63, 2**64, 2**200, -(2**200), "", b"", bytearray(), "a", b"a", bytearray(b"a"),
        "\udcff", "\udcfe", "x" * 1000, "x" * 1001, [], (), {}, set(), frozenset(), [None], [[]], [[], []],
        [[[]]], [1, 2], [2, 1], (1, 2), [(1, 2)], [1, [2]], [[1], 2], ["ab", "c"], ["a", "bc"], {1, 2},
        frozenset({1, 2}), {1}, {True}, {(1, 2), (3,)}, {(1, 2), (3, 4)}, {frozenset({1}), frozenset({2})},
        {frozenset({1, 2}), frozenset()}, {1: 2}, {2: 1}, {1: 2, 3: 4}, {3: 4, 1: 2}, {1: [2]}, {(1, 2): 3},
        collections.OrderedDict({1: 2, 3: 4}), collections.OrderedDict({3: 4, 1: 2}),
        collections.defaultdict(list, {1: 2}), collections.defaultdict(set, {1: 2}), collections.Counter({1: 2}),
        collections.deque([1, 2]), collections.deque([1, 2], maxlen=2), collections.deque([1, 2], maxlen=3),
        Colour.RED, Colour.BLUE, Level.LOW, Level.LOW | Level.HIGH, Level(0), Point(1, 2), Point(2, 1),
        Account("a", 1.0), Account("a", 2.0), Account("a", 1.0, [1]), Frozen(1, [2]), Frozen(1, [3]), Slotted(1),
        Slotted(2), MoreSlots(1), Struct(1, [2]), Struct(1, [3]), Stack(1, 2), Stack(1, 2, name="a"),
        Stack(1, [2], name="a"), Table({1: 2}), Celsius(1.0), Flags({1, 2}), Money("1.0"), decimal.Decimal("1.0"),
        decimal.Decimal("1.00"), decimal.Decimal("NaN"), fractions.Fraction(1, 3), fractions.Fraction(2, 3),
        dt.datetime.fromisoformat("2024-01-02"), dt.datetime.fromisoformat("2024-01-03"),
        dt.datetime(2024, 1, 3, tzinfo=dt.timezone.utc), dt.date(2024, 1, 2), dt.timedelta(1), uuid.UUID(int=1),
        uuid.UUID(int=2), pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath("a/c"), random.Random(1),
        random.Random(2), range(3), range(4), slice(1, 2), re.compile("a"), re.compile("b"),
        types.SimpleNamespace(a=1), types.SimpleNamespace(a=2), functools.partial(max, 1), functools.partial(max, 2),
        Failure(1), Failure(2), ValueError("a"), ValueError("b"), KeyError("a"), Account, Frozen, int, again, of, len,
        [1].append, [2].append, Account("a", 1.0).__eq__, math, Ellipsis, NotImplemented, object(), threading.Lock(),
        (n for n in ""), iter([1]), iter([2]), Caching(1), Caching(2), Deriving(1), OfHostileType(),
    )  # fmt: skip


COUNT = len(different())


@pytest.mark.parametrize("n", range(COUNT))
def test_a_value_that_is_made_again_has_the_same_digest(n: int) -> None:
    one, other = different()[n], different()[n]
    assert of(one) == of(other)
    assert of([1, {"a": one}]) == of([1, {"a": other}])
    assert len(of(one)) == 16
    assert of(one, 2000) == of(one), "it has fewer nodes than that"


def test_different_values_have_different_digests_also_deep_inside() -> None:
    digests = [of(value) for value in different()]
    assert [n for n, each in enumerate(digests) if digests.index(each) < n] == []
    assert len({of([{"a": (1, value, [0])}, 2]) for value in different()}) == COUNT


def test_what_a_snapshot_restores_has_the_same_digest() -> None:
    restored = 0
    for value in different():
        try:
            copied = again(value)
        except (TypeError, AttributeError, AssertionError, pickle.PicklingError):
            continue
        restored += 1
        assert of(copied) == of(value), type(value)
    assert restored > COUNT - 15


_plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
_keys = st.integers() | st.text() | st.tuples(st.integers(), st.text())
_graphs = st.recursive(
    _plain | st.frozensets(_keys),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(_keys, inner)
        | st.tuples(inner, inner)
        | st.builds(Frozen, st.integers(), inner)
        | st.builds(Account, st.text(), st.floats(), st.lists(inner))
    ),
)


@settings(deadline=None)  # A busy machine may take any time.
@given(_graphs, st.integers(0, 2**64))
def test_copies_have_the_same_digest_also_when_they_are_sampled(value: Any, seed: int) -> None:
    for other in (again(value), copy.deepcopy(value)):
        for budget in (BUDGET, 20, 3, 0):
            assert of(other, budget, seed) == of(value, budget, seed)


@given(_graphs, _graphs)
def test_equal_digests_mean_that_pickles_say_the_same(a: Any, b: Any) -> None:
    assert (of(a) == of(b)) == (repr(_sorted(a)) == repr(_sorted(b)))


def _sorted(value: Any) -> Any:
    """As it is, but for the order of sets."""
    if isinstance(value, frozenset):
        return ["set", *sorted(map(repr, value))]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, *map(_sorted, value)]
    if isinstance(value, dict):
        return ["dict", *map(_sorted, value.items())]
    if isinstance(value, (Frozen, Account)):
        return [type(value).__name__, *(_sorted(getattr(value, f.name)) for f in dataclasses.fields(value))]
    if isinstance(value, float):
        return struct.pack("<d", value)
    return value


# Order.


def test_the_history_of_a_set_does_not_count() -> None:
    grown = set(range(1000))
    for n in range(8, 1000):
        grown.discard(n)
    assert of(grown) == of(set(range(8)))
    words = [f"w{n}" for n in range(50)]
    assert of(set(words)) == of({*words[25:], *words})


def test_replicas_with_other_hashes_of_texts_agree() -> None:
    script = (
        "import enum, collections\n"
        "from concoord_ray.rsm.digest import digest\n"
        "class Node:\n"
        "    def __init__(self, name): self.name, self.peers = name, set()\n"
        "nodes = [Node(f'n{i}') for i in range(6)]\n"
        "for i, node in enumerate(nodes): node.peers |= {nodes[(i + 1) % 6], nodes[(i + 2) % 6]}\n"
        "state = [{f'w{i}' for i in range(99)}, {('a', i) for i in range(9)}, {frozenset('abc'), frozenset('de')},\n"
        "         set(nodes), collections.Counter('abca'), {'x': {'y', 'z'}}]\n"
        "junk = [object() for _ in range({junk})]\n"
        "print([digest(state, budget=b, seed=3).hex() for b in (10000, 200, 50, 7)])\n"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", script.replace("{junk}", str(seed * 1000))],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True, text=True, timeout=60, check=True,
        ).stdout
        for seed in (1, 2, 3)
    }  # fmt: skip
    assert len(said) == 1


def test_the_order_of_attributes_does_not_count() -> None:
    one, other = _Identity(1), _Identity.__new__(_Identity)
    other.peers, other.value = [], 1
    assert list(vars(one)) == list(vars(other))[::-1]
    assert of(one) == of(other)


def test_an_ordered_dict_has_its_own_order() -> None:
    moved = collections.OrderedDict({1: "a", 2: "b"})
    moved.move_to_end(1)
    assert of(moved) == of(collections.OrderedDict({2: "b", 1: "a"})) != of(collections.OrderedDict({1: "a", 2: "b"}))


# Sharing and cycles.


def test_sharing_does_not_count() -> None:
    shared = [1, [2]]
    assert of([shared, shared]) == of([[1, [2]], [1, [2]]])
    constant = (1, (2, [3]))
    assert of({"a": constant, "b": constant}) == of({"a": again(constant), "b": again(constant)})


def test_cycles_have_an_end_and_a_shape() -> None:
    def ring(size: int) -> list[Any]:
        nodes: list[list[Any]] = [[n] for n in range(size)]
        for n, node in enumerate(nodes):
            node.append(nodes[(n + 1) % size])
        return nodes[0]

    assert of(ring(3)) == of(ring(3)) == of(again(ring(3)))
    assert len({of(ring(n)) for n in range(1, 6)}) == 5
    for budget in (1, 5, 20):
        assert of(ring(1000), budget) == of(ring(1000), budget)


def test_members_of_one_cycle_are_the_same_in_whatever_order_a_set_gives_them() -> None:
    def graph(order: list[int]) -> set[Any]:
        nodes = [types.SimpleNamespace(name=n) for n in range(4)]
        unique = [_Identity(n) for n in nodes]
        for n, node in enumerate(unique):
            node.peers = [unique[(n + 1) % 4], unique[(n + 2) % 4]]
        return {_Identity([unique[n]]) for n in order}

    for budget in (BUDGET, 60, 20):
        assert len({of(graph(list(order)), budget) for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1])}) == 1


class _Identity:
    def __init__(self, value: Any) -> None:
        self.value = value
        self.peers: list[Any] = []


def test_a_list_may_be_nested_deeper_than_the_stack() -> None:
    def deep(size: int, end: int) -> Any:
        value: Any = end
        for _ in range(size):
            value = [value]
        return value

    depth = 20 * sys.getrecursionlimit()
    assert of(deep(depth, 1)) == of(deep(depth, 1)) != of(deep(depth, 2))
    assert of(deep(depth, 1), 100) == of(deep(depth, 2), 100)


def test_an_address_that_is_used_again_is_not_taken_for_the_same_object() -> None:
    class Fresh:
        """Its state is a new object each time, at the address of the last one if that is gone."""

        def __init__(self, x: int) -> None:
            self.x = x

        def __getstate__(self) -> list[Any]:
            return [[self.x, [self.x]]]

    assert len({of([Fresh(1), Fresh(n)]) for n in range(50)}) == 50


# Code of users.


def test_no_code_of_users_compares_hashes_or_shows() -> None:
    one, other = Hostile("a"), Hostile("bb")
    _hashing.append(True)
    entries = {one: 1, other: 2}
    ordered = collections.OrderedDict([(one, 1), (other, 2)])
    holders: list[Any] = [{one}, frozenset({one}), {(one, 1)}, entries, ordered, [one, other], Frozen(1, one)]
    _hashing.clear()
    for budget in (BUDGET, 3):
        for holder in holders:
            assert of(holder, budget) == of(holder, budget)
    for holder in holders:
        assert of(holder, 30) == of(holder), "it has fewer nodes than that"
    assert of([OfHostileType, OfHostileType()]) == of([OfHostileType, OfHostileType()])
    assert of(holders[5]) != of([one, one])


def test_a_class_that_says_what_its_state_is_is_believed() -> None:
    asked, fresh = Caching(1), Caching(1)
    asked.cache[1] = 1
    assert asked.double == 2
    assert of(asked) == of(fresh) == of(again(asked)) != of(Caching(2))


def test_what_is_derived_does_not_count() -> None:
    asked, path, key = Deriving(1), pathlib.PurePosixPath("a/b"), pathlib.PurePosixPath("a/b")
    assert asked.double == 2
    assert of(asked) == of(Deriving(1))
    assert {path: str(path)}[key] == "a/b"
    assert of(path) == of(key) == of(pathlib.PurePosixPath("a/b"))


@pytest.mark.parametrize("error", [TypeError, SystemExit, KeyboardInterrupt, RecursionError])
def test_whatever_users_raise_their_attributes_count(error: type[BaseException]) -> None:
    assert of(Raising(error, 1)) == of(Raising(error, 1)) != of(Raising(error, 2))


def test_no_memory_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    of([1, Raising(MemoryError)])  # There is some: it has not said what its state is.
    monkeypatch.setattr(memory, "has_memory", lambda: False)
    with pytest.raises(MemoryError):
        of([1, Raising(MemoryError)])


# What is of the package's own.


def _busy() -> tuple[Log, Client, int, int]:
    """Sessions, a lock that is held, calls that wait for it, in guards, and for a moment in time."""
    log = Log()
    holder, waiter = log.open(), log.open()
    lock, queue = holder.create(Lock, name="lock"), holder.create(Queue, 1)
    condition = waiter.create(Condition, Handle(lock))
    holder.call(lock, "acquire")
    for n in range(5):
        waiter.park(lock, "acquire", timeout=10.0 + n)
    waiter.park(lock, "lost", holder.call(lock, "inspect").holders[0].token)
    holder.call(queue, "put", {"item": 1})
    waiter.park(queue, "put", {"item": 2})
    assert waiter.call(condition, "inspect").waiting == ()
    return log, holder, lock, queue


@pytest.mark.parametrize("budget", [BUDGET, 300, 40])
def test_state_machines_that_executed_the_same_agree(budget: int) -> None:
    log, holder, lock, queue = _busy()
    one, other = log.executors
    seen = set()
    for command in (calling(queue, "get"), calling(lock, "release"), calling(lock, "inspect")):
        holder.ask(command)
        restored = again(one)
        assert of(one, budget) == of(other, budget) == of(restored, budget)
        seen.add(of(one))
    assert len(seen) == 3


def test_one_waiter_more_makes_a_difference() -> None:
    log, holder, lock, _ = _busy()
    instance = log.executors[0]._objects.instance("here", lock)
    before = of(instance)
    holder.park(lock, "acquire")
    after = of(instance)
    assert before != after == of(log.executors[1]._objects.instance("here", lock)) == of(again(instance))


# Bounds.


class _Counting(list[Any]):
    """Counts how often somebody looks at its state."""

    seen = 0

    def __getstate__(self) -> dict[str, Any]:
        type(self).seen += 1
        return {}


@pytest.mark.parametrize(
    "graph",
    [
        lambda item: [item() for _ in range(3000)],
        lambda item: {n: item() for n in range(3000)},
        lambda item: {n: [item(), item()] for n in range(1500)},
        lambda item: [[item() for _ in range(60)] for _ in range(60)],
        lambda item: collections.deque(item() for _ in range(3000)),
        lambda item: Stack(*(item() for _ in range(3000))),
        lambda item: {_Identity(item()) for _ in range(3000)},
        lambda item: functools.reduce(lambda below, _: [item(), below], range(3000), None),
        lambda item: functools.reduce(lambda below, _: [below, below, item()], range(3000), None),
        lambda item: [Account("a", 1.0, [item()]) for _ in range(3000)],
    ],
)
@pytest.mark.parametrize("budget", [0, 1, 10, 300])
def test_no_more_is_looked_at_than_the_budget_allows(graph: Callable[[Any], Any], budget: int) -> None:
    value = graph(_Counting)
    _Counting.seen = 0
    of(value, budget)
    assert _Counting.seen <= 2 * budget + 2  # Once as a whole, in vain, and once in the sample.


SAMPLED: dict[str, Callable[[int], Any]] = {
    "list": lambda n: [0] * n + [1] + [0] * (499 - n),
    "tuple": lambda n: (0,) * n + (1,) + (0,) * (499 - n),
    "list of lists": lambda n: [[[0, int(i * 25 + j == n)] for j in range(25)] for i in range(20)],
    "dict": lambda n: {i: int(i == n) for i in range(500)},
    "dict of dicts": lambda n: {i: {"a": [int(i == n)]} for i in range(500)},
    "ordered dict": lambda n: collections.OrderedDict((i, int(i == n)) for i in range(500)),
    "deque": lambda n: collections.deque(int(i == n) for i in range(500)),
    "text": lambda n: "0" * n * 40 + "1" + "0" * (499 - n) * 40,
    "bytes": lambda n: b"0" * n * 40 + b"1" + b"0" * (499 - n) * 40,
    "bytearray": lambda n: bytearray(b"0" * n * 40 + b"1" + b"0" * (499 - n) * 40),
    "accounts": lambda n: [Account("a", float(i == n), [i]) for i in range(500)],
    "attributes": lambda n: types.SimpleNamespace(**{f"a{i}": [int(i == n)] for i in range(500)}),
    "two parts": lambda n: Frozen(1, [[0] * 400, [int(i == n) for i in range(500)]]),
    "set": lambda n: set(range(500)) | {1000 + n},
}


@pytest.mark.parametrize("kind", SAMPLED)
def test_a_difference_anywhere_is_found_by_some_seed(kind: str) -> None:
    make = SAMPLED[kind]
    same = make(-1 if kind not in {"list", "tuple", "text", "bytes", "bytearray"} else 250)
    for place in (0, 3, 111, 499):
        other = make(place)
        assert of(other) != of(same)
        assert any(of(other, 60, seed * 1000) != of(same, 60, seed * 1000) for seed in range(3000)), place


def test_another_length_is_always_found() -> None:
    for kind in (list, tuple, set, collections.deque):
        assert of(kind(range(5000)), 50) != of(kind(range(5001)), 50)
    assert of(bytes(10**5), 50) != of(bytes(10**5 + 1), 50)
    assert of(set(range(10**5)), 50) == of(set(range(1, 10**5 + 1)), 50), "a large set counts by its length"


def test_seeds_are_spread_evenly_in_whatever_steps_they_grow() -> None:
    for step in (1, 10, 987, 1024, 10**6):
        reached = collections.Counter(spread(n * step, 2, 10) for n in range(1000))
        assert sorted(reached) == list(range(10))
        assert min(reached.values()) > 60


def test_a_large_array_of_numpy_is_sampled() -> None:
    numpy = pytest.importorskip("numpy")
    zeros, one = numpy.zeros((1000, 100)), numpy.zeros((1000, 100))
    one[500, 50] = 1
    assert of(zeros) == of(again(zeros)) == of(numpy.asfortranarray(zeros)) != of(one)
    assert len({of(zeros), of(zeros.T), of(zeros.astype("f4"))}) == 3
    assert any(of(zeros, 100, seed) != of(one, 100, seed) for seed in range(3000))
    odd = [zeros[::2, ::3], numpy.array(1), numpy.zeros((0, 3)), numpy.array(["2024"], "M8[D]"), zeros[0] > 0]
    odd += [numpy.array([[1], "a"], dtype=object), numpy.zeros(2, "i4,f8"), numpy.ma.masked_equal([1, 2], 2)]
    for array in odd:
        assert of(array) == of(again(array)) != of(zeros)

"""Clocks, chance and the rest are found behind defaults, attributes, descriptors and names; detours that hide what they
lead to are warned of; methods that can have no result are refused.
"""

# The code in here is wrong on purpose.
# ruff: noqa: A002, B008, B009, ICN001, PLR1722, PLW0108

from __future__ import annotations

import bisect
import collections
import contextlib
import ctypes
import datetime
import decimal
import enum
import fractions
import functools
import gc
import heapq
import importlib
import itertools
import json
import logging
import math
import operator
import random
import re
import string
import sys
import time
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import concoord_ray as concoord
from concoord_ray.determinism import NondeterminismWarning
from concoord_ray.determinism.reading import Finding
from concoord_ray.determinism.scan import Scan
from concoord_ray.rsm.methods import method_flags

LIBRARY = ctypes.pythonapi


def findings(cls: type) -> list[Finding]:
    return Scan(cls, method_flags(cls)).findings()


class Clocked:
    """A descriptor of one's own."""

    def __get__(self, obj: Any, cls: Any) -> float:
        return time.time()


class Stamped:
    def __get__(self, obj: Any, cls: Any) -> float:
        return 1.0

    def __set__(self, obj: Any, value: Any) -> None:
        self.at = time.monotonic()


class Base:
    """Holds much that is wrong if it is used."""

    clock = time.time
    fixed = staticmethod(time.time)
    module = time
    chance = random
    partial = functools.partial(time.time_ns)
    clocked = Clocked()
    stamped = Stamped()
    generator = random.Random(7)

    @property
    def now(self) -> float:
        return time.time()

    @functools.cached_property
    def begun(self) -> float:
        return time.time()

    @property
    def level(self) -> int:
        return 1

    @level.setter
    def level(self, value: int) -> None:
        self._at = time.perf_counter()


def found(method: Callable[..., Any]) -> list[tuple[str, bool]]:
    """What is found in a class with this one method, and whether it is certain."""
    cls = type("Ledger", (Base,), {"__module__": __name__, "act": method})
    return [(finding.what, finding.is_sure) for finding in findings(cls)]


def of_default(self: Any, at: Any = time.time) -> Any:
    return at()


def of_default_module(self: Any, *, clock: Any = time) -> Any:
    return clock.monotonic()


def of_default_class(self: Any, kind: Any = random.SystemRandom) -> Any:
    return kind()


def sets_stamped(self: Any) -> None:
    self.stamped = 1


def sets_level(self: Any) -> None:
    self.level = 2


CERTAIN: list[tuple[Callable[..., Any], str]] = [
    (of_default, "time.time()"),
    (of_default_module, "time.monotonic()"),
    (of_default_class, "random.SystemRandom()"),
    (lambda self, draw=random.random: draw(), "random.random()"),
    (lambda self, clock=functools.partial(time.time): clock(), "time.time()"),
    (lambda self: self.clock(), f"{__name__}.Base.clock()"),
    (lambda self: self.fixed(), "time.time()"),
    (lambda self: self.module.time(), "time.time()"),
    (lambda self: self.chance.random(), "random.random()"),
    (lambda self: self.partial(), f"{__name__}.Base.partial()"),
    (lambda self: self.now, "time.time()"),
    (lambda self: self.begun, "time.time()"),
    (lambda self: self.clocked, "time.time()"),
    (sets_stamped, "time.monotonic()"),
    (sets_level, "time.perf_counter()"),
    (lambda self: getattr(self, "now"), "time.time()"),
    (lambda self: getattr(time, "time")(), "time.time()"),
    (lambda self: getattr(time, "ti" + "me")(), "time.time()"),
    (lambda self: __import__("time").time(), "time.time()"),
    (lambda self: importlib.import_module("time").time(), "time.time()"),
    (lambda self: gc.get_objects(), "gc.get_objects()"),
    (lambda self, x: gc.get_referrers(x), "gc.get_referrers()"),
    (lambda self, x: sys.getrefcount(x), "sys.getrefcount()"),
    (lambda self: ctypes.CDLL(None), "ctypes.CDLL()"),
    (lambda self, x: ctypes.string_at(x), "ctypes.string_at()"),
    (lambda self: ctypes.pythonapi.PyErr_Clear(), "ctypes.pythonapi"),
    (lambda self: LIBRARY.PyErr_Clear(), "LIBRARY"),
]


@pytest.mark.parametrize(("method", "what"), CERTAIN)
def test_a_detour_leads_to_what_is_certain(method: Callable[..., Any], what: str) -> None:
    assert found(method) == [(what, True)]


UNCERTAIN: list[tuple[Callable[..., Any], str]] = [
    (lambda self, x: eval(x), "eval()"),
    (lambda self, x: exec(x), "exec()"),
    (lambda self, x: __import__(x), "__import__()"),
    (lambda self, x: importlib.import_module(x), "importlib.import_module()"),
    (lambda self, x: getattr(time, x)(), "getattr() of time"),
    (lambda self, x: getattr(datetime.datetime, f"utc{x}")(), "getattr() of datetime.datetime"),
    (lambda self: vars(time)["time"](), "vars() of time"),
    (lambda self: time.__dict__["time"](), "time.__dict__"),
    (lambda self, x: sorted(x, key=id), "id as an argument"),
    (lambda self: collections.defaultdict(time.time), "time.time as an argument"),
    (lambda self: sys.exit(1), "sys.exit()"),
    (lambda self: exit(), "exit()"),
    (lambda self: self.generator.random(), "generator.random()"),
    (lambda self, x=random.Random(7): x.random(), "default of x.random()"),
]


@pytest.mark.parametrize(("method", "what"), UNCERTAIN)
def test_a_detour_that_may_lead_anywhere_is_uncertain(method: Callable[..., Any], what: str) -> None:
    assert found(method) == [(what, False)]


def own_names(self: Any, eval: Any, exit: Any) -> Any:
    return eval(1), exit(), self.eval(), self.exit()


FINE: list[Callable[..., Any]] = [
    own_names,
    lambda self, at=time.time: at,
    lambda self, now=concoord.now, key=len, kind=dict: (now(), key([1]), kind()),
    lambda self, x, at=None: x if at is None else at.level,
    lambda self, x: getattr(self, x),
    lambda self, x: getattr(math, x)(1),
    lambda self, x: getattr(logging, x),
    lambda self, x: getattr(x, "time", None),
    lambda self, x: (vars(self), vars(x), self.__dict__, type(self).__dict__),
    lambda self, x: (importlib.import_module("math").sqrt(2), __import__("json").dumps(x)),
    lambda self, x: ctypes.c_int32(x).value + ctypes.sizeof(ctypes.c_uint64),
    lambda self, x: gc.collect(),
    lambda self, x: (x.get_objects(), x.eval(), x.exit()),
    lambda self, x: isinstance(x, types.ModuleType),
]


def test_a_module_of_ones_own_may_have_the_name_of_a_builtin(monkeypatch: pytest.MonkeyPatch) -> None:
    own = types.ModuleType("eval")
    exec("def run(x): return x", vars(own))
    monkeypatch.setitem(sys.modules, "eval", own)
    assert found(lambda self, x: own.run(x)) == []


@pytest.mark.parametrize("method", FINE)
def test_nothing_is_found_in_what_is_right(method: Callable[..., Any]) -> None:
    assert found(method) == []


class Suit(enum.Enum):
    HEARTS = "h"


class Library:
    """Much of the standard library, as methods use it."""

    def __init__(self) -> None:
        self.heap: list[tuple[int, str]] = []
        self.names = collections.OrderedDict[str, int]()
        self.recent = collections.deque[str](maxlen=8)
        self.tally = collections.Counter[str]()
        self.total = decimal.Decimal(0)
        self.template = string.Template("$who")
        self.word = re.compile(r"(\w+)")

    def schedule(self, at: int, what: str) -> str:
        heapq.heappush(self.heap, (at, what))
        self.recent.append(f"{at:>5} {what!r}")
        self.names[what] = self.names.setdefault(what, 0) + 1
        self.names.move_to_end(what)
        return f"{heapq.nsmallest(1, self.heap)} {self.recent} {self.tally}"

    def words(self, text: str) -> str:
        self.tally.update(match.group(1) for match in self.word.finditer(text))
        found = re.sub(r"\s+", lambda match: f"{match.group(0)!s:.1}", text)
        return json.dumps({"found": found, "top": self.tally.most_common(3)}, sort_keys=True, default=str)

    def pay(self, amount: str, parts: int) -> tuple[str, str]:
        with decimal.localcontext() as context:
            context.prec = 12
            self.total += decimal.Decimal(amount).quantize(decimal.Decimal("0.01"))
        return str(self.total), f"{fractions.Fraction(1, parts)} {self.total:.2f}"

    def due(self, day: str, days: int) -> str:
        due = datetime.date.fromisoformat(day) + datetime.timedelta(days=days)
        at = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
        return f"{due} {due:%d.%m.} {at} {at.timestamp()} {at + datetime.timedelta(hours=1)!r}"

    def suits(self, value: str) -> str:
        ranks = sorted(range(5), key=operator.neg)
        bisect.insort(ranks, 3)
        groups = {str(key): list(group) for key, group in itertools.groupby(ranks)}
        return f"{Suit(value)} {Suit.HEARTS!r} {groups} {functools.reduce(operator.add, ranks)} {math.sqrt(2):.3f}"


def test_nothing_is_found_in_the_use_of_the_standard_library() -> None:
    assert [str(finding) for finding in findings(Library)] == []


class Walks:
    """Generators and coroutines of all kinds."""

    def walk(self) -> Iterator[int]:
        yield 1

    def inner(self) -> Iterator[int]:
        yield 2

    def guarded_by(self) -> Iterator[int]:
        yield 3

    def _private(self) -> Iterator[int]:
        yield 4

    async def ask(self) -> int:
        return 1

    async def stream(self) -> AsyncIterator[int]:
        yield 1

    @concoord.readonly
    def read(self) -> Iterator[int]:
        yield 5

    @concoord.readonly
    async def read_later(self) -> int:
        return 1

    @concoord.readonly
    def total(self) -> int:
        return sum(item for item in self.inner()) + sum(self._private())

    @concoord.when(lambda self: any(self.guarded_by()))
    def wait(self) -> None:
        return None

    @contextlib.contextmanager
    def context(self) -> Iterator[int]:
        yield 1


def test_a_method_that_can_have_no_result_is_found_unless_others_use_it() -> None:
    assert {(finding.method, finding.what, finding.is_sure) for finding in findings(Walks)} == {
        ("Walks.walk", "yield in walk", True),
        ("Walks.read", "yield in read", True),
        ("Walks.ask", "async def ask", True),
        ("Walks.stream", "async def stream", True),
        ("Walks.read_later", "async def read_later", True),
    }


def test_a_generator_is_refused_with_what_to_do() -> None:
    class Ledger:
        def entries(self) -> Iterator[int]:
            yield 1

    line = Ledger.entries.__code__.co_firstlineno
    with pytest.raises(concoord.NotDeterministic) as caught:
        concoord.replicated(Ledger)
    assert str(caught.value).startswith(
        f"Ledger.entries is a generator, which cannot be a result: yield in entries at {__file__}:{line}. "
        "Return a list, or begin its name with _ if only methods use it."
    )


def test_code_that_is_not_seen_is_warned_of() -> None:
    class Calculator:
        def compute(self, text: str) -> Any:
            return eval(text)

    with pytest.warns(NondeterminismWarning, match=r"Calculator\.compute runs .* what is not looked at here.*eval\(\)"):
        concoord.replicated(Calculator)

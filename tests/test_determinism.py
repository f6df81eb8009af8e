"""What would make replicas differ is refused when a class is decorated, what might is warned of, and no more."""

# The code in here is wrong on purpose.
# ruff: noqa: A001, B006, C416, DTZ001, DTZ003, F401, ICN001, LOG015, PLW0603, RUF012
# ruff: noqa: SIM112, SIM905, T201, UP041

from __future__ import annotations

import asyncio
import calendar
import concurrent.futures
import dataclasses
import datetime
import enum
import functools
import logging
import multiprocessing
import os
import pathlib
import random
import secrets
import socket
import subprocess
import threading
import time
import types
import urllib.request
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime as moment
from os import environ
from random import randint as draw
from time import time as clock
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import objects
from concoord_ray.determinism import Determinism, NondeterminismWarning
from concoord_ray.determinism.reading import Finding
from concoord_ray.determinism.scan import Scan
from concoord_ray.rsm.methods import in_caller, method_flags

T = TypeVar("T")

REGISTRY: dict[str, int] = {}
ALLOWED = frozenset({"a", "b"})
GENERATOR = random.Random(7)
TOTAL = 0
LOCK = threading.Lock()
log = logging.getLogger(__name__)


settings = types.SimpleNamespace(level=1)


def findings(cls: type) -> list[Finding]:
    return Scan(cls, method_flags(cls)).findings()


def found(method: Callable[..., Any]) -> list[tuple[str, bool]]:
    """What is found in a class with this one method, and whether it is certain."""
    cls = type("Ledger", (), {"__module__": __name__, "act": method})
    return [(finding.what, finding.is_sure) for finding in findings(cls)]


def deeper() -> float:
    return time.perf_counter()


def helper() -> float:
    return deeper()


def rank(item: Any) -> float:
    return random.random()


class Helper:
    def __init__(self) -> None:
        self.pid = os.getpid()

    def run(self) -> str:
        return secrets.token_hex()


def timed(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return method(*args, **kwargs), time.monotonic()

    return wrapper


def enclosing() -> Callable[..., Any]:
    now = time.time
    return lambda self: now()


#: What is found in each is what is before the bracket.
CALLS = """
    time.time() time.time_ns() time.monotonic() time.perf_counter_ns() time.sleep(1) time.localtime() time.gmtime(None)
    time.localtime(5) time.ctime(5) time.mktime(self) datetime.datetime.fromtimestamp(5) datetime.date.fromtimestamp(5)
    datetime.datetime.fromtimestamp(5,None) datetime.datetime.fromtimestamp(5,tz=None)
    time.ctime() time.strftime("%H") datetime.datetime.now() datetime.datetime.now(datetime.timezone.utc)
    datetime.datetime.utcnow() datetime.datetime.today() datetime.date.today()
    random.random() random.shuffle([1]) random.seed(1) random.choice("ab") random.Random() random.Random(None)
    random.SystemRandom() uuid.uuid4() uuid.uuid1() os.urandom(8) secrets.token_bytes() secrets.choice("ab")
    threading.Thread(target=print) threading.Timer(1,print) threading.Lock() threading.RLock() threading.Condition()
    threading.get_ident() multiprocessing.Process(target=print) multiprocessing.Queue()
    concurrent.futures.ThreadPoolExecutor(1) asyncio.Event() asyncio.run(self) asyncio.sleep(1)
    open("x") input() breakpoint() socket.socket() socket.gethostname() socket.create_connection(("x",1))
    subprocess.run(["x"]) urllib.request.urlopen("x") os.remove("x") os.listdir() os.path.exists("x") os.getpid()
    os.getenv("x") os.system("x") id(self)
    ray.get(self) ray.put(1) ray.wait([self]) concoord.get("x") concoord.Counter.remote()
""".split()


@pytest.mark.parametrize("call", CALLS)
def test_a_forbidden_call_is_found(call: str) -> None:
    what = call.partition("(")[0].replace("concoord.", "concoord_ray.") + "()"
    assert found(eval(f"lambda self: {call}", globals())) == [(what, True)]


CERTAIN: list[tuple[Callable[..., Any], str]] = [
    (lambda self: clock(), "time.time()"),
    (lambda self: draw(1, 2), "random.randint()"),
    (lambda self: moment.utcnow(), "datetime.datetime.utcnow()"),
    (lambda self: pathlib.Path.cwd(), "cwd()"),
    (lambda self: pathlib.Path("x").read_text(), "read_text()"),
    (lambda self: os.environ["x"], "os.environ"),
    (lambda self: environ.get("x"), "environ"),
    (lambda self: hash("text"), "hash() of a text"),
    (lambda self, x: hash(f"{x}!"), "hash() of a text"),
    (lambda self, x: hash(str(x)), "hash() of a text"),
    # Wherever it is.
    (lambda self: helper(), "time.perf_counter()"),
    (lambda self, items: sorted(items, key=rank), "random.random()"),
    (lambda self, items: sorted(items, key=lambda item: random.random()), "random.random()"),
    (lambda self, items: [time.time() for _ in items], "time.time()"),
    (lambda self, items: sum(time.time() for _ in items), "time.time()"),
    (lambda self: Helper(), "os.getpid()"),
    (timed(lambda self: uuid.uuid4()), "uuid.uuid4()"),
    (timed(lambda self: 1), "time.monotonic()"),
    (enclosing(), "time.time()"),
    (lambda self, at=None: at if at is not None else time.time(), "time.time()"),
    (lambda self, x: x.append(1, time.time() if x else 0), "time.time()"),
]


@pytest.mark.parametrize(("method", "what"), CERTAIN)
def test_what_is_certain_is_found(method: Callable[..., Any], what: str) -> None:
    hits = found(method)
    assert [is_sure for each, is_sure in hits if each.endswith(what)] == [True], hits


def stores_global(self: Any) -> None:
    global TOTAL
    TOTAL += 1


def stores_item(self: Any) -> None:
    REGISTRY["a"] = 1


def changes_default(self: Any, item: int, items: list[int] = []) -> list[int]:
    items.append(item)
    return items


def changes_setting(self: Any) -> None:
    settings.level = 2


UNCERTAIN: list[tuple[Callable[..., Any], str]] = [
    (lambda self, x: x.__hash__(), "hash()"),
    (lambda self: print("x"), "print()"),
    (lambda self: logging.info("x"), "logging.info()"),
    (lambda self: log.warning("x"), "log.warning()"),
    (lambda self, x: hash(x), "hash()"),
    (lambda self, other: other.work.remote(1), ".remote()"),
    (lambda self: GENERATOR.random(), "GENERATOR.random()"),
    (lambda self: LOCK.acquire(), "LOCK.acquire()"),
    (stores_global, "global TOTAL"),
    (lambda self, x: REGISTRY.update(x), "REGISTRY.update()"),
    (lambda self: REGISTRY.pop("a"), "REGISTRY.pop()"),
    (stores_item, "REGISTRY[...] = ..."),
    (changes_default, "default of items.append()"),
    (changes_setting, "settings.level = ..."),
]


@pytest.mark.parametrize(("method", "what"), UNCERTAIN)
def test_what_is_uncertain_is_found_as_such(method: Callable[..., Any], what: str) -> None:
    assert found(method) == [(what, False)]


class Own:
    """Has the names of what is forbidden."""

    def time(self) -> int:
        return 1

    random = sleep = remote = open = now = time


def own_time() -> int:
    return 1


def shadowed(self: Any, time: Any, random: Any) -> Any:
    open = self.open
    id = random.id
    return time.time(), random.random(), open("x"), id(1)


def own_names(self: Any) -> Any:
    time, datetime, print = Own(), Own(), Own()
    return time.time(), datetime.now(), print.open()


def catches(self: Any, x: Any) -> Any:
    try:
        return x.act()
    except (socket.timeout, subprocess.CalledProcessError, asyncio.TimeoutError, threading.BrokenBarrierError):
        raise concurrent.futures.CancelledError("x") from None


def sorts_in_place(self: Any, x: Any) -> Any:
    items = list(set(x))
    items.sort()
    return items


class Hashed:
    """As its attribute."""

    value = 0

    def __hash__(self) -> int:
        return self.value.__hash__()


FINE: list[Callable[..., Any]] = [
    shadowed,
    own_names,
    catches,
    sorts_in_place,
    lambda self: own_time(),
    lambda self: Own().sleep(),
    lambda self: (concoord.now(), concoord.random().random()),
    lambda self: random.Random(7).random(),
    lambda self, seed: random.Random(seed).shuffle([1]),
    lambda self: (time.gmtime(5), calendar.timegm(time.gmtime(5))),
    lambda self: time.strftime("%H", time.gmtime(0)),
    lambda self: datetime.datetime.fromtimestamp(0, datetime.timezone.utc),
    lambda self: datetime.datetime.fromtimestamp(0, tz=datetime.timezone.utc),
    lambda self, x: (x.timestamp(), x.astimezone()),
    lambda self: datetime.datetime(2024, 1, 1) - datetime.timedelta(1),
    lambda self: uuid.UUID(int=1),
    lambda self: uuid.uuid5(uuid.NAMESPACE_DNS, "x"),
    lambda self, a, b: secrets.compare_digest(a, b),
    lambda self: os.path.join("a", os.fspath("b")),
    lambda self: pathlib.PurePath("a") / "b",
    lambda self, x: isinstance(x, (threading.Thread, random.Random, asyncio.Future)),
    Hashed.__hash__,
    lambda self, x: x in ALLOWED,
    lambda self, x: [y for y in dict.fromkeys(x)],
    lambda self: (hash(5), hash(0.5)),
    lambda self, x: x.random() + x.time() + self.open() + self.now(),
    lambda self, x: x.pop(),
    lambda self, x: self.items.append(x),
    lambda self, x: REGISTRY.get(x),
    lambda self: settings.level,
    lambda self: logging.getLogger("x").name,
    lambda self: (self.remote(), Own().remote()),
    lambda self: undefined_name.time(),  # type: ignore[name-defined]  # noqa: F821
]


@pytest.mark.parametrize("method", FINE)
def test_nothing_is_found_in_what_is_right(method: Callable[..., Any]) -> None:
    assert found(method) == []


# Classes.


class Base:
    registry: list[Any] = []

    def inherited(self) -> float:
        return time.time()

    def _private(self) -> float:
        return time.time()


class Bank(Base):
    count = 0
    history: list[Any] = []

    def __init__(self, items: list[Any] = [], at: Any = None) -> None:
        self.open_accounts = set(items)
        self.items = items
        self.helper = Helper()
        self.own: list[Any] = []

    def iterate(self) -> list[Any]:
        return [account for account in self.open_accounts]

    def delegate(self) -> str:
        return self.helper.run()

    def use_property(self) -> int:
        return self.now

    def use_super(self) -> float:
        return super()._private()

    def share(self) -> None:
        self.history.append(1)
        self.items.append(1)
        Bank.count += 1
        type(self).count += 1
        self.own.append(1)

    @property
    def now(self) -> int:
        return time.time_ns()

    @staticmethod
    def fixed() -> bytes:
        return os.urandom(1)

    @classmethod
    def of_class(cls) -> str:
        return os.getcwd()

    @concoord.when(lambda self: time.monotonic() > 1)
    def guarded(self) -> None:
        return None

    async def coroutine(self) -> None:
        return None


def by_method(cls: type) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for finding in findings(cls):
        told.setdefault(finding.method, []).append(finding.what)
    return told


def test_whatever_a_method_reaches_is_read() -> None:
    assert (
        by_method(Bank)
        == {
            "Bank.__init__": ["os.getpid()"],
            "Bank.coroutine": ["async def coroutine"],
            "Bank.delegate": ["secrets.token_hex()"],
            "Bank.fixed": ["os.urandom()"],
            "Bank.guarded": ["time.monotonic()"],
            "Bank.inherited": ["time.time()"],
            "Bank.iterate": ["items of a set one by one"],
            "Bank.of_class": ["os.getcwd()"],
            "Bank.share": ["Bank.history.append()", "default of items.append()", "Bank.count = ..."],
            "Bank.use_property": ["time.time_ns()"],
            "Bank.use_super": ["time.time()"],
        }
        or by_method(Bank)["Bank.share"][2:] == ["tests.test_determinism.Bank.count = ..."] * 2
    )


class Free:
    """Reads clocks where it may."""

    @concoord.readonly
    def age(self) -> float:
        print("x")
        return self._age()

    def _age(self) -> float:
        return time.time()

    @in_caller
    def wait_for(self) -> None:
        time.sleep(1)

    def __repr__(self) -> str:
        return f"<{id(self)}>"

    def __hash__(self) -> int:
        return hash(("a", 1))

    def act(self) -> str:
        return f"{len({self})}"


def test_reads_and_what_runs_in_the_caller_are_not_looked_at() -> None:
    assert findings(Free) == []


def test_what_a_read_calls_is_looked_at_if_a_method_calls_it_too() -> None:
    class Less(Free):
        def check(self) -> float:
            return self.age()

    assert {finding.what for finding in findings(Less)} == {"time.time()", "print()"}


def test_a_finding_says_where_and_what_to_do() -> None:
    class Ledger:
        def pay(self) -> float:
            return helper()

    (finding,) = findings(Ledger)
    line = deeper.__code__.co_firstlineno + 1
    assert str(finding) == (
        f"Ledger.pay reads the clock of its replica: time.perf_counter() at {__file__}:{line}. "
        "Use concoord.now(), or pass the time as an argument."
    )


@dataclasses.dataclass
class Record:
    made: float = dataclasses.field(default_factory=time.time)

    def get(self) -> float:
        return self.made


def test_the_constructor_of_a_dataclass_is_read() -> None:
    assert [finding.what for finding in findings(Record)] == ["time.time()"]


# Odd classes.


class Pair(NamedTuple):
    a: int
    b: int


class Shape(Protocol): ...


class Box(Generic[T]):
    def __init__(self, value: T) -> None:
        self.value = value


class Colour(enum.Enum):
    RED = 1


class Meta(type):
    def __eq__(cls, other: object) -> bool:
        raise AssertionError("compared")

    __hash__ = None  # type: ignore[assignment]


class OfMeta(metaclass=Meta):
    def act(self) -> int:
        return self.missing.more  # type: ignore[attr-defined,no-any-return]


class Slotted:
    __slots__ = ("x",)

    def act(self) -> None:
        self.x = 1


class Descriptor:
    def __get__(self, obj: Any, cls: Any) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


class Described:
    thing = Descriptor()
    worse: Any = type("Worse", (), {"__call__": len, "__getattr__": Descriptor.__getattr__})()

    def act(self) -> Any:
        return self.thing.act(), self.thing

    partial = functools.partialmethod(act)

    @contextmanager
    def context(self) -> Iterator[float]:
        yield 1.0


def test_odd_classes_raise_nothing() -> None:
    made = type("Made", (dict,), {"act": len, "other": Pair, "third": functools.partial(max, 1)})
    exec_made: dict[str, Any] = {}
    exec("class NoSource:\n    def act(self): return [x for x in self.y if x > 1]\n", exec_made)
    for any_class in (object, int, dict, ValueError, datetime.datetime, threading.Thread, OfMeta):
        findings(any_class)
    for cls in (Pair, Shape, Box, Colour, Slotted, made, exec_made["NoSource"]):
        assert findings(cls) == []
    assert Scan(Described, {"act": 0, "worse": 0, "partial": 0, "context": 0, "missing": 0}).findings() == []


def test_the_shipped_objects_are_clean() -> None:
    shipped = [getattr(objects, name) for name in objects.__all__]
    assert len(shipped) > 10
    assert [str(finding) for cls in shipped for finding in findings(cls)] == []


def test_it_is_fast() -> None:
    flags = method_flags(objects.Lock)
    took_s = []
    for _ in range(5):
        begun_s = time.perf_counter()
        Scan(objects.Lock, flags).findings()
        took_s.append(time.perf_counter() - begun_s)
    assert min(took_s) < 0.02  # Some 2 ms, with everything below it.


# Decorating.


class Clock:
    def look(self) -> float:
        return time.time()

    def tell(self) -> None:
        print(1)


def test_a_class_that_is_not_deterministic_is_refused() -> None:
    with pytest.raises(concoord.NotDeterministic, match=r"Clock\.look reads the clock of its replica") as caught:
        concoord.replicated(Clock)
    assert "print" not in str(caught.value)
    assert 'determinism="warn"' in str(caught.value)


def test_it_may_be_warned_of_instead() -> None:
    with pytest.warns(NondeterminismWarning) as caught:
        concoord.replicated(determinism="warn")(Clock)
    assert ["time.time()" in str(each.message) for each in caught] == [True, False]
    assert {each.filename for each in caught} == {__file__}
    assert caught[0].lineno == Clock.look.__code__.co_firstlineno + 1


def test_what_is_uncertain_is_warned_of() -> None:
    class Teller:
        def tell(self) -> None:
            print(1)

    with pytest.warns(NondeterminismWarning, match="Teller.tell writes once on every replica"):
        concoord.replicated(Teller)


def test_it_may_be_ignored_with_the_other_options() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = concoord.replicated(name="clock", determinism="ignore")(Clock)
    assert made.__wrapped__ is Clock


def test_another_option_is_refused() -> None:
    wrong: Any = "maybe"
    policy: Determinism = wrong
    with pytest.raises(concoord.ConfigurationError, match="determinism='maybe'"):
        concoord.replicated(determinism=policy)(Clock)

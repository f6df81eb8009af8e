"""What users' code does wrong when it is looked at, printed, pickled or made again: an answer, and the log moves on.

``Log`` runs two executors and compares their replies, so each of these answers is the same on every replica.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Callable
from typing import Any, NoReturn

import pytest

from concoord_ray import answers
from concoord_ray.config import Config
from concoord_ray.errors import ConcoordError
from concoord_ray.rsm import codec, exceptions
from concoord_ray.rsm.command import Outcome, Reply
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.methods import when
from concoord_ray.rsm.stack import even_stack
from tests.rsm.log import Log, calling, error, no_handles


def refuse(*_: Any, **__: Any) -> NoReturn:
    raise ZeroDivisionError("asked")


class NoArgs(Exception):
    args = property(refuse)


class NoDict(Exception):
    __dict__ = property(refuse)


class NoAttributes(Exception):
    def __getattribute__(self, name: str) -> Any:
        raise SystemExit(3)


class NoSetting(Exception):
    def __setattr__(self, name: str, value: Any) -> None:
        raise RuntimeError("read only")


class NoText(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class NoPickle(Exception):
    def __reduce__(self) -> Any:
        raise GeneratorExit


class OddPickle(Exception):
    def __reduce__(self) -> Any:
        return int, ("not a number",)


class NotAgain(Exception):
    def __new__(cls, *args: Any) -> Any:
        if not args:
            raise ValueError("needs something")
        return super().__new__(cls, *args)


class NoState(Exception):
    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("no state")


class Opaque:
    """Raises whatever it is asked."""

    def __getattribute__(self, name: str) -> Any:
        refuse()


class AnySay:
    """Has every attribute."""

    def __getattr__(self, name: str) -> Any:
        return AnySay()


class ExitsWhenPickled:
    def __reduce__(self) -> Any:
        raise SystemExit(9)


class ExitsWhenUnpickled:
    def __reduce__(self) -> Any:
        return sys.exit, (4,)


class NoBody:
    __dict__ = 5  # type: ignore[assignment]


class OddMeta(type):
    def __getattribute__(cls, name: str) -> Any:
        refuse()


def odd() -> Any:
    return OddMeta("Odd", (), {})()


class Shapeless:
    """Does what it is told. ``count`` is how often it was."""

    def __init__(self) -> None:
        self.count = 0
        self.kept: Any = None

    def do(self, what: Callable[[], Any]) -> Any:
        self.count += 1
        return what()

    def keep(self, make: Callable[[], Any]) -> None:
        self.kept = make()

    def counted(self) -> int:
        return self.count

    def dive(self) -> None:
        self.count += 1
        self.dive()

    async def later(self) -> None:
        self.count += 1

    def steps(self) -> Any:
        yield self.count


def raising(kind: type[BaseException], *args: Any, **attributes: Any) -> Callable[[], NoReturn]:
    def run() -> NoReturn:
        made = kind(*args)
        for name, value in attributes.items():
            setattr(made, name, value)
        raise made

    return run


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


def ask(what: Callable[[], Any], method: str = "do") -> Reply:
    """The reply to one such call, after which the object and its log go on."""
    log = Log()
    client = log.open()
    shapeless = client.create(Shapeless)
    reply = client.ask(calling(shapeless, method, what) if method == "do" else calling(shapeless, method))
    assert client.call(shapeless, "counted") == (method == "do")
    return reply


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (raising(NoArgs, "x"), NoArgs),
        (raising(NoDict, "x"), NoDict),
        (raising(NoAttributes, "x"), NoAttributes),
        (raising(NoText, "x"), NoText),
        (raising(NoPickle, "x"), NoPickle),
        (raising(OddPickle, "x"), OddPickle),
        (raising(NotAgain, "x"), NotAgain),
        (raising(NoState, "x"), NoState),
        (raising(NoSetting, "x"), NoSetting),
        (raising(SyntaxError, "x", text=5, lineno="none", offset=[], filename=3.5), SyntaxError),
        (raising(ValueError, "x", __notes__=5), ValueError),
        (raising(ValueError, "x", __notes__=[5, object()]), ValueError),
        (raising(ValueError, 10**5000), ValueError),
        (raising(StopIteration, 3), StopIteration),
        (raising(ImportError, "x", name=(n for n in "")), ImportError),
    ],
)
def test_an_exception_arrives_as_its_type_whatever_its_class_does(what: Callable[[], Any], kind: type[Any]) -> None:
    raised = error(ask_about(what))
    assert type(raised) is kind
    assert BaseException.args.__get__(raised)  # type: ignore[attr-defined]


def ask_about(what: Callable[[], Any]) -> Reply:
    """As ``ask``, for a function that cannot be pickled with what it holds."""
    log = Log()
    client = log.open()
    shapeless = client.create(Teller)
    TELLER.append(what)
    try:
        reply = client.ask(calling(shapeless, "tell"))
        assert client.call(shapeless, "counted") == 1
    finally:
        TELLER.clear()
    return reply


TELLER: list[Callable[[], Any]] = []


class Teller:
    """Does what this module has for it: what has no bytes, on an executor in this process."""

    def __init__(self) -> None:
        self.count = 0

    def tell(self) -> Any:
        self.count += 1
        return sys.modules["tests.rsm.test_bad_input"].TELLER[0]()

    def counted(self) -> int:
        return self.count


def test_one_that_cannot_be_made_again_here_is_told_by_its_text() -> None:
    arrived = exceptions.decode_exception(exceptions.encode_exception(NoText(OddPickle())), no_handles)
    assert type(arrived) is RuntimeError
    assert "NoText" in str(arrived)
    assert "invalid literal for int" in str(arrived)


def test_what_is_printed_of_an_exception_names_no_address() -> None:
    raised = error(ask_about(raising(ValueError, (n for n in ""), luggage=(n for n in ""))))
    assert "0x" not in f"{raised.args} {vars(raised)} {raised.__cause__}"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (ExitsWhenPickled, "SystemExit: 9"),
        (Opaque, "asked"),
        (lambda: nested(100_000), "deep"),
        (lambda: (n for n in ""), "generator"),
        (sys._getframe, "frame"),
        (lambda: OddPickle, None),
        (AnySay, None),
        (lambda: nested(100), None),
    ],
)
def test_a_result_is_an_answer_whatever_its_class_does(what: Callable[[], Any], said: str | None) -> None:
    reply = ask_about(what)
    assert reply.outcome is (Outcome.VALUE if said is None else Outcome.RAISED)
    if said is not None:
        assert said in str(error(reply))


def test_unpickling_a_result_ends_no_process() -> None:
    payload = codec.encode(ExitsWhenUnpickled())
    with pytest.raises(ConcoordError, match=r"was executed.*SystemExit"):
        answers.unpack(Reply(1, 1, Outcome.VALUE, payload))
    refusing = exceptions.encode_exception(ValueError(ExitsWhenUnpickled()))
    with pytest.raises(RuntimeError, match="SystemExit"):
        answers.unpack(Reply(1, 1, Outcome.RAISED, refusing))


def test_a_coroutine_is_refused_in_words_and_closed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "async" in str(error(ask(lambda: None, "later")))
        gc.collect()
    assert "generator" in str(error(ask(lambda: None, "steps")))


# Memory.


@pytest.mark.parametrize("what", [lambda: bytes(1 << 60), lambda: 1 << (1 << 60), lambda: [0] * (1 << 58)])
def test_who_asks_for_more_than_any_machine_has_is_told_so(what: Callable[[], Any]) -> None:
    assert isinstance(error(ask_about(what)), (MemoryError, OverflowError))


# State.


@pytest.mark.parametrize("make", [Opaque, NoBody, AnySay, odd])
def test_state_that_cannot_be_looked_at_stops_no_checkpoint(make: Callable[[], Any]) -> None:
    log = Log()
    log.executors = [Executor("here", Config(checkpoint_interval_slots=1)) for _ in log.executors]
    client = log.open()
    teller = client.create(Keeper)
    TELLER.append(make)
    try:
        client.ask(calling(teller, "keep"))
    finally:
        TELLER.clear()
    assert len(log.applied.checkpoints) == 1


class Keeper:
    def __init__(self) -> None:
        self.kept: Any = None

    def keep(self) -> None:
        self.kept = sys.modules["tests.rsm.test_bad_input"].TELLER[0]()


# Depth.


def test_a_method_may_recurse_as_deep_whoever_calls_the_executor() -> None:
    """What it has changed by the time of its RecursionError is part of the state."""

    def depth(extra: int) -> int:
        if extra:
            return depth(extra - 1)
        log = Log()
        client = log.open()
        shapeless = client.create(Shapeless)
        assert isinstance(error(client.ask(calling(shapeless, "dive"))), RecursionError)
        reached = client.call(shapeless, "counted")
        assert isinstance(reached, int)
        return reached

    before = sys.getrecursionlimit()
    assert depth(0) == depth(7) == depth(300) > 900
    assert sorted([1], key=lambda _: depth(5)) == [1]
    assert sys.getrecursionlimit() == before


def test_the_limit_comes_back_when_the_body_raises() -> None:
    before = sys.getrecursionlimit()
    with pytest.raises(KeyError), even_stack():
        raise KeyError
    assert sys.getrecursionlimit() == before


# Guards.


class Exiting:
    """Its guard is false at first, and then ends the process."""

    def __init__(self) -> None:
        self.is_closing = False

    @when(lambda self: sys.exit(5) if self.is_closing else False)
    def take(self) -> None:
        raise AssertionError("its guard never holds")

    def close(self) -> None:
        self.is_closing = True


def test_a_guard_that_would_end_the_process_answers_its_callers() -> None:
    log = Log()
    client = log.open()
    exiting = client.create(Exiting)
    seq = client.park(exiting, "take")
    (told,) = [reply for reply in client.send(calling(exiting, "close")) if reply.seq == seq]
    assert isinstance(error(told), RuntimeError)
    assert "SystemExit" in str(error(told))

"""A MemoryError of users' code is an answer like any other, as long as there is memory left for what is ordinary."""

from __future__ import annotations

from typing import Any

import pytest

from concoord_ray.rsm import memory
from concoord_ray.rsm.digest import digest
from concoord_ray.rsm.exceptions import decode_exception, encode_exception
from concoord_ray.rsm.methods import when
from tests.rsm.log import Log, calling, error, no_handles


class OutOfIt:
    """Says that there is no memory, whatever it is asked."""

    def __reduce__(self) -> Any:
        raise MemoryError

    def __repr__(self) -> str:
        raise MemoryError


class OutOfItError(Exception):
    def __reduce__(self) -> Any:
        raise MemoryError

    def __str__(self) -> str:
        raise MemoryError


class Sayer:
    def give(self) -> Any:
        return OutOfIt()

    def give_reduced(self) -> Any:
        return [OutOfIt()]

    def fail(self) -> None:
        raise ValueError(OutOfIt())

    def fail_itself(self) -> None:
        raise OutOfItError(OutOfIt())


class Glutton:
    """Its guard asks for too much, once it is hungry."""

    def __init__(self) -> None:
        self.is_hungry = False

    @when(lambda self: self.ask_for_more() if self.is_hungry else False)
    def eat(self) -> None:
        raise AssertionError("its guard never holds")

    def ask_for_more(self) -> None:
        raise MemoryError("more than any machine has")

    def grow_hungry(self) -> None:
        self.is_hungry = True


def test_a_guard_that_asks_for_too_much_answers_its_callers() -> None:
    log = Log()
    client = log.open()
    glutton = client.create(Glutton)
    waiting = client.park(glutton, "eat")
    (told,) = [reply for reply in client.send(calling(glutton, "grow_hungry")) if reply.seq == waiting]
    assert isinstance(error(told), MemoryError)


@pytest.mark.parametrize(
    ("method", "kind"),
    [("give", TypeError), ("give_reduced", TypeError), ("fail", ValueError), ("fail_itself", OutOfItError)],
)
def test_what_says_that_there_is_no_memory_while_it_is_told_stops_nothing(method: str, kind: type[Exception]) -> None:
    log = Log()
    client = log.open()
    assert isinstance(error(client.ask(calling(client.create(Sayer), method))), kind)


def test_what_python_leaves_in_an_error_that_it_uses_again_is_not_told() -> None:
    """Of two executors one told that the MemoryError before this one had been raised from another."""
    new, used = MemoryError("too much"), MemoryError("too much")
    new.__suppress_context__, used.__suppress_context__ = False, True
    told = encode_exception(new)
    assert encode_exception(used) == told
    assert decode_exception(told, no_handles).__suppress_context__


def test_an_object_that_says_so_stops_no_checkpoint() -> None:
    assert digest(OutOfIt(), budget=100, seed=1) == digest(OutOfIt(), budget=100, seed=1)


@pytest.mark.parametrize("method", ["give", "fail", "fail_itself"])
def test_memory_that_is_really_gone_stops_the_replica(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    client = log.open()
    sayer = client.create(Sayer)
    monkeypatch.setattr(memory, "has_memory", lambda: False)
    with pytest.raises(MemoryError):
        client.ask(calling(sayer, method))


def test_a_guard_that_finds_no_memory_stops_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    client = log.open()
    glutton = client.create(Glutton)
    client.park(glutton, "eat")
    monkeypatch.setattr(memory, "has_memory", lambda: False)
    with pytest.raises(MemoryError):
        client.send(calling(glutton, "grow_hungry"))

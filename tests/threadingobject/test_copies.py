"""What calls wait in cannot be copied; and a copy that is made all the same does no harm."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from concoord_ray.rsm.command import Cancel, CloseSession
from concoord_ray.threadingobject import (
    DBarrier,
    DCondition,
    DCountDownLatch,
    DEvent,
    DLock,
    DQueue,
    DRLock,
    DRWLock,
    DSemaphore,
)
from tests.rsm.log import Client, Log, calling, error, result
from tests.rsm.restored import RestoredLog
from tests.threadingobject.calls import Story, outcome

KINDS: tuple[Callable[[], Any], ...] = (
    DLock, DRLock, DRWLock, DSemaphore, DCondition, DEvent, DQueue, lambda: DBarrier(2), lambda: DCountDownLatch(1),
)  # fmt: skip


class Ledger:
    """Undoes what it did by putting back a copy of its attributes."""

    def __init__(self) -> None:
        self.lock = DLock()
        self.rows: list[int] = []

    def acquire(self, timeout: float = -1) -> bool:
        return self.lock.acquire(timeout=timeout)

    def release(self) -> None:
        self.lock.release()

    def is_held(self) -> bool:
        return self.lock.locked()

    def update(self, how: str) -> None:
        before = copy.deepcopy(self.__dict__) if how == "copy" else pickle.loads(pickle.dumps(self.__dict__))
        self.rows.append(1)
        self.__dict__ = before


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_primitive_refuses_to_be_copied(make: Callable[[], Any], copied: Callable[[Any], Any]) -> None:
    with pytest.raises(TypeError, match=r"cannot be copied: it is the one that calls wait in"):
        copied(make())


def test_a_method_that_copies_one_has_not_begun_to_change_anything() -> None:
    story = Story(Ledger)
    story.does("a", "acquire")
    assert story.does("b", "acquire") == {}
    assert "cannot be copied" in str(story.fails("a", "update", "copy"))
    assert story.does("a", "release") == {"a": None, "b": True}


def waiting(log: Log, *timeouts: float) -> tuple[int, list[Client]]:
    """A ledger that was put back by pickle while the first process held its lock and the others waited for it."""
    holder = log.open()
    object_id = holder.create(Ledger)
    holder.call(object_id, "acquire")
    others = [log.open() for _ in timeouts]
    for client, timeout in zip(others, timeouts, strict=True):
        client.park(object_id, "acquire", timeout)
    holder.call(object_id, "update", "pickle")
    return object_id, [holder, *others]


@pytest.mark.parametrize("log_of", [Log, RestoredLog])
def test_a_copy_of_a_waiter_gets_nothing(log_of: type[Log]) -> None:
    log = log_of()
    object_id, (holder, other) = waiting(log, -1)
    if isinstance(log, RestoredLog):
        log.restore()
    assert [result(reply) for reply in holder.send(calling(object_id, "release"))] == [None]
    assert holder.call(object_id, "is_held") is False
    assert holder.call(object_id, "acquire") is True
    given_up = [reply for reply in other.send(Cancel(1)) if reply.seq == 1]
    assert [outcome(reply) for reply in given_up] == ["CallCancelled"]


@pytest.mark.parametrize("log_of", [Log, RestoredLog])
def test_a_copy_of_a_waiter_whose_process_ends_stops_no_replica(log_of: type[Log]) -> None:
    log = log_of()
    object_id, (holder, first, second) = waiting(log, -1, -1)
    if isinstance(log, RestoredLog):
        log.restore()
    holder.send(calling(object_id, "release"))
    second.send(CloseSession())
    first.send(CloseSession())
    assert holder.call(object_id, "acquire") is True


@pytest.mark.parametrize("log_of", [Log, RestoredLog])
def test_a_copy_of_a_waiter_whose_time_is_over_stops_no_replica(log_of: type[Log]) -> None:
    log = log_of()
    object_id, (holder, _) = waiting(log, 5)
    if isinstance(log, RestoredLog):
        log.restore()
    holder.send(calling(object_id, "release"))
    assert [result(reply) for reply in log.pass_time(10)] == [False]
    assert error(holder.ask(calling(object_id, "release"))).args == ("release unlocked lock",)

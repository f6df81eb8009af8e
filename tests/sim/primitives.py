"""What holds for every primitive after every slot, on every replica."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from concoord_ray.paxos.view import Member
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.waiters import Primitive
from concoord_ray.threadingobject.dbarrier import DBarrier
from concoord_ray.threadingobject.dboundedsemaphore import DBoundedSemaphore
from concoord_ray.threadingobject.devent import DEvent
from concoord_ray.threadingobject.dsemaphore import DSemaphore
from concoord_ray.threadingobject.mutex import Mutex
from tests.sim.invariants import Broken


class NobodyWaitsInVain:
    """Nobody waits for what is there; permits are conserved; who waits is known to a session that lives."""

    def check(self, by: Member, executor: Executor) -> None:
        for record in executor._objects._objects.values():
            for primitive in vars(record.instance).values():
                if isinstance(primitive, Primitive):
                    fault = self._fault(primitive)
                    if fault:
                        raise Broken(self, f"{by}, slot {executor.next_slot - 1}: {primitive!r}: {fault}")

    def _fault(self, primitive: Primitive) -> str:
        for kind, judge in _JUDGES:
            fault = judge(primitive) if isinstance(primitive, kind) else ""
            if fault:
                return fault
        return ""


def _mutex(mutex: Any) -> str:
    is_waited_for = len(mutex._queue) or len(mutex._watchers)
    return "it is free, and somebody waits" if mutex._holder is None and is_waited_for else ""


def _semaphore(semaphore: Any) -> str:
    if semaphore._value > 0 and len(semaphore._queue):
        return "a permit is free, and somebody waits"
    is_known = sum(map(len, semaphore._held.values())) == len(semaphore._out)
    return "" if is_known else "its two accounts of who holds permits differ"


def _bounded(semaphore: Any) -> str:
    free, out = semaphore._value, len(semaphore._out)
    return "" if free + out == semaphore._initial else f"{free} permits are free and {out} are out"


def _event(event: Any) -> str:
    return "it is set, and somebody waits" if event._is_set and len(event._queue) else ""


def _barrier(barrier: Any) -> str:
    is_open = len(barrier._queue) < barrier._parties and not (barrier._broken and len(barrier._queue))
    return "" if is_open else "it is full or broken, and somebody waits"


_JUDGES: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (Mutex, _mutex),
    (DSemaphore, _semaphore),
    (DBoundedSemaphore, _bounded),
    (DEvent, _event),
    (DBarrier, _barrier),
)

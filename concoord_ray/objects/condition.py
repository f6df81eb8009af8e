"""Condition: as ``threading.Condition``, for the processes of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from concoord_ray.rsm.methods import blocking, in_caller, readonly
from concoord_ray.threadingobject.dcondition import DCondition
from concoord_ray.threadingobject.inspection import Inspection


class Condition:
    """A condition variable. ``lock`` is the handle of a Lock or RLock, perhaps shared; None is an RLock of its own.

    Those who wait are notified first come first served.
    """

    def __init__(self, lock: Any = None) -> None:
        self._condition = DCondition(lock)

    def __repr__(self) -> str:
        return repr(self._condition)

    @blocking
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the condition's lock. True; False if it did not come free within ``timeout`` seconds."""
        return self._condition.acquire(blocking=blocking, timeout=timeout)

    def release(self) -> None:
        """Free the condition's lock. RuntimeError if the caller does not own it."""
        self._condition.release()

    @blocking
    def wait(self, timeout: float | None = None) -> bool:
        """Give the lock up, all levels of it, until notified; the lock is the caller's again when this returns.

        True; False if nobody notified within ``timeout`` seconds. RuntimeError if the caller does not own the lock. A
        cancelled wait leaves its caller without the lock.
        """
        return self._condition.wait(timeout=timeout)

    @in_caller
    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until ``predicate()``, which runs in the caller's process, is true; its last value.

        As in ``threading``: the loop of ``wait`` that everybody would write, over at most ``timeout`` seconds.
        """
        raise TypeError("the predicate of wait_for runs in the process that calls it, never here")

    def notify(self, n: int = 1) -> None:
        """Wake up to ``n`` who wait. RuntimeError if the caller does not own the lock."""
        self._condition.notify(n=n)

    def notify_all(self) -> None:
        """Wake all who wait. RuntimeError if the caller does not own the lock."""
        self._condition.notify_all()

    @readonly
    def inspect(self) -> Inspection:
        """Who holds its lock, and who waits to be notified."""
        return self._condition.inspect()

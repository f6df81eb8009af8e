"""The replicated condition variable, as ``threading.Condition`` with FIFO order.

``wait`` gives the lock up, whatever its depth, and waits in the condition's queue. A notification moves the first
waiter to the lock's queue; its call is answered when it has the lock back. A wait that times out needs the lock back
too before it is answered with False, as in ``threading``.

Deviation: a wait that is cancelled, or whose process ends, does not take the lock again, for nobody would free it. If
it had been notified, the notification goes to the next waiter: none is lost.
"""

from __future__ import annotations

from typing import Any, cast

from concoord_ray.rsm.context import CallContext, Scope, current
from concoord_ray.rsm.waiters import PARKED, Primitive, Waiter, WaitQueue
from concoord_ray.threadingobject import inspection
from concoord_ray.threadingobject.dlock import DLock
from concoord_ray.threadingobject.drlock import DRLock
from concoord_ray.threadingobject.limits import wait_timeout_s
from concoord_ray.threadingobject.mutex import mutex_of


class DCondition(Primitive):
    """A condition variable for use inside replicated objects, over a lock that may be shared with others."""

    def __init__(self, lock: Any = None) -> None:
        mutex = DRLock() if lock is None else mutex_of(lock)
        if not isinstance(mutex, (DLock, DRLock)):
            raise TypeError(f"a condition needs a Lock or an RLock, not {type(mutex).__name__}")
        self._lock = mutex
        self._queue = WaitQueue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._lock!r} waiters={len(self._queue)}>"

    def acquire(self, _concoord_command: CallContext | None = None, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the condition's lock, as its own ``acquire`` does."""
        return self._lock.acquire(blocking=blocking, timeout=timeout)

    def release(self, _concoord_command: CallContext | None = None) -> None:
        """Free the condition's lock, as its own ``release`` does."""
        self._lock.release()

    def wait(self, _concoord_command: CallContext | None = None, timeout: float | None = None) -> bool:
        """Give the lock up until notified: True, False after ``timeout`` seconds; the lock is the caller's again.

        RuntimeError if the caller does not own the lock.
        """
        call = current()
        self._check_owned(call, "wait on")
        timeout_s = wait_timeout_s(timeout)
        if timeout_s == 0:
            timeout_s = 1e-9  # Others get their chance to take the lock first, as in ``threading``.
        parked = self._queue.park(self, timeout_s=timeout_s)
        self._last_waiter().note = self._lock.give_up()
        return cast("bool", parked)

    def notify(self, _concoord_command: CallContext | None = None, n: int = 1) -> None:
        """Wake up to ``n`` waiters, in order. RuntimeError if the caller does not own the lock."""
        self._check_owned(current(), "notify on")
        current().effects.changing()
        while n > 0 and len(self._queue) > 0:
            n -= 1
            self._notify_first()

    def notify_all(self, _concoord_command: CallContext | None = None) -> None:
        """Wake all waiters. RuntimeError if the caller does not own the lock."""
        self.notify(n=len(self._queue))

    def inspect(self) -> inspection.Inspection:
        """Who holds its lock, and who waits to be notified."""
        return inspection.Inspection(repr(self), self._lock.inspect().holders, inspection.waiting(self._queue))

    # Primitive

    def timed_out(self, waiter: Waiter) -> Any:
        """False, once it has its lock back."""
        return self._lock.readmit(waiter, waiter.note._replace(result=False))

    def gone(self, waiter: Waiter) -> None:
        """See ``Primitive``. If it had been notified, another is."""
        if waiter.queue is not self._queue and waiter.note.result:
            self._notify_first()

    def give_back(self, grant: Any) -> None:
        """See ``Primitive``: it had its lock back already."""
        self._lock.give_back(grant)
        if grant.notified:
            self._notify_first()

    def release_scope(self, scope: Scope) -> None:
        """It holds nothing by itself; its lock does."""

    # Inside.

    def _check_owned(self, call: CallContext, what: str) -> None:
        if not self._lock.is_owned_by(call.owner):
            raise RuntimeError(f"cannot {what} un-acquired lock")

    def _last_waiter(self) -> Waiter:
        return next(reversed(self._queue))

    def _notify_first(self) -> None:
        waiter = self._queue.pop()
        if waiter is not None:
            waiter.deadline_ns = None
            result = self._lock.readmit(waiter, waiter.note)
            if result is not PARKED:
                self._queue.wake(waiter, result)

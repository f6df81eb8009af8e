"""The replicated count-down latch: calls wait until a count has come down to zero."""

from __future__ import annotations

from typing import cast

from concoord_ray.rsm.context import CallContext, current
from concoord_ray.rsm.waiters import Primitive, WaitQueue
from concoord_ray.threadingobject import inspection
from concoord_ray.threadingobject.limits import wait_timeout_s


class DCountDownLatch(Primitive):
    """A latch for use inside replicated objects. Nobody waits while its count is zero."""

    def __init__(self, count: int) -> None:
        if count < 0:
            raise ValueError("count must be >= 0")
        self._count = count
        self._queue = WaitQueue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} count={self._count}>"

    @property
    def count(self) -> int:
        """How much is left."""
        return self._count

    def count_down(self, _concoord_command: CallContext | None = None, n: int = 1) -> int:
        """Lower the count by ``n``, to zero at the least, where all who wait are woken; what is left."""
        if n < 1:
            raise ValueError("n must be one or more")
        current().effects.changing()
        self._count = max(0, self._count - n)
        while self._count == 0 and (waiter := self._queue.pop()) is not None:
            self._queue.wake(waiter, True)
        return self._count

    def wait(self, _concoord_command: CallContext | None = None, timeout: float | None = None) -> bool:
        """Wait until the count is zero: True; False after ``timeout`` seconds."""
        timeout_s = wait_timeout_s(timeout)
        if self._count == 0 or timeout_s == 0:
            return self._count == 0
        return cast("bool", self._queue.park(self, timeout_s=timeout_s))

    def inspect(self) -> inspection.Inspection:
        """Who waits."""
        return inspection.Inspection(repr(self), (), inspection.waiting(self._queue))

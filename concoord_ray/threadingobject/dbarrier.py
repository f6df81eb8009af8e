"""The replicated barrier, as ``threading.Barrier``: nobody goes on until ``parties`` have come.

Invariants: fewer than ``parties`` wait; a barrier that is broken has no waiters, and gets none until it is reset. It is
full and empty again within one command, so it can be used again at once, and no one of the next round gets in between.

A waiter that is cancelled, or whose process ends, leaves the barrier as it was, with one waiter fewer (as
``asyncio.Barrier``): whoever takes its part may come. One that times out breaks it for all (as ``threading``).
"""

from __future__ import annotations

from typing import Any, cast

from concoord_ray.errors import BrokenBarrierError
from concoord_ray.rsm.context import CallContext, current
from concoord_ray.rsm.objects import raised
from concoord_ray.rsm.waiters import Primitive, Waiter, WaitQueue
from concoord_ray.threadingobject import inspection
from concoord_ray.threadingobject.limits import wait_timeout_s


class DBarrier(Primitive):
    """A barrier for use inside replicated objects."""

    def __init__(self, parties: int, timeout: float | None = None) -> None:
        if parties < 1:
            raise ValueError("parties must be >= 1")
        wait_timeout_s(timeout)  # Refused now rather than at the first wait.
        self._parties = parties
        self._timeout = timeout
        self._broken = False
        self._queue = WaitQueue()

    def __repr__(self) -> str:
        state = "broken" if self._broken else f"waiters={len(self._queue)}/{self._parties}"
        return f"<{type(self).__name__} {state}>"

    @property
    def parties(self) -> int:
        """How many have to come."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    @property
    def broken(self) -> bool:
        """Whether it has to be reset before it can be used again."""
        return self._broken

    def wait(self, _concoord_command: CallContext | None = None, timeout: float | None = None) -> int:
        """Wait for the others: a number of its own for each, from 0 to ``parties`` - 1.

        BrokenBarrierError if the barrier is broken, or breaks or is reset meanwhile; the caller's own ``timeout`` in
        seconds (by default the barrier's) breaks it.
        """
        timeout_s = wait_timeout_s(self._timeout if timeout is None else timeout)
        if self._broken:
            raise BrokenBarrierError
        if len(self._queue) + 1 == self._parties:
            index = 0
            while (waiter := self._queue.pop()) is not None:
                self._queue.wake(waiter, index)
                index += 1
            return self._parties - 1
        if timeout_s == 0:
            self.abort()
            raise BrokenBarrierError
        return cast("int", self._queue.park(self, timeout_s=timeout_s))

    def reset(self, _concoord_command: CallContext | None = None) -> None:
        """Make it as new. Those who wait get BrokenBarrierError."""
        self._dismiss()
        self._broken = False

    def abort(self, _concoord_command: CallContext | None = None) -> None:
        """Break it: those who wait, and all who come, get BrokenBarrierError until it is reset."""
        self._dismiss()
        self._broken = True

    def inspect(self) -> inspection.Inspection:
        """Who waits."""
        return inspection.Inspection(repr(self), (), inspection.waiting(self._queue))

    def timed_out(self, waiter: Waiter) -> Any:
        """See ``Primitive``: it breaks the barrier."""
        self.abort()
        return raised(BrokenBarrierError())

    def _dismiss(self) -> None:
        current().effects.changing()
        while (waiter := self._queue.pop()) is not None:
            self._queue.wake(waiter, raised(BrokenBarrierError()))

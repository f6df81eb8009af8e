"""The replicated event, as ``threading.Event``: a flag that calls can wait for."""

from __future__ import annotations

from typing import cast

from concoord_ray.rsm.context import CallContext, current
from concoord_ray.rsm.waiters import Primitive, WaitQueue
from concoord_ray.threadingobject import inspection
from concoord_ray.threadingobject.limits import wait_timeout_s


class DEvent(Primitive):
    """A flag for use inside replicated objects. Nobody waits while it is set."""

    def __init__(self) -> None:
        self._is_set = False
        self._queue = WaitQueue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'set' if self._is_set else 'unset'}>"

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self, _concoord_command: CallContext | None = None) -> None:
        """Set it, and wake all who wait."""
        current().effects.changing()
        self._is_set = True
        while (waiter := self._queue.pop()) is not None:
            self._queue.wake(waiter, True)

    def clear(self, _concoord_command: CallContext | None = None) -> None:
        """Unset it."""
        current().effects.changing()
        self._is_set = False

    def wait(self, _concoord_command: CallContext | None = None, timeout: float | None = None) -> bool:
        """Wait until it is set: True; False after ``timeout`` seconds."""
        timeout_s = wait_timeout_s(timeout)
        if self._is_set or timeout_s == 0:
            return self._is_set
        return cast("bool", self._queue.park(self, timeout_s=timeout_s))

    def inspect(self) -> inspection.Inspection:
        """Who waits."""
        return inspection.Inspection(repr(self), (), inspection.waiting(self._queue))

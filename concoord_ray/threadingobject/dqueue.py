"""The replicated queue, as ``queue.Queue``: items in order, for whoever takes them first. It does not count tasks.

Invariants: nobody waits for an item while there is one, nor for room while there is some; an item is taken once. A
taken item whose call is cancelled before its caller could know of it goes back to the head.
"""

from __future__ import annotations

from collections import deque
from queue import Empty, Full
from typing import Any

from concoord_ray.rsm.context import CallContext, current
from concoord_ray.rsm.objects import raised
from concoord_ray.rsm.waiters import Primitive, Waiter, WaitQueue
from concoord_ray.threadingobject import inspection
from concoord_ray.threadingobject.limits import wait_timeout_s


class DQueue(Primitive):
    """A queue for use inside replicated objects; without bound if ``maxsize`` is zero or less."""

    def __init__(self, maxsize: int = 0) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()
        self._getters = WaitQueue()
        #: Each with its item.
        self._putters = WaitQueue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} size={len(self._items)}>"

    def __len__(self) -> int:
        return len(self._items)

    def full(self) -> bool:
        """Whether there is no room."""
        return 0 < self._maxsize <= len(self._items)

    def put(
        self,
        item: Any,
        _concoord_command: CallContext | None = None,
        block: bool = True,
        timeout: float | None = None,
    ) -> None:
        """Add an item; waits for room, up to ``timeout`` seconds. ``queue.Full`` if there is none."""
        timeout_s = _queue_timeout_s(block, timeout)
        if self.full():
            if timeout_s == 0:
                raise Full
            return self._putters.park(self, timeout_s=timeout_s, note=(item,))  # type: ignore[no-any-return]
        current().effects.changing()
        self._items.append(item)
        self._serve()
        return None

    def get(
        self, _concoord_command: CallContext | None = None, block: bool = True, timeout: float | None = None
    ) -> Any:
        """Take the first item; waits for one, up to ``timeout`` seconds. ``queue.Empty`` if there is none."""
        timeout_s = _queue_timeout_s(block, timeout)
        if not self._items:
            if timeout_s == 0:
                raise Empty
            return self._getters.park(self, timeout_s=timeout_s)
        item = self._take(current())
        self._serve()
        return item

    def inspect(self) -> inspection.Inspection:
        """Who waits, for items or for room."""
        return inspection.Inspection(repr(self), (), inspection.waiting((*self._getters, *self._putters)))

    # Primitive

    def timed_out(self, waiter: Waiter) -> Any:
        """See ``Primitive``."""
        return raised(Empty() if waiter.queue is self._getters else Full())

    def give_back(self, grant: Any) -> None:
        """See ``Primitive``."""
        current().effects.changing()
        self._items.appendleft(grant[0])
        self._serve()

    # Inside.

    def _take(self, call: CallContext | Waiter) -> Any:
        effects = current().effects
        effects.changing()
        item = self._items.popleft()
        effects.granted(call.session, call.seq, self, (item,))
        return item

    def _serve(self) -> None:
        """Give items to those who wait for them, and room to those who wait for it."""
        while True:
            if self._items and (getter := self._getters.pop()) is not None:
                self._getters.wake(getter, self._take(getter))
            elif not self.full() and (putter := self._putters.pop()) is not None:
                self._items.append(putter.note[0])
                self._putters.wake(putter, None)
            else:
                return


def _queue_timeout_s(block: bool, timeout: float | None) -> float | None:
    """As ``queue.Queue`` takes them: a timeout counts only for who blocks, and must not be negative."""
    if not block:
        return 0.0
    if timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    return wait_timeout_s(timeout)

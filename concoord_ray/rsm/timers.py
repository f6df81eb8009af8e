"""When parked calls time out, in ensemble time.

Invariants: a timer belongs to one waiter and is dead as soon as the waiter's ``deadline_ns`` is no longer its own;
timers come due in the order of their deadlines, equal ones in the order in which they were set. Dead timers are
removed when they come up, and all at once when most are dead, so that memory is bounded by the calls that wait.
"""

from __future__ import annotations

import heapq
from typing import Any, NamedTuple

from concoord_ray.rsm.waiters import Waiter

#: So many dead timers are not worth a clean-up.
_SLACK = 64


class _Timer(NamedTuple):
    deadline_ns: int
    order: int
    waiter: Waiter

    @property
    def is_live(self) -> bool:
        return self.waiter.deadline_ns == self.deadline_ns


class Timers:
    """The deadlines of the calls that wait."""

    def __init__(self) -> None:
        self._heap: list[_Timer] = []
        self._order = 0

    def __len__(self) -> int:
        return len(self._heap)

    def __getstate__(self) -> dict[str, Any]:
        """For snapshots: without the dead ones, and the waiters that they would bring along."""
        return {**vars(self), "_heap": sorted(timer for timer in self._heap if timer.is_live)}

    def set(self, waiter: Waiter, waiting: int) -> None:
        """Watch a waiter's deadline, if it has one. ``waiting`` is how many calls wait in all."""
        if waiter.deadline_ns is None:
            return
        self._order += 1
        heapq.heappush(self._heap, _Timer(waiter.deadline_ns, self._order, waiter))
        if len(self._heap) > _SLACK + 2 * waiting:
            self._heap = [timer for timer in self._heap if timer.is_live]
            heapq.heapify(self._heap)

    def next_deadline_ns(self) -> int | None:
        """When the next call times out; None if none will."""
        while self._heap and not self._heap[0].is_live:
            heapq.heappop(self._heap)
        return self._heap[0].deadline_ns if self._heap else None

    def pop_due(self, now_ns: int) -> Waiter | None:
        """The waiter whose time was over first, if there is one; it has no deadline any more."""
        deadline_ns = self.next_deadline_ns()
        if deadline_ns is None or deadline_ns > now_ns:
            return None
        waiter = heapq.heappop(self._heap).waiter
        waiter.deadline_ns = None
        return waiter

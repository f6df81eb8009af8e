"""Guarded methods: calls that wait until their object is ready for them.

After Ada's protected entries. ``@when(guard)`` parks a call until the guard, a pure function of the object, holds after
some other command. Guards see the object alone, not the call's arguments, so all calls of one method share one guard:
after a command each guard is evaluated once, however many calls wait.

Invariants: calls run in order of arrival among those whose guards hold, one at a time, and guards are evaluated anew
after each; when a command has ended, no waiting call's guard holds; a guard that raises is its callers' error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from concoord_ray.rsm.command import Call
from concoord_ray.rsm.memory import is_out_of_memory
from concoord_ray.rsm.waiters import Primitive, Waiter, WaitQueue

Guard = Callable[[Any], Any]


class Ready(NamedTuple):
    """A call whose waiting is over: its guard holds, or raised ``error``."""

    waiter: Waiter
    call: Call
    error: BaseException | None


def has_run(waiter: Waiter) -> bool:
    """Whether the method of a call that waits has run until there; of one that waits for its guard it has not begun."""
    return not isinstance(waiter.primitive, GuardQueue)


class GuardQueue(Primitive):
    """The guarded calls of one object that wait."""

    def __init__(self) -> None:
        self._queues: dict[str, WaitQueue] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def waits(self, method: str) -> bool:
        """Whether calls of this method wait; later ones wait behind them."""
        return method in self._queues

    def park(self, call: Call) -> Any:
        """Park the current call, which is ``call``."""
        queue = self._queues.get(call.method) or WaitQueue()
        parked = queue.park(self, note=(self._arrivals + 1, call))  # Or raises, and then nothing has changed.
        self._arrivals += 1
        self._queues[call.method] = queue
        return parked

    def gone(self, waiter: Waiter) -> None:
        """See ``Primitive``."""
        self._forget_if_empty(waiter.note[1].method)

    def take_ready(self, evaluate: Callable[[str], bool]) -> Ready | None:
        """Take out the call that came first among those whose guards hold. ``evaluate`` knows each method's guard."""
        best: Waiter | None = None
        for method, queue in self._queues.items():
            first = queue.first()
            assert first is not None, "an empty queue is forgotten"
            try:
                holds = evaluate(method)
            except BaseException as error:  # User code: a result like any other.
                if is_out_of_memory(error):
                    raise
                return self._take(first, error)
            if holds and (best is None or first.note[0] < best.note[0]):
                best = first
        return None if best is None else self._take(best, None)

    def _take(self, waiter: Waiter, error: BaseException | None) -> Ready:
        waiter.queue.remove(waiter)
        call: Call = waiter.note[1]
        self._forget_if_empty(call.method)
        return Ready(waiter, call, error)

    def _forget_if_empty(self, method: str) -> None:
        queue = self._queues.get(method)
        if queue is not None and len(queue) == 0:
            del self._queues[method]

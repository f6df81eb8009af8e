"""The replicated semaphore, as ``threading.Semaphore`` with FIFO order and permits that a dead client gives back.

Invariants: nobody waits while a permit is free; the permits attributed to scopes are never more than are out. A
release by a scope that holds none discharges the permit that has been out for longest, so that a permit handed from
one process to another is not given back a second time when the first one ends.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, NamedTuple

from concoord_ray.rsm.context import CallContext, Owner, Scope, current
from concoord_ray.rsm.waiters import Primitive, Waiter, WaitQueue
from concoord_ray.threadingobject import inspection
from concoord_ray.threadingobject.limits import semaphore_timeout_s


class _Permit(NamedTuple):
    """A permit that is out: who took it, and when."""

    owner: Owner
    since_ns: int


class DSemaphore(Primitive):
    """A counting semaphore for use inside replicated objects."""

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        self._value = value
        self._queue = WaitQueue()
        #: To which scope each permit that is out was granted, oldest first; and the same by scope.
        self._out: OrderedDict[int, _Permit] = OrderedDict()
        self._held: dict[Scope, deque[int]] = {}
        self._grants = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} count={self._value}>"

    def acquire(
        self, _concoord_command: CallContext | None = None, blocking: bool = True, timeout: float | None = None
    ) -> bool:
        """Take a permit: True, False if none came in ``timeout`` seconds, or PARKED for the method to return."""
        timeout_s = semaphore_timeout_s(blocking, timeout)
        call = current()
        if self._value > 0:
            self._grant(call)
            return True
        if timeout_s == 0:
            return False
        parked: bool = self._queue.park(self, timeout_s=timeout_s)
        return parked

    def release(self, _concoord_command: CallContext | None = None, n: int = 1) -> None:
        """Give back ``n`` permits and wake as many waiters, first come first served."""
        if n < 1:
            raise ValueError("n must be one or more")
        call = current()
        call.effects.changing()
        mine = call.owner.scope
        for _ in range(n):
            if not self._out:
                break  # However large ``n`` is.
            self._discharge(mine if mine in self._held else next(iter(self._out.values())).owner.scope)
        self._add(n)

    def inspect(self) -> inspection.Inspection:
        """Who holds its permits, the longest first, and who waits."""
        holders = tuple(inspection.holder(permit.owner, permit.since_ns) for permit in self._out.values())
        return inspection.Inspection(repr(self), holders, inspection.waiting(self._queue))

    def give_back(self, grant: Any) -> None:
        """An acquire of the scope ``grant`` was cancelled after it had been granted."""
        if grant in self._held:
            self._discharge(grant)
            self._add(1)

    def release_scope(self, scope: Scope) -> None:
        """See ``Primitive``: its permits are free again."""
        grants = self._held.pop(scope, ())
        for grant in grants:
            del self._out[grant]
        self._add(len(grants))

    def _grant(self, call: CallContext | Waiter) -> None:
        effects = current().effects
        effects.changing()
        self._value -= 1
        self._grants += 1
        scope = call.owner.scope
        self._out[self._grants] = _Permit(call.owner, effects.time_ns)
        self._held.setdefault(scope, deque()).append(self._grants)
        effects.holds(scope, self)
        effects.granted(call.session, call.seq, self, scope)

    def _discharge(self, scope: Scope) -> None:
        """One permit of the scope, its oldest, is out no more."""
        held = self._held[scope]
        del self._out[held.popleft()]
        if not held:
            del self._held[scope]
            current().effects.holds_no_more(scope, self)

    def _add(self, permits: int) -> None:
        self._value += permits
        while self._value > 0 and (waiter := self._queue.pop()) is not None:
            self._grant(waiter)
            self._queue.wake(waiter, True)

"""The replicated read-write lock: many readers or one writer, strictly in order of arrival.

Invariants: a writer holds it alone; whoever comes while others wait waits behind them, so that neither readers nor
writers starve; nobody waits who could hold it.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple, cast

from concoord_ray.rsm.context import CallContext, Owner, Scope, current
from concoord_ray.rsm.waiters import Primitive, Waiter, WaitQueue
from concoord_ray.threadingobject import inspection
from concoord_ray.threadingobject.limits import lock_timeout_s


class Mode(Enum):
    """How it is held."""

    READ = "read"
    WRITE = "write"


class _Hold(NamedTuple):
    owner: Owner
    mode: Mode


class DRWLock(Primitive):
    """A read-write lock for use inside replicated objects. Not re-entrant."""

    def __init__(self) -> None:
        #: Since when each holds it.
        self._holds: dict[_Hold, int] = {}
        self._queue = WaitQueue()

    def __repr__(self) -> str:
        readers = sum(hold.mode is Mode.READ for hold in self._holds)
        state = "writing" if len(self._holds) > readers else f"readers={readers}"
        return f"<{type(self).__name__} {state}>"

    def acquire(
        self, mode: Mode, _concoord_command: CallContext | None = None, blocking: bool = True, timeout: float = -1
    ) -> bool:
        """Take it: True, False if that was not possible in ``timeout`` s, or PARKED for the method to return.

        RuntimeError if the caller holds it in this way already.
        """
        timeout_s = lock_timeout_s(blocking, timeout)
        call = current()
        if _Hold(call.owner, mode) in self._holds:
            raise RuntimeError(f"the caller holds the {mode.value} lock already, and it is not re-entrant")
        if len(self._queue) == 0 and self._admits(mode):
            return self._grant(call, mode)
        if timeout_s == 0:
            return False
        return cast("bool", self._queue.park(self, timeout_s=timeout_s, note=mode))

    def release(self, mode: Mode, _concoord_command: CallContext | None = None) -> None:
        """Give it back. RuntimeError if the caller does not hold it in this way."""
        hold = _Hold(current().owner, mode)
        if hold not in self._holds:
            raise RuntimeError(f"cannot release a {mode.value} lock that the caller does not hold")
        self._drop(hold)
        self._admit()

    def inspect(self) -> inspection.Inspection:
        """Who holds it, and who waits."""
        holders = tuple(inspection.holder(hold.owner, since_ns) for hold, since_ns in self._holds.items())
        return inspection.Inspection(repr(self), holders, inspection.waiting(self._queue))

    # Primitive

    def timed_out(self, waiter: Waiter) -> Any:
        """See ``Primitive``. Who stood behind it may have their turn."""
        self._admit()
        return False

    def gone(self, waiter: Waiter) -> None:
        """See ``Primitive``."""
        self._admit()

    def give_back(self, grant: Any) -> None:
        """See ``Primitive``."""
        if grant in self._holds:
            self._drop(grant)
            self._admit()

    def release_scope(self, scope: Scope) -> None:
        """See ``Primitive``."""
        for hold in [hold for hold in self._holds if hold.owner.scope == scope]:
            del self._holds[hold]
        self._admit()

    # Inside.

    def _admits(self, mode: Mode) -> bool:
        if mode is Mode.WRITE:
            return not self._holds
        holds = next(iter(self._holds), None)  # All hold it in the same way.
        return holds is None or holds.mode is Mode.READ

    def _admit(self) -> None:
        while (first := self._queue.first()) is not None and self._admits(first.note):
            waiter = self._queue.pop()
            self._queue.wake(waiter, self._grant(waiter, waiter.note))

    def _grant(self, call: CallContext | Waiter, mode: Mode) -> bool:
        effects = current().effects
        effects.changing()
        hold = _Hold(call.owner, mode)
        self._holds[hold] = effects.time_ns
        effects.holds(call.owner.scope, self)
        effects.granted(call.session, call.seq, self, hold)
        return True

    def _drop(self, hold: _Hold) -> None:
        current().effects.changing()
        del self._holds[hold]
        scope = hold.owner.scope
        if not any(other.owner.scope == scope for other in self._holds):
            current().effects.holds_no_more(scope, self)

"""The replicated read-write lock: many readers or one writer, strictly in order of arrival.

Invariants: a writer holds it alone; whoever comes while others wait waits behind them, so that neither readers nor
writers starve; nobody waits who could hold it; an owner holds it once, or waits for it once, and not both.

Why an owner may ask only once: two reads of one owner would be one hold, which the first release, or the withdrawal of
either call, takes from both; and who holds it, or stands in the queue, and waits for it again waits for itself.
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
    mode: Mode
    since_ns: int
    #: Of all grants of the lock.
    number: int


class _Grant(NamedTuple):
    """What a cancelled call gives back, and not what its owner has got since."""

    owner: Owner
    number: int


class DRWLock(Primitive):
    """A read-write lock for use inside replicated objects. Not re-entrant."""

    def __init__(self) -> None:
        self._holds: dict[Owner, _Hold] = {}
        self._queue = WaitQueue()
        #: Those in the queue, and what they wait for.
        self._waiting: dict[Owner, Mode] = {}
        self._grants = 0

    def __repr__(self) -> str:
        readers = sum(hold.mode is Mode.READ for hold in self._holds.values())
        state = "writing" if len(self._holds) > readers else f"readers={readers}"
        return f"<{type(self).__name__} {state}>"

    def acquire(
        self, mode: Mode, _concoord_command: CallContext | None = None, blocking: bool = True, timeout: float = -1
    ) -> bool:
        """Take it: True, False if that was not possible in ``timeout`` s, or PARKED for the method to return.

        RuntimeError if the caller holds it, or another call of its waits for it, whether to read or to write.
        """
        timeout_s = lock_timeout_s(blocking, timeout)
        call = current()
        self._check_asks_once(call.owner, mode)
        if len(self._queue) == 0 and self._admits(mode):
            return self._grant(call, mode)
        if timeout_s == 0:
            return False
        parked = self._queue.park(self, timeout_s=timeout_s, note=mode)
        self._waiting[call.owner] = mode
        return cast("bool", parked)

    def release(self, mode: Mode, _concoord_command: CallContext | None = None) -> None:
        """Give it back. RuntimeError if the caller does not hold it in this way."""
        owner = current().owner
        hold = self._holds.get(owner)
        if hold is None or hold.mode is not mode:
            raise RuntimeError(f"cannot release a {mode.value} lock that the caller does not hold")
        self._drop(owner)
        self._admit()

    def inspect(self) -> inspection.Inspection:
        """Who holds it, and who waits."""
        holders = tuple(inspection.holder(owner, hold.since_ns) for owner, hold in self._holds.items())
        return inspection.Inspection(repr(self), holders, inspection.waiting(self._queue))

    # Primitive

    def timed_out(self, waiter: Waiter) -> Any:
        """See ``Primitive``. Who stood behind it may have their turn."""
        self.gone(waiter)
        return False

    def gone(self, waiter: Waiter) -> None:
        """See ``Primitive``."""
        self._waiting.pop(waiter.owner, None)
        self._admit()

    def give_back(self, grant: Any) -> None:
        """See ``Primitive``."""
        hold = self._holds.get(grant.owner)
        if hold is not None and hold.number == grant.number:
            self._drop(grant.owner)
            self._admit()

    def release_scope(self, scope: Scope) -> None:
        """See ``Primitive``."""
        for owner in [owner for owner in self._holds if owner.scope == scope]:
            del self._holds[owner]
        self._admit()

    # Inside.

    def _check_asks_once(self, owner: Owner, mode: Mode) -> None:
        held, awaited = self._holds.get(owner), self._waiting.get(owner)
        if held is not None and held.mode is mode:
            raise RuntimeError(f"the caller holds the {mode.value} lock already, and it is not re-entrant")
        if held is not None:
            raise RuntimeError(
                f"the caller holds the {held.mode.value} lock, and would wait for itself: release_{held.mode.value} "
                f"comes before acquire_{mode.value}, and others may have their turn in between"
            )
        if awaited is not None:
            raise RuntimeError(
                f"another call of the caller waits for the {awaited.value} lock already: it can be held once by each "
                f"thread, asyncio task or Ray task"
            )

    def _admits(self, mode: Mode) -> bool:
        if mode is Mode.WRITE:
            return not self._holds
        hold = next(iter(self._holds.values()), None)  # All hold it in the same way.
        return hold is None or hold.mode is Mode.READ

    def _admit(self) -> None:
        while (waiter := self._queue.turn()) is not None and self._admits(waiter.note):
            self._queue.remove(waiter)
            self._waiting.pop(waiter.owner, None)
            self._queue.wake(waiter, self._grant(waiter, waiter.note))

    def _grant(self, call: CallContext | Waiter, mode: Mode) -> bool:
        effects = current().effects
        effects.changing()
        self._grants += 1
        self._holds[call.owner] = _Hold(mode, effects.time_ns, self._grants)
        effects.holds(call.owner.scope, self)
        effects.granted(call.session, call.seq, self, _Grant(call.owner, self._grants))
        return True

    def _drop(self, owner: Owner) -> None:
        current().effects.changing()
        del self._holds[owner]
        scope = owner.scope
        if not any(other.scope == scope for other in self._holds):
            current().effects.holds_no_more(scope, self)

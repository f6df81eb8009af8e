"""The replicated re-entrant lock, as ``threading.RLock``: its owner may take it again, and must free it as often.

Owners are told apart as ``concoord_ray.owner`` does: process, thread, asyncio task and Ray task.
"""

from __future__ import annotations

from typing import Any, cast

from concoord_ray.rsm.context import CallContext, Owner, current
from concoord_ray.rsm.waiters import PARKED, Waiter
from concoord_ray.threadingobject.mutex import Claim, Grant, Mutex


class DRLock(Mutex):
    """A re-entrant lock for use inside replicated objects. All levels of one holding have one token.

    An owner that has several calls under way is granted all those that wait with the first: who owns the lock need not
    wait for it, and would wait for itself.
    """

    def __init__(self) -> None:
        super().__init__()
        #: How many acquires of each owner are in the queue.
        self._acquires: dict[Owner, int] = {}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'locked' if self.locked() else 'unlocked'} count={self._depth}>"

    def release(self, _concoord_command: CallContext | None = None, token: int | None = None) -> None:
        """Free one level; after the last one the lock goes to the first in the queue.

        RuntimeError if the caller does not own it; with ``token``, also if that grant is not the present one.
        """
        call = current()
        if not self.is_owned_by(call.owner):
            raise RuntimeError("cannot release un-acquired lock")
        self._check_token(token)
        call.effects.changing()
        self._depth -= 1
        if self._depth == 0:
            self.free(taken=False)

    # Primitive

    def timed_out(self, waiter: Waiter) -> Any:
        """See ``Primitive``."""
        self._acquires_no_more(waiter)
        return super().timed_out(waiter)

    def gone(self, waiter: Waiter) -> None:
        """See ``Primitive``."""
        self._acquires_no_more(waiter)

    # Inside.

    def _acquire(self, timeout_s: float | None, claim: Claim) -> int:
        call = current()
        if self.is_owned_by(call.owner):
            return self._grant_again(call, claim)
        result: Any = super()._acquire(timeout_s, claim)
        if result is PARKED:
            self._acquires[call.owner] = self._acquires.get(call.owner, 0) + 1
        return cast("int", result)

    def _grant_again(self, call: CallContext | Waiter, claim: Claim) -> int:
        effects = current().effects
        effects.changing()
        self._depth += 1
        effects.granted(call.session, call.seq, self, Grant(self._token, 1, notified=False))
        return self._token if claim.fenced else True

    def _admit_others_of(self, waiter: Waiter) -> None:
        self._acquires_no_more(waiter)
        if waiter.owner not in self._acquires:  # So that a release takes no longer the more wait.
            return
        others = [other for other in self._queue if other.owner == waiter.owner and other.primitive is self]
        for other in filter(current().effects.waits, others):
            self._queue.remove(other)
            self._acquires_no_more(other)
            self._queue.wake(other, self._grant_again(other, other.note))

    def _acquires_no_more(self, waiter: Waiter) -> None:
        if waiter.primitive is not self or waiter.queue is not self._queue:
            return  # It waits for news, or is a condition's.
        left = self._acquires.pop(waiter.owner, 1) - 1
        if left > 0:
            self._acquires[waiter.owner] = left

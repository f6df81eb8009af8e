"""The replicated lock, as ``threading.Lock`` with FIFO order, fencing tokens, and a holder whose death frees it.

Invariants: at most one grant at a time; each grant has a token above all earlier ones; nobody waits while the lock is
free. As in ``threading``, anyone may release a lock that is held.
"""

from __future__ import annotations

from typing import Any, cast

from concoord_ray.rsm.context import CallContext, Owner, Scope, current
from concoord_ray.rsm.waiters import Primitive, Waiter, WaitQueue
from concoord_ray.threadingobject.limits import lock_timeout_s


class DLock(Primitive):
    """A mutual exclusion lock for use inside replicated objects."""

    def __init__(self) -> None:
        self._holder: Owner | None = None
        self._token = 0
        self._queue = WaitQueue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'locked' if self.locked() else 'unlocked'}>"

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._holder is not None

    def acquire(self, _concoord_command: CallContext | None = None, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock: True, False if it was not free within ``timeout`` s, or PARKED for the method to return."""
        return cast("bool", self._acquire(lock_timeout_s(blocking, timeout), fenced=False))

    def acquire_fenced(
        self, _concoord_command: CallContext | None = None, blocking: bool = True, timeout: float = -1
    ) -> int:
        """As ``acquire``; the result is the grant's fencing token, or 0 if it was not granted."""
        return self._acquire(lock_timeout_s(blocking, timeout), fenced=True)

    def release(self, _concoord_command: CallContext | None = None, token: int | None = None) -> None:
        """Free the lock and grant it to the first in the queue.

        RuntimeError if it is not locked; with ``token``, also if that grant is not the present one.
        """
        if self._holder is None:
            raise RuntimeError("release unlocked lock")
        if token is not None and token != self._token:
            raise RuntimeError(f"stale release: token {token} was followed by token {self._token}, which is held now")
        self._free()

    def timed_out(self, waiter: Waiter) -> Any:
        """Not granted: False, or 0 for a token."""
        return 0 if waiter.note else False

    def give_back(self, grant: Any) -> None:
        """The acquire with token ``grant`` was cancelled after it had been granted."""
        if self._holder is not None and self._token == grant:
            self._free()

    def release_scope(self, scope: Scope) -> None:
        """See ``Primitive``: what it held is free."""
        if self._holder is not None and self._holder.scope == scope:
            self._free()

    def _acquire(self, timeout_s: float | None, *, fenced: bool) -> int:
        if self._holder is None:
            return self._grant(current(), fenced)
        if timeout_s == 0:
            return 0 if fenced else False
        parked: int = self._queue.park(self, timeout_s=timeout_s, note=fenced)
        return parked

    def _grant(self, call: CallContext | Waiter, fenced: bool) -> int:
        effects = current().effects
        effects.changing()
        self._holder = call.owner
        self._token = effects.next_token()
        effects.holds(call.owner.scope, self)
        effects.granted(call.session, call.seq, self, self._token)
        return self._token if fenced else True

    def _free(self) -> None:
        current().effects.changing()
        if self._holder is not None:
            current().effects.holds_no_more(self._holder.scope, self)
        self._holder = None
        if len(self._queue) > 0:
            waiter = self._queue.pop()
            self._queue.wake(waiter, self._grant(waiter, waiter.note))

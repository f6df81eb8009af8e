"""The replicated re-entrant lock, as ``threading.RLock``: its owner may take it again, and must free it as often.

Owners are told apart as ``concoord_ray.owner`` does: process, thread, asyncio task and Ray task.
"""

from __future__ import annotations

from concoord_ray.rsm.context import CallContext, current
from concoord_ray.threadingobject.mutex import Claim, Grant, Mutex


class DRLock(Mutex):
    """A re-entrant lock for use inside replicated objects. All levels of one holding have one token."""

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

    def _acquire(self, timeout_s: float | None, claim: Claim) -> int:
        call = current()
        if not self.is_owned_by(call.owner):
            return super()._acquire(timeout_s, claim)
        call.effects.changing()
        self._depth += 1
        call.effects.granted(call.session, call.seq, self, Grant(self._token, 1, notified=False))
        return self._token if claim.fenced else True

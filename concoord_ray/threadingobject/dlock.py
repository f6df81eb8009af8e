"""The replicated lock, as ``threading.Lock`` with FIFO order, fencing tokens, and a holder whose death frees it.

As in ``threading``, anyone may release a lock that is held, and its holder waits for it as anyone does.
"""

from __future__ import annotations

from concoord_ray.rsm.context import CallContext
from concoord_ray.threadingobject.mutex import Mutex


class DLock(Mutex):
    """A mutual exclusion lock for use inside replicated objects."""

    def release(self, _concoord_command: CallContext | None = None, token: int | None = None) -> None:
        """Free the lock and grant it to the first in the queue.

        RuntimeError if it is not locked; with ``token``, also if that grant is not the present one.
        """
        if not self.locked():
            raise RuntimeError("release unlocked lock")
        self._check_token(token)
        self.free(taken=False)

"""Lock and RLock: as in ``threading``, for the processes of a cluster, with fencing tokens.

They promise an order of grants and a token that grows with each, never that a paused process stops writing: give the
token to whatever the lock protects, and refuse there what carries an older one.
"""

from __future__ import annotations

from concoord_ray.rsm.methods import awaits_loss, blocking, readonly
from concoord_ray.threadingobject.dlock import DLock
from concoord_ray.threadingobject.drlock import DRLock
from concoord_ray.threadingobject.inspection import Inspection


class Lock:
    """A mutual exclusion lock, granted first come first served. Anyone may release it, as in ``threading``.

    A process that ends while it holds the lock frees it: at once if it is seen to end, within ``session_ttl_s``
    otherwise. A retried call is one call: nothing is taken or freed twice.
    """

    def __init__(self) -> None:
        self._concoord_mutex: DLock | DRLock = DLock()

    def __repr__(self) -> str:
        return repr(self._concoord_mutex)

    @blocking
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock. True; False if it was not free, or did not come free within ``timeout`` seconds."""
        return self._concoord_mutex.acquire(blocking=blocking, timeout=timeout)

    @blocking
    def acquire_fenced(self, blocking: bool = True, timeout: float = -1) -> int:
        """As ``acquire``; the result is the grant's fencing token, 0 if it was not granted."""
        return self._concoord_mutex.acquire_fenced(blocking=blocking, timeout=timeout)

    def release(self, token: int | None = None) -> None:
        """Free the lock. RuntimeError if it is not locked, or if ``token`` is not that of the present grant."""
        self._concoord_mutex.release(token=token)

    @readonly
    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._concoord_mutex.locked()

    @awaits_loss
    def lost(self, token: int | None = None) -> bool:
        """Wait for the end of a grant: the present one, of the caller's process, or else the one with this ``token``.

        True when it was taken away (its session expired, its Ray task ended, ``force_release``), False when it was
        released. Also True when this process cannot keep its lease. RuntimeError if there is no such grant.
        """
        return self._concoord_mutex.lost(token=token)

    def force_release(self) -> bool:
        """Take the lock from whoever holds it; False if nobody does. The holder's token is stale from then on."""
        return self._concoord_mutex.force_release()

    @readonly
    def inspect(self) -> Inspection:
        """Who holds it, since when and with which token, and who waits."""
        return self._concoord_mutex.inspect()


class RLock(Lock):
    """A re-entrant lock: its owner may take it again, and must release it as often. Only its owner may.

    An owner is what a thread is to ``threading``: a thread of one process, an asyncio task there if there is one, and
    the Ray task that it is part of. All levels of one holding have one token.
    """

    def __init__(self) -> None:
        self._concoord_mutex = DRLock()

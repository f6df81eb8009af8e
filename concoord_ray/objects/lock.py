"""Lock: as ``threading.Lock``, for the processes of a cluster, with fencing tokens."""

from __future__ import annotations

from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.threadingobject.dlock import DLock


class Lock:
    """A mutual exclusion lock, granted first come first served. Anyone may release it, as in ``threading``.

    It promises an order of grants and a token that grows with each, never that a paused process stops writing: give
    the token to whatever the lock protects, and refuse there what carries an older one.
    """

    def __init__(self) -> None:
        self._lock = DLock()

    def __repr__(self) -> str:
        return repr(self._lock)

    @blocking
    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock. True; False if it was not free, or did not come free within ``timeout`` seconds."""
        return self._lock.acquire(blocking=blocking, timeout=timeout)

    @blocking
    def acquire_fenced(self, blocking: bool = True, timeout: float = -1) -> int:
        """As ``acquire``; the result is the grant's fencing token, 0 if it was not granted."""
        return self._lock.acquire_fenced(blocking=blocking, timeout=timeout)

    def release(self, token: int | None = None) -> None:
        """Free the lock. RuntimeError if it is not locked, or if ``token`` is not that of the present grant."""
        self._lock.release(token=token)

    @readonly
    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._lock.locked()

"""Semaphore and BoundedSemaphore: as in ``threading``, for the processes of a cluster."""

from __future__ import annotations

from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.threadingobject.dboundedsemaphore import DBoundedSemaphore
from concoord_ray.threadingobject.dsemaphore import DSemaphore
from concoord_ray.threadingobject.inspection import Inspection


class Semaphore:
    """A counting semaphore, granted first come first served.

    A process that ends gives its permits back: at once if it is seen to end, within ``session_ttl_s`` otherwise.
    """

    def __init__(self, value: int = 1) -> None:
        self._semaphore = DSemaphore(value)

    def __repr__(self) -> str:
        return repr(self._semaphore)

    @blocking
    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a permit. True; False if none was free, or came free within ``timeout`` seconds."""
        return self._semaphore.acquire(blocking=blocking, timeout=timeout)

    def release(self, n: int = 1) -> None:
        """Give back ``n`` permits. ValueError if ``n`` is below one."""
        self._semaphore.release(n=n)

    @readonly
    def describe(self) -> str:
        """The semaphore's repr, with its count."""
        return repr(self)

    @readonly
    def inspect(self) -> Inspection:
        """Who holds its permits, since when, and who waits."""
        return self._semaphore.inspect()


class BoundedSemaphore(Semaphore):
    """A semaphore that never has more permits than at first: a release too many raises ValueError."""

    def __init__(self, value: int = 1) -> None:
        self._semaphore = DBoundedSemaphore(value)

"""Semaphore: as ``threading.Semaphore``, for the processes of a cluster."""

from __future__ import annotations

from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.threadingobject.dsemaphore import DSemaphore


class Semaphore:
    """A counting semaphore, granted first come first served.

    A process that ends gives its permits back: at once if it exits cleanly, within ``session_ttl_s`` otherwise.
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

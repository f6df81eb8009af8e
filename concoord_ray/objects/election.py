"""Election: one of many processes leads, and when it is gone another does."""

from __future__ import annotations

from concoord_ray.rsm.methods import awaits_loss, blocking, readonly
from concoord_ray.threadingobject.dlock import DLock
from concoord_ray.threadingobject.inspection import Holder, Waiting


class Election:
    """Candidates lead one after the other, in order of arrival, each with a token above all earlier ones.

    Whoever leads does so until it resigns or its process ends. As with locks, a paused leader does not know that it
    leads no more: give its token to whatever it writes to.
    """

    def __init__(self) -> None:
        self._lock = DLock()

    @blocking
    def campaign(self, timeout: float = -1) -> int:
        """Wait to lead; the token of this leadership, 0 if it did not come within ``timeout`` seconds."""
        return self._lock.acquire_fenced(timeout=timeout)

    def resign(self, token: int) -> None:
        """Lead no more. RuntimeError if the leadership with this token is over already."""
        self._lock.release(token=token)

    @awaits_loss
    def lost(self, token: int) -> bool:
        """Wait for the end of a leadership: True if it was taken away, False if its leader resigned."""
        return self._lock.lost(token=token)

    @readonly
    def leader(self) -> Holder | None:
        """Who leads, since when and with which token; None if nobody does."""
        return next(iter(self._lock.inspect().holders), None)

    @readonly
    def candidates(self) -> tuple[Waiting, ...]:
        """Who waits to lead, in order."""
        return self._lock.inspect().waiting

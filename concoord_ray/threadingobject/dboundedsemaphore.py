"""The replicated bounded semaphore, as ``threading.BoundedSemaphore``: never more permits than at first."""

from __future__ import annotations

from concoord_ray.rsm.context import CallContext
from concoord_ray.threadingobject.dsemaphore import DSemaphore


class DBoundedSemaphore(DSemaphore):
    """A semaphore for use inside replicated objects whose releases are checked against its first value."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._initial = value

    def release(self, _concoord_command: CallContext | None = None, n: int = 1) -> None:
        """As ``DSemaphore.release``; ValueError, and nothing is changed, if that would be more than at first."""
        if n >= 1 and self._value + n > self._initial:
            raise ValueError("Semaphore released too many times")
        super().release(n=n)

"""Event: as ``threading.Event``, for the processes of a cluster."""

from __future__ import annotations

from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.threadingobject.devent import DEvent
from concoord_ray.threadingobject.inspection import Inspection


class Event:
    """A flag that calls can wait for. It stays as it is when the process that set it ends."""

    def __init__(self) -> None:
        self._event = DEvent()

    def __repr__(self) -> str:
        return repr(self._event)

    @readonly
    def is_set(self) -> bool:
        """Whether it is set."""
        return self._event.is_set()

    def set(self) -> None:
        """Set it, and wake all who wait."""
        self._event.set()

    def clear(self) -> None:
        """Unset it."""
        self._event.clear()

    @blocking
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set. True; False after ``timeout`` seconds."""
        return self._event.wait(timeout=timeout)

    @readonly
    def inspect(self) -> Inspection:
        """Who waits."""
        return self._event.inspect()

"""RWLock: many readers or one writer, for the processes of a cluster."""

from __future__ import annotations

from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.threadingobject.drwlock import DRWLock, Mode
from concoord_ray.threadingobject.inspection import Inspection


class RWLock:
    """A read-write lock, granted strictly in order of arrival; its owners are those of ``RLock``.

    An owner holds it once, or waits for it once: a second acquire, to read or to write, is a RuntimeError.
    """

    def __init__(self) -> None:
        self._lock = DRWLock()

    def __repr__(self) -> str:
        return repr(self._lock)

    @blocking
    def acquire_read(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Hold it together with other readers. True; False if not possible within ``timeout`` seconds."""
        return self._lock.acquire(Mode.READ, blocking=blocking, timeout=timeout)

    def release_read(self) -> None:
        """Read no more. RuntimeError if the caller does not hold it for reading."""
        self._lock.release(Mode.READ)

    @blocking
    def acquire_write(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Hold it alone. True; False if not possible within ``timeout`` seconds."""
        return self._lock.acquire(Mode.WRITE, blocking=blocking, timeout=timeout)

    def release_write(self) -> None:
        """Write no more. RuntimeError if the caller does not hold it for writing."""
        self._lock.release(Mode.WRITE)

    @readonly
    def inspect(self) -> Inspection:
        """Who holds it, since when, and who waits."""
        return self._lock.inspect()

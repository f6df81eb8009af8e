"""Barrier: as ``threading.Barrier``, for the processes of a cluster."""

from __future__ import annotations

from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.threadingobject.dbarrier import DBarrier
from concoord_ray.threadingobject.inspection import Inspection


class Barrier:
    """A barrier for ``parties``, which can be used again and again. ``timeout`` in seconds is that of every wait.

    What a barrier does once all have come (``action`` in ``threading``) is for whoever gets 0 from ``wait``.
    """

    def __init__(self, parties: int, timeout: float | None = None) -> None:
        self._barrier = DBarrier(parties, timeout)

    def __repr__(self) -> str:
        return repr(self._barrier)

    @blocking
    def wait(self, timeout: float | None = None) -> int:
        """Wait until all have come; a number of its own for each, from 0 to ``parties`` - 1.

        ``threading.BrokenBarrierError`` if the barrier is broken, or is broken or reset meanwhile. A wait that times
        out breaks it for all; one that is cancelled, or whose process ends, leaves it with one waiter fewer.
        """
        return self._barrier.wait(timeout=timeout)

    def reset(self) -> None:
        """Make it as new. Those who wait get BrokenBarrierError."""
        self._barrier.reset()

    def abort(self) -> None:
        """Break it for all who wait and all who come, until it is reset."""
        self._barrier.abort()

    @readonly
    def parties(self) -> int:
        """How many have to come."""
        return self._barrier.parties

    @readonly
    def n_waiting(self) -> int:
        """How many wait now."""
        return self._barrier.n_waiting

    @readonly
    def broken(self) -> bool:
        """Whether it has to be reset before it can be used again."""
        return self._barrier.broken

    @readonly
    def inspect(self) -> Inspection:
        """Who waits."""
        return self._barrier.inspect()

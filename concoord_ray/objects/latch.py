"""CountDownLatch: wait until others have counted down to zero."""

from __future__ import annotations

from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.threadingobject.dlatch import DCountDownLatch
from concoord_ray.threadingobject.inspection import Inspection


class CountDownLatch:
    """A latch that opens when its count has come down to zero, and stays open."""

    def __init__(self, count: int) -> None:
        self._latch = DCountDownLatch(count)

    def __repr__(self) -> str:
        return repr(self._latch)

    def count_down(self, n: int = 1) -> int:
        """Lower the count by ``n``, to zero at the least; what is left."""
        return self._latch.count_down(n=n)

    @blocking
    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the count is zero. True; False after ``timeout`` seconds."""
        return self._latch.wait(timeout=timeout)

    @readonly
    def count(self) -> int:
        """What is left."""
        return self._latch.count

    @readonly
    def inspect(self) -> Inspection:
        """Who waits."""
        return self._latch.inspect()

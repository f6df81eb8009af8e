"""Queue: as ``queue.Queue``, for the processes of a cluster; without ``task_done``, ``join`` and ``shutdown``."""

from __future__ import annotations

from typing import Any

from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.threadingobject.dqueue import DQueue
from concoord_ray.threadingobject.inspection import Inspection


class Queue:
    """A queue, first in, first out, of at most ``maxsize`` items (any number if zero or less).

    An item is taken exactly once, however often the call is retried. It is for small items: each is part of the
    replicated state, and ObjectRefs do not live there.

    Of ``queue.Queue`` it lacks ``task_done`` and ``join``, for which there is ``CountDownLatch``, and ``shutdown``: put
    an item that tells its taker to stop, or end all calls that wait by ``concoord.delete``, with NoSuchObject.
    """

    def __init__(self, maxsize: int = 0) -> None:
        self._queue = DQueue(maxsize)

    def __repr__(self) -> str:
        return repr(self._queue)

    @blocking
    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Add an item, when there is room. ``queue.Full`` if there is none, or none within ``timeout`` seconds."""
        return self._queue.put(item, block=block, timeout=timeout)

    @blocking
    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        """Take the first item, when there is one. ``queue.Empty`` if there is none within ``timeout`` seconds."""
        return self._queue.get(block=block, timeout=timeout)

    def put_nowait(self, item: Any) -> None:
        """As ``put(item, block=False)``."""
        self._queue.put(item, block=False)

    def get_nowait(self) -> Any:
        """As ``get(block=False)``."""
        return self._queue.get(block=False)

    @readonly
    def qsize(self) -> int:
        """How many items there are."""
        return len(self._queue)

    @readonly
    def empty(self) -> bool:
        """Whether there is none."""
        return len(self._queue) == 0

    @readonly
    def full(self) -> bool:
        """Whether there is no room."""
        return self._queue.full()

    @readonly
    def inspect(self) -> Inspection:
        """Who waits, for items or for room."""
        return self._queue.inspect()

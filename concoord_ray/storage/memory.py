"""Storage that lasts as long as its process: for ensembles without ``storage=``.

An acceptor that restarts on it has lost its promises, is a new incarnation, and does not vote in its former life's
place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from concoord_ray.paxos.outputs import Record


class MemoryStorage:
    """Keeps nothing beyond what the acceptor itself keeps; every append is at once as durable as it will be."""

    def load(self) -> tuple[Record, ...]:
        """What an earlier life made durable: nothing."""
        return ()

    def submit(self, records: Sequence[Record], release: Callable[[], None]) -> None:
        """Make records durable, then call ``release``."""
        release()

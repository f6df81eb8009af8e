"""Follows who leads and who is alive, beside the work: ``concoord.status()`` takes a second while a member is dead."""

from __future__ import annotations

import threading

import concoord_ray as concoord

_INTERVAL_S = 0.2


class Watch:
    """Asks for the ensemble's status again and again. ``with`` starts and ends it."""

    def __init__(self, ensemble: concoord.Ensemble) -> None:
        self._ensemble = ensemble
        self._latest = ensemble.status()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo-watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    @property
    def status(self) -> concoord.EnsembleStatus:
        """The latest status."""
        return self._latest

    def _run(self) -> None:
        while not self._is_over.wait(_INTERVAL_S):
            self._latest = self._ensemble.status()


def replica_at(status: concoord.EnsembleStatus, index: int) -> concoord.MemberStatus:
    """The replica at an index."""
    return next(replica for replica in status.replicas if replica.index == index)

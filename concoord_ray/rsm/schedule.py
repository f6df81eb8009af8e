"""When a replica with storage writes a snapshot to its disk.

Once the log has grown by as much as the last snapshot took (and by ``snapshot_log_bytes`` at least), so that writing
snapshots never costs more than writing the log. But at a quarter of what the log may grow to at the latest: of a state
larger than that a snapshot would come late, or never, since nothing is taken any more while the log is full, and the
log is kept until there are snapshots of what it says. A slot counts for more than its value, so that
``snapshot_slots`` of them are enough: each was a commit on the disks, and each is proposed and executed again after a
restart. At once when an epoch has begun, since the disks must hold what happened before it until the next view change
may come; and when the log that is kept begins above what the disk has, as after a snapshot from another replica: with
such a disk it could not start by itself.

The leader takes part only if fewer than two others are there to do it: pickling holds up everything else.
"""

from __future__ import annotations

from concoord_ray.config import Config
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.truncation import COPIES

#: How many snapshots are taken, at least, while the log grows as long as it may.
_PARTS_OF_FULL_LOG = 4


class SnapshotSchedule:
    """What one replica's disk holds, and what it should. Pure: its role takes the snapshots and writes them."""

    def __init__(self, config: Config) -> None:
        #: Every slot below this one has its effects on disk.
        self.durable_slot = 0
        self._least_bytes = config.snapshot_log_bytes
        self._most_bytes = config.max_log_bytes // _PARTS_OF_FULL_LOG
        self._slot_bytes = config.snapshot_log_bytes // config.snapshot_slots
        self._last_bytes = 0
        self._log_bytes = 0
        self._value_bytes = 0
        self._is_writing = False

    def found(self, slot: int, size_bytes: int) -> None:
        """The disk holds a snapshot of this slot."""
        self.durable_slot, self._last_bytes = slot, size_bytes

    def logged(self, slots: int, size_bytes: int) -> None:
        """The log has grown by so many slots, with values of so many bytes."""
        self._log_bytes += slots * self._slot_bytes + size_bytes
        self._value_bytes += size_bytes

    def is_due(self, replica: Replica) -> bool:
        """Whether this replica should take a snapshot now."""
        truncation, view = replica.truncation, replica.view
        if self._is_writing or truncation.applied_slot <= self.durable_slot:
            return False
        if replica.is_leader and truncation.present(view) >= COPIES:
            return False
        has_grown = self._log_bytes >= max(self._last_bytes, self._least_bytes)
        fills_up = self._value_bytes >= self._most_bytes  # As the log is measured when it is to be full.
        return has_grown or fills_up or self.durable_slot < max(view.first_slot, replica.learner.first_slot)

    def begin(self, slot: int, learner: Learner) -> bool:
        """Whether a snapshot of this slot, which was taken for whatever reason, is to be written; then it is begun.

        The log has grown while it was taken: that counts for the next one.
        """
        if self._is_writing or slot <= self.durable_slot:
            return False
        self._is_writing = True
        self._log_bytes = self._value_bytes = 0
        self.logged(*learner.grown_since(slot))
        return True

    def written(self, slot: int, size_bytes: int) -> None:
        """What was begun is on the disk."""
        self._is_writing = False
        self.found(slot, size_bytes)

    def discarded(self) -> None:
        """The disk holds nothing that may be gone on from; the next snapshot is due at once."""
        self.durable_slot, self._last_bytes = 0, 0
        self._log_bytes = self._least_bytes

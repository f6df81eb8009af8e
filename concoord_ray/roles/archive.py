"""A replica's snapshots on its disk: what it starts from, and what allows the log to be dropped.

When one is due: once the log has grown by as much as the last snapshot took (and by ``snapshot_log_bytes`` at least),
so that writing snapshots never costs more than writing the log; and at once when an epoch has begun, since the disks
must hold what happened before it until the next view change may come.

The leader takes part only if there are fewer than two others: pickling holds up everything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from concoord_ray.paxos.replica import Replica
from concoord_ray.roles.boot import Boot
from concoord_ray.rsm.snapshot import header
from concoord_ray.rsm.transfer import Snapshot
from concoord_ray.storage.snapshots import SnapshotFiles

logger = logging.getLogger(__name__)

#: How many disks have to hold a snapshot before the log may be dropped.
_COPIES = 2


class Archive:
    """The snapshots of one replica. Its methods are called on the loop, and the disk is not waited for there."""

    def __init__(self, boot: Boot, failed: Callable[[BaseException], None]) -> None:
        self._files = SnapshotFiles(boot.data_directory(), ensemble=boot.ensemble)
        self._least_bytes = boot.config.snapshot_log_bytes
        self._failed = failed
        self._last_bytes = 0
        self._log_bytes = 0
        self._writing: asyncio.Task[None] | None = None
        #: Every slot below this one has its effects on disk.
        self.durable_slot = 0

    def newest(self) -> bytes | None:
        """The snapshot to start from, None if there is none."""
        found = self._files.newest()
        if found is None:
            return None
        self.durable_slot, data = found
        self._last_bytes = len(data)
        return data

    async def begin_with(self, snapshot: bytes) -> None:
        """Have this on disk before anything else."""
        await asyncio.to_thread(self._files.write, header(snapshot).next_slot, snapshot)

    def logged(self, size_bytes: int) -> None:
        """The log has grown."""
        self._log_bytes += size_bytes

    def is_due(self, replica: Replica) -> bool:
        """Whether this replica should take a snapshot now."""
        if self._writing is not None or replica.truncation.applied_slot <= self.durable_slot:
            return False
        if replica.is_leader and len(replica.view.replicas) > _COPIES:
            return False
        has_grown = self._log_bytes >= max(self._last_bytes, self._least_bytes)
        return has_grown or self.durable_slot < replica.view.first_slot

    def keep(self, snapshot: Snapshot, kept: Callable[[], None]) -> None:
        """Write one to disk; ``kept`` is called when it is there."""
        if self._writing is None and snapshot.slot > self.durable_slot:
            self._log_bytes = 0
            self._writing = asyncio.get_running_loop().create_task(self._write(snapshot, kept))

    async def close(self) -> None:
        """Wait for what is being written, and let others have the directory."""
        if self._writing is not None:
            await self._writing
        self._files.close()

    async def _write(self, snapshot: Snapshot, kept: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(self._files.write, snapshot.slot, snapshot.data)
        except Exception as error:  # A full disk: the log is kept as well, so the ensemble would fill up. Say so, stop.
            self._failed(error)
            return
        self._writing = None
        self.durable_slot, self._last_bytes = snapshot.slot, len(snapshot.data)
        kept()

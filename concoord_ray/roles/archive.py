"""A replica's snapshots on its disk: what it starts from, and what allows the log to be dropped.

When one is due is for ``rsm.schedule`` to say; here it is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from concoord_ray.roles.boot import Boot
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.rsm.schedule import SnapshotSchedule
from concoord_ray.rsm.snapshot import header
from concoord_ray.rsm.transfer import Snapshot
from concoord_ray.storage.places import open_furthest
from concoord_ray.storage.snapshots import SnapshotFiles


class Archive:
    """The snapshots of one replica. Its methods are called on the loop, and the disk is not waited for there.

    If something cannot be written, because the disk is full, the log is kept as well, and the whole ensemble would fill
    up. So the role ends, and says why.
    """

    def __init__(self, boot: Boot, fail_stop: FailStop) -> None:
        self._files = open_furthest(
            boot.data_directory(), lambda directory: SnapshotFiles(directory, ensemble=boot.ensemble)
        )
        self.schedule = SnapshotSchedule(boot.config)
        self._fail_stop = fail_stop
        self._writing: asyncio.Task[None] | None = None
        self._is_spoilt = False

    @property
    def directory(self) -> Path:
        """Where they are."""
        return self._files.directory

    def newest(self) -> bytes | None:
        """The snapshot to start from, None if there is none."""
        found = self._files.newest()
        if found is None:
            return None
        slot, data = found
        self.schedule.found(slot, len(data))
        return data

    def newest_file(self) -> tuple[Path, int] | None:
        """The file of the newest snapshot, sound or not, and its slot."""
        slot = self._files.reach
        return None if slot < 0 else (self.directory / f"snapshot-{slot:020}", slot)

    async def begin_with(self, snapshot: bytes) -> None:
        """Have this on disk before anything else."""
        await asyncio.to_thread(self._files.write, header(snapshot).next_slot, snapshot)

    def keep(self, snapshot: Snapshot, kept: Callable[[], None]) -> None:
        """Write one to disk unless that holds as much; ``kept`` is called when it is there."""
        if self.schedule.begin(snapshot.slot):
            writing = asyncio.get_running_loop().create_task(self._write(snapshot, kept))
            self._writing = self._fail_stop.watch(writing)

    def discard(self) -> None:
        """Set aside what is there, and what is being written: the state that it was taken of is known to be wrong."""
        self._is_spoilt = self._writing is not None and not self._writing.done()
        self._files.set_all_aside()
        self.schedule.discarded()

    async def close(self) -> None:
        """Wait for what is being written, and let others have the directory."""
        if self._writing is not None:
            await asyncio.wait([self._writing])  # What comes of it the role has been told.
        self._files.close()

    async def _write(self, snapshot: Snapshot, kept: Callable[[], None]) -> None:
        await asyncio.to_thread(self._files.write, snapshot.slot, snapshot.data)
        self.schedule.written(snapshot.slot, len(snapshot.data))
        if self._is_spoilt:
            self.discard()
            self._is_spoilt = False
        self._fail_stop.step(kept)

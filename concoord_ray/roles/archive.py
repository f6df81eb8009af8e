"""A replica's snapshots on its disk: what it starts from, and what allows the log to be dropped.

When one is due is for ``rsm.schedule`` to say; here it is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from concoord_ray.paxos.learner import Learner
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
        #: What the disk has to do, which is done one after another, as it was asked for.
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Lock()
        self._discards = 0

    @property
    def directory(self) -> Path:
        """Where they are."""
        return self._files.directory

    def newest(self) -> bytes | None:
        """The snapshot to start from, None if there is none; once the first view is known."""
        self._files.adopt_seed()
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
        """Have this on disk before the first view is decided."""
        await asyncio.to_thread(self._files.write_seed, header(snapshot).next_slot, snapshot)

    def keep(self, snapshot: Snapshot, learner: Learner, kept: Callable[[], None]) -> None:
        """Write one to disk unless that holds as much; ``kept`` is called when it is there."""
        if self.schedule.begin(snapshot.slot, learner):
            self._begin(self._write(snapshot, kept, self._discards))

    def discard(self) -> None:
        """Set aside what is there, and what is being written: the state that it was taken of is known to be wrong."""
        self._discards += 1
        self.schedule.discarded()
        self._begin(self._set_aside())

    async def close(self) -> None:
        """Wait for what the disk is doing, and let others have the directory."""
        if self._tasks:
            await asyncio.wait(self._tasks)  # What comes of them the role is told.
        self._files.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._fail_stop.watch(asyncio.get_running_loop().create_task(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, snapshot: Snapshot, kept: Callable[[], None], discards: int) -> None:
        async with self._turn:
            await asyncio.to_thread(self._files.write, snapshot.slot, snapshot.data)
        self.schedule.written(snapshot.slot, len(snapshot.data))
        if self._discards > discards:  # So it is among those that are set aside next.
            self.schedule.discarded()
        self._fail_stop.step(kept)

    async def _set_aside(self) -> None:
        async with self._turn:
            await asyncio.to_thread(self._files.set_all_aside)

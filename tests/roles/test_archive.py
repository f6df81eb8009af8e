"""A replica's snapshots on its disk: what is known to be wrong does not count from then on, whatever the disk does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from concoord_ray.errors import StorageFailed
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.view import Role
from concoord_ray.roles.archive import Archive
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.transfer import Snapshot
from tests.roles.conftest import boot

PATIENCE_S = 10.0


class Disk:
    """An archive on a disk that is as slow as a test wants it, and works on threads of its own."""

    def __init__(self, directory: Path) -> None:
        self.faults: list[BaseException] = []
        self.kept: list[int] = []
        self.archive = Archive(boot(Role.REPLICA, storage=str(directory)), FailStop(self.faults.append))
        self.works = threading.Event()
        self.works.set()
        files = self.archive._files
        self._write, self._set_all_aside = files.write, files.set_all_aside
        files.write = self.write  # type: ignore[method-assign]
        files.set_all_aside = self.set_all_aside  # type: ignore[method-assign]

    def write(self, slot: int, data: bytes | Rope) -> Path:
        self._wait()
        return self._write(slot, data)

    def set_all_aside(self) -> None:
        self._wait()
        self._set_all_aside()

    def keep(self, slot: int) -> None:
        self.archive.keep(Snapshot(slot, Rope((b"at %d" % slot,))), Learner(), lambda: self.kept.append(slot))

    async def until(self, condition: Callable[[], bool]) -> None:
        async def look() -> None:
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.002)

        await asyncio.wait_for(look(), PATIENCE_S)

    def _wait(self) -> None:
        assert threading.current_thread() is not threading.main_thread(), "the loop waits for the disk"
        assert self.works.wait(PATIENCE_S)


@pytest.mark.parametrize("has_begun", [False, True])
def test_what_is_found_wrong_while_it_is_written_never_counts(tmp_path: Path, has_begun: bool) -> None:
    async def scenario() -> None:
        disk = Disk(tmp_path)
        archive = disk.archive
        disk.keep(5)
        await disk.until(lambda: disk.kept == [5])
        assert archive.schedule.durable_slot == 5
        disk.works.clear()
        disk.keep(10)
        if has_begun:
            await asyncio.sleep(0.01)
        archive.discard()
        assert archive.schedule.durable_slot == 0
        disk.works.set()
        await disk.until(lambda: disk.kept == [5, 10])
        assert archive.schedule.durable_slot == 0
        disk.keep(11)
        await disk.until(lambda: disk.kept == [5, 10, 11])
        assert archive.schedule.durable_slot == 11
        assert archive.newest() == b"at 11"
        assert len(list(archive.directory.glob("*.corrupt"))) == 2
        await archive.close()
        assert disk.faults == []

    asyncio.run(scenario())


def test_what_is_wrong_and_cannot_be_set_aside_ends_the_replica(tmp_path: Path) -> None:
    """Its next life would begin with it."""

    async def scenario() -> None:
        disk = Disk(tmp_path)
        disk.keep(10)
        disk.archive.discard()
        disk._set_all_aside = fail
        await disk.until(lambda: bool(disk.faults))
        assert disk.archive.schedule.durable_slot == 0
        await disk.archive.close()
        assert list(map(str, disk.faults)) == ["no input, no output"]

    def fail() -> None:
        raise StorageFailed("no input, no output")

    asyncio.run(scenario())


def test_it_is_not_closed_before_the_disk_has_done_what_it_was_told(tmp_path: Path) -> None:
    async def scenario() -> None:
        disk = Disk(tmp_path)
        disk.works.clear()
        disk.keep(10)
        disk.archive.discard()
        closing = asyncio.ensure_future(disk.archive.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        disk.works.set()
        await closing
        assert [path.name for path in disk.archive.directory.glob("snapshot-*")] == [f"snapshot-{10:020}.corrupt"]

    asyncio.run(scenario())

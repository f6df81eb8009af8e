"""What a process appends to a ``real_disk``, and what is left of that when the process dies.

The storage is appended to as ``storage.group_commit`` does, but by events instead of by a thread: the append itself is
done when its simulated sync ends, or, if its process dies before that, at that moment, and then the bytes that it wrote
are torn (``spoilt``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from concoord_ray.errors import StorageFailed
from concoord_ray.paxos.outputs import Record
from concoord_ray.paxos.view import Member
from concoord_ray.storage.database import FILE_NAME
from concoord_ray.storage.durable import DurableStorage
from tests.sim.spoilt import LOG, Image, mixed, read_image, torn_log
from tests.sim.trouble import Way, appending, recording
from tests.sim.written import Written

if TYPE_CHECKING:
    from tests.sim.real_disk import RealDisk


class _Submission(NamedTuple):
    records: Sequence[Record]
    release: Callable[[], None]


class RealJournal:
    """Implements ``disk.Journal`` as ``GroupCommit`` works: one commit for all that came during another."""

    def __init__(
        self,
        me: Member,
        records: Sequence[Record],
        storage: DurableStorage,
        directory: Path,
        written: Written,
        broken: Callable[[], None],
        disk: RealDisk,
    ) -> None:
        self.me = me
        self.records = records
        self.storage = storage
        self._directory = directory
        self._written = written
        self._broken = broken
        self._disk = disk
        self._host, self._watch, self._rng = disk.parts
        self._life = self._host.life
        self._unreleased = 0
        self._waiting: list[_Submission] = []
        self._under_way: list[_Submission] = []
        #: What the files held when a commit failed: whatever was written since may be lost.
        self._before_failure: Image | None = None
        self._is_checkpoint_lost = self._has_failed = False
        #: Pages by which every commit brings the next checkpoint nearer: else few runs would come to one.
        self._haste_pages = self._rng.choice((0, 10, 100))

    def submit(self, records: list[Record], release: Callable[[], None]) -> None:
        if not records and not self._unreleased:
            release()
            return
        self._unreleased += 1
        self._waiting.append(_Submission(records, release))
        self._begin()

    def die(self) -> tuple[Image, list[Record]]:
        """The process ends: what its files hold then, and what was being appended."""
        records = self._records_under_way()
        if self._before_failure is not None:
            image = self._after_failure(self._before_failure)
        elif records:
            image = self._cut_short(records)
        else:
            image = read_image(self._directory)
        self.storage.close()
        return image, records

    def _begin(self) -> None:
        if self._waiting and not self._under_way and not self._has_failed:
            self._under_way, self._waiting = self._waiting, []
            self._host.scheduler.after(self._disk.draw_delay_s(), self._commit)

    def _records_under_way(self) -> list[Record]:
        return [record for submission in self._under_way for record in submission.records]

    def _commit(self) -> None:
        """The sync has come to its end, well or not. A stopped process hears of it later."""
        if self._host.life != self._life:
            return
        records = self._records_under_way()
        if records and not self._append(records):
            self._host.dispatch(self._broken)
            return
        self._written.add(records)
        for record in records:
            self._watch.became_durable(self.me, record)
        group, self._under_way = self._under_way, []
        self._disk.appended()
        self._begin()
        self._host.dispatch(lambda: self._release(group))

    def _append(self, records: Sequence[Record]) -> bool:
        """Do it, if nothing goes wrong."""
        self.storage._database._log_pages += self._haste_pages
        way = self._disk.draw_way_to_fail()
        if way is None:
            with self._disk.scale.applied():
                self.storage.append(records)
            return True
        before = read_image(self._directory)
        try:
            with self._disk.scale.applied(), appending(self.storage, way, self._directory, self._rng) as trouble:
                self.storage.append(records)
        except StorageFailed:
            self._before_failure = before
            self._disk.count("failed commits")
            self._host.trace.log(self._host.name, f"disk: {way.value}")
        else:
            if trouble.struck and way is Way.SYNC:  # Somebody has tried again. That sync had nothing to do any more.
                self._before_failure = before
            return True
        self._has_failed = True
        self._is_checkpoint_lost = way is Way.CHECKPOINT
        return False

    def _release(self, group: Sequence[_Submission]) -> None:
        for submission in group:
            submission.release()
            self._unreleased -= 1

    def _after_failure(self, before: Image) -> Image:
        after = read_image(self._directory)
        if self._is_checkpoint_lost:
            after[FILE_NAME] = mixed(before[FILE_NAME], after[FILE_NAME], self._rng)
        elif self._rng.random() < 0.7:
            after[LOG] = torn_log(before[LOG], after[LOG], self._rng)
        return after

    def _cut_short(self, records: Sequence[Record]) -> Image:
        """An append that the process dies in: before its first byte, behind its last, or anywhere in between."""
        how = self._rng.choice(("not begun", "torn", "torn", "written", "told", "checkpoint torn"))
        self._host.trace.log(self._host.name, f"disk: a commit is {how}")
        self._disk.count(f"commits cut short: {how}")
        if how == "not begun":
            return read_image(self._directory)
        self.storage._database._log_pages = 1_000_000 if how == "checkpoint torn" else -1_000_000
        with self._disk.scale.applied(), recording(self.storage, self._directory) as recorder:
            self.storage.append(records)
        image = read_image(self._directory)
        if how == "torn":
            at = self._rng.randrange(1, len(recorder.images))
            before, image = recorder.images[at - 1], recorder.images[at]
            image[LOG] = torn_log(before[LOG], image[LOG], self._rng)
        elif how == "written":
            image = recorder.images[-1]
        elif how == "checkpoint torn":
            image[FILE_NAME] = mixed(recorder.images[-1][FILE_NAME], image[FILE_NAME], self._rng)
        return image

"""The disk of a simulated acceptor with nothing simulated about it but time and decay: ``storage.durable`` on real
files.

The storage is opened as the acceptor's role opens it, and appended to by a ``real_journal``. A process that dies leaves
what its files held then; closing what is open in this process would tidy up, so the files are put back to that.

A power failure also takes back the watermark, which is written and mostly not synced. Of decay that comes on top of it
the storage promises to notice one kind, a log that is gone; every other strikes after a death of the process alone.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from concoord_ray.errors import StorageCorrupt, StorageFailed
from concoord_ray.paxos.outputs import Record
from concoord_ray.paxos.view import Member, Role
from concoord_ray.storage.durable import DurableStorage, set_aside
from concoord_ray.storage.watermark import FILE_NAME as WATERMARK
from concoord_ray.storage.watermark import Watermark, read_watermark
from tests.sim.host import Host
from tests.sim.invariants import Watch
from tests.sim.real_journal import RealJournal
from tests.sim.spoilt import (
    LOG,
    PAGES_BYTES,
    Image,
    damaged,
    from_another_life,
    read_image,
    write_image,
)
from tests.sim.store import StoreProfile
from tests.sim.trouble import OPENING_STEPS, Kick, Refusal, Scale, Trouble, Way, opening
from tests.sim.written import ServedAsWritten, UndamagedIsServed, Written

#: Where files cost no disk; anywhere else it is only slower.
_RAM = Path("/dev/shm")
_PREFIX = "concoord-sim-"
_DIES_WHILE_OPENING = 0.15
_STOPS_IN_ORDER = 0.5
_LOSES_LOG = 0.1
_IS_EXCHANGED = 0.2
_POWER_FAILS = 0.4
_REMEMBERS_OLD = 0.05


def new_directory() -> Path:
    """A directory for the disks of one cluster, which its owner removes."""
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_parent()))


@functools.cache
def _parent() -> Path:
    """Where the directories are. Those of processes that were killed, and could not remove them, go."""
    parent = _RAM if _RAM.is_dir() else Path(tempfile.gettempdir())
    for left in parent.glob(f"{_PREFIX}*"):
        if not _is_alive(int(left.name.removeprefix(_PREFIX).partition("-")[0])):
            shutil.rmtree(left, ignore_errors=True)
    return parent


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class RealDisk:
    """Implements ``disk.AcceptorDisk``."""

    def __init__(self, host: Host, watch: Watch, profile: StoreProfile, root: Path) -> None:
        self._host = host
        self._watch = watch
        self._profile = profile
        self._rng = host.scheduler.stream(f"disk/{host.name}")
        self._directory = root / host.name
        self.scale = Scale(self._rng.choice(PAGES_BYTES), self._rng.choice((0, 4, 256)))
        self._journal: RealJournal | None = None
        #: Who the data belong to, and what they were when everything that was begun had ended.
        self._member: Member | None = None
        self._written = Written()
        #: What was being appended when the process died.
        self._under_way: list[Record] = []
        self._damage = ""
        #: What the files held at some times of this life of the data.
        self._old: deque[Image] = deque(maxlen=8)
        #: What they held in earlier lives.
        self._past: deque[Image] = deque(maxlen=4)
        #: Before a power failure made it older.
        self._last_watermark = b""
        self._synced_commit = 0
        host.on_crash(self._crashed)

    @property
    def remembers(self) -> bool:
        return self._member is not None and not self._damage

    def open(self, fresh: Member, broken: Callable[[], None]) -> RealJournal:
        if self._rng.random() < _DIES_WHILE_OPENING:
            self._die_while_opening(fresh)
        with opening(Trouble()):
            storage, refusal = self._open_as_role(fresh)
        try:
            records = storage.load()
            me = Member(Role.ACCEPTOR, fresh.index, storage.incarnation)
            self._judge(me, records, refusal)
        except BaseException:
            storage.close()
            raise
        self._host.trace.log(self._host.name, f"disk opened by {me} with {len(records)} records")
        self._member, self._under_way, self._damage = me, [], ""
        self._watch_syncs(storage)
        self._old.append(read_image(self._directory))
        self._journal = RealJournal(me, records, storage, self._directory, self._written, broken, self)
        return self._journal

    def wipe(self) -> None:
        shutil.rmtree(self._directory, ignore_errors=True)
        self._forget()

    def damage(self) -> None:
        """See ``spoilt``. Whatever it is, it is found, or it is without effect."""
        if self._member is None:
            return
        if self._rng.random() < _LOSES_LOG:
            (self._directory / LOG).unlink(missing_ok=True)
            self._damage = "the log is gone, after whatever else has happened"
        elif self._past and self._rng.random() < _IS_EXCHANGED:
            write_image(self._directory, from_another_life(read_image(self._directory), self._rng.choice(self._past)))
            self._damage = "the database is of another life"
            self.count("databases of another life")
        else:
            self._decay(self._member)
        self._host.trace.log(self._host.name, f"disk damaged: {self._damage}")

    def _decay(self, member: Member) -> None:
        (self._directory / WATERMARK).write_bytes(self._last_watermark)
        if self._rng.random() < _STOPS_IN_ORDER:  # The log is empty then, and all depends on the database.
            try:
                self._opened(member).close()
            except StorageCorrupt as error:
                UndamagedIsServed().refused(member, str(error))
        image, self._damage = damaged(read_image(self._directory), list(self._old), self._rng)
        write_image(self._directory, image)

    def close(self) -> None:
        """The run is over."""
        if self._journal is not None:
            self._journal.storage.close()
            self._journal = None

    def draw_delay_s(self) -> float:
        """How long a commit takes."""
        profile, rng = self._profile, self._rng
        stalls = rng.random() < profile.stall_probability
        return rng.uniform(profile.sync_min_s, profile.sync_max_s) + stalls * rng.uniform(0, profile.stall_max_s)

    def draw_way_to_fail(self) -> Way | None:
        """How a commit fails, if it does."""
        fails = self._rng.random() < self._profile.sync_failure_probability
        return self._rng.choice(list(Way)) if fails else None

    @property
    def parts(self) -> tuple[Host, Watch, random.Random]:
        """What its journals share with it."""
        return self._host, self._watch, self._rng

    def appended(self) -> None:
        """A commit has ended. Now and then what the files hold is kept, to be put back when it is old."""
        if self._rng.random() < _REMEMBERS_OLD:
            self._old.append(read_image(self._directory))

    def count(self, what: str) -> None:
        """Something has happened that every release should have seen."""
        self._watch.counts[f"disk: {what}"] += 1

    def _watch_syncs(self, storage: DurableStorage) -> None:
        """Its watermark has just been synced, with the opening."""
        sync = storage._watermark.sync

        def synced() -> None:
            sync()
            self._synced_commit = self._acknowledged()

        self._synced_commit = self._acknowledged()
        storage._watermark.sync = synced  # type: ignore[method-assign]

    def _acknowledged(self) -> int:
        mark = read_watermark(self._directory)
        return 0 if mark is None else mark.commit

    def _forget(self) -> None:
        self._past.extend(list(self._old)[-1:])
        self._member, self._damage = None, ""
        self._written, self._under_way = Written(), []
        self._old.clear()

    def _open_as_role(self, fresh: Member) -> tuple[DurableStorage, str]:
        """As ``roles.acceptor``: data that are broken are set aside, and the acceptor begins anew. Why they are."""
        try:
            return self._opened(fresh), ""
        except StorageCorrupt as error:
            set_aside(self._directory)
            return self._opened(fresh), str(error).replace(str(self._directory), "")

    def _opened(self, fresh: Member) -> DurableStorage:
        with self.scale.applied():
            return DurableStorage.open(
                self._directory, ensemble="e", role=fresh.role, index=fresh.index, incarnation=fresh.incarnation
            )

    def _die_while_opening(self, fresh: Member) -> None:
        """An earlier start, which came to an end on its way: it died, or the disk failed it."""
        step = self._rng.randint(1, OPENING_STEPS)
        does_die = self._rng.random() < 0.5
        trouble = Kick(self._directory, step) if does_die else Refusal(step, "disk I/O error")
        try:
            with opening(trouble):
                self._opened(fresh).close()
        except StorageFailed:
            if not trouble.struck:
                raise
        except StorageCorrupt as error:
            if not self._damage:
                UndamagedIsServed().refused(self._member, str(error))
            return
        if isinstance(trouble, Kick) and trouble.image is not None:
            write_image(self._directory, trouble.image)
        if trouble.struck or does_die:
            self.count("openings cut short")

    def _judge(self, me: Member, records: Sequence[Record], refusal: str) -> None:
        if not self._damage and (refusal or self._member not in (None, me)):
            UndamagedIsServed().refused(self._member, refusal or f"it is {me} now")
        if refusal:
            self._host.trace.log(self._host.name, f"disk refused: {refusal}")
        if me == self._member:
            served = ServedAsWritten().check(me, records, self._written, self._under_way)
            if self._under_way:
                self.count(f"commits under way that {'vanished' if served is self._written else 'survived'}")
            if self._damage:
                self.count("damage without effect")
            self._written = served
        else:
            ServedAsWritten().check(me, records, Written(), ())
            if self._damage:
                self.count("damage found" if refusal else "damage that left nothing")
            self._forget()

    def _crashed(self) -> None:
        if self._journal is None:
            return
        synced_commit = self._synced_commit  # Closing what is open here syncs, too.
        image, self._under_way = self._journal.die()
        self._journal = None
        write_image(self._directory, image)
        self._old.append(image)
        self._last_watermark = image[WATERMARK]
        if self._rng.random() < _POWER_FAILS:
            self._take_watermark_back(synced_commit)

    def _take_watermark_back(self, synced_commit: int) -> None:
        """To any number since it was last synced."""
        last = read_watermark(self._directory)
        assert last is not None
        mark = Watermark(self._directory, last.identity)
        mark.raise_to(self._rng.randint(synced_commit, last.commit))
        mark.close()

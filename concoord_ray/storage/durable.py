"""Storage that outlives its process: an acceptor that finds its data comes back as itself.

Invariants:

- what ``append`` returned from is on the medium, and comes back from ``load`` or is named as lost;
- an append is there as a whole or not at all;
- **nothing is served that was not written**: each row has a checksum; number and sum of all of them are written with
  every commit, so a lost row, or an old one that came back, shows; the number of the last commit, and whose it is, is
  kept in another file (``watermark``), so a lost tail and a database of another life show; and what cannot be right is
  refused as ``StorageCorrupt``;
- after the first error nothing is written any more (PROTOCOL.md, rule 21).

Deviation from a plain log of records: a row per slot and epoch, so that the newest acceptance of a slot replaces the
one before, and truncation takes rows away. An acceptance that raises the promise writes the promise too, because its
own row may be truncated long before its ballot is history.

Truncated rows no longer exist from the commit of the ``Truncated`` on. Their space is freed by the commits that follow,
twice as much in each as it adds and a little more, so that no commit waits for a large deletion.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from concoord_ray.errors import StorageCorrupt, StorageFailed
from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.outputs import Accepted, Joined, Promised, Record, Truncated
from concoord_ray.paxos.view import Role
from concoord_ray.storage.belonging import check_mark, refuse_strangers
from concoord_ray.storage.database import FILE_NAME, Database, corrupt, explained, log_of, remove, sound_rows
from concoord_ray.storage.files import DirectoryLock, machine_faults, make_directory, sync_directory
from concoord_ray.storage.rows import TOTALS, Content, Identity, Key, Kind, Row, Totals, from_row, to_row
from concoord_ray.storage.watermark import Mark, Watermark, read_watermark

_NEVER_TRUNCATED = Truncated(0, 0)
_PURGED_ROWS = 256
_PURGED_BYTES = 1 << 20
#: How many directories of a member that are not to be used any more are there to be looked at.
_KEPT_ASIDE = 8


@dataclass(slots=True)
class _Account:
    """What is known of the rows without reading them again."""

    identity: Identity | None = None
    stored: Totals | None = None
    commit: int = 0
    #: The last epoch that the acceptor has joined, -1 if none.
    epoch: int = -1
    rows: int = 0
    checksums: int = 0
    highest_slot: int = -1
    promised: dict[int, Ballot] = field(default_factory=dict)
    truncated: Truncated = _NEVER_TRUNCATED

    def see(self, content: Content) -> None:
        """Take note of what a row says."""
        if isinstance(content, Promised):
            self.promised[content.epoch] = content.ballot
        elif isinstance(content, Truncated):
            self.truncated = content
        elif isinstance(content, Joined):
            self.epoch = max(self.epoch, content.view.epoch)
        elif isinstance(content, Identity):
            self.identity = content
        elif isinstance(content, Totals):
            self.stored, self.commit = content, content.commit

    def add(self, row: Row) -> None:
        """Count one row more."""
        if row.kind == Kind.ACCEPTED:
            self.highest_slot = max(self.highest_slot, row.slot)
        self.rows += 1
        self.checksums = (self.checksums + row.checksum) % (1 << 64)

    def subtract(self, checksum: int) -> None:
        """Count one row less."""
        self.rows -= 1
        self.checksums = (self.checksums - checksum) % (1 << 64)

    def totals(self) -> Totals:
        """What is written with every commit."""
        return Totals(self.commit, self.rows, self.checksums)

    def is_dropped(self, kind: int, slot: int, epoch: int) -> bool:
        """Whether truncation has taken the row with this key."""
        if kind == Kind.ACCEPTED and slot < self.truncated.below:
            return True
        return kind in (Kind.JOINED, Kind.ACCEPTED, Kind.PROMISED) and epoch < self.truncated.first_epoch


class DurableStorage:
    """One acceptor's records in one directory. One thread at a time may append.

    ``incarnation`` is that of the life which the data belong to: an acceptor with its data is the acceptor that it was.
    """

    def __init__(
        self, path: Path, account: _Account, identity: Identity, database: Database, mark: Watermark, opened: ExitStack
    ) -> None:
        """Use ``open``."""
        self.incarnation = identity.incarnation
        self._path = path
        self._account = account
        self._database = database
        self._watermark = mark
        self._opened = opened
        self._failure: Exception | None = None
        #: Whether the database has all that the log has, and the next commit begins the log anew.
        self._is_log_new = False
        self._is_purging = True  # As far as we know: an earlier life may not have come to the end of it.

    @classmethod
    def open(cls, directory: Path, *, ensemble: str, role: Role, index: int, incarnation: int) -> DurableStorage:
        """Open the data of a member, or begin them with the fresh ``incarnation`` if there are none.

        Raises ``StorageBusy`` if another process has the directory, ``StorageError`` if the data, or a part of them,
        are another member's, ``StorageCorrupt`` if anything in them is wrong, or is of another life than the rest (then
        ``set_aside`` helps), ``StorageFailed`` if the machine does not let us.
        """
        asked = Identity(ensemble, role, index, incarnation)
        path = directory / FILE_NAME
        with machine_faults(directory), ExitStack() as opened:
            make_directory(directory)
            lock = DirectoryLock(directory)
            opened.callback(lock.release)
            mark = _served_mark(path) or _create(path, asked)
            account = _verified(path)
            refuse_strangers(directory, asked, account.identity, mark.identity)
            check_mark(path, account.identity, account.commit, mark)
            database = Database(path)
            opened.callback(database.close)
            watermark = Watermark(directory, mark.identity)
            opened.callback(watermark.close)
            account.commit += 1
            with explained(path):  # A commit: what can be read and not written shows now, not when it counts.
                database.write([to_row(account.totals())])
            watermark.raise_to(account.commit)
            watermark.sync()
            return cls(path, account, mark.identity, database, watermark, opened.pop_all())

    @property
    def directory(self) -> Path:
        """Where the data are."""
        return self._path.parent

    @property
    def reach(self) -> int:
        """The last epoch that the acceptor has joined, -1 if it never took part."""
        return self._account.epoch

    def load(self) -> list[Record]:
        """The records, in an order in which an acceptor can replay them. Raises ``StorageCorrupt``."""
        contents = (
            _content(self._path, row) for row in self._database.rows() if not self._account.is_dropped(*row[:3])
        )
        return [content for content in contents if not isinstance(content, (Identity, Totals))]

    def append(self, records: Sequence[Record]) -> None:
        """Make records durable, all or none. On return they are.

        Raises ``StorageFailed`` if the disk did not take them, and ever after: whether they are there is then unknown,
        so the acceptor must stop. What was appended before is safe.
        """
        if self._failure is not None:
            raise StorageFailed(f"{self._path}: writing has failed before: {self._failure}. Restart the acceptor.")
        try:
            if records:
                self._append(records)
        except Exception as error:
            self._failure = error
            code = getattr(error, "sqlite_errorname", None) or type(error).__name__
            raise StorageFailed(
                f"{self._path}: commit {self._account.commit} failed: {error} ({code}). Nothing is written any more. "
                "Make room on the disk or mend it, then restart the acceptor: it has all that it ever acknowledged."
            ) from error

    def _append(self, records: Sequence[Record]) -> None:
        account = self._account
        account.commit += 1
        staged: dict[tuple[int, ...], Row] = {}
        for record in records:
            self._stage(record, staged)
        rows = list(staged.values())
        if self._is_purging:
            with self._database.transaction():
                self._count(rows)
                self._database.write(rows)
                self._purge(_PURGED_ROWS + 2 * len(rows), _PURGED_BYTES + 2 * sum(len(row.content) for row in rows))
                self._database.write([to_row(account.totals())])
        else:
            self._count(rows)
            self._database.write([*rows, to_row(account.totals())])
        self._watermark.raise_to(account.commit)
        if self._is_log_new:  # Before this the database told as much as the log did; from now on it does not.
            self._watermark.sync()
        self._is_log_new = self._database.checkpoint_if_due()

    def _stage(self, record: Record, staged: dict[tuple[int, ...], Row]) -> None:
        """Turn a record into the rows that say the same; the last of a key is the one that counts."""
        account = self._account
        if isinstance(record, Accepted) and record.pvalue.ballot > account.promised.get(record.epoch, BOTTOM):
            self._stage(Promised(record.epoch, record.pvalue.ballot), staged)
        elif isinstance(record, Truncated):
            past = account.truncated
            record = Truncated(max(record.below, past.below), max(record.first_epoch, past.first_epoch))
            self._is_purging = True
        row = to_row(record)
        if not account.is_dropped(*row[:3]):
            staged[row[:3]] = row
            account.see(record)

    def _count(self, rows: Sequence[Row]) -> None:
        """Count rows that are about to be written, in place of those with their keys."""
        account = self._account
        for row in rows:
            if row.kind != Kind.ACCEPTED or row.slot <= account.highest_slot:  # Above it there is none to be replaced.
                replaced = self._database.checksum_of(row[:3])
                if replaced is not None:
                    account.subtract(replaced)
            account.add(row)

    def _purge(self, rows_left: int, bytes_left: int) -> None:
        """Delete some of the rows that truncation has dropped, the oldest first.

        Acceptances of a dropped epoch go with their slots, not before.
        """
        truncated = self._account.truncated
        past_epochs = (0, truncated.first_epoch)
        limits = {Kind.ACCEPTED: (truncated.below, 0), Kind.PROMISED: past_epochs, Kind.JOINED: past_epochs}
        for kind, below in limits.items():
            through, count = (0, 0), 0
            for slot, epoch, checksum, size_bytes in self._database.oldest(kind, below, rows_left):
                through = (slot, epoch)
                count += 1
                bytes_left -= size_bytes
                self._account.subtract(checksum)
                if bytes_left <= 0:
                    break
            if count:
                self._database.delete(kind, through, count)
                rows_left -= count
            if rows_left <= 0 or bytes_left <= 0:
                return
        self._is_purging = self._database.give_back()

    def close(self) -> None:
        """Close, and let others have the directory. What was appended is durable with or without it."""
        with machine_faults(self._path), self._opened:
            self._watermark.sync()


class Contents(NamedTuple):
    """What there is in a directory."""

    incarnation: int
    #: How many commits there have been.
    commit: int
    records: list[Record]


def read_contents(directory: Path, is_wanted: Callable[[Record], bool]) -> Contents | None:
    """What an acceptor would find in a directory, None if nothing was ever kept there.

    Changes nothing and needs no lock. Raises what ``DurableStorage.open`` does of data that are broken; also if an
    acceptor writes meanwhile, since what is read then need not fit together.
    """
    path = directory / FILE_NAME
    found: list[Record] = []

    def see(content: Content) -> None:
        if not isinstance(content, (Identity, Totals)) and is_wanted(content):
            found.append(content)

    with machine_faults(directory):
        mark = _served_mark(path)
        if mark is None:
            return None
        account = _verified(path, see)
    check_mark(path, account.identity, account.commit, mark)
    records = [record for record in found if not account.is_dropped(*to_row(record)[:3])]
    return Contents(mark.identity.incarnation, account.commit, records)


def set_aside(directory: Path, why: str = "corrupt") -> Path:
    """Move data that are not to be used any more out of the way, and return where they are.

    The last few of a directory are kept: a disk that spoils its data again and again would fill up with them. Raises
    ``StorageError`` if a process has the directory, ``StorageFailed`` if it cannot be moved.
    """
    prefix = f"{directory.name}.{why}-"
    with machine_faults(directory):
        lock = DirectoryLock(directory)
        try:
            names = (path.name.removeprefix(prefix) for path in directory.parent.glob(f"{prefix}*"))
            numbers = sorted(int(name) for name in names if name.isdecimal())
            aside = directory.with_name(f"{prefix}{max(numbers, default=0) + 1}")
            directory.rename(aside)
            sync_directory(directory.parent)
            for number in numbers[: 1 - _KEPT_ASIDE]:
                shutil.rmtree(directory.with_name(f"{prefix}{number}"), ignore_errors=True)
        finally:
            lock.release()
    return aside


def _served_mark(path: Path) -> Mark | None:
    """The watermark of a database in which an earlier life was told of something, None if none was."""
    mark = read_watermark(path.parent)
    if mark is None and (path.exists() or log_of(path).exists()):
        raise corrupt(path, "its watermark, which is made before it, is gone")
    return mark if mark is not None and mark.commit > 0 else None


def _create(path: Path, identity: Identity) -> Mark:
    """Make a database that says whose it is. What a crash leaves of this is removed by the next attempt."""
    _spare_what_was_put_there(path)
    remove(path)
    sync_directory(path.parent)  # Or a new watermark might be found beside what an old attempt has left.
    Watermark.create(path.parent, identity)
    row = to_row(identity)
    account = _Account(commit=1)
    account.add(row)
    with closing(Database(path)) as database, explained(path):
        database.write([row, to_row(account.totals())])
    sync_directory(path.parent)
    with closing(Watermark(path.parent, identity)) as mark:
        mark.raise_to(account.commit)
        mark.sync()
    return Mark(account.commit, identity)


def _spare_what_was_put_there(path: Path) -> None:
    """What a creation has left is of the watermark's own life, or no database; anything else is somebody's data."""
    mark = read_watermark(path.parent)
    if mark is not None:
        try:
            found = _verified(path)
        except StorageCorrupt:
            return
        check_mark(path, found.identity, found.commit, mark)


def _verified(path: Path, found: Callable[[Content], None] = lambda _: None) -> _Account:
    """Read everything, and make sure that it is everything of some commit, and what was written."""
    account = _Account()
    for row in sound_rows(path):
        content = _content(path, row)
        account.see(content)
        found(content)
        if row[:3] != TOTALS:
            account.add(row)
    stored = account.stored
    if stored is None:
        raise corrupt(path, f"table records: row {TOTALS} is gone")
    if stored != account.totals():
        raise corrupt(
            path,
            f"table records: there are {account.rows} rows with checksums of sum {account.checksums:x}, but commit "
            f"{stored.commit} left {stored.rows} of sum {stored.checksums:x}: rows are lost, or old ones came back",
        )
    return account


def _content(path: Path, row: Row) -> Content:
    try:
        return from_row(row)
    except ValueError as error:
        raise corrupt(path, f"table records: row {Key(*row[:3])}: {error}") from error

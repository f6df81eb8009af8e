"""Known mistakes of the storage, and of those who use it; see ``mutants``.

Left out is whether SQLite is asked to sync at all: in these runs what it has written is on the medium, and
``tests/storage`` looks at its settings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from concoord_ray.errors import StorageCorrupt, StorageFailed
from concoord_ray.paxos.outputs import Accepted, Record
from concoord_ray.storage import belonging, database, durable, rows
from concoord_ray.storage.database import Database
from concoord_ray.storage.durable import DurableStorage
from concoord_ray.storage.rows import Row, Totals
from concoord_ray.storage.watermark import Mark, read_watermark
from tests.sim.mutants import Mutant, replacing
from tests.sim.real_disk import RealDisk
from tests.sim.real_journal import RealJournal
from tests.sim.scenario import Kind

_SERVED = frozenset({"ServedAsWritten"})
_REFUSED = frozenset({"UndamagedIsServed"})


def _unchecked(original: Any) -> Any:
    def from_row(row: Row) -> Any:
        is_content = isinstance(row.content, bytes)
        return original(row._replace(checksum=rows._checksum(row.content)) if is_content else row)

    return from_row


def _no_watermark(directory: Path) -> Mark | None:
    mark = read_watermark(directory)
    return mark and mark._replace(commit=1)


def _whosever(original: Any) -> Any:
    return lambda path, identity, commit, mark: original(path, identity and mark.identity, commit, mark)


def _answers_first(original: Any) -> Any:
    def submit(self: RealJournal, records: Any, release: Callable[[], None]) -> None:
        release()
        original(self, records, lambda: None)

    return submit


def _stays_who_it_was(original: Any) -> Any:
    def open_as_role(self: RealDisk, fresh: Any) -> Any:
        try:
            return self._opened(fresh), ""
        except StorageCorrupt:
            return original(self, self._member or fresh)

    return open_as_role


def _tries_again(original: Any) -> Any:
    def append(self: DurableStorage, records: Sequence[Record]) -> None:
        account = copy.deepcopy(self._account)
        try:
            original(self, records)
        except StorageFailed:
            self._failure, self._account = None, account
            self._database._connection.rollback()
            original(self, records)

    return append


def _goes_on(original: Any) -> Any:
    """What was not written is acknowledged: the error is taken for a passing one."""

    def append(self: DurableStorage, records: Sequence[Record]) -> None:
        try:
            original(self, records)
        except StorageFailed:
            self._failure = None
            self._database._connection.rollback()

    return append


def _totals_later(original: Any) -> Any:
    def write(self: Database, several: Sequence[Row]) -> None:
        original(self, several[:-1])
        original(self, several[-1:])

    return lambda self, several: (write if len(several) > 1 else original)(self, several)


def _says_so_first(original: Any) -> Any:
    def append(self: DurableStorage, records: Sequence[Record]) -> None:
        self._watermark.raise_to(self._account.commit + 1)
        original(self, records)

    return append


def _without_promise(original: Any) -> Any:
    def stage(self: DurableStorage, record: Record, staged: Any) -> None:
        promised = self._account.promised
        if isinstance(record, Accepted):
            self._account.promised = {record.epoch: record.pvalue.ballot}
        original(self, record, staged)
        if isinstance(record, Accepted):
            self._account.promised = promised

    return stage


def _says_nothing(original: Any) -> Any:
    return lambda self: bool(original(self)) and False


def _one_more(original: Any) -> Any:
    return lambda self, kind, through, count: original(self, kind, (through[0] + 1, through[1]), count)


STORAGE = (
    Mutant(
        "the checksums of rows are not looked at",
        Kind.STORAGE,
        lambda: patch.object(durable, "from_row", _unchecked(rows.from_row)),
        _SERVED | {"ChosenByMajority", "OneValuePerSlot"},
        300,
    ),
    Mutant(
        "the rows are not compared with the totals",
        Kind.STORAGE,
        replacing(Totals, "__ne__", lambda self, other: False),
        _SERVED,
        800,
        first_seed=100,
    ),
    Mutant(
        "the watermark is not looked at",
        Kind.STORAGE,
        lambda: patch.object(durable, "read_watermark", _no_watermark),
        _SERVED,
        100,
    ),
    Mutant(
        "the watermark does not say whose it is",
        Kind.STORAGE,
        lambda: patch.object(durable, "check_mark", _whosever(belonging.check_mark)),
        _SERVED,
        100,
    ),
    Mutant(
        "the watermark is synced when the storage is opened, and never after",
        Kind.STORAGE,
        lambda: patch.object(Database, "checkpoint_if_due", _says_nothing(Database.checkpoint_if_due)),
        _SERVED,
        1000,
    ),
    Mutant(
        "SQLite is not asked whether a database is sound",
        Kind.STORAGE,
        lambda: patch.object(database, "_check", lambda path, connection: None),
        _SERVED | {"StorageFailed", "DatabaseError"},
        600,
        first_seed=100,
    ),
    Mutant(
        "an answer leaves before what it says is appended",
        Kind.STORAGE,
        lambda: patch.object(RealJournal, "submit", _answers_first(RealJournal.submit)),
        frozenset({"AnswersAreDurable"}),
        5,
    ),
    Mutant(
        "an acceptor whose data were set aside stays who it was",
        Kind.STORAGE,
        lambda: patch.object(RealDisk, "_open_as_role", _stays_who_it_was(RealDisk._open_as_role)),
        _SERVED,
        50,
    ),
    Mutant(
        "a failed commit is tried again",
        Kind.STORAGE,
        lambda: patch.object(DurableStorage, "append", _tries_again(DurableStorage.append)),
        _SERVED | _REFUSED,
        100,
    ),
    Mutant(
        "a failed commit is acknowledged",
        Kind.STORAGE,
        lambda: patch.object(DurableStorage, "append", _goes_on(DurableStorage.append)),
        _SERVED | _REFUSED,
        100,
    ),
    Mutant(
        "the totals have a commit of their own",
        Kind.STORAGE,
        lambda: patch.object(Database, "write", _totals_later(Database.write)),
        _REFUSED,
        50,
    ),
    Mutant(
        "the watermark is raised before the commit",
        Kind.STORAGE,
        lambda: patch.object(DurableStorage, "_append", _says_so_first(DurableStorage._append)),
        _REFUSED,
        50,
    ),
    Mutant(
        "a creation that was cut short counts as data",
        Kind.STORAGE,
        lambda: patch.object(durable, "_served_mark", lambda path: read_watermark(path.parent)),
        _REFUSED,
        50,
    ),
    Mutant(
        "an acceptance does not bring its promise to the disk",
        Kind.STORAGE,
        lambda: patch.object(DurableStorage, "_stage", _without_promise(DurableStorage._stage)),
        _SERVED,
        300,
    ),
    Mutant(
        "what was dropped is there again until its space is needed",
        Kind.STORAGE,
        lambda: patch.object(durable._Account, "is_dropped", lambda *_: False),
        _SERVED,
        200,
    ),
    Mutant(
        "a row too many is freed",
        Kind.STORAGE,
        lambda: patch.object(Database, "delete", _one_more(Database.delete)),
        _SERVED | _REFUSED,
        200,
    ),
)

"""One table of rows in SQLite, set up so that a commit that has returned is on the medium.

- Write-ahead log, ``synchronous=FULL``: one fsync a commit. Every setting is read back, since SQLite ignores in silence
  what it cannot do.
- **Checkpoints are run from here.** SQLite's own ones swallow their errors and try again later; but after a failed
  fsync the kernel may have dropped the data, and the next one succeeds without them. Here the first error is the last.
- Opening for writing moves the whole log into the database before anything is served. What an earlier process wrote,
  and was never told to be durable, may be in the kernel's cache alone: from then on it is durable, or opening failed.
- ``sound_rows`` reads without changing a byte, so that what is broken stays as it was found, and without a lock of
  SQLite's, which would keep the acceptor from opening it that is just starting.
- Exclusive locking: no shared-memory file, no lock calls, and no other program writes in between.
- Deleted pages are used again, and given back to the file system when they are most of the file.
"""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from concoord_ray.errors import StorageCorrupt, StorageFailed
from concoord_ray.storage.files import sync_directory
from concoord_ray.storage.rows import Kind, Row

FILE_NAME = "acceptor.sqlite"
_PAGE_BYTES = 4096
_SCHEMA = (
    "CREATE TABLE records (kind INTEGER NOT NULL, slot INTEGER NOT NULL, epoch INTEGER NOT NULL, "
    "checksum INTEGER NOT NULL, content BLOB NOT NULL, PRIMARY KEY (kind, slot, epoch)) WITHOUT ROWID"
)
#: What is fixed when the file is made: name, value, what SQLite answers when asked.
_FORMAT = (("page_size", _PAGE_BYTES, _PAGE_BYTES), ("auto_vacuum", "INCREMENTAL", 2))
#: What every connection that writes sets anew.
_SETTINGS = (
    ("locking_mode", "EXCLUSIVE", "exclusive"),
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("fullfsync", "ON", 1),
    ("checkpoint_fullfsync", "ON", 1),
    ("wal_autocheckpoint", 0, 0),
    ("journal_size_limit", 16 << 20, 16 << 20),
    ("secure_delete", "OFF", 0),
)
#: SQLite's own way of opening a file that it neither writes nor locks.
_READ_ONLY = "mode=ro&vfs=unix-none"
#: What SQLite says when not the data but the machine is at fault.
_MACHINE = ("disk I/O error", "database or disk is full", "database is locked", "unable to open database file")
#: Rows a statement. A statement is a transaction by itself, and waits once for the interpreter's lock.
_ROWS_AT_ONCE = 64
#: A checkpoint is due after about so many pages of log: it holds up a commit for as long as it takes to write them.
_CHECKPOINT_PAGES = 512
#: A guess that is right for large rows, and too careful for small ones.
_ROWS_A_PAGE = 4
_SPARE_PAGES = 1024
_PAGES_GIVEN_BACK = 64


def log_of(path: Path) -> Path:
    """SQLite's write-ahead log, which holds the newest commits: as much the data as the database is."""
    return path.with_name(path.name + "-wal")


def corrupt(path: Path, reason: str) -> StorageCorrupt:
    """The error that names the file, what is wrong with it, and what to do."""
    return StorageCorrupt(
        f"{path}: {reason}. Nothing of it is served. Set its directory aside and start the acceptor as a new one: a "
        "view change lets it in, and the other acceptors have what was decided."
    )


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Tell data that are broken from a machine that does not let us at them."""
    try:
        yield
    except (sqlite3.Error, UnicodeError) as error:  # Some of SQLite's messages quote the bytes that it stumbled over.
        if isinstance(error, sqlite3.OperationalError) and str(error).startswith(_MACHINE):
            raise StorageFailed(f"{path}: {error}. Mend the disk or its permissions, then start again.") from error
        raise corrupt(path, f"SQLite cannot read it: {error}") from error


def remove(path: Path) -> None:
    """Remove a database that never held anything."""
    for file in (path, log_of(path), _index_of(path), path.with_name(path.name + "-journal")):
        file.unlink(missing_ok=True)


def sound_rows(path: Path) -> Iterator[Row]:
    """Check the database as SQLite can, and read every row in the order of keys. Changes nothing, and locks nothing.

    Raises ``StorageCorrupt`` if the file is no sound database of this version.
    """
    size_bytes = path.stat().st_size if path.exists() else 0
    if size_bytes < _PAGE_BYTES:  # SQLite would begin a new one, and drop the log.
        raise corrupt(path, f"it is gone, or cut to {size_bytes} bytes, though commits were acknowledged")
    with explained(path):
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?{_READ_ONLY}", uri=True, isolation_level=None)
        try:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")  # The index of the log is in memory, not in a file.
            _check(path, connection)
            yield from _rows(connection)
        finally:
            connection.close()


class Database:
    """The rows of one acceptor, for reading and writing. One thread at a time may use it."""

    def __init__(self, path: Path) -> None:
        """Open, or create with no rows."""
        self._path = path
        self._log_pages = 0
        is_new = not path.exists()
        self._connection = sqlite3.connect(
            str(path), isolation_level=None, check_same_thread=False, cached_statements=2 * _ROWS_AT_ONCE
        )
        try:
            with explained(path):
                self._set((*_FORMAT, *_SETTINGS) if is_new else _SETTINGS)
                if is_new:
                    self._connection.execute(_SCHEMA)
                self._checkpoint("TRUNCATE")
            sync_directory(path.parent)  # The log was made just now: its name, too, has to be there tomorrow.
        except BaseException:
            self._connection.close()
            raise

    def _set(self, settings: Sequence[tuple[str, str | int, str | int]]) -> None:
        for name, value, expected in settings:
            self._connection.execute(f"PRAGMA {name}={value}").fetchall()
            taken = _ask(self._connection, name)
            if taken != expected:
                raise StorageFailed(
                    f"{self._path}: SQLite {sqlite3.sqlite_version} answers {taken!r} to {name}={value}, not "
                    f"{expected!r}. Use a local file system, or another SQLite."
                )

    def rows(self) -> Iterator[Row]:
        """Every row, in the order of keys."""
        with explained(self._path):
            yield from _rows(self._connection)

    def checksum_of(self, key: tuple[int, int, int]) -> int | None:
        """The checksum of a row, None if there is no such row."""
        query = "SELECT checksum FROM records WHERE kind=? AND slot=? AND epoch=?"
        found: tuple[int] | None = self._connection.execute(query, key).fetchone()
        return None if found is None else found[0]

    def write(self, rows: Sequence[Row]) -> None:
        """Insert or replace rows, all or none; durable on return unless inside of ``with transaction()``."""
        self._log_pages += 2 + len(rows) // _ROWS_A_PAGE + sum(len(row.content) for row in rows) // _PAGE_BYTES
        with self.transaction() if len(rows) > _ROWS_AT_ONCE else nullcontext():
            for first in range(0, len(rows), _ROWS_AT_ONCE):
                some = rows[first : first + _ROWS_AT_ONCE]
                self._connection.execute(_upsert_statement(len(some)), [column for row in some for column in row])

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make everything inside one commit, durable at the end; inside of another, a part of that."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        yield  # An error leaves it open: after one, the storage does nothing but close, and closing rolls back.
        self._connection.execute("COMMIT")

    def oldest(self, kind: Kind, below: tuple[int, int], limit: int) -> list[tuple[int, int, int, int]]:
        """Slot, epoch, checksum and size in bytes of the first rows of a kind whose (slot, epoch) is below."""
        query = (
            "SELECT slot, epoch, checksum, length(content) FROM records "
            "WHERE kind=? AND (slot, epoch) < (?, ?) ORDER BY slot, epoch LIMIT ?"
        )
        return self._connection.execute(query, (kind, *below, limit)).fetchall()

    def delete(self, kind: Kind, through: tuple[int, int], rows: int) -> None:
        """Delete the rows of a kind up to and with this (slot, epoch), so many."""
        self._log_pages += rows // _ROWS_A_PAGE
        self._connection.execute("DELETE FROM records WHERE kind=? AND (slot, epoch) <= (?, ?)", (kind, *through))

    def give_back(self) -> bool:
        """If most pages are unused, give some back to the file system; whether there may be more to give."""
        unused, pages = (int(_ask(self._connection, name)) for name in ("freelist_count", "page_count"))
        if unused < _SPARE_PAGES or 2 * unused < pages:
            return False
        self._log_pages += _PAGES_GIVEN_BACK
        for _ in range(
            _PAGES_GIVEN_BACK
        ):  # One by one: it gives no rows, so execute() would stop after the first page.
            self._connection.execute("PRAGMA incremental_vacuum(1)")
        return True

    def checkpoint_if_due(self) -> bool:
        """Move the log into the database if it has become long; whether it has."""
        if self._log_pages < _CHECKPOINT_PAGES:
            return False
        self._checkpoint("PASSIVE")
        return True

    def _checkpoint(self, mode: str) -> None:
        is_busy, pages, moved = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        if is_busy or pages != moved:
            raise StorageFailed(f"{self._path}: only {moved} of {pages} pages of the log reached the database.")
        self._log_pages = 0

    def close(self) -> None:
        """Close. What was committed is durable with or without it."""
        self._connection.close()


def _index_of(path: Path) -> Path:
    """The index of the log that connections share: a cache, ours alone under the lock of the directory."""
    return path.with_name(path.name + "-shm")


def _check(path: Path, connection: sqlite3.Connection) -> None:
    verdict = _ask(connection, "quick_check(1)")
    if verdict != "ok":
        raise corrupt(path, f"SQLite finds it malformed: {' '.join(str(verdict).split())}")
    for name, _, expected in _FORMAT:
        if _ask(connection, name) != expected:
            raise corrupt(path, f"its {name} is {_ask(connection, name)!r}, not {expected!r}")
    schema = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
    if schema != [("table", "records", _SCHEMA)]:
        raise corrupt(path, f"its tables are not those of this version: {schema!r:.300}")


def _rows(connection: sqlite3.Connection) -> Iterator[Row]:
    query = "SELECT kind, slot, epoch, checksum, content FROM records ORDER BY kind, slot, epoch"
    return map(Row._make, connection.execute(query))


def _ask(connection: sqlite3.Connection, name: str) -> str | int:
    value: str | int = connection.execute(f"PRAGMA {name}").fetchone()[0]
    return value


@functools.cache
def _upsert_statement(rows: int) -> str:
    return "INSERT OR REPLACE INTO records VALUES " + ", ".join(["(?, ?, ?, ?, ?)"] * rows)

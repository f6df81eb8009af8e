"""Trouble with the storage of the code under test, at the boundary to SQLite and to the kernel.

Every statement of a database that is opened ``in_trouble`` passes through here, so that it can fail, or be done and
fail all the same, as a sync does whose data may or may not be on the medium.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from concoord_ray.storage import database, durable
from concoord_ray.storage.durable import DurableStorage
from tests.sim.spoilt import LOG, Image, read_image

_connect = sqlite3.connect
_fsync = os.fsync
#: More statements than an opening has.
OPENING_STEPS = 80
#: A commit adds about so many bytes to the log.
_ADDED_BYTES = 5 * 4120


class Trouble:
    """None at all; and what the others have in common."""

    #: Whether anything has gone wrong.
    struck = False

    def before(self, statement: str) -> None:
        """A statement, or a sync of the package's own files, is about to begin."""

    def after(self, statement: str, is_committed: bool) -> None:
        """It has ended well, so far; whether what it wrote is committed by it."""


class Kick(Trouble):
    """The process dies before the step: ``image`` is what it leaves."""

    def __init__(self, directory: Path, step: int) -> None:
        self._directory = directory
        self._steps_left = step
        self.image: Image | None = None

    def before(self, statement: str) -> None:
        self._steps_left -= 1
        if self._steps_left == 0:
            self.image = read_image(self._directory)


class Refusal(Trouble):
    """The step fails, before anything of it is done."""

    def __init__(self, step: int, reason: str, statement: str = "") -> None:
        self._steps_left = step
        self._reason = reason
        self._statement = statement

    def before(self, statement: str) -> None:
        if statement.startswith(self._statement):
            self._steps_left -= 1
            if self._steps_left == 0:
                self.struck = True
                raise sqlite3.OperationalError(self._reason)


class FailedSync(Trouble):
    """What is committed has been written, and its sync fails. Once: the next one has nothing to do, and succeeds."""

    def after(self, statement: str, is_committed: bool) -> None:
        if is_committed and not self.struck:
            self.struck = True
            raise sqlite3.OperationalError("disk I/O error")


class Recorder(Trouble):
    """No trouble: what the files hold behind every commit, and before what follows it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.images = [read_image(directory)]

    def after(self, statement: str, is_committed: bool) -> None:
        if is_committed:
            self.images.append(read_image(self._directory))


class _Connection(sqlite3.Connection):
    trouble = Trouble()

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        self.trouble.before(sql)
        cursor = super().execute(sql, parameters)
        writes = sql.startswith(("INSERT", "COMMIT"))
        self.trouble.after(sql, writes and not self.in_transaction)
        return cursor


class Scale(NamedTuple):
    """In what portions a storage works: in small ones, a short run comes to all that a long one does."""

    page_bytes: int
    #: How many dropped rows a commit frees at least.
    purged_rows: int

    @contextmanager
    def applied(self) -> Iterator[None]:
        """To all storage, meanwhile."""
        form = (("page_size", self.page_bytes, self.page_bytes), *database._FORMAT[1:])
        with (
            patch.multiple(database, _PAGE_BYTES=self.page_bytes, _FORMAT=form),
            patch.object(durable, "_PURGED_ROWS", self.purged_rows),
        ):
            yield


@contextmanager
def opening(trouble: Trouble) -> Iterator[None]:
    """Storage that is opened meanwhile has this trouble, already with being opened."""

    def connect(*arguments: Any, **more: Any) -> sqlite3.Connection:
        connection: _Connection = _connect(*arguments, factory=_Connection, **more)
        connection.trouble = trouble
        return connection

    def fsync(descriptor: int) -> None:
        try:
            trouble.before("fsync")
        except sqlite3.OperationalError as error:
            raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
        _fsync(descriptor)

    with patch.object(sqlite3, "connect", connect), patch.object(os, "fsync", fsync):
        yield


@contextmanager
def recording(storage: DurableStorage, directory: Path) -> Iterator[Recorder]:
    """What a storage, opened in no trouble, does to its files meanwhile."""
    connection = storage._database._connection
    assert isinstance(connection, _Connection)
    recorder = connection.trouble = Recorder(directory)
    try:
        yield recorder
    finally:
        connection.trouble = Trouble()


class Way(Enum):
    """How a commit fails."""

    FULL = "the disk is full"
    #: By the kernel's own limit, in the middle of a write.
    TOO_LARGE = "the file may not grow"
    SYNC = "the sync fails"
    CHECKPOINT = "the log cannot be moved into the database"


@contextmanager
def appending(storage: DurableStorage, way: Way, directory: Path, rng: random.Random) -> Iterator[Trouble]:
    """A storage, opened in no trouble, gets into it; it does not always show."""
    rows = storage._database
    connection = rows._connection
    assert isinstance(connection, _Connection)
    trouble = Trouble()
    rows._log_pages = -1_000_000  # No checkpoint, but where it is what fails.
    if way is Way.FULL:
        trouble = Refusal(rng.choice((1, 1, 2, 3, 4, 6)), rng.choice(("database or disk is full", "disk I/O error")))
    elif way is Way.SYNC:
        trouble = FailedSync()
    elif way is Way.CHECKPOINT:
        rows._log_pages = 1_000_000
        trouble = Refusal(1, "disk I/O error", "PRAGMA wal_checkpoint")
    connection.trouble = trouble
    limit_bytes = (directory / LOG).stat().st_size + rng.randrange(_ADDED_BYTES)
    try:
        if way is Way.TOO_LARGE:
            with _files_of_at_most(limit_bytes):
                yield trouble
        else:
            yield trouble
    finally:
        connection.trouble = Trouble()


@contextmanager
def _files_of_at_most(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

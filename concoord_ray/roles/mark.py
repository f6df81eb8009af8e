"""A mark of the slot that a replica is executing, which outlives the replica's process.

A method may end the process that it runs in: native code that crashes, ``os._exit``, a lack of memory. Every replica
executes it, each of them again after its restart, and the dead cannot say what they died of. So each life leaves the
slot in a small file that is mapped into its memory: a store costs no system call, and the kernel keeps what was stored
however the process ends. It is not synced, for what it says is of no use after the machine's own end.

To die in a slot once proves nothing: anybody may kill a process, and a busy one is executing something. Only when so
many lives in a row have died in one slot (``deadly_after_deaths``) is the slot taken for deadly, and the next life
leaves it alone: it says what is in it, and ends after ``deadly_retry_s``. The life after that tries once more, since
the cause may be gone, and so on in turn. A slot that was executed is no suspect any more.

A slot may have thousands of calls in it. So a life that finds a suspect, by a single death already, marks each call of
that slot as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import stat
import struct
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from concoord_ray.rsm.command import Batch, Entry
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.wire import decode_batch

logger = logging.getLogger(__name__)

#: Its name in a directory that is the replica's own, and what it begins with among those of others.
_NAME = "executing"
_PREFIX = "concoord-executing-"
_MAGIC = int.from_bytes(b"concoord", "little")
#: The words of the file. Slots, and the entries of one, are counted from 1 there, 0 is none.
_MAGIC_WORD, _EXECUTING, _AT_ENTRY, _SUSPECT, _DEATHS, _DIED_AT_ENTRY, _WAS_HELD = range(7)
_LAYOUT = struct.Struct("=7Q")
#: No slot comes as far.
_NEVER = 1 << 62
#: What ensembles that are no more have left is removed after a day.
_KEPT_S = 86400.0
#: How many calls of a slot are named.
_NAMED_CALLS = 8


class DeadlySlot(Exception):
    """Life after life of this replica has died in one slot, so it is not executed for a while."""

    def __init__(self, slot: int, deaths: int, calls: Sequence[str], retry_s: float) -> None:
        self.slot = slot
        self._deaths = deaths
        self._calls = calls
        self._retry_s = retry_s
        #: A snapshot on this node's disk, and the slot that it ends before.
        self.snapshot: tuple[Path, int] | None = None
        super().__init__(slot, deaths, calls)

    def __str__(self) -> str:
        named = ", ".join(self._calls[:_NAMED_CALLS]) or "no call"
        if len(self._calls) > _NAMED_CALLS:
            named += f", and {len(self._calls) - _NAMED_CALLS} more"
        if len(self._calls) != 1:
            named += "; or it is a call that waited, and goes on there"
        text = (
            f"slot {self.slot} of the log is not executed, for {self._deaths} lives of this replica in a row have died "
            f"while they executed it. In it: {named}. What ends its process (a crash in native code, os._exit, a lack "
            f"of memory) ends that of every replica. It is tried again after {self._retry_s:g} s. The log cannot leave "
            "it out: concoord.recover() begins again from the state before it, without this slot and those after it."
        )
        if self.snapshot is not None:
            path, slot = self.snapshot
            text += f" Or give it source={str(path)!r}, of this node: what was executed from slot {slot} on is lost."
        return text


class _Watched(tuple[Entry, ...]):  # noqa: SLOT001  # Python has no slots for a tuple's subclass.
    """Entries of which it is noted how far somebody has come who goes through them."""

    _reach: Callable[[int], None]

    def __new__(cls, entries: tuple[Entry, ...], reach: Callable[[int], None]) -> _Watched:
        made = super().__new__(cls, entries)
        made._reach = reach
        return made

    def __iter__(self) -> Iterator[Entry]:
        for index, entry in enumerate(super().__iter__()):
            self._reach(index)
            yield entry


class Mark:
    """The mark of one life. ``begin`` and ``end`` are for whoever executes, one thread at a time."""

    def __init__(self, descriptor: int | None = None, deadly_after_deaths: int = 1) -> None:
        """In an open file of the right size, which belongs to the mark then; in none, it ends with the process."""
        self._descriptor = descriptor
        self._map = mmap.mmap(-1 if descriptor is None else descriptor, _LAYOUT.size)
        self._words = memoryview(self._map).cast("Q")
        self._judge_the_life_before()
        words = self._words
        self._suspect = words[_SUSPECT] - 1 if words[_SUSPECT] else _NEVER
        #: How many lives in a row have died in the suspected slot.
        self.deaths = words[_DEATHS]
        #: In which entry of the suspected slot the last of them died, as far as that is known.
        self.died_at = words[_DIED_AT_ENTRY] - 1 if words[_DIED_AT_ENTRY] else None
        is_held = self.deaths >= deadly_after_deaths and not words[_WAS_HELD]
        #: The slot that this life must not execute.
        self.held_slot = self._suspect if is_held and self._suspect != _NEVER else None

    @staticmethod
    def open(path: Path, deadly_after_deaths: int) -> Mark:
        """The mark in a file, which is made if there is none. Raises OSError if it is another's, or in use."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            _refuse_strangers(path, os.fstat(descriptor))
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            content = os.pread(descriptor, _LAYOUT.size, 0)
            if len(content) != _LAYOUT.size or _LAYOUT.unpack(content)[_MAGIC_WORD] != _MAGIC:
                content = _LAYOUT.pack(_MAGIC, *(0,) * 6)
            os.ftruncate(descriptor, _LAYOUT.size)
            os.pwrite(descriptor, content, 0)  # A store into a page that the disk has no room for would be a crash.
            return Mark(descriptor, deadly_after_deaths)
        except BaseException:
            os.close(descriptor)
            raise

    def begin(self, slot: int) -> None:
        """The slot is being executed from now on."""
        self._words[_EXECUTING] = slot + 1

    def watched(self, slot: int, batch: Batch) -> Batch:
        """What to execute in its stead: the same, but the mark goes along with its entries if the slot is suspected."""
        if slot != self._suspect:
            return batch

        def reach(index: int) -> None:
            self._words[_AT_ENTRY] = index + 1

        return msgspec.structs.replace(batch, entries=_Watched(batch.entries, reach))

    def end(self, slot: int) -> None:
        """The slot is executed."""
        self._words[_EXECUTING] = 0
        if slot >= self._suspect:
            self._forget()

    @property
    def is_suspicious(self) -> bool:
        """Whether a life has died in a slot that this one has not executed."""
        return self._suspect != _NEVER

    def hold(self) -> None:
        """The held slot is left alone by this life, so that the next is to try it."""
        self._words[_WAS_HELD] = 1

    def close(self) -> None:
        """Let others have the file."""
        self._words.release()
        self._map.close()
        if self._descriptor is not None:
            os.close(self._descriptor)

    def _judge_the_life_before(self) -> None:
        words = self._words
        died_in = words[_EXECUTING]
        if died_in:
            words[_DEATHS] = words[_DEATHS] + 1 if died_in == words[_SUSPECT] else 1
            words[_SUSPECT], words[_DIED_AT_ENTRY] = died_in, words[_AT_ENTRY]
            words[_WAS_HELD] = words[_EXECUTING] = 0
        words[_AT_ENTRY] = 0

    def _forget(self) -> None:
        words = self._words
        words[_SUSPECT] = words[_DEATHS] = words[_WAS_HELD] = words[_AT_ENTRY] = words[_DIED_AT_ENTRY] = 0
        self._suspect, self.held_slot = _NEVER, None


def _refuse_strangers(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        raise PermissionError(f"{path} is no file of this user")


def find_mark(ensemble: str, index: int, directory: Path | None, deadly_after_deaths: int) -> Mark:
    """The mark of a replica: in its own ``directory``, or else among those of others of this node.

    Nothing depends on it but that news: where there can be no file, or another life has it, it is done without.
    """
    if directory is None:
        directory = Path(tempfile.gettempdir())
        _sweep(directory)
        path = directory / f"{_PREFIX}{ensemble}-{index}"
    else:
        path = directory / _NAME
    try:
        mark = Mark.open(path, deadly_after_deaths)
    except OSError as error:
        logger.warning("if a method ends this process, nobody will know which: %s: %s", path, error)
        return Mark()
    if mark.deaths:
        logger.warning("the last %d lives of replica %d died in one slot (%s)", mark.deaths, index, path)
    return mark


def _sweep(directory: Path) -> None:
    """Remove the marks of ensembles that are no more."""
    old_s = time.time() - _KEPT_S
    for path in directory.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # Another user's, in use, or gone.
            if path.lstat().st_mtime < old_s:
                Mark.open(path, 1).close()
                path.unlink()


def deadly_slot(mark: Mark, executor: Executor, value: bytes, retry_s: float) -> DeadlySlot:
    """Why the slot that is held is held, told by the state that it would be executed in."""
    slot = -1 if mark.held_slot is None else mark.held_slot
    entries = decode_batch(value).entries
    suspects = entries if mark.died_at is None else entries[mark.died_at :][:1]
    return DeadlySlot(slot, mark.deaths, executor.calls_in(suspects), retry_s)

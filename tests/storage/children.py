"""What runs in a process of its own: appenders that are killed, that meet a limit, that have the directory first."""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from concoord_ray.errors import StorageFailed
from concoord_ray.paxos.outputs import Record, Truncated
from concoord_ray.storage.snapshots import SnapshotFiles
from tests.storage.pieces import START, accepted, opened

#: Slots that an appender keeps; it truncates every so many slots.
KEPT, TRUNCATED_EVERY = 40, 25

#: One process that has imported everything forks all children, so each begins in milliseconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([__name__])


@contextmanager
def child(target: Callable[[Path, Connection], None], directory: Path) -> Iterator[tuple[BaseProcess, Connection]]:
    """A process that runs ``target``, and the connection to it; killed at the end."""
    ours, theirs = _CONTEXT.Pipe()
    process = _CONTEXT.Process(target=target, args=(directory, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join(30)
        ours.close()


def append_of(slot: int) -> list[Record]:
    """What an appender appends at a slot: of some size, now and then with a truncation."""
    value = accepted(slot, b"%d " % slot * (1 + slot * 37 % 900))
    return [value, Truncated(slot - KEPT, 0)] if slot % TRUNCATED_EVERY == 0 and slot > KEPT else [value]


def append_for_ever(directory: Path, acknowledge: Connection) -> None:
    """Tell each slot when its append has returned."""
    with opened(directory) as storage:
        present = storage.load()
        if not present:
            storage.append(START)
        slot = storage._account.highest_slot + 1
        while True:
            storage.append(append_of(slot))
            acknowledge.send(slot)
            slot += 1


def append_until_files_may_not_grow(directory: Path, results: Connection) -> None:
    """Tell the first slot that failed with why, then why the next one did, with the limit lifted."""
    with opened(directory) as storage:
        storage.append(START)
        limit_file_size(300_000)
        slot = 0
        errors: list[str] = []
        while len(errors) < 2:
            try:
                storage.append([accepted(slot, b"v" * 500)])
                slot += 1
            except StorageFailed as error:
                errors.append(str(error))
                limit_file_size(resource.RLIM_INFINITY)
        results.send((slot, errors))


def write_a_snapshot_that_is_too_large(directory: Path, results: Connection) -> None:
    """Tell why it failed, and what the newest is then."""
    files = SnapshotFiles(directory, ensemble="e")
    files.write(1, b"first")
    limit_file_size(300_000)
    try:
        files.write(2, b"v" * 1_000_000)
    except StorageFailed as error:
        results.send((str(error), files.newest(), sorted(file.name for file in directory.iterdir())))


def hold(directory: Path, ready: Connection) -> None:
    """Have the directory until the other side hangs up."""
    with opened(directory):
        ready.send(True)
        ready.poll(60)


def limit_file_size(size_bytes: int) -> None:
    """What this process writes beyond it fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))

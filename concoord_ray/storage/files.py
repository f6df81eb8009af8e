"""Files and directories that are there after a power failure, and the lock that keeps a directory to one process.

A file's content is durable after its own fsync, its name only after its directory's.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from concoord_ray.errors import StorageBusy, StorageError, StorageFailed

LOCK_NAME = "lock"


@contextmanager
def machine_faults(place: Path) -> Iterator[None]:
    """Turn an ``OSError`` into the ``StorageFailed`` that names the place."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"{place}: {error}. Mend the disk or its permissions, then start again.") from error


def sync(descriptor: int) -> None:
    """Return once what was written to the open file is on the medium."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # There fsync leaves it in the drive's own cache.
    else:
        os.fsync(descriptor)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Create a directory and those above it, durably; no error if it is there.

    Those that are there may be so since a moment ago, made by a process that has not come to its sync, or died before
    it. So their names are synced as well, as far up as a process like this one could have made them.
    """
    if directory.is_dir() and not _could_be_new(directory):
        return
    make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    sync_directory(directory.parent)


def _could_be_new(directory: Path) -> bool:
    """Whether this user could have made it; a mount point is none that anybody has made."""
    above = directory.parent
    return os.access(above, os.R_OK | os.W_OK) and not os.path.ismount(directory)


def replace_file(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file that is there as a whole or not at all. A crash may leave some of it, as ``path.*.tmp``.

    Several may write it at once, from one process or from many: each its own file, and the last of them stays.
    """
    temporary = path.with_name(f"{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            sync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_locked(directory: Path) -> bool:
    """Whether a process has the directory; False if there is none."""
    try:
        DirectoryLock(directory).release()
    except StorageBusy:
        return True
    except (StorageError, OSError):
        return False
    return False


class DirectoryLock:
    """A directory that belongs to this object until ``release``, or to this process until it dies, however it does."""

    def __init__(self, directory: Path) -> None:
        """Raises ``StorageBusy`` if another process, or another object of this one, has the directory."""
        path = directory / LOCK_NAME
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._claim(path)
        except BaseException:
            self.release()
            raise

    def _claim(self, path: Path) -> None:
        try:
            # flock, not lockf: lockf's lock is the whole process's, and goes with any descriptor that is closed.
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip()
            raise StorageBusy(
                f"{path.parent} is in use by process {holder or 'unknown'}: a data directory belongs to one process. "
                "End that process, or give this one a directory of its own."
            ) from error
        if not (path.exists() and os.path.samestat(os.fstat(self._descriptor), path.stat())):
            raise StorageError(f"{path.parent} was set aside while it was being opened. Open it again.")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let others have the directory."""
        os.close(self._descriptor)

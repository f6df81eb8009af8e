"""The number of the last commit, in a file beside the database: a lower bound of what must be there.

A database whose log was lost or cut reads as a sound database of some time ago. Nothing inside it can tell; this file
can. It is overwritten in place after each commit, mostly **without an fsync**, which would double the cost of a commit.
So it never says more than is durable; it is exact when the process alone dies, and after a power failure as old as the
kernel's last write-back (seconds). A log that is gone altogether is found even then: the first commit of every new log
syncs the number. 0 means that nothing was ever acknowledged: the database was being created.
"""

from __future__ import annotations

import os
import struct
from hashlib import blake2b
from pathlib import Path

from concoord_ray.errors import StorageCorrupt
from concoord_ray.storage.files import replace_file, sync

FILE_NAME = "watermark"
_NUMBER = struct.Struct(">Q")


def read_watermark(directory: Path) -> int | None:
    """What the file says, None if there is none. Raises ``StorageCorrupt`` if it is damaged."""
    path = directory / FILE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    commit: int = _NUMBER.unpack(data[:8])[0] if len(data) == 16 else 0
    if data != _encode(commit):
        raise StorageCorrupt(f"{path}: its {len(data)} bytes are not the number of a commit and its checksum.")
    return commit


class Watermark:
    """The file, open for writing."""

    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / FILE_NAME, os.O_WRONLY)

    @staticmethod
    def create(directory: Path) -> None:
        """Make the file, durably: nothing is acknowledged yet."""
        path = directory / FILE_NAME
        replace_file(path, path.with_suffix(".tmp"), [_encode(0)])

    def raise_to(self, commit: int) -> None:
        """Say that ``commit`` is durable, as it is."""
        os.pwrite(self._descriptor, _encode(commit), 0)  # 16 bytes of one sector: never seen half written.

    def sync(self) -> None:
        """Make the number itself durable."""
        sync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _encode(commit: int) -> bytes:
    number = _NUMBER.pack(commit)
    return number + blake2b(number, digest_size=8).digest()

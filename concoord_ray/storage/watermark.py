"""The number of the last commit, in a file beside the database: a lower bound of what must be there, and whose it is.

A database whose log was lost or cut reads as a sound database of some time ago. Nothing inside it can tell; this file
can. It is overwritten in place after each commit, mostly **without an fsync**, which would double the cost of a commit.
So it never says more than is durable; it is exact when the process alone dies, and after a power failure as old as the
kernel's last write-back (seconds). A log that is gone altogether is found even then: the first commit of every new log
syncs the number. 0 means that nothing was ever acknowledged: the database was being created.

Numbers of two databases say nothing of each other. A database that was copied back from where it had been set aside, or
that is another member's, is sound, and may well have more commits. So the file names the identity that the database
was made with, which has an incarnation in it that no other life has, and is written before the database is: the two
agree from the beginning to the end, whenever a process dies.
"""

from __future__ import annotations

import os
import struct
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from concoord_ray.errors import StorageCorrupt
from concoord_ray.storage.files import replace_file, sync
from concoord_ray.storage.rows import Identity

FILE_NAME = "watermark"
_NUMBER = struct.Struct(">Q")
_CHECKSUM_BYTES = 8
_encode_identity = msgspec.msgpack.Encoder().encode
_decode_identity = msgspec.msgpack.Decoder(Identity).decode


class Mark(NamedTuple):
    """What the file says."""

    commit: int
    identity: Identity


def read_watermark(directory: Path) -> Mark | None:
    """What the file says, None if there is none. Raises ``StorageCorrupt`` if it is damaged."""
    path = directory / FILE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    content, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if len(content) <= _NUMBER.size or _checksum(content) != checksum:
        raise StorageCorrupt(f"{path}: its {len(data)} bytes are not the number of a commit, whose it is, a checksum.")
    try:
        return Mark(_NUMBER.unpack_from(content)[0], _decode_identity(content[_NUMBER.size :]))
    except msgspec.MsgspecError as error:
        raise StorageCorrupt(f"{path}: it does not say whose it is as this version does: {error}") from error


class Watermark:
    """The file, open for writing."""

    def __init__(self, directory: Path, identity: Identity) -> None:
        self._identity = _encode_identity(identity)
        self._descriptor = os.open(directory / FILE_NAME, os.O_WRONLY)

    @staticmethod
    def create(directory: Path, identity: Identity) -> None:
        """Make the file, durably: nothing is acknowledged yet."""
        path = directory / FILE_NAME
        replace_file(path, [_encode(0, _encode_identity(identity))])

    def raise_to(self, commit: int) -> None:
        """Say that ``commit`` is durable, as it is."""
        # Every time as many bytes, some hundred of one sector: never seen half written.
        os.pwrite(self._descriptor, _encode(commit, self._identity), 0)

    def sync(self) -> None:
        """Make the number itself durable."""
        sync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _encode(commit: int, identity: bytes) -> bytes:
    content = _NUMBER.pack(commit) + identity
    return content + _checksum(content)


def _checksum(content: bytes) -> bytes:
    return blake2b(content, digest_size=_CHECKSUM_BYTES).digest()

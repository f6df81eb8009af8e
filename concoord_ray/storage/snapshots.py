"""Snapshots in files: what a replica starts from, and what a backup is.

A file is there as a whole or not at all, and is served only if every byte of it is what was written. It begins with a
header that says what it is (magic, format, ensemble, slot, Python version, length and checksum of the content) and has
a checksum of its own. A file that does not verify is renamed to ``*.corrupt``, and the one before it is tried: an older
snapshot is as true, there is only more log to execute after it. Of those that were renamed the last few are kept.

A **seed** is a snapshot that an ensemble is to begin with, written before its first view is decided. It may come to
nothing, so a seed alone is no reason to wait for the rest of it. Once the view is decided it is a snapshot as others
are: the replica renames it before it does anything, and a survey counts it if there is a birth certificate anywhere.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

import msgspec

from concoord_ray.errors import ConfigurationError, StorageCorrupt, StorageError
from concoord_ray.rsm.rope import Rope
from concoord_ray.storage.files import DirectoryLock, machine_faults, make_directory, replace_file, sync_directory

logger = logging.getLogger(__name__)

_MAGIC = b"concoord"
_FORMAT = 1
#: Magic, format, length of the header that follows; then comes the checksum of these and the header.
_PREAMBLE = struct.Struct(">8sHH")
_CHECKSUM_BYTES = 8
_DIGEST_BYTES = 32
_BLOCK_BYTES = 1 << 20
_NAME = re.compile(r"(?:snapshot|seed)-\d{20}")
_SEED = "seed-"
#: What the name of one that is not used any more ends with, and how many of these are kept to be looked at: a replica
#: that goes wrong again and again would fill the disk with them.
_ASIDE = ".corrupt"
_KEPT_ASIDE = 4


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What a file holds. ``python`` is the minor version (as in 3.11) that pickled it, and the one that can read it."""

    ensemble: str
    slot: int
    python: int
    length_bytes: int
    digest: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Header).decode


def write_file(path: Path, data: bytes | Rope, *, ensemble: str, slot: int) -> None:
    """Write a snapshot of an ensemble at a slot, durably, in place of any file of that name.

    Raises ``StorageFailed``; another attempt is then a new file, so it may succeed.
    """
    pieces = Rope.of(data).pieces
    digest = _digest(pieces, _DIGEST_BYTES)
    encoded = _encode(Header(ensemble, slot, sys.version_info.minor, len(data), digest))
    preamble = _PREAMBLE.pack(_MAGIC, _FORMAT, len(encoded))
    checksum = _digest((preamble, encoded), _CHECKSUM_BYTES)
    with machine_faults(path):
        replace_file(path, _blocks((preamble, checksum, encoded, *pieces)))


def checked_target(path: str | Path) -> Path:
    """Where a backup is to be. Raises ConfigurationError if there can be no file there: to make a backup takes long."""
    if not isinstance(path, (str, Path)):
        raise ConfigurationError(f"path={path!r}: give the path of the file to write.")
    target = Path(path)
    if target.exists() and not target.is_file():
        what = "a directory" if target.is_dir() else "no ordinary file"
        raise ConfigurationError(f"path={str(path)!r}: this is {what}. Give the path of the file to write.")
    if not target.parent.is_dir():
        raise ConfigurationError(f"path={str(path)!r}: there is no directory {target.parent} on this machine. Make it.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise ConfigurationError(f"path={str(path)!r}: this process may not write to the directory {target.parent}.")
    return target


def read_file(path: Path) -> tuple[Header, bytes]:
    """Read a snapshot back.

    Raises ``StorageCorrupt`` unless every byte is as written, ``StorageError`` if another version of concoord_ray wrote
    it, ``StorageFailed`` if it cannot be read.
    """
    with machine_faults(path), path.open("rb") as file:
        header = _read_header(path, file)
        data = file.read(header.length_bytes)
    _check_content(path, header, _digest((data,), _DIGEST_BYTES))
    return header, data


def verify_snapshot(path: Path, until_s: float) -> None:
    """Raise what a replica that starts from this file would, without keeping what is in it.

    What could not be read until ``until_s``, of the monotonic clock, is taken to be whole.
    """
    state = blake2b(digest_size=_DIGEST_BYTES)
    with machine_faults(path), path.open("rb") as file:
        header = _read_header(path, file)
        _check_name(path, header)
        while block := file.read(_BLOCK_BYTES):
            state.update(block)
            if time.monotonic() > until_s:
                return
    _check_content(path, header, state.digest())


def newest_first(directory: Path) -> list[Path]:
    """The snapshots in a replica's directory, sound or not, a seed too."""
    found = (path for path in directory.iterdir() if _NAME.fullmatch(path.name))
    return sorted(found, key=slot_of, reverse=True)


def slot_of(path: Path) -> int:
    """The slot that the name of a snapshot says."""
    return int(path.name.partition("-")[2])


def is_seed(path: Path) -> bool:
    """Whether it is a snapshot only if the ensemble has begun."""
    return path.name.startswith(_SEED)


def _read_header(path: Path, file: BinaryIO) -> Header:
    preamble = file.read(_PREAMBLE.size)
    if len(preamble) < _PREAMBLE.size or not preamble.startswith(_MAGIC):
        raise _corrupt(path, "it does not begin as a snapshot does")
    _, version, header_bytes = _PREAMBLE.unpack(preamble)
    checksum, encoded = file.read(_CHECKSUM_BYTES), file.read(header_bytes)
    if _digest((preamble, encoded), _CHECKSUM_BYTES) != checksum:
        raise _corrupt(path, "its header does not match the header's checksum")
    if version != _FORMAT:
        raise StorageError(f"{path} is of format {version}, not {_FORMAT}: read it with the version that wrote it.")
    header = _decode(encoded)
    length_bytes = path.stat().st_size - file.tell()
    if length_bytes != header.length_bytes:
        raise _corrupt(path, f"it holds {length_bytes} bytes of {header.length_bytes}")
    return header


def _check_content(path: Path, header: Header, digest: bytes) -> None:
    if digest != header.digest:
        raise _corrupt(path, "its content does not match the checksum")


def _check_name(path: Path, header: Header) -> None:
    if slot_of(path) != header.slot:
        raise _corrupt(path, f"it holds the snapshot of slot {header.slot}")


class SnapshotFiles:
    """The newest snapshots of one replica, in a directory that is this process's alone, and one thread's at a time."""

    def __init__(self, directory: Path, *, ensemble: str, keep: int = 2) -> None:
        """Create or open the directory, and remove what a crash has left half written.

        Raises ``StorageBusy`` if another process has it, ``StorageFailed`` if the machine does not let us.
        """
        if keep < 1:
            raise ConfigurationError(f"keep={keep}: keep at least one snapshot.")
        self._directory = directory
        self._ensemble = ensemble
        self._keep = keep
        with machine_faults(directory), ExitStack() as opened:
            make_directory(directory)
            self._lock = DirectoryLock(directory)
            opened.callback(self._lock.release)
            for partial in (*directory.glob("snapshot-*.tmp"), *directory.glob(f"{_SEED}*.tmp")):
                partial.unlink()
            sync_directory(directory)  # An earlier life may have died between the name of its last and the sync of it.
            opened.pop_all()

    @property
    def directory(self) -> Path:
        """Where the files are."""
        return self._directory

    @property
    def reach(self) -> int:
        """The slot of the newest snapshot, sound or not, -1 if there is none."""
        return max(map(slot_of, self._newest_first()[:1]), default=-1)

    def write(self, slot: int, data: bytes | Rope) -> Path:
        """Keep the snapshot at ``slot``, durably; the oldest beyond those to keep go. Raises ``StorageFailed``."""
        path = self._directory / f"snapshot-{slot:020}"
        write_file(path, data, ensemble=self._ensemble, slot=slot)
        with machine_faults(self._directory):
            for old in self._newest_first()[self._keep :]:
                old.unlink()
        return path

    def write_seed(self, slot: int, data: bytes) -> None:
        """Keep what the ensemble is to begin with, durably. Raises ``StorageFailed``."""
        write_file(self._directory / f"{_SEED}{slot:020}", data, ensemble=self._ensemble, slot=slot)

    def adopt_seed(self) -> None:
        """The ensemble has begun: its seed is a snapshot. Raises ``StorageFailed``."""
        with machine_faults(self._directory):
            for path in filter(is_seed, self._newest_first()):
                path.rename(path.with_name(f"snapshot-{slot_of(path):020}"))
                sync_directory(self._directory)

    def newest(self) -> tuple[int, bytes] | None:
        """Slot and content of the newest snapshot that is sound, None if there is none.

        Raises ``StorageError`` if it is another ensemble's, or of another Python version.
        """
        for path in self._newest_first():
            try:
                header, data = read_file(path)
                _check_name(path, header)
            except StorageCorrupt as error:
                aside = self._set_aside(path)
                logger.warning("%s It is now %s; the snapshot before it is tried.", error, aside.name)
            else:
                self._refuse_strangers(path, header)
                return header.slot, data
        return None

    def set_all_aside(self) -> None:
        """Go on from none of these any more: what they hold may be wrong. They are renamed, and the last few kept."""
        for path in reversed(self._newest_first()):
            self._set_aside(path)

    def close(self) -> None:
        """Let others have the directory."""
        self._lock.release()

    def _newest_first(self) -> list[Path]:
        return newest_first(self._directory)

    def _set_aside(self, path: Path) -> Path:
        aside = path.with_name(path.name + _ASIDE)
        with machine_faults(path):
            path.rename(aside)
            for old in sorted(self._directory.glob(f"snapshot-*{_ASIDE}"), key=_renamed_at)[:-_KEPT_ASIDE]:
                old.unlink()
            sync_directory(self._directory)
        return aside

    def _refuse_strangers(self, path: Path, header: Header) -> None:
        if header.ensemble != self._ensemble:
            raise StorageError(
                f"{path} is of ensemble {header.ensemble!r}, not of {self._ensemble!r}. "
                "Give each ensemble a directory of its own."
            )
        if header.python != sys.version_info.minor:
            raise StorageError(
                f"{path} was written by Python 3.{header.python}; what it holds can be read by that version alone, and "
                f"this is 3.{sys.version_info.minor}. Start the ensemble with the Python that it had."
            )


def _renamed_at(path: Path) -> tuple[int, str]:
    return path.stat().st_ctime_ns, path.name


def _blocks(pieces: Iterable[bytes]) -> Iterator[memoryview]:
    for piece in pieces:
        with memoryview(piece) as view:
            for begin in range(0, len(view), _BLOCK_BYTES):
                yield view[begin : begin + _BLOCK_BYTES]


def _digest(pieces: Iterable[bytes], size_bytes: int) -> bytes:
    state = blake2b(digest_size=size_bytes)
    for piece in pieces:
        state.update(piece)
    return state.digest()


def _corrupt(path: Path, reason: str) -> StorageCorrupt:
    return StorageCorrupt(f"{path}: {reason}. It is not used; take an older one, or a peer's.")

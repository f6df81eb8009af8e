"""The birth certificate of an ensemble on disk: what is needed to start it again when nothing of Ray is left.

Every acceptor's node has one, written before the acceptor answers anybody; so whatever was ever acknowledged, a
majority of the acceptors' nodes has it. It holds the secret: its directory is for the owner alone.
"""

from __future__ import annotations

import logging
import os
from hashlib import blake2b
from pathlib import Path

import msgspec

from concoord_ray.config import Config
from concoord_ray.errors import StorageCorrupt
from concoord_ray.paxos.view import View
from concoord_ray.storage.files import machine_faults, make_directory, replace_file, sync_directory

logger = logging.getLogger(__name__)

FILE_NAME = "birth"
_DIGEST_BYTES = 32


class Birth(msgspec.Struct, frozen=True):
    """How an ensemble began."""

    name: str
    ensemble: str
    secret: bytes
    config: Config
    #: When it was recovered, in seconds of wall time; 0 if it was not. The latest of a name is the one that counts.
    generation: int
    #: The view of epoch 0.
    view: View


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Birth).decode


def directory_of(storage: str, name: str, ensemble: str) -> Path:
    """Where a node keeps everything of an ensemble."""
    return Path(storage, name, ensemble)


def has_birth(storage: str, name: str, ensemble: str) -> bool:
    """Whether a sound one is there, and will be. Raises ``StorageFailed`` if it cannot be read."""
    path = directory_of(storage, name, ensemble) / FILE_NAME
    try:
        is_there = path.exists() and read_birth(path).ensemble == ensemble
    except StorageCorrupt as error:
        logger.warning("%s", error)
        return False
    if is_there:
        with machine_faults(path):
            sync_directory(path.parent)  # Who wrote it may not have come so far.
    return is_there


def write_birth(birth: Birth) -> None:
    """Write it, durably, unless a sound one is there. Raises ``StorageFailed``."""
    directory = directory_of(birth.config.storage, birth.name, birth.ensemble)
    with machine_faults(directory):
        make_directory(directory)
        directory.chmod(0o700)
        if not has_birth(birth.config.storage, birth.name, birth.ensemble):
            path, encoded = directory / FILE_NAME, _encode(birth)
            # Several members of a node may write it at once: each its own temporary, all the same content.
            temporary = path.with_name(f"{FILE_NAME}.{os.getpid()}.{id(birth)}.tmp")
            replace_file(path, temporary, (_digest(encoded), encoded))


def read_birth(path: Path) -> Birth:
    """Read it back. Raises ``StorageCorrupt`` unless it is as it was written, ``StorageFailed`` if unreadable."""
    with machine_faults(path):
        content = path.read_bytes()
    digest, encoded = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if _digest(encoded) != digest:
        raise StorageCorrupt(f"{path} is not as it was written. Another node of the ensemble has the same file.")
    return _decode(encoded)


def _digest(encoded: bytes) -> bytes:
    return blake2b(encoded, digest_size=_DIGEST_BYTES).digest()

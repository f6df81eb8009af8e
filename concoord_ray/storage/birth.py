"""The birth certificate of an ensemble on disk: what is needed to start it again when nothing of Ray is left.

Every acceptor's node has one, written before the acceptor answers anybody; so whatever was ever acknowledged, a
majority of the acceptors' nodes has it. A copy is in each acceptor's own directory, since one damaged block must not
make useless what is whole: any of them will do, and whichever is not sound is written again from one that is. It holds
the secret: the directory of all is for the owner alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

import msgspec

from concoord_ray.config import Config
from concoord_ray.errors import StorageCorrupt, StorageError
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


def find_birth(directory: Path, members: Iterable[Path]) -> tuple[Birth | None, dict[Path, StorageError]]:
    """The certificate of the ensemble in ``directory``, from there or else from its ``members``' directories.

    Also what is wrong with those that could not be used. Changes nothing.
    """
    faults: dict[Path, StorageError] = {}
    for path in (place / FILE_NAME for place in (directory, *members)):
        try:
            found = _read(path, directory.name)
        except StorageError as error:
            faults[path] = error
        else:
            if found is not None:
                return found, faults
    return None, faults


def is_certified(directory: Path, member: Path) -> bool:
    """Whether the ensemble's ``directory`` and that of its ``member`` have their certificates, and will have them.

    If one of the two is sound, the other is written from it. Raises ``StorageFailed`` if that cannot be done.
    """
    birth, faults = find_birth(directory, [member])
    for fault in faults.values():
        logger.warning("%s", fault)
    if birth is not None:
        _put(birth, directory, member)
    return birth is not None


def write_birth(birth: Birth, *members: Path) -> None:
    """Write it, durably, and copies for these members, wherever no sound one is. Raises ``StorageFailed``."""
    directory = directory_of(birth.config.storage, birth.name, birth.ensemble)
    with machine_faults(directory):
        make_directory(directory)
    _put(birth, directory, *members)


def _put(birth: Birth, directory: Path, *members: Path) -> None:
    with machine_faults(directory):
        directory.chmod(0o700)
    for place in (directory, *members):
        path = place / FILE_NAME
        with machine_faults(path):
            if _is_sound(path, birth.ensemble):
                sync_directory(place)  # Who wrote it may not have come so far.
                continue
            encoded = _encode(birth)
            # Several members of a node may write it at once: all of them the same.
            replace_file(path, (_digest(encoded), encoded))


def _is_sound(path: Path, ensemble: str) -> bool:
    try:
        return _read(path, ensemble) is not None
    except StorageCorrupt:
        return False


def _read(path: Path, ensemble: str) -> Birth | None:
    """The certificate of this ensemble, None if there is no file. Raises as ``read_birth`` does."""
    if not path.exists():
        return None
    birth = read_birth(path)
    if birth.ensemble != ensemble:
        raise StorageCorrupt(f"{path} is of ensemble {birth.ensemble}, not of {ensemble}, whose directory it is in.")
    return birth


def read_birth(path: Path) -> Birth:
    """Read it back. Raises ``StorageCorrupt`` unless it is as it was written, ``StorageFailed`` if unreadable."""
    with machine_faults(path):
        content = path.read_bytes()
    digest, encoded = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
    if _digest(encoded) != digest:
        raise StorageCorrupt(
            f"{path} is not as it was written. It is written again when the ensemble starts, for which a copy is "
            "needed: every acceptor's directory has one, and so has every other node with an acceptor."
        )
    return _decode(encoded)


def _digest(encoded: bytes) -> bytes:
    return blake2b(encoded, digest_size=_DIGEST_BYTES).digest()

"""Records, directories and a look at them, for the tests of ``storage``."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.messages import PValue
from concoord_ray.paxos.outputs import Accepted, Joined, Promised, Record
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.storage.durable import DurableStorage

INCARNATION = 0xFEDC_BA98_7654_3210  # 64 bits, the highest set: what SQLite's own integers do not hold.
LOW, HIGH = Ballot(1, 0, 7), Ballot(2, 1, 8)
VIEW = View(0, (Member(Role.ACCEPTOR, 0, INCARNATION),), (0,))
START: tuple[Record, ...] = (Joined(VIEW), Promised(0, LOW))


def accepted(slot: int, value: bytes = b"", ballot: Ballot = LOW, epoch: int = 0) -> Accepted:
    return Accepted(epoch, PValue(ballot, slot, value or b"value of %d" % slot))


def accepted_slots(slots: range) -> list[Record]:
    return [accepted(slot) for slot in slots]


@contextmanager
def opened(
    directory: Path, *, ensemble: str = "e", role: Role = Role.ACCEPTOR, index: int = 0, incarnation: int = INCARNATION
) -> Iterator[DurableStorage]:
    """The storage of acceptor 0 of ensemble "e", closed at the end."""
    storage = DurableStorage.open(directory, ensemble=ensemble, role=role, index=index, incarnation=incarnation)
    try:
        yield storage
    finally:
        storage.close()


@contextmanager
def flipped(path: Path, at: int, mask: int) -> Iterator[None]:
    """Bits of one byte of a file the other way round, meanwhile."""
    flip(path, at, mask)
    yield
    flip(path, at, mask)


def flip(path: Path, at: int, mask: int) -> None:
    """In place: to write a small file anew takes a disk much longer. Negative offsets are from the end."""
    with path.open("r+b", buffering=0) as file:
        at = file.seek(at, 2 if at < 0 else 0)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ mask]))


def records(directory: Path) -> list[Record]:
    """What a restarted acceptor would be given."""
    with opened(directory) as storage:
        return storage.load()


def crashed(directory: Path, to: Path, appends: Sequence[Sequence[Record]]) -> Path:
    """The directory ``to`` as a process that appended these leaves ``directory`` when it dies."""
    with opened(directory) as storage:
        for append in appends:
            storage.append(append)
        return shutil.copytree(directory, to)

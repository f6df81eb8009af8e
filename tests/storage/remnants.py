"""An ensemble as it lies on the disks of several nodes, for the tests of what is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from concoord_ray.config import Config
from concoord_ray.paxos.outputs import Accepted, Joined, Record, Truncated
from concoord_ray.paxos.view import Member, Role, View, stop_sign
from concoord_ray.storage.birth import Birth, directory_of, write_birth
from concoord_ray.storage.snapshots import SnapshotFiles
from tests.storage.pieces import HIGH, accepted, opened

NAME, ENSEMBLE = "default", "e" * 32


def acceptor(index: int, life: int = 1) -> Member:
    return Member(Role.ACCEPTOR, index, 100 * index + life)


def view(epoch: int, acceptors: Sequence[int | Member], replicas: int = 3, first_slot: int = 0) -> View:
    """Acceptors by index are in their first life."""
    members = tuple(each if isinstance(each, Member) else acceptor(each) for each in acceptors)
    return View(epoch, members, tuple(range(replicas)), first_slot)


FIRST = view(0, (0, 1, 2))


def birth(storage: Path, ensemble: str = ENSEMBLE, generation: int = 0, first: View = FIRST) -> Birth:
    return Birth(NAME, ensemble, b"s" * 32, Config(storage=str(storage)), generation, first)


def proposed(following: View) -> Accepted:
    """What an acceptor has of a stop-sign that it has accepted."""
    return accepted(following.first_slot - 1, stop_sign(following), HIGH, following.epoch - 1)


def dropped(below: int, first_epoch: int = 0) -> Truncated:
    return Truncated(below, first_epoch)


class Disk:
    """What one node has of the ensemble."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def certify(self, *members: Path, generation: int = 0, ensemble: str = ENSEMBLE) -> None:
        write_birth(birth(self.root, ensemble, generation), *members)

    def directory(self, role: Role, index: int) -> Path:
        return directory_of(str(self.root), NAME, ENSEMBLE) / f"{role}-{index}"

    def vote(self, index: int, *records: Record | View, life: int = 1) -> Path:
        """An acceptor that has joined these views, and what else it was told."""
        self.certify()
        directory = self.directory(Role.ACCEPTOR, index)
        told: list[Record] = [Joined(each) if isinstance(each, View) else each for each in records]
        with opened(directory, ensemble=ENSEMBLE, index=index, incarnation=acceptor(index, life).incarnation) as data:
            data.append(told)
            self.certify(directory)
        return directory

    def save(self, index: int, *slots: int) -> Path:
        """A replica with these snapshots."""
        directory = self.directory(Role.REPLICA, index)
        files = SnapshotFiles(directory, ensemble=ENSEMBLE)
        for slot in slots:
            files.write(slot, b"a state")
        files.close()
        return directory

    def sow(self, index: int, slot: int) -> Path:
        """A replica that has been given what the ensemble is to begin with."""
        directory = self.directory(Role.REPLICA, index)
        files = SnapshotFiles(directory, ensemble=ENSEMBLE)
        files.write_seed(slot, b"a seed")
        files.close()
        return directory

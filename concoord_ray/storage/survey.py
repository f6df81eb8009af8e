"""What a node's disk has of an ensemble: asked of every node when an ensemble is started that may have been before.

A survey changes nothing and keeps nobody out: it may run while another process starts the same ensemble, or while the
last one is still ending. What another process has is told apart from what is broken, so that it can be asked for again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import msgspec

from concoord_ray.errors import StorageCorrupt, StorageError
from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.outputs import Accepted, Joined, Record, Truncated
from concoord_ray.paxos.view import Role, View, following_view, is_stop_sign
from concoord_ray.storage.birth import Birth, directory_of, find_birth
from concoord_ray.storage.durable import read_contents
from concoord_ray.storage.files import LOCK_NAME, machine_faults
from concoord_ray.storage.places import places_of
from concoord_ray.storage.snapshots import is_seed, newest_first, slot_of, verify_snapshot

_MEMBER = re.compile(rf"({Role.ACCEPTOR}|{Role.REPLICA})-(\d+)(?:\.\d+)?")
#: How many replicas' snapshots are read at once: several of a machine are often on one disk.
_READERS = 4
#: The slot of a replica that has no snapshot.
NO_SNAPSHOT = -1


class Proposal(NamedTuple):
    """A view that may follow: an acceptor has accepted the stop-sign that says so."""

    ballot: Ballot
    view: View


class Votes(msgspec.Struct, frozen=True):
    """The memory of one acceptor."""

    incarnation: int
    #: How many commits it has made: of two copies of one memory, the one with fewer has forgotten some.
    commit: int
    #: The views that it takes part in; none if it was never taken in.
    joined: tuple[View, ...]
    proposed: tuple[Proposal, ...]
    #: It cannot show what it accepted for slots below this one.
    dropped_below: int

    @property
    def epoch(self) -> int:
        """The last that it has come to, -1 if none."""
        return max((view.epoch for view in self.joined), default=-1)


class Kept(msgspec.Struct, frozen=True):
    """What one node has of one ensemble."""

    ensemble: str
    #: None if neither it nor any copy is there, or sound; replicas do not write one.
    birth: Birth | None
    #: By index; None for an acceptor whose data are broken, or another process's.
    acceptors: dict[int, Votes | None]
    #: By index, the slot of the newest snapshot that can be had.
    replicas: dict[int, int]
    #: Directories that other processes have.
    in_use: tuple[str, ...] = ()
    #: What is wrong with what cannot be read.
    faults: tuple[str, ...] = ()
    #: Damaged copies of the birth certificate.
    broken_births: tuple[str, ...] = ()
    #: Damaged snapshots, as far as they were looked into.
    broken_snapshots: tuple[str, ...] = ()
    #: Replicas whose snapshot is a seed: it counts if there is a birth certificate, on this node or another.
    seeded: tuple[int, ...] = ()

    @property
    def has_memory(self) -> bool:
        """Whether anything in it may have been acknowledged to anybody."""
        return any(votes is not None and votes.joined for votes in self.acceptors.values()) or any(
            slot != NO_SNAPSHOT and index not in self.seeded for index, slot in self.replicas.items()
        )


def survey(storage: str, name: str) -> list[Kept]:
    """Every ensemble called ``name`` that there is something of here. Raises ``StorageFailed`` if we may not look."""
    root = Path(storage, name)
    with machine_faults(root):
        directories = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
        found = [_Look(directory).kept() for directory in directories]
    return [kept for kept in found if kept.birth is not None or kept.acceptors or kept.replicas]


def look_into_snapshots(storage: str, name: str, kept: Kept, patience_s: float) -> Kept:
    """``kept``, with only such snapshots in it as a replica could start from, the newest of each.

    It reads them, until one is whole; what it has not read after ``patience_s`` counts by its name.
    """
    until_s = time.monotonic() + patience_s
    directory = directory_of(storage, name, kept.ensemble)
    indices = [index for index, slot in kept.replicas.items() if slot != NO_SNAPSHOT]

    def sound(index: int) -> tuple[int, dict[str, str]]:
        places = [place.directory for place in places_of(directory / f"{Role.REPLICA}-{index}")]
        found = [_sound_snapshot_in(place, until_s) for place in places if place.is_dir() and not _is_locked(place)]
        broken = {path: fault for _, faults in found for path, fault in faults.items()}
        return max((slot for slot, _ in found), default=NO_SNAPSHOT), broken

    with ThreadPoolExecutor(_READERS) as readers:
        results = dict(zip(indices, readers.map(sound, indices), strict=True))
    broken = {path: fault for _, faults in results.values() for path, fault in faults.items()}
    return msgspec.structs.replace(
        kept,
        replicas={**kept.replicas, **{index: slot for index, (slot, _) in results.items()}},
        faults=(*kept.faults, *broken.values()),
        broken_snapshots=tuple(broken),
    )


def _sound_snapshot_in(directory: Path, until_s: float) -> tuple[int, dict[str, str]]:
    """The slot of the newest that is whole; and of those before it, what is wrong with them."""
    broken: dict[str, str] = {}
    with contextlib.suppress(FileNotFoundError):  # It was set aside just now.
        for path in newest_first(directory):
            try:
                verify_snapshot(path, until_s)
            except StorageCorrupt as error:
                broken[str(path)] = str(error)
            except StorageError as error:  # The replica will not look further, either.
                return NO_SNAPSHOT, {**broken, str(path): str(error)}
            else:
                return slot_of(path), broken
    return NO_SNAPSHOT, broken


class _Look:
    """At what one ensemble has on this node."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._in_use: list[str] = []
        self._faults: list[str] = []

    def kept(self) -> Kept:
        """All of it."""
        names = [_MEMBER.fullmatch(path.name) for path in sorted(self._directory.iterdir())]
        members = sorted({(name[1], int(name[2])) for name in names if name is not None})
        acceptors: dict[int, Votes | None] = {}
        replicas: dict[int, int] = {}
        seeded: list[int] = []
        for role, index in members:
            places = [place for place in places_of(self._directory / f"{role}-{index}") if place.directory.is_dir()]
            if role == Role.REPLICA:
                snapshots = [path for place in places for path in self._newest_in(place.directory)]
                newest = max(snapshots, key=slot_of, default=None)
                replicas[index] = NO_SNAPSHOT if newest is None else slot_of(newest)
                if newest is not None and is_seed(newest):
                    seeded.append(index)
                continue
            memories = [self._votes_in(place.directory) for place in places]
            known = [votes for votes in memories if isinstance(votes, Votes)]
            if known:
                # As the acceptor will choose: of those that have come as far, the latest.
                acceptors[index] = max(reversed(known), key=lambda votes: votes.epoch)
            elif _UNREADABLE in memories:
                acceptors[index] = None
        birth, broken = find_birth(
            self._directory,
            [
                place.directory
                for role, index in members
                if role == Role.ACCEPTOR
                for place in places_of(self._directory / f"{role}-{index}")
            ],
        )
        self._faults += map(str, broken.values())
        return Kept(
            self._directory.name,
            birth,
            acceptors,
            replicas,
            tuple(self._in_use),
            tuple(self._faults),
            tuple(map(str, broken)),
            seeded=tuple(seeded),
        )

    def _votes_in(self, directory: Path) -> Votes | str | None:
        """What is there; None if nothing ever was."""
        if self._is_in_use(directory):
            return _UNREADABLE
        try:
            found = read_contents(directory, _is_telling)
        except StorageError as error:
            if self._is_in_use(directory):  # Somebody has just started with it.
                return _UNREADABLE
            self._faults.append(str(error))
            return _UNREADABLE
        return None if found is None else _votes_of(found.incarnation, found.commit, found.records)

    def _newest_in(self, directory: Path) -> list[Path]:
        """The newest snapshot by its name: to read it all may take long, see ``look_into_snapshots``."""
        if self._is_in_use(directory):
            return []
        try:
            return newest_first(directory)[:1]
        except FileNotFoundError:  # It was set aside just now.
            return []

    def _is_in_use(self, directory: Path) -> bool:
        is_it = _is_locked(directory)
        if is_it:
            self._in_use.append(str(directory))
        return is_it


#: In the place of votes that cannot be read, though there may be some.
_UNREADABLE = "unreadable"


def _is_telling(record: Record) -> bool:
    """Whether a survey needs to know of it; all the rest is for the acceptor."""
    if isinstance(record, Accepted):
        return is_stop_sign(record.pvalue.value)
    return isinstance(record, (Joined, Truncated))


def _votes_of(incarnation: int, commit: int, records: list[Record]) -> Votes:
    joined = tuple(record.view for record in records if isinstance(record, Joined))
    below = max((record.below for record in records if isinstance(record, Truncated)), default=0)
    proposed = []
    for record in records:
        following = following_view(record.pvalue.value) if isinstance(record, Accepted) else None
        if isinstance(record, Accepted) and following is not None:
            proposed.append(Proposal(record.pvalue.ballot, following))
    return Votes(incarnation, commit, joined, tuple(proposed), below)


def _is_locked(directory: Path) -> bool:
    """Whether a process has it. The lock file stays as it is, and the question is over before it is in anybody's way:
    who opens a directory tries for a while.
    """
    try:
        descriptor = os.open(directory / LOCK_NAME, os.O_RDONLY)
    except FileNotFoundError:  # Nobody ever had it.
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

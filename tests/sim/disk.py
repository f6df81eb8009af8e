"""Where simulated members keep what outlives their process: acceptors their records, replicas their snapshots.

A disk belongs to a host and outlives its lives; what one life of an acceptor has of it is a ``Journal``.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from concoord_ray.paxos.outputs import Record
from concoord_ray.paxos.view import Member, View
from tests.sim.host import Host
from tests.sim.invariants import Watch
from tests.sim.store import Store

_encode_record = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(Record).decode


class Journal(Protocol):
    """The disk of an acceptor, as one life of it has it."""

    #: Whose records they are: a disk that knows makes its acceptor the one that it was.
    me: Member
    #: What was found.
    records: Sequence[Record]

    def submit(self, records: list[Record], release: Callable[[], None]) -> None:
        """Make records durable; call ``release`` when these and all before them are."""


class AcceptorDisk(Protocol):
    """The disk of an acceptor's host."""

    @property
    def remembers(self) -> bool:
        """Whether an acceptor that is down will come back as itself."""

    def open(self, fresh: Member, broken: Callable[[], None]) -> Journal:
        """Begin a life: as who the disk says, as ``fresh`` if it knows nothing. ``broken`` is called if it fails."""

    def wipe(self) -> None:
        """Lose everything. Only while the host is down."""

    def damage(self) -> None:
        """Spoil something. Only while the host is down."""


class Memory:
    """No disk: nothing outlives the process, and every record is at once as durable as it will be."""

    remembers = False

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def open(self, fresh: Member, broken: Callable[[], None]) -> Journal:
        return _MemoryJournal(fresh, self._watch)

    def wipe(self) -> None:
        """There is nothing."""

    def damage(self) -> None:
        """There is nothing."""


class _MemoryJournal:
    records: Sequence[Record] = ()

    def __init__(self, me: Member, watch: Watch) -> None:
        self.me = me
        self._watch = watch

    def submit(self, records: list[Record], release: Callable[[], None]) -> None:
        for record in records:
            self._watch.became_durable(self.me, record)
        release()


class ModelledDisk:
    """A ``Store``, which says whose it is before anything else: the identity is durable before its acceptor listens."""

    def __init__(self, store: Store, watch: Watch) -> None:
        self._store = store
        self._watch = watch
        self._identity: Member | None = None

    @property
    def remembers(self) -> bool:
        return self._identity is not None

    def open(self, fresh: Member, broken: Callable[[], None]) -> Journal:
        if self._identity is None:
            self._identity = fresh
        return GroupCommit(self._identity, self._store, self._watch, broken)

    def wipe(self) -> None:
        self._identity = None
        self._store.wipe()

    def damage(self) -> None:
        """It is noticed, whatever it is, and the acceptor begins anew."""
        self.wipe()


class GroupCommit:
    """At most one sync is under way; what is appended meanwhile waits for the next, and shares it."""

    def __init__(self, me: Member, store: Store, watch: Watch, broken: Callable[[], None]) -> None:
        self.me = me
        self.records: Sequence[Record] = [_decode_record(data) for data in store.recover().records]
        self._broken = broken
        self._store = store
        self._watch = watch
        self._seen_durable = len(store.durable)
        self._written = 0
        self._durable = 0
        self._is_syncing = False
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()

    def submit(self, records: list[Record], release: Callable[[], None]) -> None:
        for record in records:
            self._store.append(_encode_record(record))
        self._written += len(records)
        self._waiting.append((self._written, release))
        self._advance()

    def _advance(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._durable:
            self._waiting.popleft()[1]()
        if self._waiting and not self._is_syncing:
            self._is_syncing = True
            written = self._written
            self._store.sync(lambda error: self._synced(written, error))

    def _synced(self, written: int, error: OSError | None) -> None:
        if error is not None:  # Never retried: what is on the disk is not known any more.
            self._broken()
            return
        for data in self._store.durable_since(self._seen_durable):
            self._seen_durable += 1
            self._watch.became_durable(self.me, _decode_record(data))
        self._is_syncing = False
        self._durable = written
        self._advance()


class Saved(NamedTuple):
    """A snapshot on a disk: of the state when ``slot`` was next, in which view."""

    slot: int
    view: View
    data: bytes


class SnapshotDisk:
    """The snapshots of one replica, as ``storage.snapshots`` keeps them: the newest two, each there as a whole or not.

    A write takes a while; a crash leaves it undone, or done without anybody being told. What is damaged is noticed, and
    the one before it is used.
    """

    _KEPT = 2

    def __init__(self, host: Host, rng: random.Random) -> None:
        self._host = host
        self._rng = rng
        self._kept: list[Saved] = []
        self._writing: Saved | None = None
        host.on_crash(self._crashed)

    @property
    def newest(self) -> Saved | None:
        """What a life that begins now starts from."""
        return self._kept[0] if self._kept else None

    def write(self, saved: Saved, written: Callable[[], None]) -> None:
        """Write one; ``written`` is called on the host when it is there."""
        self._writing = saved
        self._host.trace.log(self._host.name, f"snapshot of slot {saved.slot} begun")

        def done() -> None:
            self._finish()
            written()

        self._host.after(self._rng.choice((0.001, 0.01, 0.3)) * (1 + self._rng.random()), done)

    def damage(self) -> None:
        """Spoil the newest."""
        if self._kept:
            self._host.trace.log(self._host.name, f"snapshot of slot {self._kept.pop(0).slot} damaged")

    def wipe(self) -> None:
        """Lose everything."""
        self._kept.clear()
        self._writing = None

    def _finish(self) -> None:
        if self._writing is not None:
            self._kept.insert(0, self._writing)
            del self._kept[self._KEPT :]
            self._writing = None

    def _crashed(self) -> None:
        if self._writing is not None and self._rng.random() < 0.5:
            self._finish()
        self._writing = None

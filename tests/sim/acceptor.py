"""An acceptor on a simulated host: the production core, a modelled disk, and the order between them.

Mirrors ``concoord_ray.roles.acceptor``: what a step asks to persist is durable before anything that the same or a later
step sends leaves. Several steps share one sync (group commit).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import msgspec

from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.messages import P1a, P2a, Ping
from concoord_ray.paxos.outputs import Outputs, Record
from concoord_ray.paxos.view import Member, View
from concoord_ray.roles.boot import decode, encode
from tests.sim.host import Host
from tests.sim.invariants import Watch
from tests.sim.network import Network
from tests.sim.store import Store

_encode_record = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(Record).decode


class Disk(Protocol):
    """Where an acceptor keeps its records."""

    def submit(self, records: list[Record], release: Callable[[], None]) -> None:
        """Make records durable; call ``release`` when these and all before them are."""


class Memory:
    """No disk: every record is at once as durable as it will be."""

    def __init__(self, me: Member, watch: Watch) -> None:
        self._me = me
        self._watch = watch

    def submit(self, records: list[Record], release: Callable[[], None]) -> None:
        for record in records:
            self._watch.became_durable(self._me, record)
        release()


class GroupCommit:
    """A modelled disk with at most one sync under way; what is appended meanwhile waits for the next."""

    def __init__(self, me: Member, store: Store, watch: Watch, broken: Callable[[], None]) -> None:
        self._me = me
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
            self._watch.became_durable(self._me, _decode_record(data))
        self._is_syncing = False
        self._durable = written
        self._advance()


def records_on(store: Store) -> list[Record]:
    """What an acceptor finds when it starts."""
    return [_decode_record(data) for data in store.recover().records]


class AcceptorShell:
    """One life of one acceptor."""

    def __init__(
        self,
        me: Member,
        host: Host,
        network: Network,
        watch: Watch,
        *,
        page_bytes: int,
        store: Store | None,
        broken: Callable[[], None],
    ) -> None:
        self.me = me
        self._network = network
        self._watch = watch
        self._core = Acceptor(me, page_bytes=page_bytes)
        records = [] if store is None else records_on(store)
        if records:
            watch.acceptor_restarted(me, records)
            self._core.restore(records)
        self._disk: Disk = Memory(me, watch) if store is None else GroupCommit(me, store, watch, broken)
        network.attach(me, host, self)

    @property
    def truncated_below(self) -> int:
        """What it has dropped."""
        return self._core.truncated_below

    def join(self, view: View) -> None:
        """Take part, if the view names this incarnation."""
        self._core.join(view)
        self._perform()

    # network.Endpoint

    def received(self, sender: Member, data: bytes) -> None:
        message = decode(data)
        assert isinstance(message, (P1a, P2a, Ping))
        self._core.receive(sender, message)
        self._perform()

    def opened(self, peer: Member) -> None:
        """An acceptor waits to be asked."""

    def closed(self, peer: Member) -> None:
        """An acceptor waits to be asked."""

    def _perform(self) -> None:
        outputs = self._core.outputs.take()
        self._watch.acceptor_stepped(self.me, outputs.persist)
        self._disk.submit(outputs.persist, lambda: self._send(outputs))

    def _send(self, outputs: Outputs) -> None:
        for send in outputs.send:
            self._watch.acceptor_sends(self.me, send)
            data = encode(send.message)
            for to in send.to:
                self._network.send(self.me, to, data)

"""Snapshots from replica to replica: who has fallen behind every log pulls one, chunk by chunk.

The receiver drives: it asks for one chunk after the other, of whoever answers, so that a large snapshot never fills a
connection that other messages need, and nobody keeps track of receivers. Whoever is asked makes a snapshot unless it
holds one that will do, and forgets it when nobody has pulled for a while. The leader is asked last: it has other work.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from concoord_ray.config import Config
from concoord_ray.paxos.messages import SnapshotChunk, SnapshotComing, SnapshotPull
from concoord_ray.paxos.view import Member
from concoord_ray.rsm.rope import Rope

#: After how many intervals of retransmission of silence another replica is asked.
_PATIENCE = 20
#: For how many of them one that says that it makes a snapshot is waited for.
_LONG_PATIENCE = 240
#: A question is repeated after so many times what the last answer took: a slow link must not fill up with answers.
_SLOWER = 4
#: In a pull: any snapshot will do that is new enough.
_ANY = -1


class Snapshot(NamedTuple):
    """The state machine's state when ``slot`` was next, as bytes (``rsm.snapshot``)."""

    slot: int
    data: Rope


def of_no_use(slot: int) -> SnapshotChunk:
    """The answer of who has nothing beyond this slot: another is to be asked."""
    return SnapshotChunk(slot, _ANY, 0, 0, b"")


class SnapshotSource:
    """What one replica gives to others."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._held: Snapshot | None = None
        #: Of the snapshot that is held; no other of this life has it.
        self._number = 0
        self._pulled_at_s = 0.0
        self._waiting: dict[Member, SnapshotPull] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a snapshot to be made."""
        return bool(self._waiting)

    def pull(
        self, receiver: Member, pull: SnapshotPull, first_slot: int, next_slot: int, now_s: float
    ) -> SnapshotChunk | SnapshotComing:
        """The chunk that was asked for, or the word that a snapshot has to be made first.

        This log goes from ``first_slot`` to ``next_slot``. Who has come no further than the receiver says so at once.
        """
        if next_slot <= pull.above:
            return of_no_use(next_slot)
        held = self._held
        if held is not None and held.slot >= max(first_slot, pull.above + 1) and pull.number in (_ANY, self._number):
            self._pulled_at_s = now_s
            return self._chunk(held, pull.offset)
        self._waiting[receiver] = pull
        return SnapshotComing(pull.above)

    def made(self, snapshot: Snapshot, now_s: float) -> list[tuple[Member, SnapshotChunk]]:
        """A snapshot was made: the first chunk of it for everybody who waits."""
        self._held = snapshot
        self._number += 1
        self._pulled_at_s = now_s
        waiting, self._waiting = self._waiting, {}
        return [(to, self._chunk(snapshot, 0)) for to, pull in waiting.items() if snapshot.slot > pull.above]

    def drop(self) -> None:
        """What is held must not be given to anyone."""
        self._held = None

    def tick(self, now_s: float) -> None:
        """Forget what nobody pulls."""
        if self._held is not None and now_s - self._pulled_at_s > self._config.snapshot_keep_s:
            self._held = None

    def _chunk(self, held: Snapshot, offset: int) -> SnapshotChunk:
        data = held.data.cut(offset, self._config.snapshot_chunk_bytes)
        return SnapshotChunk(held.slot, self._number, offset, len(held.data), data)


class SnapshotSink:
    """What one replica that is behind has received so far."""

    def __init__(self, config: Config) -> None:
        self._interval_s = config.retransmit_interval_s
        self._source: Member | None = None
        self._number = _ANY
        self._received = Rope()
        #: When this source was first asked, when it last said something, and when it was last asked.
        self._chosen_at_s = 0.0
        self._heard_at_s = 0.0
        self._asked_at_s = 0.0
        self._patience_s = self._interval_s

    def stop(self) -> None:
        """Nothing is missing any more."""
        if self._source is not None:
            self._source = None
            self._restart()

    def tick(self, above: int, sources: tuple[Member, ...], now_s: float) -> list[tuple[Member, SnapshotPull]]:
        """Ask, or ask again; somebody else if the one who was asked stays silent. ``sources`` are in order."""
        if self._source not in sources or now_s - self._heard_at_s > max(
            _PATIENCE * self._interval_s, self._patience_s
        ):
            if not sources:
                return []
            place = sources.index(self._source) + 1 if self._source in sources else 0
            self._source = sources[place % len(sources)]
            self._restart()
            self._patience_s = self._interval_s
            self._chosen_at_s = self._heard_at_s = now_s
            return self._ask(above, now_s)
        if now_s - self._asked_at_s < self._patience_s:
            return []
        self._patience_s *= 2
        return self._ask(above, now_s)

    def wait(self, source: Member, now_s: float) -> None:
        """The source says that it makes a snapshot."""
        if source == self._source and now_s - self._chosen_at_s < _LONG_PATIENCE * self._interval_s:
            self._heard_at_s = now_s
            self._patience_s = self._interval_s * _SLOWER

    def receive(
        self, source: Member, chunk: SnapshotChunk, above: int, now_s: float
    ) -> tuple[Snapshot | None, list[tuple[Member, SnapshotPull]]]:
        """Take in a chunk; gives the snapshot when it is whole, and what to ask for next."""
        if source != self._source:
            return None, []
        if chunk.slot <= above:  # Of no use: another may have come further.
            self._heard_at_s = -math.inf
            return None, []
        if self._number == _ANY and chunk.offset == 0:
            self._number = chunk.number
        if chunk.number != self._number or chunk.offset != len(self._received):
            if chunk.offset == 0 and chunk.number != self._number:  # It had to make another one: begin anew.
                self._restart()
                return None, self._ask(above, now_s)
            return None, []
        if not chunk.data or len(self._received) + len(chunk.data) > chunk.size_bytes:
            return None, []  # More than was announced: no snapshot of ours.
        took_s = min(now_s - self._heard_at_s, _PATIENCE * self._interval_s)  # Asked for when the one before came.
        self._patience_s = max(self._interval_s, _SLOWER * took_s)
        self._heard_at_s = now_s
        self._received.write(chunk.data)
        if len(self._received) < chunk.size_bytes:
            return None, self._ask(above, now_s)
        whole = Snapshot(chunk.slot, self._received)
        self._restart()
        return whole, []

    def _ask(self, above: int, now_s: float) -> list[tuple[Member, SnapshotPull]]:
        self._asked_at_s = now_s
        return [] if self._source is None else [(self._source, SnapshotPull(above, self._number, len(self._received)))]

    def _restart(self) -> None:
        self._number = _ANY
        self._received = Rope()

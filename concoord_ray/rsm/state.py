"""How one replica's state is kept the same as the others': it catches up by snapshot, and is compared at checkpoints.

A replica that has fallen behind every log, or that a majority has found to be wrong, goes on from another's snapshot.
In the first case its log goes on there too; in the second it has the log, and executes it again from there. While it is
wrong it neither leads, nor gives its state to anyone, nor saves it; and what it has saved before is set aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Union

from concoord_ray.config import Config
from concoord_ray.paxos.messages import SnapshotChunk, SnapshotComing, SnapshotPull
from concoord_ray.paxos.outputs import Send
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member, following_view
from concoord_ray.rsm.checkpoint import Checkpoint
from concoord_ray.rsm.divergence import Comparison, Halt, Reinstall
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.snapshot import header as snapshot_header
from concoord_ray.rsm.transfer import Snapshot, SnapshotSink, SnapshotSource, of_no_use

#: What replicas tell each other of their states.
StateMessage = Union[SnapshotPull, SnapshotChunk, SnapshotComing, Checkpoint, Reinstall, Halt]


class StateKeeping:
    """Snapshots and checkpoints of one replica. Pure: what it wants sent goes into the replica's outputs."""

    def __init__(self, replica: Replica, config: Config) -> None:
        #: A snapshot to go on from, before anything that is decided now.
        self.install: Rope | None = None
        #: What was saved of this state must not be gone on from: it may be as wrong.
        self.discard_saved = False
        #: Why no call is answered any more, empty as long as they are.
        self.halted = ""
        self._replica = replica
        self._source = SnapshotSource(config)
        self._sink = SnapshotSink(config)
        self._comparison = Comparison()
        #: Whose state is right, while this replica's is not.
        self._right: tuple[Member, ...] = ()

    @property
    def is_wrong(self) -> bool:
        """Whether a majority has found this replica's state to be another than its own."""
        return bool(self._right)

    @property
    def wants_snapshot(self) -> bool:
        """Whether another replica waits for a snapshot of this one's state."""
        return self._source.is_wanted and not self.is_wrong

    def made(self, snapshot: Snapshot, now_s: float) -> None:
        """A snapshot of this replica's state, for whoever waits."""
        if not self.is_wrong:
            self._send_all(self._source.made(snapshot, now_s))

    def reached(self, checkpoint: Checkpoint, now_s: float) -> None:
        """The executor has come to a checkpoint: the leader compares it."""
        replica = self._replica
        if replica.is_leader:
            self._compare(replica.me, checkpoint, now_s)
        elif replica.election.leader is not None:
            self._send_all([(replica.election.leader, checkpoint)])

    def receive(self, source: Member, message: StateMessage, now_s: float) -> None:
        """Step with a message of another replica."""
        if isinstance(message, SnapshotPull):
            self._send_all([(source, self._answer(source, message, now_s))])
        elif isinstance(message, SnapshotComing):
            self._sink.wait(source, now_s)
        elif isinstance(message, SnapshotChunk):
            snapshot, asking = self._sink.receive(source, message, self._above(), now_s)
            self._send_all(asking)
            if snapshot is not None:
                self.go_on_from(snapshot.data, now_s)
        elif isinstance(message, Checkpoint):
            self._compare(source, message, now_s)
        else:
            self._obey(message, now_s)

    def go_on_from(self, snapshot: bytes | Rope, now_s: float) -> None:
        """Take over the state of a snapshot, unless this replica is right and has come further."""
        replica, header = self._replica, snapshot_header(snapshot)
        view = following_view(header.extra) or replica.view
        if replica.install(view, header.next_slot, now_s) or (self._right and replica.again_from(header.next_slot)):
            self.install = Rope.of(snapshot)
            self._right = ()
            replica.election.is_barred = False

    def tick(self, now_s: float) -> None:
        """Ask for what is missing, forget what nobody asks for."""
        replica = self._replica
        self._source.tick(now_s)
        if not replica.is_behind and not self._right:
            self._sink.stop()
            return
        leader = replica.election.leader
        among = tuple(peer for peer in replica.peers if not self._right or peer in self._right)
        sources = tuple(sorted(among, key=lambda peer: (peer == leader, peer.index)))
        self._send_all(self._sink.tick(self._above(), sources, now_s))

    def _answer(self, source: Member, pull: SnapshotPull, now_s: float) -> SnapshotChunk | SnapshotComing:
        if self.is_wrong:
            return of_no_use(pull.above)
        log = self._replica.learner
        return self._source.pull(source, pull, log.first_slot, log.next_slot, now_s)

    def _above(self) -> int:
        """A snapshot is of use if it goes beyond this; of one that corrects us, any is."""
        return -1 if self._right else self._replica.learner.next_slot

    def _compare(self, replica: Member, checkpoint: Checkpoint, now_s: float) -> None:
        if self._replica.is_leader:
            for to, order in self._comparison.add(replica, checkpoint, self._replica.view):
                if to == self._replica.me:
                    self._obey(order, now_s)
                else:
                    self._send_all([(to, order)])

    def _obey(self, order: Reinstall | Halt, now_s: float) -> None:
        if isinstance(order, Halt):
            self.halted = order.text
        else:
            self._right = order.sources
            self._source.drop()
            self._replica.election.is_barred = self.discard_saved = True
        if self._replica.is_leader or self._replica.leader.is_scouting:  # Its answers may be wrong.
            self._replica.abdicate(now_s)

    def _send_all(self, messages: Sequence[tuple[Member, Any]]) -> None:
        self._replica.outputs.send.extend(Send((to,), message) for to, message in messages)

"""A replica as its clients see it: requests become batches, decisions become replies.

Pure, like everything below it. It owns the replica's part in consensus and talks to the executor only through what its
role carries between them: ``decisions`` and ``reads`` go out to be executed in that order, ``executed`` and ``read``
bring back what came of them. User code so never holds up heartbeats, elections or the log.

Invariants:

- an entry is proposed by whichever leader it was sent to, any number of times; the executor executes it once;
- a reply goes to everyone who asked for it in this leadership. Routes are not replicated: at every change of leadership
  clients are told, and send again what is unanswered;
- what is taken and not executed is bounded (``backlog``, ``readings``); who asks for more is told that we are busy;
- the leader alone judges leases, on its own monotonic clock, from the moment when it began to lead. Its judgement takes
  effect only through the log, and is void if the session logged anything that the leader had not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from concoord_ray.config import Config
from concoord_ray.errors import Diverged
from concoord_ray.paxos.messages import Message, SnapshotChunk, SnapshotComing, SnapshotPull
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member, Role
from concoord_ray.rsm.backlog import Backlog, size_of
from concoord_ray.rsm.calls import Applied, too_large
from concoord_ray.rsm.checkpoint import Checkpoint
from concoord_ray.rsm.command import (
    Batch,
    Busy,
    Entry,
    ExpireSession,
    KeepAlive,
    Kept,
    Leading,
    NotLeader,
    Outcome,
    Read,
    Refusal,
    Reply,
    Request,
    ServiceMessage,
)
from concoord_ray.rsm.divergence import Halt, Reinstall
from concoord_ray.rsm.readings import Readings
from concoord_ray.rsm.state import StateKeeping, StateMessage
from concoord_ray.rsm.wire import encode_message

#: Within how many heartbeats a majority of the acceptors is heard from.
_HEARD_HEARTBEATS = 5


class ToClient(NamedTuple):
    """One message for a client or gateway."""

    to: Member
    message: ServiceMessage


@dataclass(slots=True)
class _Lease:
    ttl_s: float
    until_s: float


class Service:
    """The front of one replica. ``flush`` at the end of every loop turn proposes what has gathered."""

    def __init__(self, replica: Replica, config: Config, now_s: float) -> None:
        self.replica = replica
        #: What the role sends to clients, in order.
        self.to_clients: list[ToClient] = []
        #: How this replica's state is kept the same as the others'.
        self.state = StateKeeping(replica, config)
        self._config = config
        self._clients: dict[Member, None] = {}
        self._routes: dict[tuple[int, int], list[Member]] = {}
        self._backlog = Backlog(config)
        self._leases: dict[int, _Lease] = {}
        self._readings = Readings(replica, config, self._may_answer)
        #: Clients that do not take what they were sent: their connections have no room.
        self._crowded: set[Member] = set()
        #: Sessions that have too many results waiting for them.
        self._overfull: tuple[int, ...] = ()
        self._standing: tuple[bool, int | None, bool] = (False, None, True)
        self._time_ns = 0
        self._time_at_s = now_s
        self._next_deadline_ns: int | None = None
        self._deadline_proposed_ns = -1
        self._ticked_at_s = now_s
        #: Every slot below this one is applied here.
        self.applied_slot = 0

    @property
    def wants_flush(self) -> bool:
        """Whether ``flush`` has something to propose or reads to move on."""
        return (bool(self._backlog) and self._has_window) or self._readings.wants_flush

    @property
    def _has_window(self) -> bool:
        """Whether another slot may be proposed: a large one goes alone, since it takes all that the network has."""
        config, leader = self._config, self.replica.leader
        if not leader.may_propose or leader.slots_in_flight >= config.max_slots_in_flight:
            return False
        return self._backlog.in_flight_bytes(self.replica.learner.next_slot) < config.max_bytes_in_flight

    @property
    def reads(self) -> list[Entry]:
        """Reads to execute, after every decision that is in ``replica.outputs`` by now; for the role to take."""
        return self._readings.ready

    @reads.setter
    def reads(self, left: list[Entry]) -> None:
        self._readings.ready = left

    def crowded(self, client: Member) -> None:
        """The client does not take what it was sent: no results are made for it until it has room."""
        self._crowded.add(client)

    def has_room(self, client: Member) -> None:
        """The client takes results again."""
        self._crowded.discard(client)
        self._readings.room()

    # Events.

    def receive_peer(self, source: Member, message: Message | StateMessage, now_s: float) -> None:
        """Step with a message from an acceptor or another replica."""
        if isinstance(message, (SnapshotPull, SnapshotChunk, SnapshotComing, Checkpoint, Reinstall, Halt)):
            self.state.receive(source, message, now_s)
        else:
            self.replica.receive(source, message, now_s)
        self._notice_leadership(now_s)

    def connected(self, peer: Member, now_s: float) -> None:
        """A connection is open: peers hear what they missed, clients who leads."""
        if peer.role in (Role.ACCEPTOR, Role.REPLICA):
            self.replica.connected(peer, now_s)
        elif peer.role in (Role.CLIENT, Role.GATEWAY):
            self._clients[peer] = None
            self._tell_standing(peer)

    def disconnected(self, peer: Member, now_s: float) -> None:
        """A connection was closed."""
        if peer.role in (Role.CLIENT, Role.GATEWAY):
            self._clients.pop(peer, None)
            self.has_room(peer)
            for route in self._routes.values():
                if peer in route:
                    route.remove(peer)
        else:
            self.replica.disconnected(peer, now_s)

    def receive_client(self, client: Member, message: ServiceMessage, now_s: float) -> None:
        """Step with a message from a client or gateway."""
        if self.state.halted and isinstance(message, (Request, Read)):
            refusal = encode_message(Refusal(Diverged.__name__, self.state.halted))
            entry = message.entry
            self.to_clients.append(ToClient(client, Reply(entry.session, entry.seq, Outcome.REFUSED, refusal)))
        elif not self.replica.is_leader:
            self._tell_standing(client)
        elif isinstance(message, Request):
            self._receive_request(client, message.entry, now_s)
        elif isinstance(message, Read):
            self._receive_read(client, message.entry, now_s)
        elif isinstance(message, KeepAlive) and self._keeps(message.session, now_s):
            self.to_clients.append(ToClient(client, Kept(message.session, message.sent_ns)))

    def executed(self, applied: Applied, now_s: float) -> None:
        """The executor has applied some slots."""
        self.applied_slot = self.replica.truncation.applied_slot = applied.next_slot
        if applied.time_ns > self._now_ns(now_s) or not self.replica.is_leader:
            self._time_ns, self._time_at_s = applied.time_ns, now_s
        self._next_deadline_ns = applied.next_deadline_ns
        self._backlog.applied(applied.next_slot)
        self._overfull = applied.crowded
        if applied.size is not None:
            self.replica.membership.resize(applied.size, applied.resized_slot)
        for session, ttl_ns in applied.opened:
            self._leases[session] = _Lease(ttl_ns / 1e9, now_s + ttl_ns / 1e9)
        for session in applied.ended:
            self._leases.pop(session, None)
        for checkpoint in applied.checkpoints:
            self.state.reached(checkpoint, now_s)
        self._notice_leadership(now_s)  # Who has just been found to be wrong gives no answers: nobody waits for them.
        for reply in applied.replies:
            self.answer(reply)

    def answer(self, reply: Reply) -> None:
        """Give a reply to everyone who asked for it."""
        key = reply.session, reply.seq
        route = self._routes.pop(key, None)
        if route is not None:
            self._readings.answered(key, len(reply.payload))
            if len(reply.payload) > self._config.max_payload_bytes:
                reply = self._too_large(reply.session, reply.seq, "its result", len(reply.payload))
            for client in route:
                self.to_clients.append(ToClient(client, reply))

    def tick(self, now_s: float) -> None:
        """Step with the passing of time, after everything that had arrived was received."""
        if now_s - self._ticked_at_s > self._config.election_timeout_s:
            self._restart_leases(now_s)  # Our own pause, not the clients' silence.
        self._ticked_at_s = now_s
        self.replica.tick(now_s)
        self._notice_leadership(now_s)
        self.state.tick(now_s)
        if self.replica.is_leader:
            self._expire_leases(now_s)

    def flush(self, now_s: float, wall_ns: int) -> None:
        """End of a loop turn: propose what waits, as one slot or as few as bounds allow; move reads on."""
        if not self.replica.is_leader:
            return
        config, leader = self._config, self.replica.leader
        while self._backlog and self._has_window:
            self._propose(self._backlog.next_batch(), now_s, wall_ns)
        deadline_ns = self._next_deadline_ns
        if (
            deadline_ns is not None
            and deadline_ns > self._deadline_proposed_ns
            and deadline_ns <= self._now_ns(now_s)
            and leader.may_propose
            and leader.slots_in_flight < config.max_slots_in_flight
        ):
            self._propose((), now_s, wall_ns)
        self._readings.advance(now_s)

    def _is_connected(self, now_s: float) -> bool:
        """Whether a majority of the acceptors has just answered.

        Who is cut off from them may have a successor, which judges leases by itself: what it says of them is no news.
        """
        return now_s - self.replica.majority_heard_at_s <= _HEARD_HEARTBEATS * self._config.heartbeat_interval_s

    # Requests.

    def _receive_request(self, client: Member, entry: Entry, now_s: float) -> None:
        if client.role is Role.CLIENT:
            self._renew(entry.session, now_s)
        key = (entry.session, entry.seq)
        route = self._routes.get(key)
        if route is not None:  # On its way, or parked: whoever asks again is answered too.
            if client not in route:
                route.append(client)
        elif size_of(entry) > self._config.max_payload_bytes:
            refusal = self._too_large(*key, "it", size_of(entry))
            self.to_clients.append(ToClient(client, refusal))
        elif self._backlog.is_full or self._log_is_full():
            self.to_clients.append(ToClient(client, Busy(*key)))
        else:
            self._routes[key] = [client]
            self._backlog.take(entry)

    def _receive_read(self, client: Member, entry: Entry, now_s: float) -> None:
        if client.role is Role.CLIENT:
            self._renew(entry.session, now_s)
        key = (entry.session, entry.seq)
        route = self._routes.get(key)
        if route is not None:
            if client not in route:
                route.append(client)
        elif self._readings.is_full:
            self.to_clients.append(ToClient(client, Busy(*key)))
        else:
            self._routes[key] = [client]
            self._readings.take(entry)

    def _may_answer(self, key: tuple[int, int]) -> bool:
        """Whether somebody who asked has room for the answer, or nobody is there any more."""
        route = self._routes.get(key)
        return not route or not self._crowded.issuperset(route)

    def _log_is_full(self) -> bool:
        """Some replica still needs more of the log than is kept: commands wait until it has caught up, or has left."""
        return self.replica.learner.log_bytes >= self._config.max_log_bytes

    def _too_large(self, session: int, seq: int, what: str, size_bytes: int) -> Reply:
        error = too_large(seq, what, size_bytes, self._config.max_payload_bytes)
        refusal = Refusal(type(error).__name__, str(error))
        return Reply(session, seq, Outcome.REFUSED, encode_message(refusal))

    def _propose(self, entries: tuple[Entry, ...], now_s: float, wall_ns: int) -> None:
        stamp_ns = self._now_ns(now_s)
        self._deadline_proposed_ns = stamp_ns
        batch = Batch(stamp_ns, wall_ns, entries, crowded=self._overfull)
        slot = self.replica.propose(encode_message(batch), now_s)
        self._backlog.proposed(slot, entries)

    def _now_ns(self, now_s: float) -> int:
        """Ensemble time: on from the last stamp that we know to be applied, at our monotonic rate."""
        return self._time_ns + max(0, int((now_s - self._time_at_s) * 1e9))

    # Leases.

    def _keeps(self, session: int, now_s: float) -> bool:
        """Whether to answer. Session 0 is nobody's: whoever waits for a long time asks whether we live."""
        return session == 0 or (self._renew(session, now_s) and self._is_connected(now_s))

    def _renew(self, session: int, now_s: float) -> bool:
        lease = self._leases.get(session)
        if lease is not None:
            lease.until_s = now_s + lease.ttl_s
        return lease is not None

    def _restart_leases(self, now_s: float) -> None:
        for lease in self._leases.values():
            lease.until_s = now_s + lease.ttl_s

    def _expire_leases(self, now_s: float) -> None:
        seen_slot = self.replica.learner.next_slot - 1
        for session, lease in self._leases.items():
            if lease.until_s <= now_s:
                lease.until_s = now_s + lease.ttl_s  # If the log says otherwise, judge again after another lease.
                self._backlog.take(Entry(0, 0, (), encode_message(ExpireSession(session, seen_slot))))

    # Leadership, as clients are told of it.

    def _notice_leadership(self, now_s: float) -> None:
        replica = self.replica
        leader = replica.election.leader
        has_quorum = leader is not None or replica.has_quorum(now_s)
        standing = (replica.is_leader, leader.index if leader is not None else None, has_quorum)
        if standing == self._standing:
            return
        was_leader, self._standing = self._standing[0], standing
        if replica.is_leader and not was_leader:
            self._time_at_s = now_s
            self._deadline_proposed_ns = -1
            self._restart_leases(now_s)
        elif was_leader and not replica.is_leader:
            self._routes.clear()
            self._backlog.clear()
            self._readings.clear()
        for client in self._clients:
            self._tell_standing(client)

    def _tell_standing(self, client: Member) -> None:
        is_leader, leader, has_quorum = self._standing
        message: ServiceMessage = Leading() if is_leader else NotLeader(leader, has_quorum)
        self.to_clients.append(ToClient(client, message))

"""The connection flavour: per pair of members one duplex stream that opens, carries in order, and closes.

Each end has its own belief. An end stops believing when its peer's close reaches it, when it notices that the link is
cut, or when it closes by itself; only when neither end believes any more is the pair connected anew. So no message of
an old connection is ever seen in a new one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from concoord_ray.paxos.view import Member
from tests.sim.clock import Scheduler, to_ns

if TYPE_CHECKING:
    from tests.sim.network import Network

Pair = tuple[Member, Member]


def _pair(one: Member, other: Member) -> Pair:
    return (one, other) if one <= other else (other, one)


class _Pipe:
    """One direction: items in order, each with the earliest time at which it may arrive. ``None`` is the close."""

    __slots__ = ("free_ns", "queue", "scheduled")

    def __init__(self) -> None:
        self.queue: deque[tuple[int, bytes | None]] = deque()
        self.scheduled = False
        #: When all that was sent has left.
        self.free_ns = 0


class _Connection:
    """Two pipes, the ends that have not closed, and the closed ends that have yet to be told."""

    def __init__(self, pair: Pair, hosts: tuple[str, str]) -> None:
        self.pair = pair
        self.host_of = dict(zip(pair, hosts, strict=True))
        self.pipe_to = {member: _Pipe() for member in pair}
        #: Where the network is thin: for what overtakes.
        self.urgent_pipe_to = {member: _Pipe() for member in pair}
        #: True once the end was told that it is connected: only then may it send.
        self.ends: dict[Member, bool] = dict.fromkeys(pair, False)
        self.untold: dict[Member, None] = {}

    def drop(self, to: Member) -> None:
        """What is under way to one end is lost."""
        self.pipe_to[to].queue.clear()
        self.urgent_pipe_to[to].queue.clear()

    def peer(self, member: Member) -> Member:
        return self.pair[1] if member == self.pair[0] else self.pair[0]


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in what one end of a connection sends: implements ``roles.bulk.Mark``."""

    connection: _Connection
    to: Member
    free_ns: int
    scheduler: Scheduler

    @property
    def has_passed(self) -> bool:
        return self.to not in self.connection.ends or self.scheduler.now_ns >= self.free_ns


class Connections:
    """All connections of a network."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._wanted: dict[Pair, dict[Member, None]] = {}
        self._current: dict[Pair, _Connection] = {}
        self._opening: dict[Pair, None] = {}

    def connect(self, member: Member, peer: Member) -> None:
        self._wanted.setdefault(_pair(member, peer), {})[member] = None
        self._open_soon(_pair(member, peer))

    def disconnect(self, member: Member, peer: Member) -> None:
        pair = _pair(member, peer)
        self._unwant(pair, member)
        connection = self._current.get(pair)
        if connection is not None and member in connection.ends:
            self._close_end(connection, member, flush=True)

    def is_open(self, member: Member, peer: Member) -> bool:
        connection = self._current.get(_pair(member, peer))
        return connection is not None and connection.ends.get(member, False)

    def waiting_bytes(self, member: Member, peer: Member) -> int:
        connection = self._current.get(_pair(member, peer))
        if connection is None:
            return 0
        waiting_ns = connection.pipe_to[peer].free_ns - self._network.scheduler.now_ns
        return max(0, round(waiting_ns * self._network.profile.bytes_per_s / 1e9))

    def mark(self, member: Member, peer: Member) -> Mark | None:
        connection = self._current.get(_pair(member, peer))
        if connection is None:
            return None
        return Mark(connection, peer, connection.pipe_to[peer].free_ns, self._network.scheduler)

    def send(self, sender: Member, to: Member, data: bytes, *, urgent: bool) -> None:
        connection = self._current.get(_pair(sender, to))
        if connection is None or not connection.ends.get(sender, False):
            self._network.lose(sender, to, data, "not connected")
        elif to not in connection.ends:
            self._network.lose(sender, to, data, "connection closed")
        else:
            self._enqueue(connection, to, data, urgent=urgent)

    def member_gone(self, member: Member) -> None:
        """Its process died: the kernel closes its connections, with or without sending what was under way."""
        for pair in list(self._wanted):
            self._unwant(pair, member)
        for connection in [each for each in self._current.values() if member in each.pair]:
            connection.untold.pop(member, None)
            self._forget_if_over(connection)
            if member in connection.ends:
                flush = self._network.rng.random() < self._network.profile.flush_on_crash_probability
                self._close_end(connection, member, flush)

    def links_changed(self) -> None:
        for connection in list(self._current.values()):
            one, other = connection.pair
            since_ns = self._network.links.cut_since_ns(connection.host_of[one], connection.host_of[other])
            if since_ns == self._network.scheduler.now_ns:
                for member in connection.pair:
                    self._notice_later(connection, member, since_ns)
            for member in connection.pair:
                self._pump(connection, member, connection.pipe_to[member])
                self._pump(connection, member, connection.urgent_pipe_to[member])
        self.retry()

    def retry(self) -> None:
        """Something has changed: open what is wanted and may now be possible."""
        for pair in self._wanted:
            self._open_soon(pair)

    def _unwant(self, pair: Pair, member: Member) -> None:
        wanted_by = self._wanted.get(pair, {})
        wanted_by.pop(member, None)
        if not wanted_by:
            self._wanted.pop(pair, None)

    def _can_open(self, pair: Pair) -> bool:
        one, other = self._network.at(pair[0]), self._network.at(pair[1])
        if pair not in self._wanted or pair in self._current or one is None or other is None:
            return False
        return self._network.links.is_clear(one.host.name, other.host.name)

    def _open_soon(self, pair: Pair) -> None:
        if pair in self._opening or not self._can_open(pair):
            return
        self._opening[pair] = None
        delay_s = self._network.delay_s() + self._network.rng.uniform(0, self._network.profile.reconnect_max_s)
        self._network.scheduler.after(delay_s, lambda: self._open(pair))

    def _open(self, pair: Pair) -> None:
        del self._opening[pair]
        if not self._can_open(pair):
            return
        one, other = self._network.at(pair[0]), self._network.at(pair[1])
        assert one is not None
        assert other is not None
        connection = self._current[pair] = _Connection(pair, (one.host.name, other.host.name))
        self._network.counts["opened"] += 1
        for member in pair:
            self._tell_opened(connection, member)

    def _tell_opened(self, connection: _Connection, member: Member) -> None:
        where, peer = self._network.at(member), connection.peer(member)
        if where is None:
            return

        def opened() -> None:
            # A close cannot have been told yet, as events of one host stay in order; but it may be on its way.
            if member in connection.ends:
                connection.ends[member] = True
            where.endpoint.opened(peer)

        self._network.trace.log(str(member), f"connected to {peer}")
        where.host.dispatch(opened)

    def _close_end(self, connection: _Connection, member: Member, flush: bool) -> None:
        """``member`` stops believing; its peer is told through the pipe, behind what was sent if ``flush``."""
        if connection.ends.pop(member, None) is None:
            return
        peer = connection.peer(member)
        connection.drop(member)
        if not flush:
            connection.drop(peer)
        if peer in connection.ends:
            self._enqueue(connection, peer, None)
        where = self._network.at(member)
        if where is None:
            self._forget_if_over(connection)
            return

        def closed() -> None:
            connection.untold.pop(member, None)
            self._forget_if_over(connection)
            where.endpoint.closed(peer)

        def tell() -> None:
            if self._network.at(member) is where:
                where.host.dispatch(closed)

        self._network.counts["closed"] += 1
        self._network.trace.log(str(member), f"connection to {peer} closed")
        connection.untold[member] = None
        # Not at once: disconnect() is called from inside the member's own step, and to be told is a step of its own.
        self._network.scheduler.after(0, tell)

    def _forget_if_over(self, connection: _Connection) -> None:
        if not connection.ends and not connection.untold and self._current.get(connection.pair) is connection:
            del self._current[connection.pair]
            self._open_soon(connection.pair)

    def _notice_later(self, connection: _Connection, member: Member, since_ns: int) -> None:
        profile = self._network.profile
        delay_s = self._network.rng.uniform(profile.detect_min_s, profile.detect_max_s)

        def notice() -> None:
            hosts = [connection.host_of[each] for each in connection.pair]
            if self._network.links.cut_since_ns(hosts[0], hosts[1]) == since_ns:
                self._close_end(connection, member, flush=False)

        self._network.scheduler.after(delay_s, notice)

    def _enqueue(self, connection: _Connection, to: Member, item: bytes | None, *, urgent: bool = False) -> None:
        # What is ready before its turn waits for what was sent before it, as in TCP.
        now_ns, bytes_per_s = self._network.scheduler.now_ns, self._network.profile.bytes_per_s
        pipe, ready_ns = connection.pipe_to[to], now_ns + to_ns(self._network.delay_s())
        if bytes_per_s and urgent:
            pipe = connection.urgent_pipe_to[to]
        elif bytes_per_s:
            pipe.free_ns = max(now_ns, pipe.free_ns) + to_ns(len(item or b"") / bytes_per_s)
            ready_ns += pipe.free_ns - now_ns
        pipe.queue.append((ready_ns, item))
        self._pump(connection, to, pipe)

    def _pump(self, connection: _Connection, to: Member, pipe: _Pipe) -> None:
        """See that what is due is delivered, in order; nothing passes a cut or clogged link, not even the close.

        Never at once: whoever sends is in the middle of a step, and what arrives is a step of its own.
        """
        if pipe.queue and not pipe.scheduled and self._is_passable(connection, to):
            pipe.scheduled = True
            self._network.scheduler.at_ns(pipe.queue[0][0], lambda: self._due(connection, to, pipe))

    def _due(self, connection: _Connection, to: Member, pipe: _Pipe) -> None:
        pipe.scheduled = False
        if not pipe.queue or not self._is_passable(connection, to):
            return
        item = pipe.queue.popleft()[1]
        if item is None:
            self._close_end(connection, to, flush=False)
        else:
            self._network.deliver(connection.peer(to), to, item)
        self._pump(connection, to, pipe)

    def _is_passable(self, connection: _Connection, to: Member) -> bool:
        source, target = connection.host_of[connection.peer(to)], connection.host_of[to]
        links = self._network.links
        return to in connection.ends and not links.is_cut(source, target) and not links.is_clogged(source, target)

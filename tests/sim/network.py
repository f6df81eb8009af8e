"""A message network between members, carrying bytes, in one of two flavours.

``DATAGRAM`` loses, duplicates and reorders: the worst that the protocol allows. ``CONNECTION`` is what TCP gives: in
order and reliable while a connection is up, both ends told when it opens or closes, what was under way lost then.
Messages are bytes, so that no two hosts ever share an object.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Protocol

from concoord_ray.paxos.messages import SnapshotChunk
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import encode
from tests.sim.clock import Scheduler
from tests.sim.connection import Connections, Mark
from tests.sim.host import Host
from tests.sim.links import Links
from tests.sim.trace import Trace

_CLIENTS = (Role.CLIENT, Role.GATEWAY)


class Flavour(Enum):
    DATAGRAM = "datagram"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkProfile:
    flavour: Flavour = Flavour.CONNECTION
    #: The flavour of links to clients and gateways, where it differs: they rely on being told of closed connections.
    client_flavour: Flavour | None = None
    delay_min_s: float = 0.0001
    delay_max_s: float = 0.002
    #: Some messages take much longer: in the datagram flavour many later ones overtake them.
    slow_probability: float = 0.0
    slow_max_s: float = 0.5
    #: Datagrams only.
    loss_probability: float = 0.0
    duplicate_probability: float = 0.0
    #: Connections only: how long an end takes to notice that its link is cut, and to connect again.
    detect_min_s: float = 0.2
    detect_max_s: float = 3.0
    reconnect_max_s: float = 0.05
    #: Connections only: how fast each of them is, 0 for as fast as it must be. What is urgent overtakes what waits.
    bytes_per_s: float = 0.0
    #: That what a crashed process had sent still arrives before its connections close.
    flush_on_crash_probability: float = 0.5


class Endpoint(Protocol):
    """What a member does with its network events. Called on the member's host: late if paused, never when down."""

    def received(self, sender: Member, data: bytes) -> None: ...

    def opened(self, peer: Member) -> None: ...

    def closed(self, peer: Member) -> None: ...


@dataclass(frozen=True, slots=True)
class Attachment:
    host: Host
    endpoint: Endpoint


#: What a chunk of a snapshot begins with. Pickles of equal states differ between processes, the traces must not.
_CHUNK = encode(SnapshotChunk(0, 0, 0, 0, b""))[:2]


def _size_and_checksum(data: bytes) -> str:
    if data.startswith(_CHUNK):
        return "a chunk of a snapshot"
    return f"{len(data)} B {zlib.crc32(data):08x}"


class Network:
    """Carries bytes between attached members, as well as ``links`` and the profile let it."""

    def __init__(
        self,
        scheduler: Scheduler,
        trace: Trace,
        profile: NetworkProfile | None = None,
        describe: Callable[[bytes], str] = _size_and_checksum,
    ) -> None:
        self.scheduler = scheduler
        self.trace = trace
        self.profile = profile or NetworkProfile()
        self.describe = describe
        self.rng = scheduler.stream("network")
        self.links = Links(lambda: scheduler.now_ns, self._links_changed)
        self.counts: Counter[str] = Counter()
        self._attached: dict[Member, Attachment] = {}
        self._watched_hosts: dict[str, Host] = {}
        self._held: list[tuple[str, Member, Member, bytes]] = []
        self._connections = Connections(self)

    def attach(self, member: Member, host: Host, endpoint: Endpoint) -> None:
        """Let ``member`` send and receive, from ``host``, until that host crashes or the member is detached."""
        if member in self._attached:
            raise ValueError(f"{member} is attached already; detach it first, or use another incarnation")
        if host.name not in self._watched_hosts:
            self._watched_hosts[host.name] = host
            host.on_crash(lambda: self._host_crashed(host))
        self._attached[member] = Attachment(host, endpoint)
        self._connections.retry()

    def detach(self, member: Member) -> None:
        """The member is gone, as after a crash of its process: it is told nothing, its peers see connections close."""
        if self._attached.pop(member, None) is not None:
            self._connections.member_gone(member)

    def at(self, member: Member) -> Attachment | None:
        """Where a member runs; None if it does not."""
        return self._attached.get(member)

    def connect(self, member: Member, peer: Member) -> None:
        """Keep a connection from ``member`` to ``peer`` open, reconnecting until ``disconnect`` or a crash of
        ``member``. One connection per pair serves both directions. Datagrams need none: nothing happens.
        """
        if self.flavour_of(member, peer) is Flavour.CONNECTION:
            self._connections.connect(member, peer)

    def disconnect(self, member: Member, peer: Member) -> None:
        """Close the connection after what was sent, and stop reconnecting from this side."""
        self._connections.disconnect(member, peer)

    def is_open(self, member: Member, peer: Member) -> bool:
        """Whether ``member`` believes itself connected to ``peer``; datagrams always do."""
        return self.flavour_of(member, peer) is Flavour.DATAGRAM or self._connections.is_open(member, peer)

    def waiting_bytes(self, member: Member, peer: Member) -> int:
        """How much of what was sent has not left yet."""
        return self._connections.waiting_bytes(member, peer)

    def mark(self, member: Member, peer: Member) -> Mark | None:
        """The end of what was sent until now; None where no connection is open."""
        return self._connections.mark(member, peer)

    def flavour_of(self, member: Member, peer: Member) -> Flavour:
        """How these two are linked."""
        profile = self.profile
        if profile.client_flavour is not None and (member.role in _CLIENTS or peer.role in _CLIENTS):
            return profile.client_flavour
        return profile.flavour

    def calm(self) -> None:
        """From now on nothing is lost, duplicated or slow by chance."""
        usual = NetworkProfile()
        self.profile = replace(
            self.profile,
            delay_max_s=min(self.profile.delay_max_s, usual.delay_max_s),
            loss_probability=0.0,
            duplicate_probability=0.0,
            slow_probability=0.0,
        )

    def send(self, sender: Member, to: Member, data: bytes, *, urgent: bool = False) -> None:
        """Send, without any word on whether it arrives. Sending where no connection is open loses the message."""
        source = self._attached.get(sender)
        if source is None:
            raise ValueError(f"{sender} is not attached, so it cannot send")
        self.counts["sent"] += 1
        if self.flavour_of(sender, to) is Flavour.CONNECTION:
            self._connections.send(sender, to, bytes(data), urgent=urgent)
        elif self.rng.random() < self.profile.loss_probability:
            self.lose(sender, to, data, "loss")
        else:
            self._fly(source.host.name, sender, to, bytes(data))
            if self.rng.random() < self.profile.duplicate_probability:
                self.counts["duplicated"] += 1
                self._fly(source.host.name, sender, to, bytes(data))

    def delay_s(self) -> float:
        """One random transmission time."""
        delay_s = self.rng.uniform(self.profile.delay_min_s, self.profile.delay_max_s)
        if self.rng.random() < self.profile.slow_probability:
            delay_s += self.rng.uniform(0, self.profile.slow_max_s)
        return delay_s

    def lose(self, sender: Member, to: Member, data: bytes, why: str) -> None:
        self.counts[f"lost: {why}"] += 1
        self.trace.log(str(to), f"lost ({why}) from {sender}: {self.describe(data)}")

    def deliver(self, sender: Member, to: Member, data: bytes) -> None:
        """Hand a message that has arrived to its member, if that still runs."""
        target = self._attached.get(to)
        if target is None:
            self.lose(sender, to, data, "nobody there")
            return
        self.counts["delivered"] += 1
        self.trace.log(str(to), f"from {sender}: {self.describe(data)}")
        target.host.dispatch(lambda: target.endpoint.received(sender, data))

    def _fly(self, source: str, sender: Member, to: Member, data: bytes) -> None:
        self.scheduler.after(self.delay_s(), lambda: self._land(source, sender, to, data))

    def _land(self, source: str, sender: Member, to: Member, data: bytes) -> None:
        target = self._attached.get(to)
        if target is not None and self.links.is_cut(source, target.host.name):
            self.lose(sender, to, data, "cut")
        elif target is not None and self.links.is_clogged(source, target.host.name):
            self.counts["clogged"] += 1
            self._held.append((source, sender, to, data))
        else:
            self.deliver(sender, to, data)

    def _links_changed(self) -> None:
        held, self._held = self._held, []
        for message in held:
            self._fly(*message)  # What is still clogged is held again where it lands.
        self._connections.links_changed()

    def _host_crashed(self, host: Host) -> None:
        for member in [member for member, where in self._attached.items() if where.host is host]:
            self.detach(member)

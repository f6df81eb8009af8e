"""What follows the replicas on a simulated host, mirrored from ``roles.follower`` and ``roles.gateway``: a production
``Courier`` over the links to whoever lives at the replicas' indices.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import decode, encode
from concoord_ray.rsm.command import Busy, Kept, Leading, NotLeader, Read, Reply, Request
from concoord_ray.session import Courier, Ending
from tests.sim.host import Host
from tests.sim.network import Network
from tests.sim.scenario import Scenario


class FollowerShell:
    """One life of one process with a courier. Subclasses say what becomes of calls that ended."""

    def __init__(self, me: Member, host: Host, network: Network, scenario: Scenario) -> None:
        self.me = me
        self.host = host
        self._network = network
        self._config = scenario.config
        self._ticked_at_s = host.clock.now()
        self.courier = Courier(self._config, self._ticked_at_s)
        self._replicas: dict[int, Member] = {}
        self._wanted: dict[int, Member] = {}
        network.attach(me, host, self)
        host.after(self._config.tick_interval_s, self._tick)

    def ended(self, ending: Ending) -> None:
        raise NotImplementedError

    def tick(self, now_s: float) -> None:
        """Before the courier's own tick."""

    def look_up(self, acceptors: dict[int, Member], replicas: dict[int, Member]) -> None:
        """The directory has changed: connect to the replicas that are there now."""
        for index, member in self._wanted.items():
            if replicas.get(index) != member:
                self._network.disconnect(self.me, member)
        self._wanted = dict(replicas)
        for member in replicas.values():
            self._network.connect(self.me, member)

    def perform(self) -> None:
        """Send what the courier wants sent; tell what ended."""
        courier = self.courier
        if courier.outbox:
            outbox, courier.outbox = courier.outbox, []
            for index, message in outbox:
                replica = self._replicas.get(index)
                if replica is not None:
                    self._network.send(self.me, replica, encode(message))
        if courier.endings:
            endings, courier.endings = courier.endings, []
            for ending in endings:
                self.ended(ending)

    # network.Endpoint

    def received(self, sender: Member, data: bytes) -> None:
        if self._replicas.get(sender.index) != sender:
            return
        message = decode(data)
        assert isinstance(message, (Reply, Leading, NotLeader, Busy, Kept))
        self.courier.receive(sender.index, message, self.host.clock.now())
        self.perform()

    def opened(self, peer: Member) -> None:
        if peer.role is Role.REPLICA:
            self._replicas[peer.index] = peer
            self.courier.connected(peer.index, self.host.clock.now())
            self.perform()

    def closed(self, peer: Member) -> None:
        if self._replicas.get(peer.index) == peer:
            del self._replicas[peer.index]
            self.courier.disconnected(peer.index, self.host.clock.now())
            self.perform()

    def _tick(self) -> None:
        now_s, interval_s = self.host.clock.now(), self._config.tick_interval_s
        if now_s - self._ticked_at_s > 5 * interval_s:  # After a pause, first hear what was sent meanwhile.
            self._ticked_at_s = now_s
            self.host.after(interval_s / 4, self._tick)
            return
        self._ticked_at_s = now_s
        self.host.after(interval_s, self._tick)
        self.tick(now_s)
        self.courier.tick(now_s)
        self.perform()


class GatewayShell(FollowerShell):
    """One life of one gateway: it forwards entries that clients have numbered, and forgets everything when it dies."""

    def __init__(self, me: Member, host: Host, network: Network, scenario: Scenario, rng: random.Random) -> None:
        super().__init__(me, host, network, scenario)
        self._life = host.life
        self._rng = rng
        self._waiting: dict[tuple[int, int], list[Callable[[Ending], None]]] = {}

    def submit(self, message: Request | Read, answer: Callable[[Ending], None]) -> None:
        """Call from a client, on its host. ``answer`` is called there, unless this life of the gateway ends first."""

        def arrive() -> None:
            self._waiting.setdefault((message.entry.session, message.entry.seq), []).append(answer)
            self.courier.submit(message, self.host.clock.now())
            self.perform()

        self._later(lambda: self.host.dispatch(arrive) if self.host.life == self._life else None)

    def ended(self, ending: Ending) -> None:
        for answer in self._waiting.pop((ending.session, ending.seq), ()):
            self._later(lambda answer=answer: answer(ending))  # type: ignore[misc]

    def _later(self, what: Callable[[], None]) -> None:
        self.host.scheduler.after(self._rng.uniform(0.0002, 0.002), what)

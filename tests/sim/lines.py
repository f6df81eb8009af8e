"""How a simulated member reaches its peers: the production ``Bulk`` over the simulated network."""

from __future__ import annotations

from collections.abc import Callable

from concoord_ray.config import Config
from concoord_ray.paxos.view import Member
from concoord_ray.roles.bulk import Bulk
from tests.sim.connection import Mark
from tests.sim.network import Network


class SimulatedLines:
    """Implements ``roles.bulk.Lines``. ``find`` gives who is really there, where there is no handshake to tell."""

    def __init__(
        self, me: Member, network: Network, config: Config, find: Callable[[Member], Member] = lambda member: member
    ) -> None:
        self._me = me
        self._network = network
        self._window_bytes = config.send_window_bytes
        self._find = find

    def has_room(self, to: Member, /) -> bool:
        return self._network.waiting_bytes(self._me, to) <= self._window_bytes

    def mark(self, to: Member, /) -> Mark | None:
        return self._network.mark(self._me, to)

    def send(self, to: Member, payload: bytes, /, *, urgent: bool = False) -> bool:
        self._network.send(self._me, self._find(to), payload, urgent=urgent)
        return True


def bulk_of(
    me: Member, network: Network, config: Config, find: Callable[[Member], Member] = lambda member: member
) -> Bulk:
    """What sends a simulated member's messages to its peers."""
    return Bulk(SimulatedLines(me, network, config, find), config.retransmit_interval_s)

"""All connections of one process: those that it keeps dialed, and those that others made to it.

The owner names targets and sends to members; which connection carries a message is decided here. One that we dialed is
preferred to one that was accepted, so that each direction of a pair of members has its own.

A member keeps one connection dialed to us. When another of its comes, it has lost the one before, of which we may not
have heard: that one is closed, for what is sent into it is lost. Should the network bring the two in the wrong order,
the member finds its connection closed, and its next one comes last.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterable
from functools import partial
from typing import NamedTuple, Protocol

from concoord_ray.config import Config
from concoord_ray.net import tls
from concoord_ray.net.connection import Connection, Mark
from concoord_ray.net.dialer import Dialer
from concoord_ray.net.identity import Address, Identity
from concoord_ray.net.listener import Listener
from concoord_ray.paxos.view import Member, Role

logger = logging.getLogger(__name__)

_CLIENTS = (Role.CLIENT, Role.GATEWAY)


class Target(NamedTuple):
    """Whom to keep a connection to, and where it was last heard of."""

    member: Member
    address: Address


class LinksOwner(Protocol):
    """What links tell their owner. Called on the event loop."""

    def link_opened(self, member: Member) -> None:
        """A connection with the member is open; there may be another one."""

    def link_received(self, member: Member, payloads: list[bytes]) -> None:
        """Frames from the member."""

    def link_has_room(self, then: Callable[[], None]) -> None:
        """Do what was to be done when what waits for a member has left, see ``Links.when_room``."""

    def link_closed(self, member: Member) -> None:
        """A connection with the member was closed; there may be another one."""


class Links:
    """Implements ``connection.Handler`` over every connection of the process."""

    def __init__(self, identity: Identity, secret: bytes, config: Config, owner: LinksOwner) -> None:
        self.identity = identity
        self._secret = secret
        self._config = config
        self._owner = owner
        self._tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = tls.from_environment()
        self._dialers: dict[Member, Dialer] = {}
        self._open: dict[Member, list[Connection]] = {}
        self._listener: Listener | None = None
        #: How many clients and gateways have a connection to us.
        self._clients = 0
        #: Connections that are one too many, or have been replaced, and are not closed yet. The owner knows of none.
        self._dismissed: set[Connection] = set()
        self._is_closing = False

    async def listen(self, host: str, port: int = 0) -> Address:
        """Accept connections; gives the address."""
        self._listener = Listener(
            self.identity, self._secret, self._config, self, tls=self._tls[0] if self._tls else None
        )
        return await self._listener.start(host, port)

    def aim(self, role: Role, targets: Iterable[Target]) -> None:
        """Keep connections to these members of a role, and to no others of it. There may be two lives of one index.

        After ``close`` it has no effect.
        """
        if self._is_closing:
            return
        addresses = {target.member: target.address for target in targets}
        for member in [member for member in self._dialers if member.role is role and member not in addresses]:
            self._dialers.pop(member).close()
        for member, address in addresses.items():
            dialer = self._dialers.get(member)
            if dialer is None:
                dialer = Dialer(
                    self.identity, self._secret, self._config, self, tls=self._tls[1] if self._tls else None
                )
                self._dialers[member] = dialer
            dialer.retarget(address, member)

    def targets(self, role: Role) -> dict[Member, Address]:
        """Whom of a role connections are kept to, and where."""
        found = {member: dialer.address for member, dialer in self._dialers.items() if member.role is role}
        return {member: address for member, address in found.items() if address is not None}

    def send(self, to: Member, payload: bytes, *, urgent: bool = False) -> bool:
        """Send a frame to a member; False, and nothing sent, if there is no connection or it is too slow.

        An ``urgent`` one overtakes what is large, or much.
        """
        connections = self._open.get(to)
        return connections is not None and connections[0].send(payload, urgent=urgent)

    def mark(self, to: Member) -> Mark | None:
        """The end of what was sent to a member until now; None if it is not connected."""
        connections = self._open.get(to)
        return None if connections is None else connections[0].mark()

    def has_room(self, to: Member) -> bool:
        """Whether little waits to be sent to a member; also if it is not connected, since nothing waits then."""
        connections = self._open.get(to)
        return connections is None or connections[0].has_room

    def when_room(self, to: Member, callback: Callable[[], None]) -> None:
        """Call this once when what waits for a member has left. Who is not connected any more has ``link_closed``."""
        connections = self._open.get(to)
        if connections is not None:
            connections[0].when_room(partial(self._owner.link_has_room, callback))

    def disconnect(self, member: Member) -> None:
        """Close the connections with a member; ``link_closed`` follows."""
        for connection in list(self._open.get(member, ())):
            connection.close()

    def is_linked(self, member: Member) -> bool:
        """Whether a connection with the member is open."""
        return member in self._open

    def members(self) -> list[Member]:
        """Everybody connected."""
        return list(self._open)

    def broadcast(self, payload: bytes) -> None:
        """Send a frame to everybody connected."""
        for connections in self._open.values():
            connections[0].send(payload)

    def descriptors(self) -> list[int]:
        """The file descriptors of the open connections."""
        return [connection.descriptor() for connections in self._open.values() for connection in connections]

    async def close(self) -> None:
        """Close everything, for good."""
        self._is_closing = True
        for dialer in self._dialers.values():
            dialer.close()
        for dialer in self._dialers.values():
            await dialer.wait_closed()
        if self._listener is not None:
            await self._listener.close()

    # connection.Handler

    def opened(self, connection: Connection) -> None:
        """See ``Handler``. One client too many is turned away, and tries again by itself."""
        member = connection.peer.member
        if not connection.dialed:
            self._replace_accepted(member)
            if member.role in _CLIENTS:
                if self._clients >= self._config.max_client_connections:
                    logger.warning("%s is turned away: max_client_connections is %d", member, self._clients)
                    self._dismiss(connection)
                    return
                self._clients += 1
        connections = self._open.setdefault(member, [])
        connections.insert(0 if connection.dialed else len(connections), connection)
        self._owner.link_opened(member)

    def received(self, connection: Connection, payloads: list[bytes]) -> None:
        """See ``Handler``."""
        self._owner.link_received(connection.peer.member, payloads)

    def closed(self, connection: Connection, error: Exception | None) -> None:
        """See ``Handler``."""
        if connection in self._dismissed:
            self._dismissed.discard(connection)
        else:
            self._remove(connection)

    def _replace_accepted(self, member: Member) -> None:
        """The member has dialed again: what it dialed before is of no use any more, and its owner hears that first."""
        for connection in [each for each in self._open.get(member, ()) if not each.dialed]:
            self._remove(connection)
            self._dismiss(connection)

    def _dismiss(self, connection: Connection) -> None:
        self._dismissed.add(connection)
        connection.close()

    def _remove(self, connection: Connection) -> None:
        member = connection.peer.member
        self._clients -= member.role in _CLIENTS and not connection.dialed
        connections = self._open[member]
        connections.remove(connection)
        if not connections:
            del self._open[member]
        self._owner.link_closed(member)

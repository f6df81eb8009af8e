"""What a replica says to its clients, to each as fast as it takes it.

A client that does not read (it is stopped, or its network is slow) has its answers wait here, as they are: those of
commands are kept by the executor anyway, until they are acknowledged, and bounded there; of reads no more are executed
for it until it has taken what there is (``rsm.readings``). Nobody else waits for it. When its connection ends, so do
they: it asks again over another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from concoord_ray.net.links import Links
from concoord_ray.paxos.view import Member
from concoord_ray.roles.boot import URGENT, encode
from concoord_ray.rsm.command import ServiceMessage


class Replies:
    """``crowded`` and ``has_room`` are told of each client that does not take its answers, and takes them again."""

    def __init__(
        self, links: Links, limit: int, crowded: Callable[[Member], None], has_room: Callable[[Member], None]
    ) -> None:
        """More than ``limit`` messages do not wait for a client: its connection is closed."""
        self._links = links
        self._limit = limit
        self._crowded = crowded
        self._has_room = has_room
        self._held: dict[Member, deque[ServiceMessage]] = {}

    def send(self, to: Member, message: ServiceMessage) -> None:
        """Send a message, after those before it, unless it is urgent."""
        held = self._held.get(to)
        if type(message) in URGENT:
            self._links.send(to, encode(message), urgent=True)
        elif held is not None:
            held.append(message)
            if len(held) > self._limit:
                self._links.disconnect(to)
        elif self._links.has_room(to):
            self._links.send(to, encode(message))
        else:
            self._held[to] = deque((message,))
            self._crowded(to)
            self._links.when_room(to, partial(self._go_on, to))

    def disconnected(self, client: Member) -> None:
        """Its connection is gone, and what waited for it with it."""
        self._held.pop(client, None)

    def _go_on(self, to: Member) -> None:
        held = self._held.get(to)
        if held is None:
            return
        while held and self._links.has_room(to):
            self._links.send(to, encode(held.popleft()))
        if held:
            self._links.when_room(to, partial(self._go_on, to))
        else:
            del self._held[to]
            self._has_room(to)

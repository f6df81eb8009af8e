"""Machines that fall silent, are taken for dead by Ray, and then go on beside their successors.

Nothing tells them apart but epoch and incarnation: no call may be lost or doubled, no stale value read, and no vote of
theirs may count. ``python -m tests.integration.test_zombies`` tells how long everything took.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import concoord_ray as concoord
from concoord_ray import Handle, MemberStatus
from concoord_ray.net.identity import Identity
from concoord_ray.net.links import Links, Target
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import decode, encode
from concoord_ray.rsm.command import Call, Entry, NotLeader, Outcome, Read, Reply
from concoord_ray.rsm.wire import decode_plain, encode_message
from tests.integration.casualties import leader, strong
from tests.integration.machines import Ensembles, Machines, apart, is_process, node_of
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

READS = 20
#: How long the machines that are taken for dead go on beside the others.
BESIDE_S = 3.0


def test_machines_that_come_back_to_life_disturb_nobody(tmp_path: Path) -> None:
    apart(zombies, str(tmp_path))


def zombies(storage: str) -> None:
    """The machine of a leader falls silent. The others share its file system, so they find its directories locked."""
    with Machines(5) as machines:
        both = Ensembles(machines, storage)
        old_leader = leader(strong("memory"))
        lost = node_of(old_leader)
        old = [member for name in both.names for member in both.members_on(name, lost)]
        counter = concoord.get("c", ensemble="memory")
        with Reader(counter, old_leader) as reader:

            def fall_silent() -> None:
                machines.stop(lost)
                both.await_death(lost)

            both.call_while(fall_silent)
            both.await_strength(lost)
            epochs = {name: strong(name).epoch for name in both.names}
            assert epochs["memory"] == 1
            assert all(map(is_process, old))

            # What the old leader finds when it goes on: reads, of a state that has moved on without it.
            for _ in range(READS):
                reader.ask(at_least=counter.getvalue())
            both.call_while(machines.resume)
            reader.check()
        both.call_while(lambda: time.sleep(BESIDE_S))
        assert any(is_process(member) for member in old if member.role == "acceptor")
        assert {name: strong(name).epoch for name in both.names} == epochs
        both.check()

        machines.bury(lost)
        until(lambda: not any(map(is_process, old)))
        both.call_while(lambda: None)
        both.await_strength(lost)
        both.check()


class Reader:
    """Reads a counter at one replica, whoever leads, over a connection of its own."""

    def __init__(self, counter: Handle[Any], replica: MemberStatus) -> None:
        assert replica.incarnation is not None
        assert replica.address is not None
        self._member = Member(Role.REPLICA, replica.index, replica.incarnation)
        plan = counter.concoord_attachment().plan
        self._object_id = counter.concoord_reference()[1]
        self._floors: dict[int, int] = {}
        self._refused = 0
        self._read: list[int] = []
        self._is_connected = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links = Links(Identity(plan.ensemble, Member(Role.CLIENT, 0, 1)), plan.secret, plan.config, self)
        self._target = Target(self._member, replica.address)

    def __enter__(self) -> Reader:
        self._thread.start()
        self._loop.call_soon_threadsafe(self._links.aim, Role.REPLICA, [self._target])
        assert self._is_connected.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._links.close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    def ask(self, at_least: int) -> None:
        """Send a read. The counter has this value, or a higher one, before it is sent."""
        seq = -1 - len(self._floors)
        self._floors[seq] = at_least
        read = Read(Entry(1, seq, (), encode_message(Call(self._object_id, "getvalue", "", b""))))
        self._loop.call_soon_threadsafe(self._links.send, self._member, encode(read))

    def check(self) -> None:
        """It says that it does not lead, and no read was answered with less than was known."""
        until(lambda: self._refused)
        assert not [value for value in self._read if value < max(self._floors.values())]

    # links.LinksOwner

    def link_opened(self, member: Member) -> None:
        self._is_connected.set()

    def link_received(self, member: Member, payloads: list[bytes]) -> None:
        for message in map(decode, payloads):
            if isinstance(message, Reply) and message.outcome == Outcome.PLAIN:
                self._read.append(decode_plain(message.payload))
            self._refused += isinstance(message, NotLeader)

    def link_has_room(self, then: Callable[[], None]) -> None:
        """See ``LinksOwner``."""

    def link_closed(self, member: Member) -> None:
        self._is_connected.clear()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        zombies(directory)

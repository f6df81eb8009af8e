"""A replica's connections with its clients and peers, and the place that it has among the lives of its index."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from concoord_ray.config import Config
from concoord_ray.net.identity import Identity
from concoord_ray.paxos.ballot import BOTTOM
from concoord_ray.paxos.election import Standing
from concoord_ray.paxos.messages import P1b, Pong
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles.boot import Whereabouts, decode
from concoord_ray.roles.replica import ReplicaRole
from concoord_ray.rsm.command import NotLeader, Outcome, Reply
from concoord_ray.rsm.service import Service
from concoord_ray.rsm.wire import NOOP
from tests.roles.conftest import ENSEMBLE, NoDiscovery, boot

CLIENT = Member(Role.CLIENT, 0, 5)
ACCEPTORS = tuple(Member(Role.ACCEPTOR, index, index + 10) for index in range(3))


class Line:
    """Stands for a connection that was accepted."""

    def __init__(self, member: Member) -> None:
        self.peer = Identity(ENSEMBLE, member)
        self.dialed = False
        self.has_room = True
        self.sent: list[Any] = []

    def send(self, payload: bytes, *, urgent: bool = False) -> bool:
        self.sent.append(decode(payload))
        return True

    def when_room(self, callback: Callable[[], None]) -> None:
        """Nobody takes anything, ever."""

    def close(self) -> None:
        """Its end comes when the test says so."""


class Lane:
    """Executes nothing."""

    def execute(self, *_: object) -> None: ...


def replica() -> Any:
    """A replica that knows its view, and is connected to nobody."""
    role: Any = ReplicaRole(boot(Role.REPLICA), Whereabouts("127.0.0.1", "node", 1), NoDiscovery())
    now_s = time.monotonic()
    view = View(0, ACCEPTORS, (0, 1, 2), 0)
    core = Replica(role.node.me, view, Config(), noop=NOOP, rng=random.Random(1), now_s=now_s)
    role._service, role._lane, role._view = Service(core, Config(), now_s), Lane(), view
    return role


def answer(seq: int) -> Reply:
    return Reply(7, seq, Outcome.PLAIN, b"")


def test_a_client_that_dials_again_hears_who_leads_while_its_old_connection_is_open() -> None:
    async def main() -> None:
        role = replica()
        old, new = Line(CLIENT), Line(CLIENT)
        role.node.links.opened(old)
        assert old.sent == [NotLeader(None, has_quorum=True)]
        role.node.links.opened(new)
        assert new.sent == [NotLeader(None, has_quorum=True)]
        assert len(old.sent) == 1

    asyncio.run(main())


def test_what_was_held_for_the_old_connection_does_not_hold_up_the_new_one() -> None:
    async def main() -> None:
        role = replica()
        links, replies, service = role.node.links, role._replies, role._service
        old, new = Line(CLIENT), Line(CLIENT)
        links.opened(old)
        old.has_room = False
        replies.send(CLIENT, answer(1))
        assert CLIENT in service._crowded
        links.opened(new)
        links.closed(old, None)
        replies.send(CLIENT, answer(2))
        assert new.sent[1:] == [answer(2)]
        assert not service._crowded

    asyncio.run(main())


@pytest.mark.parametrize("began", ["candidacy", "phase 1", "leadership"])
def test_who_stands_aside_does_not_come_to_lead_by_what_it_began_before(began: str) -> None:
    """Another life has its place: it does not tick, and so would never notice that nobody follows it."""

    async def main() -> None:
        role = replica()
        core = role._service.replica
        core.tick(core.election.deadline_s)
        pong = Pong(0, BOTTOM, core._pings.round.nonce, 0)

        def answer_pings() -> None:
            for acceptor in ACCEPTORS:
                role._service.receive_peer(acceptor, pong, time.monotonic())

        def promise() -> None:
            ballot = core.leader.ballot
            for acceptor in ACCEPTORS:
                role._service.receive_peer(acceptor, P1b(0, ballot, ballot, 0, (), None, 0), time.monotonic())

        steps = {"candidacy": [], "phase 1": [answer_pings], "leadership": [answer_pings, promise]}[began]
        for step in steps:
            step()
        assert core.is_leader is (began == "leadership")
        role._displace(role._service, Member(Role.REPLICA, 0, 777))
        answer_pings()
        promise()
        role.tick(time.monotonic() + 1000.0)
        assert not core.is_leader
        role._displace(role._service, role.node.me)
        core.tick(core.election.deadline_s)
        assert core.election.standing is Standing.CANDIDATE

    asyncio.run(main())

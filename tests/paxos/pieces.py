"""Members, ballots and messages that the tests of ``paxos`` are made of."""

from __future__ import annotations

import random

from concoord_ray.config import Config
from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.leader import Leader
from concoord_ray.paxos.messages import Message, P1a, P1b, P2a, P2b, PValue
from concoord_ray.paxos.outputs import Outputs
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member, Role, View

NOOP = b"noop"
CONFIG = Config(election_timeout_s=1.0, catch_up_page_bytes=1 << 20)


def acceptor(index: int, incarnation: int = 0) -> Member:
    return Member(Role.ACCEPTOR, index, 100 + index + 1000 * incarnation)


def replica(index: int, incarnation: int = 0) -> Member:
    return Member(Role.REPLICA, index, 200 + index + 1000 * incarnation)


def view(acceptors: int = 3, replicas: int = 3, epoch: int = 0, first_slot: int = 0) -> View:
    return View(epoch, tuple(map(acceptor, range(acceptors))), tuple(range(replicas)), first_slot)


def ballot(number: int, leader: int = 0) -> Ballot:
    return Ballot(number, leader, replica(leader).incarnation)


def joined(index: int = 0, page_bytes: int = 1 << 20) -> Acceptor:
    """An acceptor of the view."""
    one = Acceptor(acceptor(index), page_bytes=page_bytes)
    assert one.join(view())
    one.outputs.take()
    return one


def sent(outputs: Outputs) -> list[tuple[Member, Message]]:
    """What was sent since the last look, one line a receiver."""
    return [(to, send.message) for send in outputs.take().send for to in send.to]


def answers(one: Acceptor, message: P1a | P2a, source: Member | None = None) -> list[Message]:
    """What an acceptor answers to a message."""
    one.receive(source or replica(0), message)
    return [answer for _, answer in sent(one.outputs)]


def promise(
    number: Ballot, *accepted: tuple[Ballot, int, bytes], from_slot: int = 0, next_slot: int | None = None
) -> P1b:
    """A p1b that promises the ballot that it was asked for."""
    return P1b(0, number, number, from_slot, tuple(PValue(*one) for one in accepted), next_slot, 0)


def acceptance(number: Ballot, slot: int) -> P2b:
    """A p2b that accepts."""
    return P2b(0, number, number, slot)


def scouting(number: Ballot, from_slot: int = 0, acceptors: int = 3) -> Leader:
    """A leader in phase 1, its questions sent."""
    leader = Leader(view(acceptors), Outputs(), CONFIG, noop=NOOP)
    leader.scout(number, from_slot, now_s=0.0)
    sent_by(leader)
    return leader


def sent_by(leader: Leader) -> list[tuple[Member, Message]]:
    return sent(leader._outputs)


def proposals(leader: Leader) -> dict[int, bytes]:
    """Slot to value, of the p2as sent since the last look; a slot has one value."""
    found: dict[int, bytes] = {}
    for _, message in sent_by(leader):
        if isinstance(message, P2a):
            assert found.setdefault(message.slot, message.value) == message.value
    return found


def no_decisions(slot: int) -> bytes | None:
    return None


def follower(index: int = 0, now_s: float = 0.0, incarnation: int = 0, config: Config = CONFIG) -> Replica:
    """A replica that has just started."""
    one = Replica(replica(index, incarnation), view(), config, noop=NOOP, rng=random.Random(index), now_s=now_s)
    one.set_members(tuple(map(acceptor, range(3))), tuple(map(replica, range(3))))
    return one

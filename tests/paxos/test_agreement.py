"""No two replicas learn different values, whatever the network does: it loses, repeats, reorders and delays at will."""

from __future__ import annotations

import random

import pytest

from concoord_ray.paxos.messages import Message, P1a, P2a, Ping
from concoord_ray.paxos.outputs import Outputs
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member
from tests.paxos.pieces import CONFIG, follower, joined

STEPS = 8000


class Bag:
    """Three acceptors, three replicas, and every message that is under way. Chance picks the next event."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.acceptors = {a.me: a for a in (joined(index, page_bytes=4) for index in range(3))}
        self.replicas = {r.me: r for r in (follower(index) for index in range(3))}
        self.under_way: list[tuple[Member, Member, Message]] = []
        self.late: list[tuple[Member, Member, Message]] = []
        self.chosen: dict[int, bytes] = {}
        self.proposed = 0

    def step(self) -> None:
        dice = self.rng.random()
        if dice < 0.80 and self.under_way:
            self.deliver(self.under_way, self.rng.randrange(min(6, len(self.under_way))))
        elif dice < 0.86 and self.late:
            self.deliver(self.late, self.rng.randrange(len(self.late)))
        elif dice < 0.90:
            self.now_s += self.rng.random() * 0.1
            self.tick(self.rng.choice(list(self.replicas.values())))
        elif dice < 0.95:
            self.lapse(self.rng.choice(list(self.replicas.values())))
        elif dice < 0.9995:
            self.propose()
        else:
            self.restart(self.rng.choice(list(self.replicas)))

    def deliver(self, pool: list[tuple[Member, Member, Message]], at: int) -> None:
        """One message: now, or late, or never, or now and again late."""
        source, to, message = pool.pop(at)
        fate = self.rng.random()
        if fate < 0.25:
            self.late.append((source, to, message))
        if fate < 0.20:
            return
        if to in self.acceptors:
            assert isinstance(message, (P1a, P2a, Ping))
            self.acceptors[to].receive(source, message)
            self.collect(to, self.acceptors[to].outputs)
        elif to in self.replicas:
            self.replicas[to].receive(source, message, self.now_s)
            self.collect(to, self.replicas[to].outputs)

    def tick(self, one: Replica) -> None:
        one.tick(self.now_s)
        self.collect(one.me, one.outputs)

    def lapse(self, one: Replica) -> None:
        """Its patience is over; if it leads, it thinks that it has lost the acceptors."""
        if one.is_leader:
            one.majority_heard_at_s = self.now_s - 2 * CONFIG.election_timeout_s
        one.election.deadline_s = self.now_s
        self.tick(one)

    def propose(self) -> None:
        for one in self.replicas.values():
            if one.is_leader and one.leader.slots_in_flight < 4:
                self.proposed += 1
                one.propose(b"%d" % self.proposed, self.now_s)
                self.collect(one.me, one.outputs)

    def restart(self, member: Member) -> None:
        """A replica comes back with nothing, as another incarnation at the same index."""
        del self.replicas[member]
        reborn = follower(member.index, self.now_s, incarnation=self.rng.randrange(1, 1 << 30))
        self.replicas[reborn.me] = reborn
        for one in self.replicas.values():
            one.set_members((), tuple(self.replicas))

    def collect(self, source: Member, outputs: Outputs) -> None:
        taken = outputs.take()
        for slot, value in taken.decisions:
            assert self.chosen.setdefault(slot, value) == value, f"slot {slot} has two values"
        self.under_way += [(source, to, send.message) for send in taken.send for to in send.to]
        del self.under_way[:-100]
        del self.late[:-60]


@pytest.mark.parametrize("seed", range(24))
def test_a_slot_has_one_value(seed: int) -> None:
    bag = Bag(seed)
    for _ in range(STEPS):
        bag.step()


def test_the_bag_is_no_idle_threat() -> None:
    """The test above would pass if nothing were ever decided."""
    bags = [Bag(seed) for seed in range(4)]
    for bag in bags:
        for _ in range(STEPS):
            bag.step()
    assert all(len(bag.chosen) > 5 for bag in bags), [len(bag.chosen) for bag in bags]

"""One seed of consensus alone: acceptors and replicas that agree on opaque values, under every fault.

Whoever leads proposes unique values, faster than they can be decided. What is checked at every step is in
``invariants``.
"""

from __future__ import annotations

import random

from concoord_ray.paxos.outputs import Decided
from concoord_ray.paxos.view import Member, View
from concoord_ray.roles.boot import decode
from tests.sim.cluster import Cluster
from tests.sim.disk import Saved, SnapshotDisk
from tests.sim.host import Host, HostState
from tests.sim.invariants import Watch
from tests.sim.network import Network
from tests.sim.replica import PEER_MESSAGES, ReplicaShell
from tests.sim.scenario import Scenario

_UP = HostState.UP

#: How large values are.
SMALL_BYTES = (20, 60)
LARGE_BYTES = (100 << 10, 400 << 10)


class ProposingReplica(ReplicaShell):
    """A replica that proposes values of its own while it leads."""

    def __init__(
        self,
        me: Member,
        host: Host,
        network: Network,
        watch: Watch,
        view: View,
        scenario: Scenario,
        disk: SnapshotDisk | None,
        owner: ProtocolOnly,
    ) -> None:
        super().__init__(me, host, network, watch, view, scenario, disk)
        self._owner = owner
        self._rng = random.Random(f"{scenario.seed}/values/{me}")
        self._think_max_s = scenario.think_max_s
        self._large_probability = scenario.large_probability
        self._values = 0
        self._is_installing = False
        self._propose_soon()
        saved = self.find_saved()
        if saved is not None and self.replica.install(saved.view, saved.slot, host.clock.now()):
            watch.installed(me, saved.slot)
            self.replica.truncation.applied_slot = saved.slot

    # network.Endpoint

    def received(self, sender: Member, data: bytes) -> None:
        message = decode(data)
        assert isinstance(message, PEER_MESSAGES)
        self.hears(sender, message)
        self.replica.receive(sender, message, self.host.clock.now())
        self.take_outputs()

    def opened(self, peer: Member) -> None:
        self.replica.connected(peer, self.host.clock.now())
        self.take_outputs()

    def closed(self, peer: Member) -> None:
        now_s = self.host.clock.now()
        self.bulk.disconnected(peer)
        self.replica.disconnected(peer, now_s)
        self.tick(now_s)

    def tick(self, now_s: float) -> None:
        self.replica.membership.resize(self._owner.size, self._owner.resized_slot)
        self.replica.tick(now_s)
        self.take_outputs()
        if self.replica.is_behind and not self._is_installing:
            self._is_installing = True
            self.host.after(self._rng.uniform(0.001, 0.2), self._install)

    def take_outputs(self) -> list[Decided]:
        """What is decided counts as executed at once."""
        decisions = super().take_outputs()
        slot = self.replica.truncation.applied_slot = self.replica.learner.next_slot
        if self.save_is_due:
            self.save(Saved(slot, self.replica.view, b"as if a snapshot"), lambda: None)
        return decisions

    def _install(self) -> None:
        """A snapshot from another replica has arrived. Of opaque values it says only where the log goes on."""
        self._is_installing = False
        source = self._owner.source_for(self.replica.learner.next_slot)
        if source is not None:
            there = source.replica
            if self.replica.install(there.view, there.learner.next_slot, self.host.clock.now()):
                self._watch.installed(self.me, there.learner.next_slot)
            self.take_outputs()

    def _propose_soon(self) -> None:
        self.host.after(self._rng.uniform(0, self._think_max_s), self._propose)

    def _propose(self) -> None:
        self._propose_soon()
        has_room = self.replica.leader.slots_in_flight < self._config.max_slots_in_flight
        has_room = has_room and self.replica.learner.log_bytes < self._config.max_log_bytes
        if self.replica.leader.may_propose and has_room and not self._owner.is_winding_down:
            self._values += 1
            is_large = self._large_probability and self._rng.random() < self._large_probability
            size = self._rng.randrange(*(LARGE_BYTES if is_large else SMALL_BYTES))
            value = f"{self.me}/{self._values}".encode().ljust(size, b".")
            self.replica.propose(value, self.host.clock.now())
            self.take_outputs()


class ProtocolOnly(Cluster[ProposingReplica]):
    """A cluster without clients and executors."""

    is_winding_down = False

    def make_replica(self, me: Member, host: Host, disk: SnapshotDisk | None) -> ProposingReplica:
        return ProposingReplica(me, host, self.network, self.watch, self.view, self.scenario, disk, self)

    def is_settled(self) -> bool:
        """Everyone has learned everything that was decided, someone leads, and it is at full strength."""
        last = max(self.watch.slots.decided, default=-1)
        return self.is_at_full_strength() and all(
            shell.replica.learner.next_slot > last and shell.replica.leader.slots_in_flight == 0
            for shell in self.replicas.values()
        )

    def source_for(self, next_slot: int) -> ProposingReplica | None:
        """Some other replica that a snapshot can be had from: one that lives and has come further."""
        sources = [s for s in self.replicas.values() if s.replica.learner.next_slot > next_slot and s.host.state is _UP]
        return self.rng.choice(sources) if sources else None

    def progress(self) -> str:
        """Who has learned how much, for reports."""
        last = max(self.watch.slots.decided, default=-1)
        return f"decided up to {last}, {self.weakness()}; " + ", ".join(
            f"{shell.me} next {shell.replica.learner.next_slot}, {shell.replica.leader.slots_in_flight} in flight"
            for shell in self.replicas.values()
        )

"""A replica on a simulated host: the production ``Service`` and ``Executor``, mirrored from ``roles.replica``.

The lane between them takes time, as its thread does: agreement runs ahead of execution.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any, get_args

from concoord_ray.config import Config
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.messages import ReplicaMessage
from concoord_ray.paxos.outputs import Decided
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member, Role, View, following_view
from concoord_ray.roles.boot import decode, encode
from concoord_ray.rsm.calls import Applied
from concoord_ray.rsm.command import Command, Entry, KeepAlive, Read, Reply, Request
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.schedule import SnapshotSchedule
from concoord_ray.rsm.service import Service
from concoord_ray.rsm.sessions import Answer, Session
from concoord_ray.rsm.snapshot import header as snapshot_header
from concoord_ray.rsm.state import StateMessage
from concoord_ray.rsm.transfer import Snapshot
from concoord_ray.rsm.waiters import Primitive
from concoord_ray.rsm.wire import NOOP
from tests.sim.clock import Scheduler
from tests.sim.disk import Saved, SnapshotDisk
from tests.sim.host import Host
from tests.sim.invariants import Broken, Watch
from tests.sim.lines import bulk_of
from tests.sim.network import Flavour, Network
from tests.sim.places import NobodyIsLeftOutUnasked
from tests.sim.primitives import NobodyWaitsInVain
from tests.sim.scenario import Scenario

PEER_MESSAGES = (*get_args(ReplicaMessage), *get_args(StateMessage))


class WatchedExecutor(Executor):
    """The production executor, which also tells the watch what it executes, grants and answers."""

    def __init__(self, me: Member, watch: Watch, scheduler: Scheduler, config: Config) -> None:
        super().__init__("sim", config)
        self._me = me
        self._watch = watch
        self._scheduler = scheduler

    @property
    def live_sessions(self) -> tuple[int, ...]:
        """The sessions that have not ended."""
        return tuple(self._sessions)

    def apply(self, slot: int, batch_value: bytes) -> None:
        before = len(self._applied.replies)
        super().apply(slot, batch_value)
        state = (
            self.time_ns, self.wall_ns, self._tokens, self._next_session,
            len(self._sessions),
        )  # fmt: skip
        for session in self._applied.ended:
            self._watch.ended_sessions_ns.setdefault(session, self._scheduler.now_ns)
        NobodyWaitsInVain().check(self._me, self)
        self._watch.executed(self._me, slot, batch_value, self._applied.replies[before:], state)

    def _execute(self, session: Session, entry: Entry, command: Command) -> Answer | None:
        self._watch.once.check_executed(self._me, (session.id, entry.seq), self.next_slot)
        self._watch.counts["commands"] += self._me.index == 0
        return super()._execute(session, entry, command)

    def granted(self, session: int, seq: int, primitive: Primitive, grant: Any) -> None:
        holder = self._sessions.get(session)
        is_answered = holder is not None and (seq in holder.answers or seq in holder.acknowledged)
        self._watch.grants.check(self._me, (session, seq), holder is not None, is_answered)
        super().granted(session, seq, primitive, grant)


class Lane:
    """Executes what it is handed, in order, each after a while."""

    def __init__(self, owner: ServingReplica, host: Host, scenario: Scenario, executor: Executor) -> None:
        self._owner = owner
        self._host = host
        self._scenario = scenario
        self._rng = random.Random(f"{scenario.seed}/lane/{owner.me}")
        self._executor = executor
        self._work: deque[Callable[[], None]] = deque()
        self._is_busy = False

    def execute(self, decisions: list[Decided], reads: list[Entry]) -> None:
        """As the production lane: at times on the loop itself, in the middle of the step, if nothing is before it."""
        self._work.append(lambda: self._execute(decisions, reads))
        if not self._is_busy and self._rng.random() < self._scenario.inline_probability:
            self._run()
        else:
            self._go_on()

    def restore(self, snapshot: Rope) -> None:
        """As the production lane: after what was handed over before."""

        def restore() -> None:
            self._executor.restore(snapshot)
            self._owner.executed(self._executor.take_applied(), [])

        self._work.append(restore)
        self._go_on()

    def take_snapshot(self) -> None:
        """As the production lane."""

        def take() -> None:
            executor = self._executor
            self._owner.snapshot_taken(Snapshot(executor.next_slot, executor.snapshot(executor.stop_sign)))

        self._work.append(take)
        self._go_on()

    def _go_on(self) -> None:
        if self._is_busy or not self._work:
            return
        self._is_busy = True
        scenario, delay_s = self._scenario, self._rng.uniform(0, self._scenario.execute_max_s)
        if self._rng.random() < scenario.slow_execute_probability:
            delay_s = self._rng.uniform(0, scenario.slow_execute_max_s)
        self._host.after(delay_s, self._run)

    def _run(self) -> None:
        self._is_busy = True  # What the work itself hands over comes after it.
        work = self._work.popleft()
        work()
        self._is_busy = False
        self._go_on()

    def _execute(self, decisions: list[Decided], reads: list[Entry]) -> None:
        for slot, value in decisions:
            self._executor.apply(slot, value)
        applied = self._executor.take_applied()
        self._owner.executed(applied, [self._executor.read(entry) for entry in reads])


class ReplicaShell:
    """One life of one replica: links, ticks, and what the core asks for. Subclasses say what is proposed."""

    def __init__(
        self,
        me: Member,
        host: Host,
        network: Network,
        watch: Watch,
        view: View,
        scenario: Scenario,
        disk: SnapshotDisk | None,
    ) -> None:
        self.me = me
        self.host = host
        self._network = network
        self._watch = watch
        self._config = config = scenario.config
        now_s = host.clock.now()
        rng = random.Random(me.incarnation)
        self.replica = Replica(me, view, config, noop=NOOP, rng=rng, now_s=now_s)
        self._ticked_at_s = now_s
        self._was_leader = False
        self._view = view
        #: Who lives at each acceptor's index.
        self._acceptors: dict[int, Member] = {}
        self._replicas: dict[int, Member] = {}
        self._places = NobodyIsLeftOutUnasked(me, config.heartbeat_interval_s, config.election_timeout_s)
        self._disk = disk
        self._schedule = SnapshotSchedule(config)
        self.bulk = bulk_of(me, network, config, self._find)
        network.attach(me, host, self)
        host.after(config.tick_interval_s, self._tick)

    def look_up(self, acceptors: dict[int, Member], replicas: dict[int, Member]) -> None:
        """The directory has changed: connect to who is there now."""
        self._acceptors, self._replicas = acceptors, replicas
        peers = tuple(member for index, member in replicas.items() if index != self.me.index)
        for member in (*self.replica.view.acceptors, *acceptors.values(), *peers):
            self._network.connect(self.me, member)
        self.replica.set_members(tuple(acceptors.values()), peers)

    @property
    def durable_slot(self) -> int:
        """Every slot below this one has its effects on its disk."""
        return self._schedule.durable_slot

    # network.Endpoint

    def received(self, sender: Member, data: bytes) -> None:
        raise NotImplementedError

    def opened(self, peer: Member) -> None:
        raise NotImplementedError

    def closed(self, peer: Member) -> None:
        raise NotImplementedError

    # For subclasses.

    def hears(self, sender: Member, message: object) -> None:
        """Take note of what another member says."""
        if sender in self.replica.peers:
            self._places.hears(sender, message)

    def tick(self, now_s: float) -> None:
        raise NotImplementedError

    def find_saved(self) -> Saved | None:
        """What a life begins with."""
        saved = None if self._disk is None else self._disk.newest
        if saved is not None:
            self._watch.disks.saved(self.me, saved.slot)
            self._schedule.found(saved.slot, len(saved.data))
            self._watch.counts["restarts from disk"] += 1
        return saved

    @property
    def save_is_due(self) -> bool:
        """Whether a snapshot should be taken for the disk."""
        return self._disk is not None and self._schedule.is_due(self.replica)

    def save(self, saved: Saved, then: Callable[[], None]) -> None:
        """Write a snapshot, unless the disk has as much."""
        if self._disk is None or not self._schedule.begin(saved.slot, self.replica.learner):
            return

        def written() -> None:
            self._watch.disks.saved(self.me, saved.slot)
            self._schedule.written(saved.slot, len(saved.data))
            then()

        self._disk.write(saved, written)

    def take_outputs(self) -> list[Decided]:
        """Send what the core asks for; gives back what is decided, in order."""
        outputs = self.replica.outputs.take()
        self._schedule.logged(len(outputs.decisions), sum(len(decided.value) for decided in outputs.decisions))
        self.replica.truncation.durable_slot = self._schedule.durable_slot
        for send in outputs.send:
            self._places.sends(send, self.replica.membership, self._watch)
            self._watch.replica_sends(self.me, send)
        self.bulk.send(outputs.send, self.host.clock.now())
        for decided in outputs.decisions:
            self._watch.handed_on(self.me, decided.slot, decided.value)
        if self.replica.view is not self._view:
            self._view = self.replica.view
            self._network.trace.log(str(self.me), f"enters {self._view}")
            self.look_up(self._acceptors, self._replicas)
        if self.replica.is_leader != self._was_leader:
            self._was_leader = self.replica.is_leader
            self._watch.counts["elections"] += self._was_leader
            what = f"leads with {self.replica.leader.ballot}" if self._was_leader else "leads no more"
            self._network.trace.log(str(self.me), what)
        return outputs.decisions

    def _find(self, member: Member) -> Member:
        """Without a handshake, whoever is at an acceptor's place is reached."""
        if member.role is Role.ACCEPTOR and self._network.profile.flavour is Flavour.DATAGRAM:
            return self._acceptors.get(member.index, member)
        return member

    def _tick(self) -> None:
        now_s, interval_s = self.host.clock.now(), self._config.tick_interval_s
        if now_s - self._ticked_at_s > 5 * interval_s:  # After a pause, first hear what was sent meanwhile.
            self._ticked_at_s = now_s
            self.host.after(interval_s / 4, self._tick)
            return
        self._ticked_at_s = now_s
        self.host.after(interval_s, self._tick)
        self.tick(now_s)


class NoFalseAlarm:
    """Replicas that execute the same log agree at every checkpoint, whatever they were restored from."""


class ServingReplica(ReplicaShell):
    """A whole replica: it serves clients and executes."""

    def __init__(
        self,
        me: Member,
        host: Host,
        network: Network,
        watch: Watch,
        view: View,
        scenario: Scenario,
        disk: SnapshotDisk | None,
        size: Callable[[], tuple[Size, int]],
    ) -> None:
        super().__init__(me, host, network, watch, view, scenario, disk)
        self._size = size
        self._first_view = view
        self.service = Service(self.replica, self._config, host.clock.now())
        self.executor = WatchedExecutor(me, watch, network.scheduler, self._config)
        self._lane = Lane(self, host, scenario, self.executor)
        self._flush_is_due = False
        self._is_taking_snapshot = False
        saved = self.find_saved()
        if saved is not None:
            self.service.state.go_on_from(saved.data, host.clock.now())
            host.dispatch(self.perform)

    # network.Endpoint

    def received(self, sender: Member, data: bytes) -> None:
        message = decode(data)
        now_s = self.host.clock.now()
        if isinstance(message, (Request, Read, KeepAlive)):
            self.service.receive_client(sender, message, now_s)
        else:
            assert isinstance(message, PEER_MESSAGES)
            self.hears(sender, message)
            self.service.receive_peer(sender, message, now_s)
        self.perform()

    def opened(self, peer: Member) -> None:
        self.service.connected(peer, self.host.clock.now())
        self.perform()

    def closed(self, peer: Member) -> None:
        now_s = self.host.clock.now()
        self.bulk.disconnected(peer)
        self.service.disconnected(peer, now_s)
        self.service.tick(now_s)
        self.perform()

    def tick(self, now_s: float) -> None:
        self.replica.membership.resize(*self._size())
        self.service.tick(now_s)
        self.service.flush(now_s, self._wall_ns())
        self.perform()

    def executed(self, applied: Applied, reads: list[Reply]) -> None:
        """The lane is done with something."""
        self.service.executed(applied, self.host.clock.now())
        for reply in reads:
            self.service.answer(reply)
        self.perform()

    def snapshot_taken(self, snapshot: Snapshot) -> None:
        """The lane has taken one."""
        self._is_taking_snapshot = False
        self.service.state.made(snapshot, self.host.clock.now())
        view = following_view(snapshot_header(snapshot.data).extra) or self._first_view
        self.save(Saved(snapshot.slot, view, bytes(snapshot.data)), self.perform)
        self.perform()

    def perform(self) -> None:
        """Do what the core asked for, in its order."""
        service = self.service
        if service.state.install is not None:
            self._watch.installed(self.me, snapshot_header(service.state.install).next_slot)
            self._lane.restore(service.state.install)
            service.state.install = None
        if service.state.halted or service.state.is_wrong:
            raise Broken(NoFalseAlarm(), f"{self.me} is told that its state is not that of the others")
        decisions = self.take_outputs()
        if (service.state.wants_snapshot or self.save_is_due) and not self._is_taking_snapshot:
            self._is_taking_snapshot = True
            self._lane.take_snapshot()
        if decisions or service.reads:
            reads, service.reads = service.reads, []
            self._lane.execute(decisions, reads)
        if service.to_clients:
            messages, service.to_clients = service.to_clients, []
            for to, reply in messages:
                self._network.send(self.me, to, encode(reply))
        if service.wants_flush and not self._flush_is_due:
            self._flush_is_due = True
            self.host.after(0.0001, self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        self.service.flush(self.host.clock.now(), self._wall_ns())
        self.perform()

    def _wall_ns(self) -> int:
        return int(self.host.clock.wall() * 1e9)

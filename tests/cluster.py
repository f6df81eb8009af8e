"""A whole ensemble in memory: acceptors, replicas with their services and executors, and clients.

The network is perfect and instant except where a test cuts it (``cut``); time passes only in ``run``. For behaviour
that needs all of the cores together; the simulator in ``tests.sim`` is for faults and schedules.
"""

from __future__ import annotations

import random
from typing import Any

from concoord_ray.config import Config
from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.messages import P1a, P2a, Ping
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.rsm.command import Command, Entry, KeepAlive, Read, Reply, Request
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.service import Service
from concoord_ray.rsm.transfer import Snapshot
from concoord_ray.rsm.wire import NOOP
from concoord_ray.session import Courier, Ending, Failed, Session
from tests.rsm.log import calling, creation, result

TICK_S = 0.02


class Node:
    """One replica's process."""

    def __init__(self, me: Member, view: View, config: Config, now_s: float) -> None:
        self.me = me
        rng = random.Random(me.incarnation)
        self.service = Service(Replica(me, view, config, noop=NOOP, rng=rng, now_s=now_s), config, now_s)
        self.executor = Executor("here", config)
        #: While True, slots are decided and not executed: user code that takes long.
        self.is_stuck = False
        self._undone: list[tuple[int, bytes]] = []

    def execute(self, now_s: float) -> None:
        replica, service = self.service.replica, self.service
        self._undone += [(slot, value) for slot, value in replica.outputs.decisions]
        replica.outputs.decisions = []
        if self.is_stuck:
            return
        if service.state.install is not None:
            self.executor.restore(service.state.install)
            service.state.install = None
        reads, service.reads = service.reads, []
        for slot, value in self._undone:
            self.executor.apply(slot, value)
        self._undone = []
        service.executed(self.executor.take_applied(), now_s)
        if service.state.wants_snapshot:
            executor = self.executor
            service.state.made(Snapshot(executor.next_slot, executor.snapshot(executor.stop_sign)), now_s)
        for entry in reads:
            service.answer(self.executor.read(entry))


class Client:
    """A process with a session, and how its calls ended."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.me = Member(Role.CLIENT, 0, 900 + number)
        self.cluster = cluster
        self.courier = Courier(cluster.config, cluster.now_s)
        self.session = Session(
            self.courier, cluster.config, nonce=self.me.incarnation, description="a test", now_s=cluster.now_s
        )
        self.ended: dict[int, Ending] = {}

    def submit(self, command: Command, *, readonly: bool = False) -> int:
        entry = self.session.entry(command, readonly=readonly)
        self.courier.submit(Read(entry) if readonly else Request(entry), self.cluster.now_s)
        return entry.seq

    def result(self, seq: int) -> Any:
        ending = self.ended[seq]
        assert isinstance(ending, Reply), ending
        return result(ending)

    def create(self, cls: type, *args: Any) -> int:
        seq = self.submit(creation(cls, *args))
        self.cluster.settle()
        object_id = self.result(seq).object_id
        assert isinstance(object_id, int)
        return object_id

    def call(self, object_id: int, method: str, *args: Any, **kwargs: Any) -> Any:
        seq = self.submit(calling(object_id, method, *args, **kwargs))
        self.cluster.settle()
        return self.result(seq)

    def read(self, object_id: int, method: str) -> Any:
        seq = self.submit(calling(object_id, method), readonly=True)
        self.cluster.settle()
        return self.result(seq)

    def take_endings(self) -> None:
        endings, self.courier.endings = self.courier.endings, []
        for ending in endings:
            if self.session.is_opening(ending):
                assert isinstance(ending, Reply), ending
                self.session.opened(result(ending))
                continue
            assert ending.seq not in self.ended, "a call ended twice"
            self.ended[ending.seq] = ending
            if ending.seq > 0 and not isinstance(ending, Failed):
                self.session.acknowledge(ending.seq, self.cluster.now_s)


class Cluster:
    """Three acceptors and three replicas, led by someone."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()
        self.now_s = 100.0
        acceptors = tuple(Member(Role.ACCEPTOR, index, 100 + index) for index in range(self.config.acceptors))
        replicas = tuple(Member(Role.REPLICA, index, 200 + index) for index in range(self.config.replicas))
        self.view = View(0, acceptors, tuple(range(self.config.replicas)))
        self.acceptors = {member: Acceptor(member, page_bytes=1 << 20) for member in acceptors}
        for acceptor in self.acceptors.values():
            acceptor.join(self.view)
        self.nodes = {member.index: Node(member, self.view, self.config, self.now_s) for member in replicas}
        for node in self.nodes.values():
            node.service.replica.set_members(acceptors, replicas)
        self.clients: list[Client] = []
        #: Members that nobody reaches, and pairs of members that do not reach each other.
        self.cut: set[Member | frozenset[Member]] = set()
        self.run(1.0)

    @property
    def leader(self) -> Node:
        (leader,) = [node for node in self.nodes.values() if node.service.replica.is_leader and node.me not in self.cut]
        return leader

    def client(self, *, is_open: bool = True) -> Client:
        client = Client(self, len(self.clients))
        self.clients.append(client)
        for node in self.nodes.values():
            node.service.connected(client.me, self.now_s)
        client.session.open(self.now_s)
        if is_open:
            self.settle()
            assert client.session.id is not None
        return client

    def kill(self, index: int) -> None:
        """The replica's process is gone, and its connections with it."""
        dead = self.nodes.pop(index)
        for node in self.nodes.values():
            node.service.disconnected(dead.me, self.now_s)
        for client in self.clients:
            client.courier.disconnected(index, self.now_s)

    def restart(self, index: int) -> Node:
        """It comes back empty, as another incarnation."""
        node = Node(Member(Role.REPLICA, index, 2000 + index), self.view, self.config, self.now_s)
        self.nodes[index] = node
        members = tuple(other.me for other in self.nodes.values())
        for other in self.nodes.values():
            other.service.replica.set_members(tuple(self.acceptors), members)
            if other is not node:
                other.service.connected(node.me, self.now_s)
                node.service.connected(other.me, self.now_s)
        for client in self.clients:
            node.service.connected(client.me, self.now_s)
        return node

    def heal(self) -> None:
        """Everybody reaches everybody again, over new connections."""
        self.cut.clear()
        for node in self.nodes.values():
            for client in self.clients:
                node.service.connected(client.me, self.now_s)

    def run(self, seconds: float) -> None:
        """Let the time pass, a tick at a time."""
        for _ in range(round(seconds / TICK_S)):
            self.now_s += TICK_S
            for node in self.nodes.values():
                node.service.tick(self.now_s)
            for client in self.clients:
                client.courier.tick(self.now_s)
                client.session.tick(self.now_s)
            self.settle()

    def settle(self) -> None:
        """Deliver everything that is under way, and what comes of it."""
        for _ in range(1000):
            if not self._turn():
                return
        raise AssertionError("the cluster does not come to rest")

    def _turn(self) -> bool:
        moved = False
        for node in list(self.nodes.values()):
            service = node.service
            service.flush(self.now_s, round(self.now_s * 1e9))
            node.execute(self.now_s)
            taken = service.replica.outputs.take()
            assert not taken.decisions
            for send in taken.send:
                for to in send.to:
                    moved |= self._to_member(node.me, to, send.message)
            to_clients, service.to_clients = service.to_clients, []
            for to, message in to_clients:
                for client in self.clients:
                    if client.me == to and self._reach(node.me, to):
                        client.courier.receive(node.me.index, message, self.now_s)
                        moved = True
        for member, acceptor in self.acceptors.items():
            for send in acceptor.outputs.take().send:
                for to in send.to:
                    moved |= self._to_member(member, to, send.message)
        for client in self.clients:
            client.take_endings()
            outbox, client.courier.outbox = client.courier.outbox, []
            for index, message in outbox:
                receiver = self.nodes.get(index)
                if receiver is not None and self._reach(client.me, receiver.me):
                    assert isinstance(message, (Request, Read, KeepAlive))
                    receiver.service.receive_client(client.me, message, self.now_s)
                    moved = True
        return moved

    def _to_member(self, source: Member, to: Member, message: Any) -> bool:
        if not self._reach(source, to):
            return False
        if to in self.acceptors:
            assert isinstance(message, (P1a, P2a, Ping))
            self.acceptors[to].receive(source, message)
            return True
        node = self.nodes.get(to.index)
        if node is None or node.me != to:
            return False
        node.service.receive_peer(source, message, self.now_s)
        return True

    def _reach(self, one: Member, other: Member) -> bool:
        return self.cut.isdisjoint((one, other, frozenset((one, other))))


def entry_of(client: Client, seq: int, command: bytes = b"") -> Entry:
    """An entry of the client's session, as it might be sent by hand."""
    assert client.session.id is not None
    return Entry(client.session.id, seq, (), command)

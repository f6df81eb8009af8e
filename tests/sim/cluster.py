"""One simulated ensemble: its hosts, who runs on them now, and what a crash of each may cost.

It is the directory too: an oracle that tells every process, a little later, which incarnations live where.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles.boot import decode
from tests.sim.acceptor import AcceptorShell
from tests.sim.host import Host, HostState
from tests.sim.invariants import Watch, majority
from tests.sim.replica import ReplicaShell
from tests.sim.scenario import LEADER, Scenario
from tests.sim.world import World

R = TypeVar("R", bound=ReplicaShell)


class DirectoryReader(Protocol):
    """A process that connects to members by their index."""

    def look_up(self, acceptors: dict[int, Member], replicas: dict[int, Member]) -> None: ...


def describe(data: bytes) -> str:
    """A message in a line of the trace."""
    text = repr(decode(data))
    return text if len(text) <= 300 else f"{text[:300]}... ({len(data)} B)"


class Cluster(ABC, Generic[R]):
    """Acceptors and replicas on hosts of their own. Implements ``faults.Cluster``."""

    def __init__(self, scenario: Scenario, *, full_trace: bool = False) -> None:
        self.scenario = scenario
        self.world = World(
            scenario.seed,
            scenario.network,
            scenario.store,
            describe if full_trace else None,
            full_trace,
        )
        self.scheduler = self.world.scheduler
        self.network = self.world.network
        self.rng = self.scheduler.stream("cluster")
        config = scenario.config
        self._acceptor_hosts = [self.world.host(f"acceptor{index}") for index in range(config.acceptors)]
        self._replica_hosts = [self.world.host(f"replica{index}") for index in range(config.replicas)]
        self.view = View(
            0,
            tuple(self._new_member(Role.ACCEPTOR, index) for index in range(config.acceptors)),
            tuple(self._new_member(Role.REPLICA, index) for index in range(config.replicas)),
        )
        self.watch = Watch(self.view)
        self.acceptors: dict[int, AcceptorShell] = {}
        self.replicas: dict[int, R] = {}
        #: Acceptors that lost what they promised, for good.
        self.lost_acceptors: set[int] = set()

    @abstractmethod
    def make_replica(self, me: Member, host: Host) -> R:
        """Start one life of one replica."""

    def start(self) -> None:
        """Start every role in its first life."""
        for index, host in enumerate(self._acceptor_hosts):
            self._start_acceptor(index, host, self.view.acceptors[index])
        for index, host in enumerate(self._replica_hosts):
            self._start_replica(index, host, self.view.replicas[index])
        self.directory_changed()

    @property
    def leaders(self) -> list[R]:
        """The replicas that run and believe that they lead."""
        return [
            shell
            for shell in self.replicas.values()
            if shell.host.state is HostState.UP and shell.replica.is_leader and self._is_present(shell)
        ]

    def directory_changed(self) -> None:
        """Somebody started: everyone hears of it a little later."""
        for shell in self.replicas.values():
            self.tell(shell.host, shell)

    def tell(self, host: Host, reader: DirectoryReader) -> None:
        """Let one process read the directory, a little later."""
        life = host.life

        def look_up() -> None:
            acceptors = {index: shell.me for index, shell in self.acceptors.items()}
            replicas = {index: shell.me for index, shell in self.replicas.items()}
            reader.look_up(acceptors, replicas)

        if host.state is not HostState.DOWN:
            delay_s = self.rng.uniform(0.001, 0.05)
            self.scheduler.after(delay_s, lambda: host.dispatch(look_up) if host.life == life else None)

    # faults.Cluster

    def hosts(self) -> Sequence[Host]:
        return (*self._acceptor_hosts, *self._replica_hosts)

    def victim(self, name: str) -> str:
        """``LEADER`` is the replica that leads, with the highest ballot if several do; the first if none does."""
        if name != LEADER:
            return name
        leader = max(self.leaders, key=lambda shell: shell.replica.leader.ballot, default=None)
        return self._replica_hosts[0].name if leader is None else leader.host.name

    def may_crash(self, host: Host) -> bool:
        """In memory a majority of acceptors must live on; durable ones come back. One replica must always live."""
        if host in self._acceptor_hosts:
            return self.scenario.durable or self._may_lose(self._acceptor_hosts.index(host))
        return any(each.state is not HostState.DOWN for each in self._replica_hosts if each is not host)

    def may_wipe(self, host: Host) -> bool:
        return host in self._acceptor_hosts and self._may_lose(self._acceptor_hosts.index(host))

    def wipe(self, host: Host) -> None:
        self.world.stores[host.name].wipe()

    def restart(self, host: Host) -> None:
        host.restart()
        if host in self._acceptor_hosts:
            index = self._acceptor_hosts.index(host)
            me = self.acceptors[index].me
            if not self.scenario.durable or not self.world.stores[host.name].durable:
                self.lost_acceptors.add(index)
                me = self.without_memory(me)
            self._start_acceptor(index, host, me)
        else:
            index = self._replica_hosts.index(host)
            self._start_replica(index, host, self._new_member(Role.REPLICA, index))
        self.directory_changed()

    def without_memory(self, former: Member) -> Member:
        """Who an acceptor is that comes back and has lost what it promised: somebody else."""
        return self._new_member(former.role, former.index)

    def _may_lose(self, index: int) -> bool:
        lost = {
            *self.lost_acceptors,
            *(
                i for i, host in enumerate(self._acceptor_hosts)
                if host.state is HostState.DOWN and not (self.scenario.durable and self.world.stores[host.name].durable)
            ),
            index,
        }  # fmt: skip
        return len(lost) < majority(self.view)

    def _start_acceptor(self, index: int, host: Host, me: Member) -> None:
        shell = self.acceptors[index] = AcceptorShell(
            me,
            host,
            self.network,
            self.watch,
            page_bytes=self.scenario.config.catch_up_page_bytes,
            store=self.world.stores[host.name] if self.scenario.durable else None,
            broken=lambda: self._stop(host),
        )
        host.dispatch(lambda: shell.join(self.view))

    def _start_replica(self, index: int, host: Host, me: Member) -> None:
        self.replicas[index] = self.make_replica(me, host)

    def _stop(self, host: Host) -> None:
        """Its process ends by its own will. Whoever supervises it starts it again."""
        host.crash()
        life = host.life

        def start_again() -> None:
            if host.state is HostState.DOWN and host.life == life:
                self.restart(host)

        self.scheduler.after(0.2, start_again)

    def _new_member(self, role: Role, index: int) -> Member:
        return Member(role, index, self.rng.getrandbits(62) + 1)

    def _is_present(self, shell: ReplicaShell) -> bool:
        where = self.network.at(shell.me)
        return where is not None and where.endpoint is shell

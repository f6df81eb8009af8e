"""One simulated ensemble: its hosts, who runs on them now, and what a crash of each may cost.

It is the directory too: an oracle that tells every process, a little later, which incarnations live where.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles.boot import decode
from tests.sim.acceptor import AcceptorShell
from tests.sim.host import Host, HostState
from tests.sim.invariants import Watch, majority
from tests.sim.replica import ReplicaShell
from tests.sim.scenario import LEADER, Scenario
from tests.sim.world import World

#: For how long an acceptor that is gone may still pass for alive.
_STALE_S = 2.0

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
        spare = scenario.spares
        self._acceptor_hosts = [self.world.host(f"acceptor{index}") for index in range(config.acceptors + spare)]
        self._replica_hosts = [self.world.host(f"replica{index}") for index in range(config.replicas + spare)]
        self.view = View(
            0,
            tuple(self._new_member(Role.ACCEPTOR, index) for index in range(config.acceptors)),
            tuple(range(config.replicas)),
        )
        self.watch = Watch(self.view)
        self.acceptors: dict[int, AcceptorShell] = {}
        self.replicas: dict[int, R] = {}
        #: When each acceptor last came back without its memory.
        self._lost_at_s: dict[int, float] = {}
        #: What the ensemble was last asked to be.
        self.size = Size(config.acceptors, config.replicas)

    @abstractmethod
    def make_replica(self, me: Member, host: Host) -> R:
        """Start one life of one replica."""

    def start(self) -> None:
        """Start every role in its first life."""
        for index, host in enumerate(self._acceptor_hosts):
            named = dict(enumerate(self.view.acceptors))
            self._start_acceptor(index, host, named.get(index) or self._new_member(Role.ACCEPTOR, index))
        for index, host in enumerate(self._replica_hosts):
            self._start_replica(index, host, self._new_member(Role.REPLICA, index))
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
        """One replica must always live, and a majority of the acceptors that it needs. Durable ones come back."""
        if host in self._acceptor_hosts:
            return self.scenario.durable or self.may_wipe(host)
        return any(self._can_go_on(shell, set()) for shell in self.replicas.values() if shell.host is not host)

    def may_wipe(self, host: Host) -> bool:
        if host not in self._acceptor_hosts:
            return False
        index = self._acceptor_hosts.index(host)
        if not self._may_become(self.size, {index}):
            return False
        return any(self._can_go_on(shell, {self.acceptors[index].me}) for shell in self.replicas.values())

    def wipe(self, host: Host) -> None:
        self.world.stores[host.name].wipe()

    def restart(self, host: Host) -> None:
        host.restart()
        if host in self._acceptor_hosts:
            index = self._acceptor_hosts.index(host)
            me = self.acceptors[index].me
            if not self._remembers(index):
                self._lost_at_s[index] = self.scheduler.now_s
                me = self.without_memory(me)
            self._start_acceptor(index, host, me)
        else:
            index = self._replica_hosts.index(host)
            self._start_replica(index, host, self._new_member(Role.REPLICA, index))
        self.directory_changed()

    def without_memory(self, former: Member) -> Member:
        """Who an acceptor is that comes back and has lost what it promised: somebody else."""
        return self._new_member(former.role, former.index)

    def resize(self) -> None:
        """Somebody asks for another size."""
        config = self.scenario.config
        size = Size(
            self.rng.randint(max(1, config.acceptors - 2), config.acceptors + self.scenario.spares),
            self.rng.randint(max(1, config.replicas - 1), config.replicas + self.scenario.spares),
        )
        if self._may_become(size, set()):
            self.size = size
            self.world.trace.log("nemesis", f"resize to {size}")

    def _may_become(self, size: Size, lost: set[int]) -> bool:
        """Whether a view of this size has its majority. A leader takes who has just died for alive a little longer."""
        lately_s = self.scheduler.now_s - _STALE_S
        present = {
            index
            for index in range(size.acceptors)
            if self._is_kept(index) and self._lost_at_s.get(index, lately_s) <= lately_s
        }
        return 2 * len(present - lost) > size.acceptors

    def is_at_full_strength(self) -> bool:
        """Nobody dead is in the view, nobody who should be is missing, and no more of the log is kept than is due."""
        return not self.weakness()

    def weakness(self) -> str:
        """What keeps the ensemble from full strength, in words."""
        if not self.leaders:
            return "nobody leads"
        view = self.watch.lineage.views[-1]
        living = tuple(self.acceptors[index].me for index in range(self.size.acceptors))
        if (view.acceptors, view.replicas) != (living, tuple(range(self.size.replicas))):
            return f"the view is {view}, but {', '.join(map(str, living))} and {self.size.replicas} replicas are wanted"
        for shell in self.replicas.values():
            learner = shell.replica.learner
            if learner.next_slot - learner.first_slot > self.scenario.config.truncate_slots:
                return f"{shell.me} keeps slots {learner.first_slot} to {learner.next_slot}"
        return ""

    def _can_go_on(self, shell: R, lost: set[Member]) -> bool:
        """Whether a replica could, with nobody's help, learn all that was decided: it has or finds what it misses."""
        if shell.host.state is HostState.DOWN or not self._is_present(shell):
            return False
        truncated_below = max(acceptor.truncated_below for acceptor in self.acceptors.values())
        if shell.replica.learner.next_slot < truncated_below:
            return False
        present = {acceptor.me for index, acceptor in self.acceptors.items() if self._is_kept(index)} - lost
        views = [view for view in self.watch.lineage.known() if view.epoch >= shell.replica.view.epoch]
        return all(len(present & set(view.acceptors)) >= majority(view) for view in views)

    def _is_kept(self, index: int) -> bool:
        return self._acceptor_hosts[index].state is not HostState.DOWN or self._remembers(index)

    def _remembers(self, index: int) -> bool:
        """Whether an acceptor that is down will come back as itself."""
        return self.scenario.durable and bool(self.world.stores[self._acceptor_hosts[index].name].durable)

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

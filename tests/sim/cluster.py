"""One simulated ensemble: its hosts, and who runs on them now.

It is the directory too: an oracle that tells every process, a little later, which incarnations live where. And it is
the operator, who resizes it, and ends the processes of members that are no more.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from concoord_ray.paxos.membership import Size, is_reached
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles.boot import decode
from tests.sim.acceptor import AcceptorShell
from tests.sim.disk import AcceptorDisk, Memory, ModelledDisk, SnapshotDisk
from tests.sim.host import Host, HostState
from tests.sim.invariants import Watch
from tests.sim.promises import Promises
from tests.sim.real_disk import RealDisk, new_directory
from tests.sim.replica import ReplicaShell
from tests.sim.scenario import LEADER, Kind, Scenario
from tests.sim.world import World

#: How often the operator looks whether a resizing is done.
_OPERATE_S = 0.2
#: Of what is proposed.
_LEAST_VALUE_BYTES = 4

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
        self.acceptor_hosts = [self.world.host(f"acceptor{index}") for index in range(config.acceptors + spare)]
        self.replica_hosts = [self.world.host(f"replica{index}") for index in range(config.replicas + spare)]
        self.view = View(
            0,
            tuple(self._new_member(Role.ACCEPTOR, index) for index in range(config.acceptors)),
            tuple(range(config.replicas)),
        )
        self.watch = Watch(self.view)
        self.watch.disks.has_disks = scenario.durable
        #: What the ensemble was last asked to be.
        self.size = Size(config.acceptors, config.replicas)
        #: As the slot of the command that asked for it.
        self.resized_slot = -1
        #: Who there is, by index; members that the size has no place for are no more.
        self.acceptors: dict[int, AcceptorShell] = {}
        self.replicas: dict[int, R] = {}
        self._directory = new_directory() if scenario.kind is Kind.STORAGE else None
        self.acceptor_disks: list[AcceptorDisk] = [self._disk_of(host) for host in self.acceptor_hosts]
        self.snapshot_disks = [SnapshotDisk(host, self.scheduler.stream(host.name)) for host in self.replica_hosts]
        #: When each acceptor last came back without its memory.
        self.lost_at_s: dict[int, float] = {}
        self._promises = Promises(self)

    @abstractmethod
    def make_replica(self, me: Member, host: Host, disk: SnapshotDisk | None) -> R:
        """Start one life of one replica."""

    def start(self) -> None:
        """Start every role in its first life."""
        for index in range(self.size.acceptors):
            self._start_acceptor(index, self.view.acceptors[index])
        for index in range(self.size.replicas):
            self._start_replica(index)
        for host in (*self.acceptor_hosts[self.size.acceptors :], *self.replica_hosts[self.size.replicas :]):
            host.crash()
        self.directory_changed()
        self._operate_later()

    def close(self) -> None:
        """Leave nothing behind."""
        for disk in self.acceptor_disks:
            if isinstance(disk, RealDisk):
                disk.close()
        if self._directory is not None:
            shutil.rmtree(self._directory)

    @property
    def leaders(self) -> list[R]:
        """The replicas that run and believe that they lead."""
        return [
            shell
            for shell in self.replicas.values()
            if shell.host.state is HostState.UP and shell.replica.is_leader and self.is_present(shell)
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
        return (*self.acceptor_hosts, *self.replica_hosts)

    def members(self) -> Sequence[Host]:
        acceptors = [self.acceptor_hosts[index] for index in self.acceptors]
        return (*acceptors, *(self.replica_hosts[index] for index in self.replicas))

    def victim(self, name: str) -> str:
        """``LEADER`` is the replica that leads, with the highest ballot if several do; the first if none does."""
        if name != LEADER:
            return name
        leader = max(self.leaders, key=lambda shell: shell.replica.leader.ballot, default=None)
        return self.replica_hosts[0].name if leader is None else leader.host.name

    def may_crash(self, host: Host) -> bool:
        return self._promises.may_crash(host)

    def may_wipe(self, host: Host) -> bool:
        return self._promises.may_wipe(host)

    def wipe(self, host: Host) -> None:
        if host in self.acceptor_hosts:
            self.acceptor_disks[self.acceptor_hosts.index(host)].wipe()
        else:
            self.snapshot_disks[self.replica_hosts.index(host)].wipe()

    def damage(self, host: Host) -> None:
        if host in self.acceptor_hosts:
            self.acceptor_disks[self.acceptor_hosts.index(host)].damage()
        else:
            self.snapshot_disks[self.replica_hosts.index(host)].damage()

    def restart(self, host: Host) -> None:
        """Whoever is no member any more stays where it is."""
        if host not in self.members():
            return
        host.restart()
        if host in self.acceptor_hosts:
            self._start_acceptor(index := self.acceptor_hosts.index(host), self.acceptors[index].me)
        else:
            self._start_replica(self.replica_hosts.index(host))
        self.directory_changed()

    def without_memory(self, former: Member) -> Member:
        """Who an acceptor is that comes back and has lost what it promised: somebody else."""
        return self._new_member(former.role, former.index)

    def resize(self) -> None:
        """Somebody asks for another size: whoever is missing is started first."""
        config = self.scenario.config
        size = Size(
            self.rng.randint(max(1, config.acceptors - 2), config.acceptors + self.scenario.spares),
            self.rng.randint(max(1, config.replicas - 1), config.replicas + self.scenario.spares),
        )
        for index in set(range(size.acceptors)) - self.acceptors.keys():
            self.acceptor_hosts[index].restart()
            self._start_acceptor(index, self._new_member(Role.ACCEPTOR, index))
        for index in set(range(size.replicas)) - self.replicas.keys():
            self.replica_hosts[index].restart()
            self._start_replica(index)
        self.directory_changed()
        if self._promises.may_become(size, set()):
            self.size = size
            self.resized_slot = max(self.watch.slots.decided, default=-1) + 1
            self.world.trace.log("nemesis", f"resize to {size}")

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
            learner, config = shell.replica.learner, self.scenario.config
            not_yet_saved = config.snapshot_log_bytes // _LEAST_VALUE_BYTES if config.storage else 0
            if learner.next_slot - learner.first_slot > config.truncate_slots + not_yet_saved:
                return f"{shell.me} keeps slots {learner.first_slot} to {learner.next_slot}"
        return ""

    def is_present(self, shell: ReplicaShell) -> bool:
        """Whether it is attached to the network: this life of it."""
        where = self.network.at(shell.me)
        return where is not None and where.endpoint is shell

    # The operator.

    def _operate_later(self) -> None:
        self.scheduler.after(_OPERATE_S, self._operate)

    def _operate(self) -> None:
        """End the processes of members that nobody needs any more, as ``ensemble.resize`` does."""
        self._operate_later()
        size = self.size
        needed = [self.replicas[index] for index in range(size.replicas)]
        if any(shell.host.state is not HostState.UP or not self.is_present(shell) for shell in needed):
            return
        standings = [(shell.replica.view, shell.durable_slot) for shell in needed]
        if not is_reached(size, self.resized_slot, standings, self.scenario.config):
            return
        self.watch.disks.check_ended(needed[0].replica.view)
        former = [self.acceptor_hosts[index] for index in self.acceptors if index >= size.acceptors]
        self.lost_at_s.update({index: self.scheduler.now_s for index in self.acceptors if index >= size.acceptors})
        former += [self.replica_hosts[index] for index in self.replicas if index >= size.replicas]
        for host in former:
            self.world.trace.log("operator", f"{host.name} is no member any more")
            host.crash()
            if self.rng.random() < 0.5:
                self.wipe(host)
        self.acceptors = {index: shell for index, shell in self.acceptors.items() if index < size.acceptors}
        self.replicas = {index: shell for index, shell in self.replicas.items() if index < size.replicas}

    # Lives.

    def _disk_of(self, host: Host) -> AcceptorDisk:
        if not self.scenario.durable:
            return Memory(self.watch)
        if self._directory is not None:
            return RealDisk(host, self.watch, self.scenario.store, self._directory)
        return ModelledDisk(self.world.stores[host.name], self.watch)

    def _start_acceptor(self, index: int, former: Member) -> None:
        host, disk = self.acceptor_hosts[index], self.acceptor_disks[index]
        is_first = index not in self.acceptors
        fresh = former if is_first else self.without_memory(former)
        journal = disk.open(fresh, lambda: self._stop(host))
        if not is_first and journal.me != former:
            self.lost_at_s[index] = self.scheduler.now_s
        shell = self.acceptors[index] = AcceptorShell(journal, host, self.network, self.watch, self.scenario.config)
        host.dispatch(lambda: shell.join(self.view))

    def _start_replica(self, index: int) -> None:
        disk = self.snapshot_disks[index] if self.scenario.durable else None
        me = self._new_member(Role.REPLICA, index)
        self.replicas[index] = self.make_replica(me, self.replica_hosts[index], disk)

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

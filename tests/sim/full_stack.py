"""One seed of the whole system: clients with threads, replicas with executors, acceptors with disks, and a storm."""

from __future__ import annotations

from collections.abc import Sequence

from concoord_ray.paxos.view import Member, Role
from tests.sim.client import ClientShell
from tests.sim.cluster import Cluster
from tests.sim.disk import SnapshotDisk
from tests.sim.follower import FollowerShell, GatewayShell
from tests.sim.host import Host
from tests.sim.replica import ServingReplica
from tests.sim.scenario import Kind, Scenario
from tests.sim.threading_workload import ThreadingScripts
from tests.sim.workload import Record, Scripts, Thread


class FullStack(Cluster[ServingReplica]):
    """A cluster with clients. Implements ``workload.Environment``."""

    def __init__(self, scenario: Scenario, *, full_trace: bool = False) -> None:
        super().__init__(scenario, full_trace=full_trace)
        self.record = Record()
        self.is_winding_down = False
        self._client_hosts = [self.world.host(f"client{index}") for index in range(scenario.clients)]
        self._gateway_hosts = [self.world.host("gateway0")] if scenario.has_gateway else []
        #: Where the final state is read from; no fault strikes it.
        self._auditor_host = self.world.host("auditor")
        self.clients: dict[str, ClientShell] = {}
        self.gateways: dict[str, GatewayShell] = {}
        self.threads: dict[str, list[Thread]] = {}
        self._client_lives = 0

    def make_replica(self, me: Member, host: Host, disk: SnapshotDisk | None) -> ServingReplica:
        return ServingReplica(
            me,
            host,
            self.network,
            self.watch,
            self.view,
            self.scenario,
            disk,
            lambda: (self.size, self.resized_slot),
        )

    def start(self) -> None:
        super().start()
        for host in self._gateway_hosts:
            self._start_gateway(host)
        for host in self._client_hosts:
            self._start_client(host)

    def hosts(self) -> Sequence[Host]:
        return (*super().hosts(), *self._client_hosts, *self._gateway_hosts)

    def may_crash(self, host: Host) -> bool:
        return host in self._client_hosts or host in self._gateway_hosts or super().may_crash(host)

    def restart(self, host: Host) -> None:
        if host in self._client_hosts:
            host.restart()
            self._start_client(host)
        elif host in self._gateway_hosts:
            host.restart()
            self._start_gateway(host)
        else:
            super().restart(host)

    def directory_changed(self) -> None:
        super().directory_changed()
        followers: list[FollowerShell] = [*self.clients.values(), *self.gateways.values()]
        for follower in followers:
            self.tell(follower.host, follower)

    def audit(self) -> None:
        """Begin to read the final state."""
        client = self._new_client(self._auditor_host, len(self._client_hosts))
        self._start_threads(client, "auditor", 1)

    def unfinished(self) -> list[Thread]:
        """The threads of live clients that have not come to their end."""
        return [thread for threads in self.threads.values() for thread in threads if not thread.is_done]

    def unanswered(self) -> int:
        """How many calls of live clients have not ended, those among them that nobody waits for."""
        return sum(client.unanswered for client in self.clients.values())

    def ghosts(self) -> list[int]:
        """Sessions of dead clients, or that their clients have left, which the ensemble still keeps."""
        live = {client.session_id for client in self.clients.values()}
        kept = {session for replica in self.replicas.values() for session in replica.executor.live_sessions}
        return sorted(kept - live)

    def _start_gateway(self, host: Host) -> None:
        me = self._new_member(Role.GATEWAY, 0)
        gateway = GatewayShell(me, host, self.network, self.scenario, self.scheduler.stream(f"{me}"))
        self.gateways[host.name] = gateway
        gateway.look_up({}, {i: shell.me for i, shell in self.replicas.items()})
        for client in self.clients.values():
            self._tell_of(gateway, client)

    def _tell_of(self, gateway: GatewayShell, client: ClientShell) -> None:
        """Ray calls the unfinished calls of a gateway again, on its next life."""

        def use() -> None:
            if self.clients.get(client.host.name) is client:  # It may have died, and another life have begun.
                client.host.dispatch(lambda: client.use_gateway(gateway))

        self.scheduler.after(self.rng.uniform(0.01, 0.1), use)

    def _start_client(self, host: Host) -> None:
        client = self._new_client(host, self._client_hosts.index(host))
        self._start_threads(client, host.name, self.scenario.threads)

    def _new_client(self, host: Host, index: int) -> ClientShell:
        me = self._new_member(Role.CLIENT, index)
        client = ClientShell(me, host, self.network, self.watch, self.scenario, self.scheduler.stream(f"{me}"))
        self.clients[host.name] = client
        replicas = {i: shell.me for i, shell in self.replicas.items()}
        client.look_up({}, replicas)
        for gateway in self.gateways.values():
            client.use_gateway(gateway)
        return client

    def _start_threads(self, client: ClientShell, host_name: str, count: int) -> None:
        self._client_lives += 1
        life = f"{host_name}.{self._client_lives}"
        rng = self.scheduler.stream(f"workload/{life}")
        kind = ThreadingScripts if self.scenario.kind is Kind.THREADING else Scripts
        scripts = kind(life, client, self, self.record, rng, self.scenario.think_max_s)
        self.threads[host_name] = []
        for number in range(count):
            name = f"{life}.{number}"
            thread = Thread(name, client, self, self.record)
            self.threads[host_name].append(thread)
            thread.start(scripts.audit(name) if client.host is self._auditor_host else scripts.thread(name))

"""Several Ray nodes on this host that fail as machines do: all of a node's processes at once.

``apart`` runs a scenario in a process of its own, which becomes a driver of the cluster that it starts.
"""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.cluster_utils import Cluster

import concoord_ray as concoord
from concoord_ray import EnsembleStatus, MemberStatus
from tests.integration.casualties import strong
from tests.integration.drivers import Drivers
from tests.integration.load import Load
from tests.integration.waiting import until
from tests.sim.linearizability import assert_linearizable
from tests.sim.models import Counter

#: Ray takes a silent node for dead after 1.5 s instead of half a minute or more.
_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}

#: Enough for a gateway, too little for a bundle of members.
_HEAD_MEMORY_BYTES = 2 << 20


_CALLS_A_PATH = 200
#: So long an ensemble may take to be at full strength once Ray has restarted its processes.
FULL_STRENGTH_S = 5.0
#: And so much more of a busy machine.
SLACK = 3.0


def apart(scenario: Callable[..., None], *arguments: str, timeout_s: float = 220.0) -> None:
    """Run a scenario, a function of a module, in another process. If it fails, so does this."""
    with Drivers("") as drivers:
        source = f"from {scenario.__module__} import {scenario.__name__}\n{scenario.__name__}(*{arguments!r})"
        drivers.run(source, connect=False, timeout_s=timeout_s)


class Machines:
    """A cluster whose nodes are killed and stopped one by one. The head, where the driver is, has no members."""

    def __init__(self, nodes: int, gcs_storage: str = "") -> None:
        """With a directory for the GCS, it remembers when it is started again."""
        if gcs_storage:
            os.environ.update({"RAY_gcs_storage": "rocksdb", "RAY_gcs_storage_path": gcs_storage})
        arguments = {
            "num_cpus": 1,
            "memory": _HEAD_MEMORY_BYTES,
            "include_dashboard": False,
            "_system_config": _HEALTH_CHECKS,
        }
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=arguments)
        self._address = str(self._cluster.address)
        self._stopped: set[int] = set()
        for _ in range(nodes - 1):
            self.add()
        ray.init(address=self._address, log_to_driver=False)

    def __enter__(self) -> Machines:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pid in self._stopped:
            _signal(pid, signal.SIGCONT)
        ray.shutdown()
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        """Where other drivers connect to."""
        return self._address

    def add(self) -> str:
        """A machine joins; its node's id."""
        node_id: str = self._cluster.add_node(num_cpus=1).node_id
        return node_id

    def kill(self, node_id: str) -> None:
        """A machine is gone: every process of the node at once."""
        node = self._node(node_id)
        raylet = _raylet(node)
        for pid in _family(raylet.pid):
            _signal(pid, signal.SIGKILL)
        raylet.wait()  # One that nobody has waited for still counts as alive.

    def stop(self, node_id: str) -> None:
        """A machine falls silent: its processes keep what they have, and their connections, and do nothing."""
        for pid in _family(_raylet(self._node(node_id)).pid):
            _signal(pid, signal.SIGSTOP)
            self._stopped.add(pid)

    def resume(self) -> None:
        """Those that fell silent go on as if nothing had been.

        Ray tells a node that it was taken for dead, and it ends; but its workers go on until ``bury``, as they would if
        they alone were not cut off.
        """
        for pid in self._stopped:
            _signal(pid, signal.SIGCONT)
        self._stopped.clear()

    def bury(self, node_id: str) -> None:
        """A node that has ended is waited for, so that its workers see it too."""
        _raylet(self._node(node_id)).wait()

    def await_death(self, node_id: str) -> None:
        """Wait until Ray believes that a node is dead."""
        until(lambda: node_id not in alive_nodes())

    def kill_gcs(self) -> None:
        """Ray's own memory is gone."""
        self._cluster.head_node.kill_gcs_server()

    def start_gcs(self) -> None:
        """It is back, with what is on its disk."""
        self._cluster.head_node.start_gcs_server()

    def _node(self, node_id: str) -> Any:
        return next(node for node in self._cluster.list_all_nodes() if node.node_id == node_id)


def alive_nodes() -> list[str]:
    """The ids of the nodes that Ray believes to be alive."""
    nodes: Any = ray.nodes  # It has no types.
    return [node["NodeID"] for node in nodes() if node["Alive"]]


def is_process(member: MemberStatus) -> bool:
    """Whether the process of a member runs; one that has ended may be there until its parent has noticed."""
    try:
        status = Path(f"/proc/{member.pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def node_of(member: MemberStatus) -> str:
    """Where a member is, which must be known."""
    assert member.node_id is not None
    return member.node_id


class Ensembles:
    """One ensemble in memory, one on disk, called from all sides while their machines come and go."""

    def __init__(
        self, machines: Machines, storage: str, names: tuple[str, ...] = ("memory", "durable"), counter: str = "c"
    ) -> None:
        """Start them, or find them again, each with a new counter."""
        self.names = names
        self._counters = {}
        self._machines = machines
        self._began_s = time.monotonic()
        self._loads = {}
        for name in names:
            concoord.init(name, placement="STRICT_SPREAD", storage=storage if name == "durable" else None)
            self._counters[name] = concoord.Counter.options(name=counter, ensemble=name).remote()
            self._loads[name] = Load(self._counters[name], counter)
        self._say("started")

    def call_while(self, disturb: Callable[[], None]) -> None:
        """Call on every path while something happens."""
        step = disturb
        for load in self._loads.values():
            step = functools.partial(load.run, _CALLS_A_PATH, step)
        step()

    def begin(self, what: str) -> None:
        """Times are told from here on."""
        self._began_s = time.monotonic()
        self._say(what)

    def lose(self, node_id: str) -> None:
        """A machine is lost; returns when Ray knows, too."""
        self._machines.kill(node_id)
        self.await_death(node_id)

    def await_death(self, node_id: str) -> None:
        """Wait until the ensembles answer without a machine, and Ray believes that it is dead."""
        self.begin("the machine is lost")
        for counter in self._counters.values():
            counter.getvalue()
        self._say("answer again")
        self._machines.await_death(node_id)
        self._say("Ray knows")

    def await_strength(self, lost: str = "") -> None:
        """Wait until everyone lives and votes, and nobody on the lost machine."""
        until(lambda: all(self._is_restarted(name, lost) for name in self.names))
        self._say("every member is started")
        restarted_s = time.monotonic()
        for name in self.names:
            strong(name)
        self._say("full strength")
        assert time.monotonic() - restarted_s < FULL_STRENGTH_S * SLACK

    def members_on(self, name: str, node_id: str) -> list[MemberStatus]:
        """The members of an ensemble that are on a machine."""
        return [member for member in _members(concoord.status(name)) if member.node_id == node_id]

    def check(self) -> None:
        """Every call was answered, counted once, and in an order that there could be."""
        for name, load in self._loads.items():
            operations = load.operations()
            assert all(operation.returned_ns is not None for operation in operations)
            assert_linearizable(operations, Counter())
            assert self._counters[name].getvalue() == load.increments
            self._say(f"{name}: {len(operations)} calls, all answered and counted once")

    def _is_restarted(self, name: str, lost: str) -> bool:
        return all(member.alive and member.node_id != lost for member in _members(concoord.status(name)))

    def _say(self, what: str) -> None:
        print(f"{time.monotonic() - self._began_s:6.2f} s: {what}", flush=True)


def _members(status: EnsembleStatus) -> tuple[MemberStatus, ...]:
    return (*status.acceptors, *status.replicas, *status.registries)


def _raylet(node: Any) -> Any:
    (raylet,) = node.all_processes["raylet"]
    return raylet.process


def _family(pid: int) -> list[int]:
    """A process, its children, and theirs."""
    found = [pid]
    for parent in found:
        for tasks in Path(f"/proc/{parent}/task").glob("*/children"):
            found += map(int, tasks.read_text().split())
    return found


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # It has just ended by itself.

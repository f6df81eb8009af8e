"""Several Ray nodes on this host that fail as machines do: all of a node's processes at once.

For a process of its own (see ``apart``): it becomes a driver of the cluster that it starts, on the head node.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.cluster_utils import Cluster

from concoord_ray import MemberStatus
from tests.integration.waiting import until

#: Ray takes a silent node for dead after 1.5 s instead of half a minute or more.
_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 500,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}

#: Enough for a gateway, too little for a bundle of members.
_HEAD_MEMORY_BYTES = 2 << 20


class Machines:
    """A cluster whose nodes are killed and stopped one by one. The head, where the driver is, stays."""

    def __init__(self, nodes: int, **settings: Any) -> None:
        """``settings`` are system settings of Ray's, above those that make it notice dead nodes soon."""
        arguments = {
            "num_cpus": 1,
            "memory": _HEAD_MEMORY_BYTES,
            "include_dashboard": False,
            "_system_config": _HEALTH_CHECKS | settings,
        }
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=arguments)
        self._stopped: set[int] = set()
        for _ in range(nodes - 1):
            self.add()
        ray.init(address=self._cluster.address, log_to_driver=False)

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
    def head(self) -> str:
        """The id of the head node."""
        node_id: str = self._cluster.head_node.node_id
        return node_id

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
        """Those that fell silent go on as if nothing had been."""
        for pid in self._stopped:
            _signal(pid, signal.SIGCONT)
        self._stopped.clear()

    def await_death(self, node_id: str) -> None:
        """Wait until Ray believes that a node is dead."""
        until(lambda: node_id not in alive_nodes())

    def kill_gcs(self) -> None:
        """Ray's own memory is gone."""
        (gcs,) = self._cluster.head_node.all_processes["gcs_server"]
        gcs.process.kill()
        gcs.process.wait()
        del self._cluster.head_node.all_processes["gcs_server"]

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


def timed(step: Callable[[], Any]) -> float:
    """How many seconds a step takes."""
    begun_s = time.monotonic()
    step()
    return time.monotonic() - begun_s


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

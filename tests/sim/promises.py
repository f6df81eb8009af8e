"""What the ensemble promises to survive: how much may be taken from it at this moment.

In memory, any minority of the acceptors and all replicas but one. With disks, any crashes at once, and disks as long as
a majority of the acceptors' and one replica's are left.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Member
from tests.sim.host import Host, HostState
from tests.sim.invariants import majority

if TYPE_CHECKING:
    from tests.sim.cluster import Cluster

#: For how long an acceptor that is gone may still pass for alive.
_STALE_S = 2.0


class Promises:
    """The judgement of one cluster, from outside: it sees what no member can."""

    def __init__(self, cluster: Cluster[Any]) -> None:
        self._cluster = cluster

    def may_crash(self, host: Host) -> bool:
        """Whether the process of a member may die."""
        cluster = self._cluster
        if cluster.scenario.durable:
            return True
        if host in cluster.acceptor_hosts:
            return self.may_wipe(host)
        return any(self._can_go_on(i, ()) for i, shell in cluster.replicas.items() if shell.host is not host)

    def may_wipe(self, host: Host) -> bool:
        """Whether the memory and the disk of a host may be lost."""
        cluster = self._cluster
        if host in cluster.acceptor_hosts:
            index = cluster.acceptor_hosts.index(host)
            shell = cluster.acceptors.get(index)
            if shell is None or not self.may_become(cluster.size, {index}):
                return False
            return any(self._can_go_on(i, (shell.me,)) for i in cluster.replicas)
        return host in cluster.replica_hosts and any(
            self._can_go_on(i, ()) for i, shell in cluster.replicas.items() if shell.host is not host
        )

    def may_become(self, size: Size, lost: set[int]) -> bool:
        """Whether a view of this size has its majority, and so has the next one, whoever is in that already.

        A leader takes who has just died for alive a little longer, and may not have heard yet of who has just begun.
        """
        cluster = self._cluster
        lately_s = cluster.scheduler.now_s - _STALE_S
        indices = range(size.acceptors)
        lost_lately = lost | {index for index in indices if cluster.lost_at_s.get(index, -1.0) > lately_s}
        present = {index for index in indices if self._is_kept(index)} - lost_lately
        voting = cluster.watch.lineage.views[-1].acceptors
        staying = {index for index in present if cluster.acceptors[index].me in voting}
        return 2 * len(present) > size.acceptors and len(staying) > len(lost_lately)

    def _can_go_on(self, index: int, lost: Iterable[Member]) -> bool:
        """Whether a replica could, with nobody's help, learn all that was decided: it has or finds what it misses.

        With disks, even if everybody crashes now.
        """
        cluster = self._cluster
        if cluster.scenario.durable:
            saved = cluster.snapshot_disks[index].newest
            next_slot, view = (0, cluster.view) if saved is None else (saved.slot, saved.view)
        else:
            shell = cluster.replicas[index]
            if shell.host.state is HostState.DOWN or not cluster.is_present(shell):
                return False
            next_slot, view = shell.replica.learner.next_slot, shell.replica.view
        if next_slot < cluster.watch.truncation.below:
            return False
        present = {acceptor.me for i, acceptor in cluster.acceptors.items() if self._is_kept(i)}.difference(lost)
        views = [each for each in cluster.watch.lineage.known() if each.epoch >= view.epoch]
        return all(len(present & set(each.acceptors)) >= majority(each) for each in views)

    def _is_kept(self, index: int) -> bool:
        cluster = self._cluster
        if index not in cluster.acceptors:
            return False
        return cluster.acceptor_hosts[index].state is not HostState.DOWN or cluster.acceptor_disks[index].remembers

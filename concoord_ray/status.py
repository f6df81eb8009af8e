"""What ``concoord.status()`` tells."""

from __future__ import annotations

from dataclasses import dataclass

from concoord_ray import actors, genesis
from concoord_ray.directory import MemberReport
from concoord_ray.genesis import Plan
from concoord_ray.net.identity import Address
from concoord_ray.paxos.view import Role, View


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One member. Of one that does not answer only role and index are sure; the rest is what the view says, or None."""

    role: str
    index: int
    incarnation: int | None
    node_id: str | None
    pid: int | None
    address: Address | None
    alive: bool
    #: Whether it takes part in the view. An acceptor that began without memory does so, and votes, after a view change.
    in_view: bool
    #: Replicas: every slot of the log below this one is applied.
    applied_slot: int | None = None
    is_leader: bool = False
    #: Replicas: the "object.method" that has been executing for longer than a second, if any.
    executing: str | None = None
    #: What keeps it from serving, if it could say so. Of one that is not alive it is the disk, as a rule; of a replica
    #: that is alive, that its state and the others' have diverged, and none has a majority.
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class EnsembleStatus:
    """An ensemble at one moment, as its members see themselves."""

    name: str
    id: str
    #: The number of the view in force, -1 before the first.
    epoch: int
    #: None while nobody leads.
    leader: MemberStatus | None
    replicas: tuple[MemberStatus, ...]
    acceptors: tuple[MemberStatus, ...]
    registries: tuple[MemberStatus, ...]
    gateways: tuple[MemberStatus, ...]
    #: How many acceptors the view names, None before the first. More may run while a size is changed.
    voters: int | None = None

    @property
    def has_quorum(self) -> bool:
        """Whether a majority of the acceptors that the view names is alive."""
        voters = len(self.acceptors) if self.voters is None else self.voters
        return 2 * sum(a.alive and a.in_view for a in self.acceptors) > voters

    @property
    def has_diverged(self) -> bool:
        """Whether every call is answered with ``Diverged``, since no state of a replica has a majority."""
        return any(replica.alive and replica.fault is not None for replica in self.replicas)

    @property
    def is_healthy(self) -> bool:
        """Whether calls are executed: somebody leads, a majority of acceptors votes, and the states are the same."""
        return self.leader is not None and self.has_quorum and not self.has_diverged


def gather_status(plan: Plan) -> EnsembleStatus:
    """Ask every member, all at once, and wait about a second for those that do not answer."""
    found = actors.gateways_of(plan)
    nodes = [str(node) for _, node in found]
    members = actors.members_of(plan, genesis.find_size(plan))
    reports, faults = actors.describe(plan, [*members, *found])
    views = [report.view for key, report in reports.items() if key[0] is Role.REPLICA and report.view is not None]
    view = max(views, key=lambda view: view.epoch, default=None) or genesis.find_view(plan)
    statuses = [
        _member_status(role, index, reports.get((role, index)), view, fault=faults.get((role, index)))
        for role, index in members
    ]

    def of(role: Role) -> tuple[MemberStatus, ...]:
        return tuple(status for status in statuses if status.role == role.value)

    replicas = of(Role.REPLICA)
    gateways = []
    for node in nodes:
        report = reports.get((Role.GATEWAY, node))
        gateways.append(_member_status(Role.GATEWAY, actors.gateway_index(node), report, view, node))
    return EnsembleStatus(
        name=plan.name,
        id=plan.ensemble,
        epoch=-1 if view is None else view.epoch,
        leader=next((replica for replica in replicas if replica.is_leader), None),
        replicas=replicas,
        acceptors=of(Role.ACCEPTOR),
        registries=of(Role.REGISTRY),
        gateways=tuple(gateways),
        voters=None if view is None else len(view.acceptors),
    )


def _member_status(
    role: Role,
    index: int,
    report: MemberReport | None,
    view: View | None,
    node: str | None = None,
    fault: str | None = None,
) -> MemberStatus:
    named = _named(role, index, view)
    if report is None:
        is_in = _is_in(role, index, view)
        return MemberStatus(role.value, index, named, node, None, None, alive=False, in_view=is_in, fault=fault)
    is_replica = role is Role.REPLICA
    return MemberStatus(
        role.value,
        index,
        report.member.incarnation,
        report.node_id,
        report.pid,
        report.address,
        alive=True,
        in_view=_is_in(role, index, view) and named in (None, report.member.incarnation),
        applied_slot=report.applied_slot if is_replica else None,
        is_leader=report.is_leader,
        executing=report.executing or None,
        fault=report.halted or None,
    )


def _named(role: Role, index: int, view: View | None) -> int | None:
    """The incarnation that the view names at an index of a role, if it names any."""
    acceptors = view.acceptors if view is not None and role is Role.ACCEPTOR else ()
    return next((member.incarnation for member in acceptors if member.index == index), None)


def _is_in(role: Role, index: int, view: View | None) -> bool:
    """Whether the view has a member at an index of a role."""
    if role is Role.REPLICA:
        return view is not None and index in view.replicas
    return _named(role, index, view) is not None

"""Members of an ensemble, found and killed as an operator, or an accident, would."""

from __future__ import annotations

import os
import signal

import concoord_ray as concoord
from concoord_ray import EnsembleStatus, MemberStatus
from tests.integration.waiting import until


def settled(name: str) -> EnsembleStatus:
    """The status once every member is alive and somebody leads."""

    def look() -> EnsembleStatus | None:
        status = concoord.status(name)
        members = (*status.replicas, *status.acceptors, *status.registries, *status.gateways)
        return status if status.leader is not None and all(member.alive for member in members) else None

    found = until(look)
    assert found is not None
    return found


def strong(name: str) -> EnsembleStatus:
    """The status once the ensemble is at full strength: everyone lives, votes if an acceptor, and somebody leads."""

    def look() -> EnsembleStatus | None:
        status = concoord.status(name)
        members = (*status.replicas, *status.acceptors)
        return status if status.leader and all(each.alive and each.in_view for each in members) else None

    found = until(look)
    assert found is not None
    return found


def kill(member: MemberStatus | None) -> None:
    """SIGKILL the process of a member."""
    assert member is not None
    assert member.pid is not None
    os.kill(member.pid, signal.SIGKILL)


def leader(status: EnsembleStatus) -> MemberStatus:
    """The leader, which must be there."""
    assert status.leader is not None
    return status.leader


def a_follower(status: EnsembleStatus) -> MemberStatus:
    """Some live replica that does not lead."""
    return next(replica for replica in status.replicas if replica.alive and not replica.is_leader)


def a_voter(status: EnsembleStatus) -> MemberStatus:
    """Some live acceptor that votes."""
    return next(acceptor for acceptor in status.acceptors if acceptor.alive and acceptor.in_view)


def reborn(name: str, role: str, old: MemberStatus) -> MemberStatus:
    """Wait until another incarnation lives where ``old`` did."""

    def look() -> MemberStatus | None:
        members: tuple[MemberStatus, ...] = getattr(concoord.status(name), role)
        return next((m for m in members if m.index == old.index and m.alive and m.incarnation != old.incarnation), None)

    found = until(look)
    assert found is not None
    return found

"""``concoord status``: who is in an ensemble and how each member does."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from concoord_ray import ensemble
from concoord_ray.cli.cluster import connect
from concoord_ray.status import EnsembleStatus, MemberStatus

_HEADINGS = ("ROLE", "INDEX", "STATE", "NODE", "PID", "ADDRESS", "APPLIED")
#: Enough of a node's id to tell it from others.
_NODE_CHARACTERS = 8


def add_parser(subparsers: Any, anywhere: argparse.ArgumentParser) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "status",
        parents=[anywhere],
        help="show the members of an ensemble",
        description="Show the members of an ensemble. The exit code is 1 if it has no leader, or no majority of its "
        "acceptors, or if its replicas have diverged.",
    )
    parser.add_argument("--name", default=ensemble.DEFAULT_ENSEMBLE, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="for programs: everything that is known, as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the status; 1 if no call can be executed."""
    connect(options.address)
    status = ensemble.status(options.name)
    print(as_json(status) if options.json else as_table(status))
    return 0 if status.is_healthy else 1


def as_json(status: EnsembleStatus) -> str:
    """All fields, by their names in ``EnsembleStatus``; addresses as "host:port"."""

    def plain(member: MemberStatus) -> dict[str, Any]:
        fields = {field.name: getattr(member, field.name) for field in dataclasses.fields(member)}
        return fields | {"address": None if member.address is None else str(member.address)}

    fields: dict[str, Any] = {"name": status.name, "id": status.id, "epoch": status.epoch}
    fields["voters"] = status.voters
    fields["has_quorum"] = status.has_quorum
    fields["has_diverged"] = status.has_diverged
    fields["leader"] = None if status.leader is None else plain(status.leader)
    for role in ("replicas", "acceptors", "registries", "gateways"):
        fields[role] = [plain(member) for member in getattr(status, role)]
    return json.dumps(fields, indent=2)


def as_table(status: EnsembleStatus) -> str:
    """A headline, a line for each member, and one for what keeps any from serving."""
    leader = "nobody leads" if status.leader is None else f"replica {status.leader.index} leads"
    quorum = "a majority of acceptors votes" if status.has_quorum else "NO MAJORITY of acceptors votes"
    diverged = ", but THE REPLICAS HAVE DIVERGED, and no call is answered" if status.has_diverged else ""
    members = (*status.replicas, *status.acceptors, *status.registries, *status.gateways)
    rows = [_HEADINGS, *(tuple(_cells(member)) for member in members)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    faults = (f"{member.role} {member.index}: {member.fault}" for member in members if member.fault is not None)
    headline = f"Ensemble {status.name!r}, epoch {status.epoch}: {leader}, {quorum}{diverged}."
    return "\n".join([headline, *lines, *faults])


def _cells(member: MemberStatus) -> Iterator[str]:
    is_gateway = member.role == "gateway"
    yield member.role
    yield "" if is_gateway else str(member.index)  # A gateway is known by its node.
    yield _state(member)
    yield (member.node_id or "")[:_NODE_CHARACTERS]
    yield "" if member.pid is None else str(member.pid)
    yield "" if member.address is None else str(member.address)
    yield "" if member.applied_slot is None else str(member.applied_slot)


def _state(member: MemberStatus) -> str:
    if not member.alive:
        return "does not answer" if member.fault is None else "cannot serve"
    if member.fault is not None:
        return "has diverged"
    if member.executing is not None:
        return f"executes {member.executing} for long"
    if member.role == "replica":
        return "leads" if member.is_leader else "follows"
    if member.role == "acceptor":
        return "votes" if member.in_view else "does not vote yet: it has begun without memory"
    return "serves"

"""The directory: who is where, as far as the registries have heard.

A hint, never an authority. Every role reports itself to every registry over a connection that it keeps; a closed
connection means that the member is gone. Registries push the whole directory, which is small, to everyone connected
whenever something in it changes that others act on.
"""

from __future__ import annotations

from typing import Union

import msgspec

from concoord_ray.net.identity import Address
from concoord_ray.paxos.view import Member, Role, View


class MemberReport(msgspec.Struct, frozen=True, array_like=True):
    """What a member says of itself."""

    member: Member
    address: Address
    node_id: str
    pid: int
    #: The newest view that it knows, None before the first.
    view: View | None = None
    is_leader: bool = False
    #: Replicas: every slot below this one is applied. Acceptors: every slot below it was accepted or passed by.
    applied_slot: int = 0
    #: Replicas: what user code is executing for longer than a moment, as "object.method", else empty.
    executing: str = ""
    #: Replicas with storage: the effects of every slot below this one are on disk.
    durable_slot: int = 0


class Report(msgspec.Struct, frozen=True, array_like=True, tag=40, tag_field="type"):
    """Member to registry: this is me, now."""

    report: MemberReport


class Directory(msgspec.Struct, frozen=True, array_like=True, tag=41, tag_field="type"):
    """Registry to everyone connected: every member whose connection is open."""

    members: tuple[MemberReport, ...]

    def updated(self, newer: Directory) -> Directory:
        """What is known after a registry's push.

        Members that it does not name stay where they were last heard of: a registry that has just begun to listen, or
        has lost a connection, knows less than there is. Who is really gone does not answer there.
        """
        merged = {(r.member.role, r.member.index): r for r in (*self.members, *newer.members)}
        return Directory(tuple(merged.values()))

    def members_of(self, role: Role) -> dict[int, Member]:
        """Who lives at each index of a role."""
        return {r.member.index: r.member for r in self.members if r.member.role is role}

    def find(self, role: Role, index: int) -> MemberReport | None:
        """The member that now lives at an index of a role."""
        return next((r for r in self.members if r.member.role is role and r.member.index == index), None)


DirectoryMessage = Union[Report, Directory]

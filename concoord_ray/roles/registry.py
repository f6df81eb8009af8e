"""The registry: hears from every member, and tells everyone who is where."""

from __future__ import annotations

import asyncio

from concoord_ray.directory import Directory, MemberReport, Report
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import Boot, Discovery, Whereabouts, WireMessage, encode
from concoord_ray.roles.node import Node, exit_broken


class RegistryRole:
    """One registry of one ensemble. What it knows it was told over connections that are still open."""

    def __init__(self, boot: Boot, place: Whereabouts, discovery: Discovery) -> None:
        self.node = Node(boot, place, discovery, self)
        self._members: dict[tuple[Role, int], MemberReport] = {}
        self._is_pushing = False

    async def start(self) -> None:
        """Listen."""
        await self.node.start()
        self._take(self.node.own_report())

    async def stop(self) -> None:
        """Leave."""
        await self.node.stop()

    # NodeOwner

    def receive(self, source: Member, messages: list[WireMessage]) -> None:
        """See ``NodeOwner``. A member is believed about itself only."""
        for message in messages:
            if isinstance(message, Report) and message.report.member == source:
                self._take(message.report)

    def connected(self, member: Member) -> None:
        """See ``NodeOwner``. Whoever connects hears at once what is known."""
        self.node.links.send(member, encode(self._directory()))

    def disconnected(self, member: Member) -> None:
        """See ``NodeOwner``."""
        key = (member.role, member.index)
        known = self._members.get(key)
        if known is not None and known.member == member and not self.node.links.is_linked(member):
            del self._members[key]
            self._push_soon()

    def directory_changed(self, directory: Directory) -> None:
        """See ``NodeOwner``: another registry's word, which its members give us too."""

    def tick(self, now_s: float) -> None:
        """See ``NodeOwner``."""

    def broken(self, error: Exception) -> None:
        """See ``NodeOwner``."""
        exit_broken(self.node.me, error)

    def report(self, report: MemberReport) -> MemberReport:
        """See ``NodeOwner``."""
        return report

    def _take(self, report: MemberReport) -> None:
        key = (report.member.role, report.member.index)
        known = self._members.get(key)
        self._members[key] = report
        if known is None or _notable(known) != _notable(report):
            self._push_soon()

    def _directory(self) -> Directory:
        return Directory(tuple(self._members.values()))

    def _push_soon(self) -> None:
        """At the end of the loop's turn, so that a burst of reports is one push."""
        if not self._is_pushing:
            self._is_pushing = True
            asyncio.get_running_loop().call_soon(self._push)

    def _push(self) -> None:
        self._is_pushing = False
        self.node.links.broadcast(encode(self._directory()))


def _notable(report: MemberReport) -> tuple[object, ...]:
    """What others act on: not how far a replica has come."""
    return report.member, report.address, report.view, report.is_leader

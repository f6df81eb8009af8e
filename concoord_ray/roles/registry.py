"""The registry: hears from every member, and tells everyone who is where.

Ray believes a machine dead that it cannot reach, and starts its members elsewhere; but they may live on, beside their
next lives. Of two lives at one index the registry names the one that it knows for as long as that one speaks, so that
the directory never swings between them. The same may have happened to the registry itself, so now and then it asks Ray
whether there is another in its place, and then ends: it has nothing that the other is not told.
"""

from __future__ import annotations

import asyncio
import logging
import time

from concoord_ray.directory import Directory, MemberReport, Report
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import Boot, Discovery, Whereabouts, WireMessage, encode
from concoord_ray.roles.node import Node, exit_broken

logger = logging.getLogger(__name__)

#: In reports of a member: how often the directory is told though nothing has changed, which shows that we live; and how
#: often Ray is asked whether there is another registry in this one's place.
_REPEAT_EVERY = 2
_ASK_EVERY = 10


class RegistryRole:
    """One registry of one ensemble. What it knows it was told over connections that are still open."""

    def __init__(self, boot: Boot, place: Whereabouts, discovery: Discovery) -> None:
        self.node = Node(boot, place, discovery, self)
        self._discovery = discovery
        self._members: dict[tuple[Role, int], MemberReport] = {}
        self._heard_at_s: dict[tuple[Role, int], float] = {}
        self._is_pushing = False
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Listen."""
        await self.node.start()
        self._take(self.node.own_report())
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_pushing()), loop.create_task(self._keep_asking())]
        for task in self._tasks:
            self.node.fail_stop.watch(task)

    async def stop(self) -> None:
        """Leave."""
        for task in self._tasks:
            task.cancel()
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
            del self._members[key], self._heard_at_s[key]
            self._push_soon()

    def directory_changed(self, directory: Directory) -> None:
        """See ``NodeOwner``: another registry's word, which its members give us too."""

    def tick(self, now_s: float) -> None:
        """See ``NodeOwner``."""

    def broken(self, error: BaseException) -> None:
        """See ``NodeOwner``."""
        exit_broken(self.node.me, error)

    def report(self, report: MemberReport) -> MemberReport:
        """See ``NodeOwner``."""
        return report

    def _take(self, report: MemberReport) -> None:
        key = (report.member.role, report.member.index)
        known = self._members.get(key)
        now_s = time.monotonic()
        is_another = known is not None and known.member != report.member
        if is_another and now_s - self._heard_at_s[key] < self.node.boot.config.silent_after_s:
            return
        self._members[key] = report
        self._heard_at_s[key] = now_s
        if known is None or _notable(known) != _notable(report):
            self._push_soon()

    def _directory(self) -> Directory:
        return Directory(tuple(self._members.values()))

    def _push_soon(self) -> None:
        """At the end of the loop's turn, so that a burst of reports is one push."""
        if not self._is_pushing:
            self._is_pushing = True
            asyncio.get_running_loop().call_soon(self.node.fail_stop.step, self._push)

    def _push(self) -> None:
        self._is_pushing = False
        self.node.links.broadcast(encode(self._directory()))

    async def _keep_pushing(self) -> None:
        while True:
            await asyncio.sleep(_REPEAT_EVERY * self.node.boot.config.report_interval_s)
            self._push()

    async def _keep_asking(self) -> None:
        while True:
            await asyncio.sleep(_ASK_EVERY * self.node.boot.config.report_interval_s)
            try:
                found = await self._discovery.registries()
            except Exception as error:  # Whatever Ray raises while its GCS is away.
                logger.info("%s cannot ask Ray for itself: %s", self.node.me, error)
                continue
            _, incarnation = found.get(self.node.me.index, ("", self.node.me.incarnation))
            if incarnation != self.node.me.incarnation:
                exit_broken(self.node.me, RuntimeError("Ray has started another registry in the place of this one."))


def _notable(report: MemberReport) -> tuple[object, ...]:
    """What others act on: not how far a replica has come."""
    return report.member, report.address, report.view, report.is_leader

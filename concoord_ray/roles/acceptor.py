"""The acceptor as a process: steps ``paxos.acceptor``, persists, then answers.

An acceptor dials nobody but the registries; replicas come to it.
"""

from __future__ import annotations

import asyncio
import logging

from concoord_ray.directory import Directory, MemberReport
from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.messages import P1a, P2a, Ping
from concoord_ray.paxos.view import Member
from concoord_ray.roles.boot import Boot, Discovery, Whereabouts, WireMessage
from concoord_ray.roles.node import Node, exit_broken
from concoord_ray.storage.memory import MemoryStorage

logger = logging.getLogger(__name__)


class AcceptorRole:
    """One acceptor of one ensemble."""

    def __init__(self, boot: Boot, place: Whereabouts, discovery: Discovery) -> None:
        self.node = Node(boot, place, discovery, self)
        self._discovery = discovery
        self._storage = MemoryStorage()
        self._core = Acceptor(self.node.me, page_bytes=boot.config.catch_up_page_bytes)
        self._joining: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen at once, vote once the view is known and names this incarnation."""
        await self.node.start()
        self._joining = asyncio.get_running_loop().create_task(self._join())

    async def stop(self) -> None:
        """Leave."""
        await self.node.stop()

    async def _join(self) -> None:
        view = await self._discovery.view()
        if self._core.join(view):
            self._perform()
        else:
            logger.error(
                "%s is not in the view of epoch %d: its former life's promises are lost with its memory, so it does "
                "not vote. The ensemble goes on while a majority of the acceptors named there lives.",
                self.node.me,
                view.epoch,
            )
        self.node.tell_registries()

    # NodeOwner

    def receive(self, source: Member, messages: list[WireMessage]) -> None:
        """See ``NodeOwner``."""
        for message in messages:
            if isinstance(message, (P2a, P1a, Ping)):
                self._core.receive(source, message)
            else:
                logger.warning("%s: %s is no message for an acceptor", self.node.me, type(message).__name__)
        self._perform()

    def _perform(self) -> None:
        """Everything is durable before anything that tells of it is sent."""
        outputs = self._core.outputs.take()
        if outputs.persist:
            self._storage.append(outputs.persist)
        for send in outputs.send:
            for to in send.to:
                self.node.send(to, send.message)

    def connected(self, member: Member) -> None:
        """See ``NodeOwner``."""

    def disconnected(self, member: Member) -> None:
        """See ``NodeOwner``."""

    def directory_changed(self, directory: Directory) -> None:
        """See ``NodeOwner``."""

    def tick(self, now_s: float) -> None:
        """See ``NodeOwner``."""

    def broken(self, error: Exception) -> None:
        """See ``NodeOwner``."""
        exit_broken(self.node.me, error)

    def report(self, report: MemberReport) -> MemberReport:
        """See ``NodeOwner``."""
        view = self._core.view
        if view is None:
            return report
        return MemberReport(report.member, report.address, report.node_id, report.pid, epoch=view.epoch, in_view=True)

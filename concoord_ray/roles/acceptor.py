"""The acceptor as a process: steps ``paxos.acceptor``, persists, then answers.

An acceptor dials nobody but the registries; replicas come to it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from pathlib import Path

import msgspec

from concoord_ray.directory import Directory, MemberReport
from concoord_ray.errors import StorageCorrupt
from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.messages import P1a, P2a, Ping
from concoord_ray.paxos.outputs import Send
from concoord_ray.paxos.view import Member
from concoord_ray.roles.boot import Boot, Discovery, Whereabouts, WireMessage
from concoord_ray.roles.bulk import Bulk
from concoord_ray.roles.disk import begin_again_if_free
from concoord_ray.roles.node import Node
from concoord_ray.storage.birth import is_certified, write_birth
from concoord_ray.storage.durable import DurableStorage, set_aside
from concoord_ray.storage.group_commit import GroupCommit
from concoord_ray.storage.memory import MemoryStorage
from concoord_ray.storage.places import open_furthest

logger = logging.getLogger(__name__)


class AcceptorRole:
    """One acceptor of one ensemble."""

    def __init__(self, boot: Boot, place: Whereabouts, discovery: Discovery) -> None:
        self._durable = _open_storage(boot) if boot.config.storage else None
        #: With storage: before there is a birth certificate on this disk, nothing is answered.
        self._is_certified = self._durable is None or _is_certified(boot, self._durable)
        incarnation = None if self._durable is None else self._durable.incarnation
        self.node = Node(boot, place, discovery, self, incarnation=incarnation)
        self._bulk = Bulk(self.node.links, boot.config.retransmit_interval_s)
        self._discovery = discovery
        self._core = Acceptor(self.node.me, page_bytes=boot.config.catch_up_page_bytes)
        self._storage: MemoryStorage | GroupCommit = MemoryStorage()
        self._joining: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen at once, vote in the views that name this incarnation. What raises leaves the data to others."""
        loop = asyncio.get_running_loop()
        try:
            if self._durable is not None:
                self._core.restore(self._durable.load())
                self._storage = GroupCommit(self._durable.append, loop, self.broken)
            await self.node.start()
        except BaseException:  # Or the next attempt would find them in use, and begin without them.
            await self._let_go()
            raise
        if self._core.view is None or not self._is_certified:
            self._joining = self.node.fail_stop.watch(loop.create_task(self._join()))

    async def stop(self) -> None:
        """Leave."""
        await self.node.stop()
        await self._let_go()

    async def _let_go(self) -> None:
        if isinstance(self._storage, GroupCommit):
            await self._storage.close()
        if self._durable is not None:
            self._durable.close()

    async def _join(self) -> None:
        """Take part in the first view. Every later one is brought by the scout that asks for votes in it."""
        view = await self._discovery.view()
        if not self._is_certified:
            write_birth(self.node.boot.birth(view), *([self._durable.directory] if self._durable is not None else []))
            self._is_certified = True
        if self._core.view is not None or self._core.join(view):
            self._perform()
        else:
            logger.info("%s begins without memory: it votes once a view change has taken it in", self.node.me)
        self.node.tell_registries()
        if self._durable is not None:
            await begin_again_if_free(self.node, self._durable.directory, lambda: self._core.view is not None)

    # NodeOwner

    def receive(self, source: Member, messages: list[WireMessage]) -> None:
        """See ``NodeOwner``."""
        if not self._is_certified:
            return  # A restart might not find such a vote. Who asks will ask again, and it is a matter of moments.
        for message in messages:
            if isinstance(message, (P2a, P1a, Ping)):
                self._core.receive(source, message)
            else:
                logger.warning("%s: %s is no message for an acceptor", self.node.me, type(message).__name__)
        self._perform()

    def _perform(self) -> None:
        """Everything is durable before anything that tells of it is sent."""
        outputs = self._core.outputs.take()
        if outputs.persist or outputs.send:
            self._storage.submit(outputs.persist, lambda: self._send(outputs.send))

    def _send(self, sends: list[Send]) -> None:
        self._bulk.send(sends, time.monotonic())

    def connected(self, member: Member) -> None:
        """See ``NodeOwner``."""

    def disconnected(self, member: Member) -> None:
        """See ``NodeOwner``."""
        self._bulk.disconnected(member)

    def directory_changed(self, directory: Directory) -> None:
        """See ``NodeOwner``."""

    def tick(self, now_s: float) -> None:
        """See ``NodeOwner``."""

    def broken(self, error: BaseException) -> None:
        """See ``NodeOwner``; also when the disk has failed: what was not acknowledged never will be."""
        self.node.end(error)

    def report(self, report: MemberReport) -> MemberReport:
        """See ``NodeOwner``."""
        return msgspec.structs.replace(report, view=self._core.view)


def _is_certified(boot: Boot, durable: DurableStorage) -> bool:
    """Whether the birth certificate is on this disk. What raises leaves the data to the next attempt."""
    try:
        return is_certified(boot.data_directory().parent, durable.directory)
    except BaseException:
        durable.close()
        raise


def _open_storage(boot: Boot) -> DurableStorage:
    """The acceptor's data; if they are broken they are set aside, and it begins anew as another acceptor."""

    def opened(directory: Path) -> DurableStorage:
        return DurableStorage.open(
            directory, ensemble=boot.ensemble, role=boot.role, index=boot.index, incarnation=secrets.randbits(63)
        )

    def mended(directory: Path) -> DurableStorage:
        try:
            return opened(directory)
        except StorageCorrupt as error:
            aside = set_aside(directory)
            logger.critical("%s The data are kept in %s; this acceptor comes back as a new one.", error, aside)
            return opened(directory)

    return open_furthest(boot.data_directory(), mended)

"""What every role is made of: links, the directory, a report of itself, and a clock that ticks.

A role is a core and a ``Node`` around it: the node receives frames and calls the role; the role steps its core, and
sends what the core asks for. Nothing in between awaits, so nothing is stepped between a step and its sends. What goes
wrong in a step ends the role, see ``fail_stop``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterable
from typing import NoReturn, Protocol

from concoord_ray.directory import Directory, Hearsay, MemberReport, Report
from concoord_ray.errors import StorageError
from concoord_ray.net.identity import Address, Identity
from concoord_ray.net.links import Links, Target
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import URGENT, Boot, Discovery, Whereabouts, WireMessage, decode, encode
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.roles.mark import DeadlySlot

logger = logging.getLogger(__name__)

#: The exit status of a role that stopped itself.
EXIT_BROKEN = 70
#: Who has missed so many ticks was away, and hears first what was sent meanwhile.
AWAY_TICKS = 5


class NodeOwner(Protocol):
    """A role, as its node sees it."""

    def receive(self, source: Member, messages: list[WireMessage]) -> None:
        """Messages that one read brought."""

    def connected(self, member: Member) -> None:
        """A connection is open."""

    def disconnected(self, member: Member) -> None:
        """A connection was closed."""

    def directory_changed(self, directory: Directory) -> None:
        """A registry knows something new."""

    def tick(self, now_s: float) -> None:
        """Called every ``tick_interval_s``, if the node was given one, after what had arrived was received."""

    def report(self, report: MemberReport) -> MemberReport:
        """Complete the report that registries get."""

    def broken(self, error: BaseException) -> None:
        """Something of the role has failed: it must stop. Its own code, its disk, or what works for it."""


class Node:
    """The process of one role."""

    def __init__(
        self,
        boot: Boot,
        place: Whereabouts | None,
        discovery: Discovery,
        owner: NodeOwner,
        *,
        tick_interval_s: float | None = None,
        incarnation: int | None = None,
    ) -> None:
        """Without a ``place`` the node neither listens nor reports itself: a client. ``owner`` ticks if asked to.

        A member that has kept its data has kept its ``incarnation`` too.
        """
        self.boot = boot
        self.me = Member(boot.role, boot.index, secrets.randbits(63) if incarnation is None else incarnation)
        self._hearsay = Hearsay(boot.config.silent_after_s, boot.config.forget_after_s)
        self._place = place
        self._discovery = discovery
        self._owner = owner
        #: What comes to the role from its loop comes through this.
        self.fail_stop = FailStop(owner.broken)
        self.links = Links(Identity(boot.ensemble, self.me), boot.secret, boot.config, self)
        self._address: Address | None = None
        self._registries: dict[int, Member] = {}
        #: When each registry last said anything.
        self._heard_at_s: dict[Member, float] = {}
        self._tick_interval_s = tick_interval_s
        self._tasks: list[asyncio.Task[None]] = []
        #: Why it has left, if it has.
        self.fault: StorageError | DeadlySlot | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def directory(self) -> Directory:
        """Who is where, as far as this process has heard."""
        return self._hearsay.directory

    async def start(self) -> None:
        """Listen, find the registries, and tick."""
        if self._place is not None:
            self._address = await self.links.listen(self._place.host)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep_registries())]
        if self._tick_interval_s is not None:
            self._tasks.append(loop.create_task(self._keep_ticking(self._tick_interval_s)))
        for task in self._tasks:
            self.fail_stop.watch(task)

    async def stop(self) -> None:
        """Stop ticking and close every connection."""
        for task in self._tasks:
            task.cancel()
        ending = [task for task in self._tasks if task is not asyncio.current_task()]
        if ending:  # They end in the turns after the cancel, which a loop that is closed then would not have.
            await asyncio.wait(ending, timeout=self.boot.config.close_timeout_s)
        await self.links.close()

    def end(self, error: BaseException) -> None:
        """End the process, since the role must not go on; Ray starts it again.

        If the disk is at fault it will be for a while: then it leaves at once, for everybody to see, and the process
        ends after ``disk_retry_s``, so that they do not follow one another as fast as Ray can start them. The same
        holds for a slot that kills, with ``deadly_retry_s``.
        """
        if not isinstance(error, (StorageError, DeadlySlot)):
            exit_broken(self.me, error)
        if self.fault is None:
            self.fault = error
            logger.critical("%s leaves: %s", self.me, error)
            self._leaving = asyncio.get_running_loop().create_task(self._leave(error))

    async def _leave(self, error: StorageError | DeadlySlot) -> None:
        config = self.boot.config
        try:
            await self.stop()
        except Exception:  # It ends in any case: then its connections are closed, too.
            logger.exception("%s has not left as it should", self.me)
        await asyncio.sleep(config.deadly_retry_s if isinstance(error, DeadlySlot) else config.disk_retry_s)
        exit_broken(self.me, error)

    def own_report(self) -> MemberReport:
        """What this member says of itself now."""
        if self._address is None or self._place is None:
            raise RuntimeError(f"{self.me} does not listen yet")
        return self._owner.report(MemberReport(self.me, self._address, self._place.node_id, self._place.pid))

    def registries_sought(self) -> str:
        """Where the registries are, as far as we know, and which of them do not answer."""
        known = {member.index: address for member, address in self.links.targets(Role.REGISTRY).items()}
        texts = []
        for index in range(self.boot.config.registries):
            place = f"at {known[index]}" if index in known else "of which Ray could not say where it is"
            answers = "answers, and knows of none" if index in self._registries else "does not answer"
            texts.append(f"registry {index}, {place}, {answers}")
        return "; ".join(texts)

    def send(self, to: Member, message: WireMessage) -> None:
        """Send one message; a member that is not connected misses it."""
        self.links.send(to, encode(message), urgent=type(message) in URGENT)

    def tell_registries(self) -> None:
        """Report now instead of at the next turn."""
        if self._place is None:
            return
        report = encode(Report(self.own_report()))
        for registry in self._registries.values():
            self.links.send(registry, report)

    def aim(self, role: Role, members: Iterable[Member]) -> None:
        """Keep connections to these members, where the directory says, or has said, that they are."""
        known = self.links.targets(role)
        targets = []
        for member in members:
            found = self.directory.find(role, member.index)
            if found is not None and found.member == member:
                targets.append(Target(member, found.address))
            elif member in known:
                targets.append(Target(member, known[member]))
        self.links.aim(role, targets)

    # links.LinksOwner

    def link_opened(self, member: Member) -> None:
        """See ``LinksOwner``."""
        self.fail_stop.step(self._opened, member)

    def link_received(self, member: Member, payloads: list[bytes]) -> None:
        """See ``LinksOwner``. What cannot be decoded is dropped: it is not of this protocol."""
        self.fail_stop.step(self._received, member, payloads)

    def link_has_room(self, then: Callable[[], None]) -> None:
        """See ``LinksOwner``."""
        self.fail_stop.step(then)

    def link_closed(self, member: Member) -> None:
        """See ``LinksOwner``."""
        self.fail_stop.step(self._closed, member)

    def _opened(self, member: Member) -> None:
        if member.role is Role.REGISTRY:
            self._registries[member.index] = member
            self._heard_at_s[member] = time.monotonic()
            self.tell_registries()
        self._owner.connected(member)

    def _received(self, member: Member, payloads: list[bytes]) -> None:
        messages: list[WireMessage] = []
        if member.role is Role.REGISTRY:
            self._heard_at_s[member] = time.monotonic()
        for payload in payloads:
            try:
                message = decode(payload)
            except (ValueError, RecursionError) as error:  # So are msgspec's errors, and broken UTF-8.
                logger.warning("%s: dropped a frame of %d bytes from %s: %s", self.me, len(payload), member, error)
                continue
            if isinstance(message, Directory):
                self._hearsay.told(member, message, time.monotonic(), self.links.is_linked)
                self._owner.directory_changed(message)
            else:
                messages.append(message)
        if messages:
            self._owner.receive(member, messages)

    def _closed(self, member: Member) -> None:
        if member.role is Role.REGISTRY and not self.links.is_linked(member):
            self._heard_at_s.pop(member, None)
            if self._registries.get(member.index) == member:
                del self._registries[member.index]
        self._owner.disconnected(member)

    # Tasks.

    async def _keep_registries(self) -> None:
        """Be connected to every registry, and report to each once in a while.

        One that has fallen silent may have another life by now, though the connection to it is open.
        """
        config = self.boot.config
        while True:
            self.tell_registries()
            silent_since_s = time.monotonic() - config.silent_after_s
            heard = {index for index, each in self._registries.items() if self._heard_at_s[each] >= silent_since_s}
            own = {self.me.index} if self.me.role is Role.REGISTRY else set()
            if set(range(config.registries)) - own - heard:
                await self._look_for_registries(own)
            await asyncio.sleep(config.report_interval_s)

    async def _look_for_registries(self, own: set[int]) -> None:
        """Ask Ray where the registries are now. Those that do not answer it stay where they were."""
        try:
            found = await self._discovery.registries()
        except Exception as error:  # Whatever Ray raises while its GCS is away.
            logger.warning("%s cannot ask Ray for the registries (%s); trying again", self.me, error)
            return
        known = self.links.targets(Role.REGISTRY).items()
        targets = [Target(member, address) for member, address in known if member.index not in found]
        for index, (address, incarnation) in found.items():
            if index not in own:
                targets.append(Target(Member(Role.REGISTRY, index, incarnation), address))
        self.links.aim(Role.REGISTRY, targets)

    async def _keep_ticking(self, interval_s: float) -> None:
        ticked_at_s = time.monotonic()
        while True:
            await asyncio.sleep(interval_s)
            if time.monotonic() - ticked_at_s > AWAY_TICKS * interval_s:
                # The process was paused, or the machine is busy. What others sent meanwhile is in the sockets: hear it
                # before anyone is judged by their silence.
                await asyncio.sleep(interval_s / 4)
            ticked_at_s = time.monotonic()
            self.fail_stop.step(self._owner.tick, ticked_at_s)


def exit_broken(member: Member, error: BaseException) -> NoReturn:
    """End the process of a role that must not go on. Ray starts it again, with another incarnation."""
    logger.critical("%s stops: %s", member, error, exc_info=error)
    logging.shutdown()
    os._exit(EXIT_BROKEN)

"""The replica as a process: steps ``rsm.service``, which is consensus and clients, and runs the executor beside it.

The path of a command: a client's frame arrives (``receive``), the service queues its entry, ``_flush`` at the end of
the loop's turn proposes all that wait as one slot; acceptances come back (``receive``), the decision goes to the lane,
and the replies that come of it (``_executed``) leave on the routes that the service remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import get_args

from concoord_ray.directory import Directory, MemberReport
from concoord_ray.errors import ConfigurationError
from concoord_ray.paxos.messages import ReplicaMessage
from concoord_ray.paxos.replica import Replica
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.roles.archive import Archive
from concoord_ray.roles.boot import Boot, Discovery, Whereabouts, WireMessage
from concoord_ray.roles.bulk import Bulk
from concoord_ray.roles.disk import begin_again_if_free
from concoord_ray.roles.lane import Lane
from concoord_ray.roles.mark import DeadlySlot, find_mark
from concoord_ray.roles.node import AWAY_TICKS, Node
from concoord_ray.roles.replies import Replies
from concoord_ray.rsm.calls import Applied
from concoord_ray.rsm.command import KeepAlive, Read, Reply, Request
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.service import Service
from concoord_ray.rsm.snapshot import SnapshotFailed
from concoord_ray.rsm.state import StateMessage
from concoord_ray.rsm.transfer import Snapshot
from concoord_ray.rsm.wire import NOOP

logger = logging.getLogger(__name__)

_FROM_PEERS = (*get_args(ReplicaMessage), *get_args(StateMessage))


class ReplicaRole:
    """One replica of one ensemble."""

    def __init__(self, boot: Boot, place: Whereabouts, discovery: Discovery) -> None:
        self.node = Node(boot, place, discovery, self, tick_interval_s=boot.config.tick_interval_s)
        self._config = boot.config
        self._discovery = discovery
        self._bulk = Bulk(self.node.links, boot.config.retransmit_interval_s)
        self._replies = Replies(self.node.links, boot.config.max_queued_commands, self._crowded, self._has_room)
        self._service: Service | None = None
        self._lane: Lane | None = None
        self._starting: asyncio.Task[None] | None = None
        self._flush_is_due = False
        self._ticked_at_s = 0.0
        self._is_taking_snapshot = False
        #: The one that is being taken is of a state that is known to be wrong.
        self._taken_is_wrong = False
        #: After one has failed: the state must change first.
        self._snapshot_not_before_s = 0.0
        self._was_leader = False
        #: Another life at this index is listed, and speaks. Nobody dials this one, so it could only disturb.
        self._is_displaced = False
        self._view: View | None = None
        self._archive: Archive | None = None
        self._seed: bytes | None = None
        self._has_view = False
        #: Who waits for a snapshot of every slot below some slot.
        self._asked: list[tuple[int, asyncio.Future[Rope]]] = []

    async def start(self) -> None:
        """Listen at once, take part once the view is known. Raises ``StorageError`` if there is no place for data."""
        if self._config.storage:
            self._archive = await asyncio.to_thread(Archive, self.node.boot, self.node.fail_stop)
        try:
            await self.node.start()
        except BaseException:  # The next attempt is this process's, too, and must not find its data in use.
            if self._archive is not None:
                await self._archive.close()
            raise
        self._starting = self.node.fail_stop.watch(asyncio.get_running_loop().create_task(self._begin()))

    async def stop(self) -> None:
        """Leave."""
        if self._lane is not None:
            self._lane.close()
        if self._archive is not None:
            await self._archive.close()
        await self.node.stop()

    async def snapshot(self, applied_slot: int) -> bytes:
        """A snapshot that has the effects of every slot below this one, as soon as they are there."""
        asked: asyncio.Future[Rope] = asyncio.get_running_loop().create_future()
        self._asked.append((applied_slot, asked))
        self.node.fail_stop.step(self._perform)
        return await asyncio.to_thread(bytes, await asked)

    async def seed(self, snapshot: bytes) -> None:
        """Start from this state. Raises ConfigurationError if the first view is known: then it has begun without."""
        if self._has_view:
            raise ConfigurationError(
                f"{self.node.me} of the ensemble {self.node.boot.name!r} has begun already, without the state that it "
                f"was to begin with. Call concoord.recover({self.node.boot.name!r}) again."
            )
        self._seed = snapshot
        if self._archive is not None:
            await self._archive.begin_with(snapshot)

    async def _begin(self) -> None:
        boot, config = self.node.boot, self._config
        view = await self._discovery.view()
        self._has_view = True
        saved = await asyncio.to_thread(self._archive.newest) if self._archive is not None else None
        directory = None if self._archive is None else self._archive.directory
        mark = await asyncio.to_thread(find_mark, boot.ensemble, boot.index, directory, config.deadly_after_deaths)
        now_s = time.monotonic()
        rng = random.Random(self.node.me.incarnation)
        replica = Replica(self.node.me, view, config, noop=NOOP, rng=rng, now_s=now_s)
        executor = Executor(boot.ensemble, config, generation=boot.generation)
        self._lane = Lane(executor, config, self._executed, self.node.fail_stop, mark)
        self._service = Service(replica, config, now_s)
        start = saved if saved is not None else self._seed
        if start is not None:
            self._service.state.go_on_from(start, now_s)
            self._seed = None
        self._aim(replica.view)
        for member in self.node.links.members():
            self._service.connected(member, now_s)
        self._perform()
        if self._archive is not None:
            service = self._service
            await begin_again_if_free(self.node, self._archive.directory, lambda: service.applied_slot > 0)

    # NodeOwner

    def receive(self, source: Member, messages: list[WireMessage]) -> None:
        """See ``NodeOwner``."""
        service = self._service
        if service is None:
            return  # Not begun: peers and clients send again.
        now_s = time.monotonic()
        for message in messages:
            if isinstance(message, (Request, Read, KeepAlive)):
                service.receive_client(source, message, now_s)
            elif isinstance(message, _FROM_PEERS):
                service.receive_peer(source, message, now_s)
            else:
                logger.warning("%s: %s is no message for a replica", self.node.me, type(message).__name__)
        self._perform()

    def connected(self, member: Member) -> None:
        """See ``NodeOwner``."""
        if self._service is not None:
            self._service.connected(member, time.monotonic())
            self._perform()

    def disconnected(self, member: Member) -> None:
        """See ``NodeOwner``. A closed connection is suspicion at once, so the clock is looked at at once.

        Unless we were away ourselves: then others are judged once what they sent meanwhile is heard.
        """
        self._bulk.disconnected(member)
        if self._service is not None and not self.node.links.is_linked(member):
            now_s = time.monotonic()
            self._replies.disconnected(member)
            self._service.disconnected(member, now_s)
            if not self._is_displaced and now_s - self._ticked_at_s <= AWAY_TICKS * self._config.tick_interval_s:
                self._service.tick(now_s)
            self._perform()

    def directory_changed(self, directory: Directory) -> None:
        """See ``NodeOwner``."""
        if self._service is not None:
            self._aim(self._service.replica.view)
            self._perform()

    def tick(self, now_s: float) -> None:
        """See ``NodeOwner``."""
        self._ticked_at_s = now_s
        if self._service is not None and not self._is_displaced:
            self._service.tick(now_s)
            self._service.flush(now_s, time.time_ns())
            self._perform()

    def broken(self, error: BaseException) -> None:
        """See ``NodeOwner``; also when the executor or the disk cannot go on. The peers carry on without this one."""
        if isinstance(error, DeadlySlot) and self._archive is not None:
            with contextlib.suppress(OSError):  # Its disk as well? Then there is none to be had.
                error.snapshot = self._archive.newest_file()
        self.node.end(error)

    def report(self, report: MemberReport) -> MemberReport:
        """See ``NodeOwner``."""
        service = self._service
        if service is None:
            return report
        return MemberReport(
            report.member,
            report.address,
            report.node_id,
            report.pid,
            view=service.replica.view,
            is_leader=service.replica.is_leader,
            applied_slot=service.applied_slot,
            executing="" if self._lane is None else self._lane.executing(),
            durable_slot=service.replica.truncation.durable_slot,
            halted=service.state.halted,
        )

    # Inside.

    def _aim(self, view: View) -> None:
        """Dial the acceptors that the view names, and whoever else lives, in the view or not.

        At one index there may be two: Ray may have started a second life while the first, cut off from Ray, still
        votes, or stands still with its connections open. Which of them it is shows when both are asked.
        """
        node = self.node
        acceptors, replicas = node.directory.members_of(Role.ACCEPTOR), node.directory.members_of(Role.REPLICA)
        listed = replicas.pop(node.me.index, node.me)
        node.aim(Role.ACCEPTOR, {*view.acceptors, *acceptors.values()})
        node.aim(Role.REPLICA, replicas.values())
        if self._service is not None:
            self._service.replica.set_members(tuple(acceptors.values()), tuple(replicas.values()))
            self._displace(self._service, listed)

    def _displace(self, service: Service, listed: Member) -> None:
        """Stand aside while another life at this index is listed; be as before when it is not.

        Who stands aside does not tick. It could not give up what it leads, so it must not come to lead, either: no
        candidacy goes on, and none begins but by a tick.
        """
        was_displaced, self._is_displaced = self._is_displaced, listed != self.node.me
        if self._is_displaced and not was_displaced:
            logger.warning("%s stands aside: %s lives in its place", self.node.me, listed)
            now_s = time.monotonic()
            service.replica.abdicate(now_s)
            service.tick(now_s)  # Clients are told.

    def _perform(self) -> None:
        """Do what the core asked for since the last time, in its order."""
        service, lane, node = self._service, self._lane, self.node
        if service is None or lane is None:
            return
        outputs = service.replica.outputs.take()
        self._bulk.send(outputs.send, time.monotonic())
        if service.state.install is not None:
            lane.restore(service.state.install)
            service.state.install = None
        if service.state.discard_saved:
            service.state.discard_saved = False
            self._taken_is_wrong = self._is_taking_snapshot
            if self._archive is not None:
                self._archive.discard()
        if self._archive is not None:
            decisions = outputs.decisions
            self._archive.schedule.logged(len(decisions), sum(len(value) for _, value in decisions))
            service.replica.truncation.durable_slot = self._archive.schedule.durable_slot
        if outputs.decisions or service.reads:
            reads, service.reads = service.reads, []
            lane.execute(outputs.decisions, reads)
        if service.to_clients:
            messages, service.to_clients = service.to_clients, []
            for to, message in messages:
                self._replies.send(to, message)
        if service.wants_flush and not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(node.fail_stop.step, self._flush)
        if not self._is_taking_snapshot and self._needs_snapshot(service):
            self._is_taking_snapshot = True
            lane.take_snapshot(self._snapshot_taken, lambda: service.replica.is_leader)
        if service.replica.view is not self._view:
            self._view = service.replica.view
            logger.info("%s is in %s", node.me, self._view)
            self._aim(self._view)
            node.tell_registries()
        if service.replica.is_leader != self._was_leader:
            self._was_leader = service.replica.is_leader
            logger.info("%s %s", node.me, "leads" if self._was_leader else "follows")
            node.tell_registries()

    def _flush(self) -> None:
        """The end of a loop turn: whatever commands wait become one slot."""
        self._flush_is_due = False
        if self._service is None:
            return
        self._service.flush(time.monotonic(), time.time_ns())
        self._perform()

    def _crowded(self, client: Member) -> None:
        if self._service is not None:
            self._service.crowded(client)

    def _has_room(self, client: Member) -> None:
        if self._service is not None:
            self._service.has_room(client)
            self._perform()

    def _needs_snapshot(self, service: Service) -> bool:
        if time.monotonic() < self._snapshot_not_before_s or service.state.is_wrong:
            return False
        is_asked = any(slot <= service.applied_slot for slot, _ in self._asked)
        is_due = self._archive is not None and self._archive.schedule.is_due(service.replica)
        return service.state.wants_snapshot or is_asked or is_due

    def _snapshot_taken(self, taken: Snapshot | SnapshotFailed) -> None:
        self._is_taking_snapshot = False
        if self._taken_is_wrong:  # Who waits, waits for one of the state that is right.
            self._taken_is_wrong = False
            self._perform()
            return
        if isinstance(taken, SnapshotFailed):
            self._snapshot_not_before_s = time.monotonic() + self._config.snapshot_retry_s
        waiting, self._asked = self._asked, []
        for slot, asked in waiting:
            if asked.done():
                continue
            if isinstance(taken, SnapshotFailed):
                asked.set_exception(taken)
            elif slot <= taken.slot:
                asked.set_result(taken.data)
            else:
                self._asked.append((slot, asked))
        if self._service is not None and isinstance(taken, Snapshot):
            self._service.state.made(taken, time.monotonic())
            if self._archive is not None:
                self._archive.keep(taken, self._service.replica.learner, self._perform)
        self._perform()

    def _executed(self, applied: Applied, reads: list[Reply]) -> None:
        service = self._service
        if service is None:
            return
        service.executed(applied, time.monotonic())
        for reply in reads:
            service.answer(reply)
        self._perform()

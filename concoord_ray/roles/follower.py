"""What gateways and clients share: a node that follows the replicas, and a courier over its links."""

from __future__ import annotations

import time
from collections import deque

from concoord_ray.config import Config
from concoord_ray.directory import Directory, MemberReport
from concoord_ray.errors import CallTimeout, ConcoordError, NoSuchObject, OutcomeUnknown
from concoord_ray.leadership import Absence
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import URGENT, Boot, Discovery, Whereabouts, WireMessage
from concoord_ray.roles.node import Node
from concoord_ray.rsm.command import Busy, Kept, Leading, NotLeader, Reply
from concoord_ray.session import Courier, Ending, ToReplica


class Follower:
    """Connected to every replica that the directory knows; ``ended`` is called with every call that ended."""

    def __init__(self, boot: Boot, place: Whereabouts | None, discovery: Discovery) -> None:
        self.node = Node(boot, place, discovery, self, tick_interval_s=boot.config.follower_tick_interval_s)
        self.courier = Courier(boot.config, time.monotonic(), self.why_unreachable)
        self._replicas: dict[int, Member] = {}
        #: What the courier wants sent, as long as the connection has no room for it.
        self._held: deque[ToReplica] = deque()

    async def start(self) -> None:
        """Connect."""
        await self.node.start()

    async def stop(self) -> None:
        """Leave."""
        await self.node.stop()

    def ended(self, ending: Ending) -> None:
        """A call ended."""
        raise TypeError(f"{type(self).__name__} does not say what to do with {ending!r}")

    def farewell(self, *, may_have_run: bool) -> ConcoordError:
        """What a call is told that has not ended when the ensemble is no more."""
        name = self.node.boot.name
        again = "Get the object again with concoord.get(...)"
        if may_have_run:
            return OutcomeUnknown(
                f"The ensemble {name!r} was shut down or recovered while this call waited in it. If another has its "
                f"name now, that one may or may not have the call's effect. {again}, and look at it before a retry."
            )
        return NoSuchObject(
            f"The ensemble {name!r} was shut down or recovered before this call was made in it. {again}."
        )

    def timed_out(self) -> CallTimeout:
        """What a call is told whose own timeout is over, and which no leader has taken, or that changes nothing."""
        why = f" {self.courier.absence()}" if self.courier.leader is None else ""
        return CallTimeout(
            f"The call's own timeout was over before it was answered. It has no effect: a retry is safe.{why}"
        )

    def why_unreachable(self) -> Absence:
        """Why there is no connection to any replica."""
        name, directory = self.node.boot.name, self.node.directory
        status = f"concoord.status({name!r})"
        places = [str(each.address) for each in directory.members if each.member.role is Role.REPLICA]
        if places:
            return Absence(
                f"none of the replicas of ensemble {name!r} can be reached from here; they were last heard of at "
                f"{', '.join(places)}",
                f"{status} says which of them live. See that the network lets this process connect to them; retry.",
            )
        registries = self.node.registries_sought()
        return Absence(
            f"this process has heard of no replica of ensemble {name!r} at all, since no registry tells it of any: "
            f"{registries}. Replicas and acceptors may be well",
            f"{status} names the registries' processes and nodes: let one that stands still go on, or end it, and Ray "
            f"starts another. Retry then; there is nothing to recover.",
        )

    def kept(self, message: Kept) -> None:
        """A leader has renewed a lease."""

    def perform(self) -> None:
        """Send what the courier wants sent; tell what ended."""
        courier = self.courier
        while courier.outbox or courier.endings:
            outbox, courier.outbox = courier.outbox, []
            for each in outbox:
                if type(each.message) not in URGENT:
                    self._held.append(each)
                elif (replica := self._replicas.get(each.replica)) is not None:
                    self.node.send(replica, each.message)
            self._send_held()
            endings, courier.endings = courier.endings, []
            for ending in endings:
                self.ended(ending)

    def _send_held(self) -> None:
        """Send as much as the connection has room for. Large arguments to many calls do not fit into one at once.

        What was meant for an earlier leader is dropped: the courier has sent it again to the one that there is.
        """
        held, links = self._held, self.node.links
        while held:
            index, message = held[0]
            replica = self._replicas.get(index) if index == self.courier.leader else None
            if replica is not None:
                if not links.has_room(replica):
                    links.when_room(replica, self._send_held)
                    return
                self.node.send(replica, message)
            held.popleft()

    # NodeOwner

    def receive(self, source: Member, messages: list[WireMessage]) -> None:
        """See ``NodeOwner``."""
        if source.role is not Role.REPLICA or self._replicas.get(source.index) != source:
            return
        now_s = time.monotonic()
        for message in messages:
            if isinstance(message, Kept):
                self.kept(message)
            if isinstance(message, (Reply, Leading, NotLeader, Busy, Kept)):
                self.courier.receive(source.index, message, now_s)
        self.perform()

    def connected(self, member: Member) -> None:
        """See ``NodeOwner``. A replica says at once whether it leads."""
        if member.role is Role.REPLICA:
            self._replicas[member.index] = member
            self.courier.connected(member.index, time.monotonic())
            self.perform()

    def disconnected(self, member: Member) -> None:
        """See ``NodeOwner``."""
        if self._replicas.get(member.index) == member and member.role is Role.REPLICA:
            del self._replicas[member.index]
            self.courier.disconnected(member.index, time.monotonic())
            self.perform()

    def directory_changed(self, directory: Directory) -> None:
        """See ``NodeOwner``."""
        self.node.aim(Role.REPLICA, self.node.directory.members_of(Role.REPLICA).values())

    def tick(self, now_s: float) -> None:
        """See ``NodeOwner``."""
        self.courier.tick(now_s)
        self.perform()

    def broken(self, error: BaseException) -> None:
        """See ``NodeOwner``."""
        raise error

    def report(self, report: MemberReport) -> MemberReport:
        """See ``NodeOwner``."""
        return report


def unconfirmed(config: Config) -> OutcomeUnknown:
    """What a call is told whose own timeout is over, and of whose withdrawal nothing is heard."""
    return OutcomeUnknown(
        f"The call's own timeout was over, and within {config.withdrawal_grace_s} s more (withdrawal_grace_s) nobody "
        f"confirmed that it is withdrawn: it may have been applied, or may yet be. Its withdrawal goes on, and what it "
        f"is granted is given back. concoord.status() says who leads and what is executed; look at the object itself "
        f"before a retry."
    )


def cut_off(name: str) -> OutcomeUnknown:
    """What a call is told that some leader was sent, when this process closes its connection to the ensemble."""
    return OutcomeUnknown(
        f"The connection to ensemble {name!r} was closed in this process while this call waited: it may have been "
        f"applied, or may yet be. Get the handle again, by concoord.get(...), and look at the object before a retry."
    )

"""Which view the ensemble needs: its size, the dead replaced, the lost left out.

Pure judgement of one leader, on what it hears. Nothing here is a matter of safety: a view that comes of it holds only
once a majority of the present acceptors has agreed to it, by a stop-sign.

- An acceptor that is silent is replaced by another life at its index **that answers**, and only then: the ensemble is
  better off with the hope that the first comes back than without any. One that still answers is never replaced,
  whatever Ray believes of it.
- A view is proposed only if a majority of its own acceptors has just answered, and a replica of it is there.
- A replica belongs to the view however long it is away, since it votes on nothing, until the log that is kept for it
  grows long; then it is left out, and taken in again when it has caught up. Away is who was asked, and has not
  answered; of whom nothing is known yet is not. So is one that answers and has long come no further, if another
  replica is left besides the leader: it would hold up everybody.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from concoord_ray.config import Config
from concoord_ray.paxos.truncation import COPIES, Truncation, is_long
from concoord_ray.paxos.view import Member, View

#: Within how many heartbeats an acceptor must have answered to count as alive.
_ALIVE_HEARTBEATS = 5


class Size(NamedTuple):
    """How many acceptors and replicas an ensemble is to have."""

    acceptors: int
    replicas: int


def is_reached(size: Size, resized_slot: int, standings: Sequence[tuple[View | None, int]], config: Config) -> bool:
    """Whether an ensemble has come to the size that it was given in a slot: nobody needs the members that it has no
    place for.

    The view must be one that began after that slot, even if the one before it was of this size already: there a leader
    that has died may have proposed another size to some, and its stop-sign may still be found, and adopted.
    ``standings`` are the view and the durable slot of every replica that the size has a place for, if they could be
    asked. All of them must have entered one view of this size. With storage, enough of their disks must hold all that
    happened before it: who restarts from an older snapshot would need the acceptors of an older view.
    """
    views = {view for view, _ in standings}
    view = next(iter(views), None)
    if len(standings) != size.replicas or len(views) != 1 or view is None or view.first_slot <= resized_slot:
        return False
    if Size(len(view.acceptors), len(view.replicas)) != size or max(view.replicas) >= size.replicas:
        return False
    if any(acceptor.index >= size.acceptors for acceptor in view.acceptors):
        return False
    saved = sum(durable_slot >= view.first_slot for _, durable_slot in standings)
    return not config.storage or saved >= min(COPIES, size.replicas)


class Membership:
    """What one replica knows of who lives, and what it would make of it as the leader."""

    def __init__(self, index: int, config: Config) -> None:
        #: What the users want; a logged command changes it, in the slot given.
        self.size = Size(config.acceptors, config.replicas)
        self._resized_slot = -1
        #: When each acceptor last answered, in the view or not.
        self.heard_at_s: dict[Member, float] = {}
        self._index = index
        self._config = config
        self._reported: dict[int, Member] = {}
        #: Those among them whose connection was closed since: they do not live, however lately they answered.
        self._closed: set[Member] = set()

    def resize(self, size: Size, resized_slot: int) -> None:
        """The users have said, in this slot, what they want."""
        self.size, self._resized_slot = size, resized_slot

    def heard(self, acceptor: Member, now_s: float) -> None:
        """An acceptor has answered something."""
        self.heard_at_s[acceptor] = now_s
        self._closed.discard(acceptor)

    def disconnected(self, acceptor: Member) -> None:
        """The connection to an acceptor was closed."""
        if acceptor in self.heard_at_s:
            self._closed.add(acceptor)

    def majority_heard_at_s(self, view: View) -> float:
        """When a majority was last heard from: when the least recently heard of it was."""
        latest = sorted((self.heard_at_s.get(acceptor, -math.inf) for acceptor in view.acceptors), reverse=True)
        return latest[view.quorum - 1]

    def set_acceptors(self, acceptors: tuple[Member, ...]) -> None:
        """Which incarnations the directory has."""
        self._reported = {acceptor.index: acceptor for acceptor in acceptors}

    def candidates(self, view: View) -> tuple[Member, ...]:
        """Acceptors that live, and are not in the view."""
        return tuple(member for member in self._reported.values() if member not in view.acceptors)

    def following(
        self, view: View, next_slot: int, truncation: Truncation, log_bytes: int, now_s: float
    ) -> View | None:
        """The view to propose in ``next_slot``, None if ``view`` should stay.

        After a resizing there is a new one in any case (``is_reached``).
        """
        acceptors, replicas = self.wanted(view, truncation, log_bytes, now_s)
        if (acceptors, replicas) == (view.acceptors, view.replicas) and self._resized_slot < view.first_slot:
            return None
        return View(view.epoch + 1, acceptors, replicas, next_slot + 1)

    def wanted(
        self, view: View, truncation: Truncation, log_bytes: int, now_s: float
    ) -> tuple[tuple[Member, ...], tuple[int, ...]]:
        """The acceptors and replicas of the view that there should be; those of ``view`` if it should stay."""
        self._forget(view)
        alive_since_s = now_s - _ALIVE_HEARTBEATS * self._config.heartbeat_interval_s
        named = {member.index: member for member in view.acceptors}
        acceptors: list[Member] = []
        for index in range(self.size.acceptors):
            member, other = named.get(index), self._reported.get(index)
            is_silent = member is None or not self._heard_since(member, now_s - self._config.replace_after_s)
            if is_silent and other is not None and self._answers(other, alive_since_s):
                member = other
            if member is not None:
                acceptors.append(member)
        answering = sum(self._answers(member, alive_since_s) for member in acceptors)
        voting = tuple(acceptors) if 2 * answering > len(acceptors) else view.acceptors
        return voting, self._wanted_replicas(view, truncation, log_bytes)

    def _wanted_replicas(self, view: View, truncation: Truncation, log_bytes: int) -> tuple[int, ...]:
        """All of them, without those that are away while the log is long; one at least that is there."""
        wanted = []
        for index in range(self.size.replicas):
            if index == self._index or index in view.replicas:
                keep = index == self._index or not (truncation.is_away(index) and is_long(log_bytes, self._config))
            else:
                progress = truncation.progress_of(index)
                may_enter = progress is not None and progress.applied_slot >= truncation.below
                keep = may_enter and not truncation.is_stalled(index)
            if keep:
                wanted.append(index)
        moving = [index for index in wanted if index == self._index or not truncation.is_stalled(index)]
        if is_long(log_bytes, self._config) and any(truncation.progress_of(index) is not None for index in moving):
            wanted = moving
        return tuple(wanted) if any(self._is_there(index, truncation) for index in wanted) else view.replicas

    def _is_there(self, index: int, truncation: Truncation) -> bool:
        return index == self._index or truncation.progress_of(index) is not None

    def _answers(self, acceptor: Member, since_s: float) -> bool:
        return acceptor not in self._closed and self._heard_since(acceptor, since_s)

    def _heard_since(self, acceptor: Member, since_s: float) -> bool:
        return self.heard_at_s.get(acceptor, since_s - 1) >= since_s

    def _forget(self, view: View) -> None:
        """Keep nothing of lives that are over."""
        if len(self.heard_at_s) > len(view.acceptors) + len(self._reported):
            known = {*view.acceptors, *self._reported.values()}
            self.heard_at_s = {member: at_s for member, at_s in self.heard_at_s.items() if member in known}
            self._closed &= known

"""How much of the log is needed, and by whom.

A slot may be dropped from the acceptors and from every replica's log once its effects are safe without it: **every
replica of the view has executed it** and, with storage, two replicas (or all, if fewer) have it in a snapshot on disk.
A replica that is gone for long is no reason to keep the log for ever: it leaves by a view change, which a majority of
the acceptors agrees to, and not by the judgement of one leader (``membership``).

Silence is counted in heartbeats that were left unanswered, and not in time: a leader that has only begun to lead, or
was paused itself, has asked nobody anything, and would else take everyone for dead at once.

``below`` only grows. It states what has happened already, so it is true whoever says it, however late it arrives.
"""

from __future__ import annotations

import math

from concoord_ray.config import Config
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.messages import Progress
from concoord_ray.paxos.view import Member, View

#: For how many election timeouts a replica may answer, be behind and come no further.
_STALLED_ELECTIONS = 10
#: With storage: how many disks (or all, if there are fewer) hold what the log is dropped for.
COPIES = 2


class Truncation:
    """What one replica knows of how far the others have come."""

    def __init__(self, index: int, config: Config) -> None:
        #: Every slot below this one may be dropped, and is dropped here.
        self.below = 0
        #: Every slot below this one is executed here.
        self.applied_slot = 0
        #: The effects of every slot below this one are on disk here.
        self.durable_slot = 0
        self._index = index
        self._config = config
        #: What each other replica has said lately, and when.
        self.progress: dict[Member, Progress] = {}
        self.told_at_s: dict[Member, float] = {}
        #: By index: how many heartbeats of this leadership in a row have been left unanswered.
        self._unanswered: dict[int, int] = {}
        #: By index: how far it was, and for how many heartbeats in a row it has been no further, and behind.
        self._stalled: dict[int, tuple[int, int]] = {}
        # A log that is full must not wait for more: it takes nothing.
        self._worth_bytes = min(config.truncate_log_bytes, config.max_log_bytes // 4)
        self._patience_heartbeats = math.ceil(config.election_timeout_s / config.heartbeat_interval_s)

    def own_progress(self, epoch: int) -> Progress:
        """What this replica says of itself."""
        return Progress(epoch, self.applied_slot, self.durable_slot)

    def progressed(self, replica: Member, progress: Progress, now_s: float) -> None:
        """A replica has told how far it has come."""
        self.progress[replica] = progress
        self.told_at_s[replica] = now_s
        self._unanswered.pop(replica.index, None)

    def retain(self, replicas: tuple[Member, ...]) -> None:
        """These are the lives that there are."""
        for replica in [replica for replica in self.progress if replica not in replicas]:
            self.disconnected(replica)

    def disconnected(self, replica: Member) -> None:
        """Nobody knows what becomes of a replica that is not there."""
        self.progress.pop(replica, None)
        self.told_at_s.pop(replica, None)

    def progress_of(self, index: int) -> Progress | None:
        """What the replica at an index has said lately, None if nothing."""
        return next((progress for member, progress in self.progress.items() if member.index == index), None)

    def ask_anew(self) -> None:
        """A leadership begins: nobody has been asked anything in it."""
        self._unanswered.clear()
        self._stalled.clear()

    def is_away(self, index: int) -> bool:
        """Whether the replica at an index was asked for long enough, and has not answered."""
        return self._unanswered.get(index, 0) > self._patience_heartbeats

    def is_stalled(self, index: int) -> bool:
        """Whether the replica at an index answers, and has long come no further all the same."""
        return self._stalled.get(index, (0, 0))[1] > _STALLED_ELECTIONS * self._patience_heartbeats

    def present(self, view: View) -> int:
        """How many other replicas of the view have said something lately."""
        return sum(index != self._index and self.progress_of(index) is not None for index in view.replicas)

    def heard(self, below: int) -> None:
        """The leader says so."""
        self.below = max(self.below, below)

    def decide(self, view: View, learner: Learner) -> None:
        """The leader's turn, before each heartbeat: raise the mark, in steps that are worth it."""
        for index in {*view.replicas, *(replica.index for replica in self.progress)} - {self._index}:
            self._unanswered[index] = self._unanswered.get(index, 0) + 1
        for silent in [replica for replica in self.progress if self.is_away(replica.index)]:
            self.disconnected(silent)
        for replica, progress in self.progress.items():
            slot, heartbeats = self._stalled.get(replica.index, (-1, 0))
            is_stuck = slot == progress.applied_slot < self.applied_slot
            self._stalled[replica.index] = progress.applied_slot, heartbeats + 1 if is_stuck else 0
        safe = self._safe_below(view, learner.log_bytes)
        is_worth_it = safe > self.below and learner.log_bytes >= self._worth_bytes
        if safe - self.below >= self._config.truncate_slots or is_worth_it:
            self.below = safe

    def _safe_below(self, view: View, log_bytes: int) -> int:
        """Whoever is on its way into the view is waited for too, while the log is not long: it would never arrive."""
        applied = [self.applied_slot]
        for index in view.replicas:
            if index != self._index and self.progress_of(index) is None:
                return self.below
        for member, progress in self.progress.items():
            if member.index in view.replicas or not is_long(log_bytes, self._config):
                applied.append(progress.applied_slot)
        return min(*applied, self.durable_below(view)) if self._config.storage else min(applied)

    def durable_below(self, view: View) -> int:
        """What two replicas of the view hold on disk; all of those that are there, if they are fewer."""
        durable = [self.durable_slot]
        for index in view.replicas:
            progress = self.progress_of(index)
            if index != self._index and progress is not None:
                durable.append(progress.durable_slot)
        return sorted(durable, reverse=True)[:COPIES][-1]


def is_long(log_bytes: int, config: Config) -> bool:
    """Whether the log is half as long as it may be: nobody who is away is waited for any more."""
    return 2 * log_bytes > config.max_log_bytes

"""How much of the log is needed, and by whom.

A slot may be dropped from the acceptors and from every replica's log once its effects are safe without it: **every
replica of the view has executed it** and, with storage, two replicas (or all, if fewer) have it in a snapshot on disk.
A replica that is gone for long is no reason to keep the log for ever: it leaves by a view change, which a majority of
the acceptors agrees to, and not by the judgement of one leader (``membership``).

``below`` only grows. It states what has happened already, so it is true whoever says it, however late it arrives.
"""

from __future__ import annotations

from concoord_ray.config import Config
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.messages import Progress
from concoord_ray.paxos.view import Member, View

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
        self._progress: dict[Member, Progress] = {}
        self._told_at_s: dict[Member, float] = {}

    def own_progress(self, epoch: int) -> Progress:
        """What this replica says of itself."""
        return Progress(epoch, self.applied_slot, self.durable_slot)

    def progressed(self, replica: Member, progress: Progress, now_s: float) -> None:
        """A replica has told how far it has come."""
        self._progress[replica] = progress
        self._told_at_s[replica] = now_s

    def retain(self, replicas: tuple[Member, ...]) -> None:
        """These are the lives that there are."""
        for replica in [replica for replica in self._progress if replica not in replicas]:
            self.disconnected(replica)

    def disconnected(self, replica: Member) -> None:
        """Nobody knows what becomes of a replica that is not there."""
        self._progress.pop(replica, None)
        self._told_at_s.pop(replica, None)

    def have_entered(self, view: View) -> bool:
        """Whether the epoch before this one is over for all: everyone heard of is in this one, and with storage enough
        disks hold what happened before it. Until then no further view is due, since its members might be needed.
        """
        if any(progress.epoch < view.epoch for progress in self._progress.values()):
            return False
        return not self._config.storage or self._durable_below(view) >= view.first_slot

    def progress_of(self, index: int) -> Progress | None:
        """What the replica at an index has said lately, None if nothing."""
        return next((progress for member, progress in self._progress.items() if member.index == index), None)

    def present(self, view: View) -> int:
        """How many other replicas of the view have said something lately."""
        return sum(index != self._index and self.progress_of(index) is not None for index in view.replicas)

    def heard(self, below: int) -> None:
        """The leader says so."""
        self.below = max(self.below, below)

    def decide(self, view: View, learner: Learner, now_s: float) -> None:
        """The leader's turn, once a heartbeat: raise the mark, in steps that are worth it."""
        config = self._config
        for silent in [r for r, at_s in self._told_at_s.items() if now_s - at_s > config.election_timeout_s]:
            self.disconnected(silent)
        safe = self._safe_below(view)
        if safe - self.below >= config.truncate_slots or (
            safe > self.below and learner.log_bytes >= config.truncate_log_bytes
        ):
            self.below = safe

    def _safe_below(self, view: View) -> int:
        applied = [self.applied_slot]
        for index in view.replicas:
            if index != self._index:
                progress = self.progress_of(index)
                if progress is None:
                    return self.below
                applied.append(progress.applied_slot)
        return min(*applied, self._durable_below(view)) if self._config.storage else min(applied)

    def _durable_below(self, view: View) -> int:
        """What two replicas of the view, or all if it has fewer, hold on disk."""
        durable = [self.durable_slot]
        for index in view.replicas:
            progress = self.progress_of(index)
            if index != self._index:
                durable.append(0 if progress is None else progress.durable_slot)
        return sorted(durable, reverse=True)[:COPIES][-1]

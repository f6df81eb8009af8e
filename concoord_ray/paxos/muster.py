"""Entering an epoch together.

A replica that has handed on a stop-sign is in the next epoch at once, and may be the only one who knows of it. Two
things wait until the others have followed:

- **The first proposal.** Were something acknowledged in an epoch that one replica alone knows of, and that replica
  lost, then nobody would look for it among the acceptors of that epoch.
- **The next view change**, which may end the service of members that whoever is behind still needs. With storage the
  disks, too, must hold what happened before the epoch: a replica that restarts from an older snapshot is behind.

A leader that has only begun knows of nobody yet: it first hears from all that are there before it judges who is.

Nobody is waited for without end. A dead replica is not linked; one that is silent, or takes too long, gets what it
misses from whoever leads.
"""

from __future__ import annotations

from concoord_ray.config import Config
from concoord_ray.paxos.leader import Leader
from concoord_ray.paxos.truncation import Truncation
from concoord_ray.paxos.view import Member, View

#: For how many election timeouts the next view change waits for those that are in an earlier epoch.
_PATIENCE_ELECTIONS = 10
#: Who has told nothing for so many heartbeats is not waited for at all.
_SILENT_HEARTBEATS = 5


class Muster:
    """What one replica knows of who is in its epoch."""

    def __init__(self, truncation: Truncation, config: Config, now_s: float) -> None:
        self._truncation = truncation
        self._config = config
        #: The other replicas that a connection is open to, and since when.
        self._linked: dict[Member, float] = {}
        #: Those of them that had left this leadership unanswered for long when it entered the epoch.
        self._silent: set[Member] = set()
        self._leads_on = False
        self._began_at_s = now_s
        self._held_at_s = now_s

    def begin(self, now_s: float, *, leads_on: bool) -> None:
        """This replica has entered another epoch; whoever led runs phase 1 of it at once."""
        self._began_at_s = now_s
        self._leads_on = leads_on
        for replica, opened_at_s in self._linked.items():
            if now_s - opened_at_s >= self._config.election_timeout_s and self._truncation.is_away(replica.index):
                self._silent.add(replica)

    def connected(self, replica: Member, now_s: float) -> None:
        """A connection to a replica is open."""
        self._linked[replica] = now_s
        self._silent.discard(replica)

    def disconnected(self, replica: Member) -> None:
        """The connection to a replica was closed."""
        self._linked.pop(replica, None)
        self._silent.discard(replica)

    def hold(self, leader: Leader, now_s: float) -> None:
        """Phase 1 has ended: hold new proposals back if nothing has happened in the epoch yet."""
        leader.is_held = leader.view.epoch > 0 and leader.adopted_below == leader.view.first_slot
        self._held_at_s = now_s
        if not self._leads_on:
            self._silent.clear()
        self._leads_on = False
        self._truncation.ask_anew()

    def let_go(self, leader: Leader, now_s: float) -> None:
        """Hold nothing back any more once everyone who is there is in this epoch, or has had its time."""
        if leader.is_held and (
            now_s - self._held_at_s >= self._config.election_timeout_s or self._has_entered(leader.view, now_s)
        ):
            leader.is_held = False

    def is_complete(self, view: View, now_s: float) -> bool:
        """Whether nobody needs the epoch before this one, so that a further view may follow.

        Whoever judges has executed what was said in it: of how many members there are to be, in particular.
        """
        if self._truncation.applied_slot < view.first_slot:
            return False
        if now_s - self._held_at_s < self._config.election_timeout_s and self._awaits_word():
            return False
        is_patient = now_s - self._began_at_s < _PATIENCE_ELECTIONS * self._config.election_timeout_s
        if is_patient and any(progress.epoch < view.epoch for progress in self._truncation.progress.values()):
            return False
        return not self._config.storage or self._truncation.durable_below(view) >= view.first_slot

    def _awaits_word(self) -> bool:
        """Whether somebody is there that has told nothing yet, and has not been asked for long."""
        known = self._truncation.progress.keys() | self._silent
        return not self._linked.keys() <= known

    def _has_entered(self, view: View, now_s: float) -> bool:
        told_at_s = self._truncation.told_at_s
        lately_s = now_s - _SILENT_HEARTBEATS * self._config.heartbeat_interval_s
        return not self._awaits_word() and not any(
            progress.epoch < view.epoch and told_at_s[replica] >= lately_s
            for replica, progress in self._truncation.progress.items()
            if replica in self._linked
        )

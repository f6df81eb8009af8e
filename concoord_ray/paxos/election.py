"""When a replica leads: suspicion, candidacy, and giving up (*Paxos Made Moderately Complex*, section 4.1; Raft's
pre-vote).

Safety never depends on this file: two replicas that both believe that they lead are told apart by their ballots. It
decides only how soon there is one leader, and that there is not a new one every moment.

- A follower suspects its leader when it has been silent for a randomised election timeout, and almost at once when its
  connection was closed. Then the followers stand in line: the next index first, the others a little later.
- A candidate first checks that a majority of acceptors answers it, and learns the highest ballot that they have
  promised; only then does it raise the ballot. A replica that is cut off so never disturbs a leader that is not.
- A candidate that merely misses the leader's heartbeats also gives the other replicas the time to say that they hear
  from it: where only the link between two replicas is cut, they would else take the lead from each other for ever.
- A replica that has just started, and finds that somebody has led before, first waits for an election timeout: a
  restart must not depose a leader that lives, least of all in favour of an empty log.
- Phase 1 may take long: what acceptors have to show may be large. A scout whose ballot a majority has promised is the
  only one that can decide anything, so it sends heartbeats already, is followed, and goes on while they answer.
- A leader that has not heard from a majority of acceptors for an election timeout abdicates. Heartbeats among replicas
  say nothing about its way to the acceptors.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection
from enum import Enum

from concoord_ray.config import Config
from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.view import Member

#: How many heartbeats are a little while.
_LATELY_STEPS = 3


class Standing(Enum):
    """What this replica is in its ensemble's eyes, as far as it knows."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    SCOUT = "scout"
    LEADER = "leader"


class Election:
    """The clockwork of leadership of one replica. Pure: the owner sends what it asks for."""

    def __init__(self, me: Member, config: Config, *, rng: random.Random, now_s: float) -> None:
        self.standing = Standing.FOLLOWER
        #: The highest ballot whose leader this replica has heard of.
        self.leader_ballot = BOTTOM
        #: The leader that this replica follows, None while it suspects it or knows none.
        self.leader: Member | None = None
        #: The highest round seen anywhere; the next candidacy goes above it.
        self.highest_round = -1
        self.deadline_s = now_s
        #: When the leader was last heard from.
        self.heard_at_s = -math.inf
        #: As a candidate: from when on the ballot may be raised.
        self.scout_at_s = now_s
        #: This replica must not lead: its state is known to be wrong.
        self.is_barred = False
        self._is_in_line = False
        self._is_new = True
        self._me = me
        self._timeout_s = config.election_timeout_s
        self._line_step_s = config.heartbeat_interval_s
        self._rng = rng

    def wait(self, now_s: float) -> None:
        """Give whoever leads or is about to an election timeout."""
        self._is_in_line = False
        self.deadline_s = now_s + self._timeout_s * (1 + self._rng.random())

    def stand_in_line(self, now_s: float, replicas: int, behind: int) -> None:
        """Become a candidate soon: after those whose turn is earlier, counted on from index ``behind``."""
        self.leader = None
        self._is_in_line = True
        places = (self._me.index - behind - 1) % replicas
        self.deadline_s = now_s + places * self._line_step_s * (1 + self._rng.random())

    def stand(self, now_s: float) -> None:
        """Become a candidate. If the leader is only silent, others have a heartbeat's time to say that they hear it."""
        self.leader = None
        self.standing = Standing.CANDIDATE
        self.scout_at_s = now_s if self._is_in_line else now_s + self._line_step_s
        self.wait(now_s)

    def stand_back(self, now_s: float) -> None:
        """Another replica hears from the leader."""
        self.standing = Standing.FOLLOWER
        self.wait(now_s)

    def follow(self, leader: Member | None, ballot: Ballot, now_s: float) -> None:
        """Another leads, or has raised its ballot above ours."""
        self.standing = Standing.FOLLOWER
        self.leader = leader
        self.saw(ballot)
        self.leader_ballot = max(self.leader_ballot, ballot)
        self.wait(now_s)

    def heard_lately(self, now_s: float) -> bool:
        """Whether the leader has said something within the last few heartbeats."""
        return now_s - self.heard_at_s <= _LATELY_STEPS * self._line_step_s

    def saw(self, ballot: Ballot) -> None:
        """Remember a ballot that some acceptor has promised."""
        self.highest_round = max(self.highest_round, ballot.round)

    def may_scout(self, promised: Collection[Ballot], quorum: int, now_s: float) -> bool:
        """Whether a candidate that these ballots were promised to raises the ballot now.

        A new one steps back once: it may only not have heard yet of who leads.
        """
        if (
            self.is_barred
            or self.standing is not Standing.CANDIDATE
            or len(promised) < quorum
            or now_s < self.scout_at_s
        ):
            return False
        self.wait(now_s)
        is_new = self._is_new and self.leader_ballot == BOTTOM != max(promised)
        self._is_new = False
        if is_new:
            self.standing = Standing.FOLLOWER
        return not is_new

    def next_ballot(self) -> Ballot:
        """A ballot above every one seen. The incarnation keeps it from ever having been used by a former life."""
        self.highest_round += 1
        return Ballot(self.highest_round, self._me.index, self._me.incarnation)

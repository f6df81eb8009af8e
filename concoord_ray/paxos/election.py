"""When a replica leads: suspicion, candidacy, and giving up (*Paxos Made Moderately Complex*, section 4.1; Raft's
pre-vote).

Safety never depends on this file: two replicas that both believe that they lead are told apart by their ballots. It
decides only how soon there is one leader, and that there is not a new one every moment.

- A follower suspects its leader when it has been silent for a randomised election timeout, and almost at once when its
  connection was closed. Then the followers stand in line: the next index first, the others a little later.
- A candidate first checks that a majority of acceptors answers it, and learns the highest ballot that they have
  promised; only then does it raise the ballot. A replica that is cut off so never disturbs a leader that is not.
- A replica that has just started, and finds that somebody has led before, first waits for an election timeout: a
  restart must not depose a leader that lives, least of all in favour of an empty log.
- A leader that has not heard from a majority of acceptors for an election timeout abdicates. Heartbeats among replicas
  say nothing about its way to the acceptors.
"""

from __future__ import annotations

import random
from enum import Enum

from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.view import Member


class Standing(Enum):
    """What this replica is in its ensemble's eyes, as far as it knows."""

    FOLLOWER = "follower"
    CANDIDATE = "candidate"
    SCOUT = "scout"
    LEADER = "leader"


class Election:
    """The clockwork of leadership of one replica. Pure: the owner sends what it asks for."""

    def __init__(self, me: Member, *, timeout_s: float, line_step_s: float, rng: random.Random, now_s: float) -> None:
        self.standing = Standing.FOLLOWER
        #: The highest ballot whose leader this replica has heard of.
        self.leader_ballot = BOTTOM
        #: The leader that this replica follows, None while it suspects it or knows none.
        self.leader: Member | None = None
        #: The highest round seen anywhere; the next candidacy goes above it.
        self.highest_round = -1
        self.deadline_s = now_s
        self._is_new = True
        self._me = me
        self._timeout_s = timeout_s
        self._line_step_s = line_step_s
        self._rng = rng

    def wait(self, now_s: float) -> None:
        """Give whoever leads or is about to an election timeout."""
        self.deadline_s = now_s + self._timeout_s * (1 + self._rng.random())

    def stand_in_line(self, now_s: float, replicas: int, behind: int) -> None:
        """Become a candidate soon: after those whose turn is earlier, counted on from index ``behind``."""
        self.leader = None
        places = (self._me.index - behind - 1) % replicas
        self.deadline_s = now_s + places * self._line_step_s * (1 + self._rng.random())

    def follow(self, leader: Member | None, ballot: Ballot, now_s: float) -> None:
        """Another leads, or has raised its ballot above ours."""
        self.standing = Standing.FOLLOWER
        self.leader = leader
        self.saw(ballot)
        self.leader_ballot = max(self.leader_ballot, ballot)
        self.wait(now_s)

    def saw(self, ballot: Ballot) -> None:
        """Remember a ballot that some acceptor has promised."""
        self.highest_round = max(self.highest_round, ballot.round)

    def defers_to(self, promised: Ballot) -> bool:
        """Whether a new candidate steps back once: it may only not have heard yet of whoever led with ``promised``."""
        is_new = self._is_new and self.leader_ballot == BOTTOM != promised
        self._is_new = False
        if is_new:
            self.standing = Standing.FOLLOWER
        return is_new

    def next_ballot(self) -> Ballot:
        """A ballot above every one seen. The incarnation keeps it from ever having been used by a former life."""
        self.highest_round += 1
        return Ballot(self.highest_round, self._me.index, self._me.incarnation)

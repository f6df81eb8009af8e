"""Rounds of pings to a view's acceptors: one kind of message, three needs.

A candidate learns whether it reaches a majority at all, a scout or leader whether a majority still stands by its
ballot, and a read whether any later leader can have decided something before its round began.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from concoord_ray.config import Config
from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.leader import Leader
from concoord_ray.paxos.messages import Ping
from concoord_ray.paxos.outputs import Outputs, Send
from concoord_ray.paxos.truncation import Truncation
from concoord_ray.paxos.view import Member, View

#: The nonce of pings that belong to no round.
_NO_ROUND = -1


@dataclass(slots=True)
class PingRound:
    """One ping to all acceptors of a view, and the ballots that they answered with."""

    nonce: int
    view: View
    sent_at_s: float
    promised: dict[Member, Ballot] = field(default_factory=dict)

    def agreeing(self, ballot: Ballot) -> int:
        """How many have promised this very ballot."""
        return sum(promised == ballot for promised in self.promised.values())


class Pings:
    """The round under way, if any, of one replica."""

    def __init__(self, outputs: Outputs, truncation: Truncation, config: Config) -> None:
        self.round: PingRound | None = None
        self._outputs = outputs
        self._truncation = truncation
        self._config = config
        self._next_nonce = 0
        self._next_s = 0.0

    def begin(self, view: View, now_s: float) -> PingRound:
        """Ask every acceptor; answers to earlier rounds count no more."""
        self.round = PingRound(self._next_nonce, view, now_s)
        self._next_nonce += 1
        self._next_s = now_s + self._config.heartbeat_interval_s
        self._send(view.acceptors, view, self.round.nonce)
        return self.round

    def answered(self, nonce: int) -> PingRound | None:
        """The round that an answer belongs to, None if it is not under way."""
        return self.round if self.round is not None and self.round.nonce == nonce else None

    def end(self) -> None:
        """Nobody waits for the round any more."""
        self.round = None

    def probe(self, acceptors: tuple[Member, ...], view: View) -> None:
        """Find out whether these live, who have no part in the view."""
        if acceptors:
            self._send(acceptors, view, _NO_ROUND)

    def resend_to(self, acceptor: Member) -> None:
        """Repeat the question to one acceptor, after its connection was made again."""
        if self.round is not None and acceptor not in self.round.promised:
            self._send((acceptor,), self.round.view, self.round.nonce)

    def tick(self, leader: Leader, now_s: float) -> None:
        """Once in a heartbeat a leader or scout asks. The question is repeated to who has not answered, or had not yet
        promised its ballot.
        """
        current = self.round
        holds_ballot = leader.is_leading or leader.is_scouting
        if current is None:
            if holds_ballot and now_s >= self._next_s:
                self.begin(leader.view, now_s)
        elif now_s - current.sent_at_s >= self._config.retransmit_interval_s:
            current.sent_at_s = now_s
            promised, ballot = current.promised, leader.ballot
            asked = [a for a in current.view.acceptors if a not in promised or (holds_ballot and promised[a] != ballot)]
            self._send(tuple(asked), current.view, current.nonce)

    def _send(self, to: tuple[Member, ...], view: View, nonce: int) -> None:
        self._outputs.send.append(Send(to, Ping(view.epoch, nonce, self._truncation.below)))

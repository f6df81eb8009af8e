"""Ballot numbers (*Paxos Made Moderately Complex*, section 2.2).

A ballot is a totally ordered, never reused name for one leadership. The paper pairs a round with the leader's
identifier; ours adds the leader's **incarnation**, drawn at random whenever a replica starts without its data, so a
replica that restarts and forgot which rounds it used can still never issue an old ballot with other values.
"""

from __future__ import annotations

from typing import NamedTuple


class Ballot(NamedTuple):
    """One leadership: compared by round, then replica index, then incarnation."""

    round: int
    replica: int
    incarnation: int

    def __str__(self) -> str:
        return f"{self.round}.{self.replica}.{self.incarnation & 0xFFFF:04x}"


#: Below every ballot that a leader can issue: what an acceptor has promised before it promised anything.
BOTTOM = Ballot(-1, -1, 0)

"""Known mistakes with large values on a slow network. See ``mutants``."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from concoord_ray.paxos.replica import Replica
from concoord_ray.roles import bulk
from tests.sim.mutants import Mutant, replacing
from tests.sim.scenario import Kind


def _only_as_leader(original: Any) -> Any:
    def send(self: Replica, to: Any) -> None:
        if self.is_leader:
            original(self, to)

    return send


def _gives_up(original: Any) -> Any:
    """Whatever acceptors say, a scout has an election timeout."""

    def receive(self: Replica, *arguments: Any) -> None:
        was_scouting, deadline_s = self.leader.is_scouting, self.election.deadline_s
        original(self, *arguments)
        if was_scouting and self.leader.is_scouting:
            self.election.deadline_s = deadline_s

    return receive


THIN = (
    Mutant(
        "what shows that somebody lives waits behind large values",
        Kind.THIN,
        lambda: patch.object(bulk, "URGENT", frozenset()),
        frozenset({"Liveness"}),
        seeds=20,
    ),
    Mutant(
        "what is on its way is sent again",
        Kind.THIN,
        replacing(bulk.Bulk, "_may_send", lambda *_: True),
        frozenset({"Liveness"}),
        seeds=100,
    ),
    Mutant(
        "a scout is not followed before it leads",
        Kind.THIN,
        replacing(Replica, "_send_heartbeat", _only_as_leader(Replica._send_heartbeat)),
        frozenset({"Liveness"}),
        seeds=50,
    ),
    Mutant(
        "a scout gives up before all is there",
        Kind.THIN,
        replacing(Replica, "_receive_pong", _gives_up(Replica._receive_pong)),
        frozenset({"Liveness"}),
        seeds=50,
    ),
)

"""What is done when replicas differ: say so, and mend the minority.

Every replica sends its checkpoints to the leader, which compares them. Who is contradicted by a majority of all
replicas takes over a snapshot of the majority's; a leader that is contradicted steps down first. Where there is no
majority nobody can say which state is right: the ensemble stops answering, and says why.
"""

from __future__ import annotations

import logging

import msgspec

from concoord_ray.paxos.view import Member, View
from concoord_ray.rsm.checkpoint import Checkpoint, compare

logger = logging.getLogger(__name__)

#: Of how many slots checkpoints are kept for those who come later.
_REMEMBERED = 8


class Reinstall(msgspec.Struct, frozen=True, array_like=True, tag=16, tag_field="type"):
    """Leader to replica: your state at ``slot`` is not that of the majority. Take over one of ``sources``."""

    slot: int
    sources: tuple[Member, ...]


class Halt(msgspec.Struct, frozen=True, array_like=True, tag=17, tag_field="type"):
    """Leader to replica: there is no majority for any state. Answer every call with this error."""

    text: str


class Comparison:
    """The leader's view of the checkpoints of all replicas."""

    def __init__(self) -> None:
        self._by_slot: dict[int, dict[Member, Checkpoint]] = {}
        self._told: set[tuple[int, Member]] = set()

    def add(self, replica: Member, checkpoint: Checkpoint, view: View) -> list[tuple[Member, Reinstall | Halt]]:
        """Take in one; gives what has to be told to whom, each once."""
        known = self._by_slot.setdefault(checkpoint.slot, {})
        known[replica] = checkpoint
        for slot in sorted(self._by_slot)[:-_REMEMBERED]:
            del self._by_slot[slot]
            self._told = {(of, member) for of, member in self._told if of != slot}
        latest = {member.index: member for member in known if member.index in view.replicas}
        verdict = compare({member: known[member] for member in latest.values()}, len(view.replicas))
        if verdict is None or not (verdict.minority or verdict.is_final):
            return []
        orders: list[tuple[Member, Reinstall | Halt]] = []
        sources = tuple(member for member in latest.values() if member not in verdict.minority)
        for member in verdict.minority or latest.values():
            if (checkpoint.slot, member) not in self._told:
                self._told.add((checkpoint.slot, member))
                order = Halt(verdict.text) if verdict.no_majority else Reinstall(checkpoint.slot, sources)
                orders.append((member, order))
        if orders:
            logger.critical("replicas have diverged: %s", verdict.text)
        return orders

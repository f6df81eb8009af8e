"""The learner: decided slots in order, gaps noticed and filled (*Paxos Made Moderately Complex*, section 2.1).

Invariants:

- a slot has one value: learning another one is a broken promise of Paxos and stops the replica (``Diverged``) before
  anything wrong can be executed;
- ``learn`` hands slots on in order, without gaps, each once.
"""

from __future__ import annotations

from concoord_ray.errors import Diverged
from concoord_ray.paxos.outputs import Decided


class Learner:
    """The decided prefix of the log, and what is known beyond its first gap."""

    def __init__(self) -> None:
        #: The first slot whose decision is not known; every slot below it is.
        self.next_slot = 0
        self._log: list[bytes] = []
        self._beyond: dict[int, bytes] = {}

    def value_of(self, slot: int) -> bytes | None:
        """The decided value of a slot, None if not known."""
        if slot < self.next_slot:
            return self._log[slot]
        return self._beyond.get(slot)

    def learn(self, slot: int, value: bytes) -> list[Decided]:
        """Take in one decision, in any order and any number of times; returns what is now ready to execute."""
        known = self.value_of(slot)
        if known is not None:
            if known != value:
                raise Diverged(f"slot {slot} was decided twice with different values; this replica stops.")
            return []
        if slot != self.next_slot:
            self._beyond[slot] = value
            return []
        ready = [Decided(slot, value)]
        self._log.append(value)
        self.next_slot += 1
        while self._beyond and (following := self._beyond.pop(self.next_slot, None)) is not None:
            ready.append(Decided(self.next_slot, following))
            self._log.append(following)
            self.next_slot += 1
        return ready

    def page(self, from_slot: int, page_bytes: int) -> list[Decided]:
        """Decisions from ``from_slot`` on, about ``page_bytes`` of them (at least one if there is one)."""
        page: list[Decided] = []
        size = 0
        for slot in range(from_slot, self.next_slot):
            value = self._log[slot]
            if page and size + len(value) > page_bytes:
                break
            page.append(Decided(slot, value))
            size += len(value)
        return page

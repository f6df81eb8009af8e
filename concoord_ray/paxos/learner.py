"""The learner: decided slots in order, gaps noticed and filled (*Paxos Made Moderately Complex*, section 2.1).

Invariants:

- a slot has one executed value: learning another one for a slot that was handed on is a broken promise of Paxos, and
  stops the replica (``Diverged``) before anything wrong can be executed;
- ``learn`` hands slots on in order, without gaps, each once;
- nothing that its own epoch decided above that epoch's stop-sign is handed on (*Stoppable Paxos*, Lamport, Malkhi and
  Zhou 2008: with pipelining such decisions can happen, and are void).

So decisions come in two kinds. What another replica tells it has handed on itself, hence it is **final**, whatever
epoch it is of. What this replica's own leadership decides beyond a gap is final only once the gap has turned out to
hold no stop-sign; until then a final value for the same slot replaces it.
"""

from __future__ import annotations

from typing import NamedTuple

from concoord_ray.errors import Diverged
from concoord_ray.paxos.outputs import Decided
from concoord_ray.paxos.view import is_stop_sign


class _Beyond(NamedTuple):
    """A decision above the first gap."""

    value: bytes
    is_final: bool


class Learner:
    """The decided prefix of the log, from ``first_slot`` on, and what is known beyond its first gap."""

    def __init__(self, first_slot: int = 0) -> None:
        #: The first slot whose decision is not known; every slot below it is decided.
        self.next_slot = first_slot
        #: The first slot whose value is kept: what is below it is known by its effects alone.
        self.first_slot = first_slot
        #: How much the kept values take.
        self.log_bytes = 0
        self._log: list[bytes] = []
        self._beyond: dict[int, _Beyond] = {}

    def value_of(self, slot: int) -> bytes | None:
        """The decided value of a slot, None if not known, or not any more."""
        if slot < self.next_slot:
            return self._log[slot - self.first_slot] if slot >= self.first_slot else None
        beyond = self._beyond.get(slot)
        return None if beyond is None else beyond.value

    def grown_since(self, slot: int) -> tuple[int, int]:
        """How many slots are ready from this one on, and how many bytes their values have, as far as they are kept."""
        values = self._log[max(0, slot - self.first_slot) :]
        return len(values), sum(map(len, values))

    def learn(self, slot: int, value: bytes, *, is_final: bool) -> list[Decided]:
        """Take in one decision, in any order and any number of times; returns what is now ready to execute.

        It ends with the first stop-sign: the caller enters the view that follows, and then asks for ``ready``.
        """
        if slot < self.next_slot:
            if self.value_of(slot) not in (None, value):
                raise Diverged(f"slot {slot} was decided twice with different values; this replica stops.")
            return []
        known = self._beyond.get(slot)
        if known is None or (is_final and not known.is_final):
            self._beyond[slot] = _Beyond(value, is_final)
        elif known.value != value and is_final == known.is_final:
            raise Diverged(f"slot {slot} was decided twice with different values; this replica stops.")
        return self.ready()

    def ready(self) -> list[Decided]:
        """Hand on what follows without a gap, up to the next stop-sign."""
        ready: list[Decided] = []
        while self._beyond and (following := self._beyond.pop(self.next_slot, None)) is not None:
            ready.append(Decided(self.next_slot, following.value))
            self._log.append(following.value)
            self.log_bytes += len(following.value)
            self.next_slot += 1
            if is_stop_sign(following.value):
                self._beyond = {slot: beyond for slot, beyond in self._beyond.items() if beyond.is_final}
                break
        return ready

    def truncate(self, below: int) -> None:
        """Keep no values of slots below this one."""
        count = min(below, self.next_slot) - self.first_slot
        if count > 0:
            self.log_bytes -= sum(map(len, self._log[:count]))
            del self._log[:count]
            self.first_slot += count

    def jump(self, next_slot: int) -> None:
        """The effects of every slot below ``next_slot`` are known from elsewhere: go on from there."""
        self.first_slot = self.next_slot = next_slot
        self._log.clear()
        self.log_bytes = 0
        self._beyond = {slot: beyond for slot, beyond in self._beyond.items() if slot >= next_slot and beyond.is_final}

    def page(self, from_slot: int, page_bytes: int) -> list[Decided]:
        """Decisions from ``from_slot`` on, about ``page_bytes`` of them (at least one if there is one)."""
        page: list[Decided] = []
        size = 0
        for slot in range(max(from_slot, self.first_slot), self.next_slot):
            value = self._log[slot - self.first_slot]
            if page and size + len(value) > page_bytes:
                break
            page.append(Decided(slot, value))
            size += len(value)
        return page

"""The leader: one scout per leadership, one commander per slot (*Paxos Made Moderately Complex*, figures 6 and 7).

Invariants:

- phase 2 starts only after a majority of **distinct** acceptors has promised this ballot, and has shown everything
  that it accepted from the scout's first slot on (all pages);
- for each slot shown, the value proposed again is that of the **highest** ballot shown. This is the rule that makes
  Paxos safe (P2c): it may be chosen already, and no lower one can be;
- in one ballot a slot is given one value, ever. Retransmission repeats it, nothing replaces it;
- a slot is decided by a majority of distinct acceptors of the view that accepted it in this ballot. Answers to another
  ballot, answers that name another ballot, and repeated ones, count for nothing.

Deviations from the paper: gaps below the highest adopted slot are filled with an empty batch at once instead of
waiting for a replica to propose into them, so that what was adopted can execute. Slots that the learner knows as
decided are not proposed again. Phase 1 keeps asking the acceptors that have not answered, while the ballot leads, so
that each of them joins in the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from concoord_ray.config import Config
from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.messages import P1a, P1b, P2a, P2b, PValue
from concoord_ray.paxos.outputs import Decided, Outputs, Send
from concoord_ray.paxos.view import Member, View, is_stop_sign


@dataclass(slots=True)
class _Commander:
    """Phase 2 of one slot."""

    value: bytes
    sent_at_s: float
    accepted_by: set[Member] = field(default_factory=set)


@dataclass(slots=True)
class _Scout:
    """Phase 1 of one ballot: what each acceptor still has to show, and the highest-ballot value per slot so far."""

    from_slot: int
    sent_at_s: float
    #: The first slot of the page that each acceptor owes us; absent once it has shown all.
    owed: dict[Member, int]
    shown: dict[int, PValue] = field(default_factory=dict)


class Leader:
    """Scouts and commanders of one replica in one view. Idle until ``scout``; leading once ``is_leading``."""

    def __init__(self, view: View, outputs: Outputs, config: Config, *, noop: bytes) -> None:
        """At most ``max_slots_in_flight`` adopted slots are proposed again at once; the owner bounds new ones by it."""
        self.view = view
        self.ballot = BOTTOM
        #: True from the end of phase 1 until ``retire``.
        self.is_leading = False
        #: The first slot that this leadership has not proposed into.
        self.next_slot = 0
        #: Every slot below this one was adopted in phase 1 or before; reads wait until it is applied.
        self.adopted_below = 0
        #: Where this leadership has proposed a stop-sign, None if it has not.
        self.stop_slot: int | None = None
        #: The owner lets nothing new be proposed yet.
        self.is_held = False
        #: Phase 1 met an acceptor that has dropped the slots below this one, of which phase 1 asks for some.
        self.dropped_below = 0
        self._outputs = outputs
        self._noop = noop
        self._retransmit_interval_s = config.retransmit_interval_s
        self._scout: _Scout | None = None
        self._window = config.max_slots_in_flight
        self._commanders: dict[int, _Commander] = {}
        #: Slots that phase 1 found, in order, whose turn in the window has not come.
        self._adopted: deque[Decided] = deque()

    @property
    def slots_in_flight(self) -> int:
        """How many slots are proposed, or adopted, and not decided."""
        return len(self._commanders) + len(self._adopted)

    @property
    def may_propose(self) -> bool:
        """Leading, not held back, and no stop-sign on its way."""
        return self.is_leading and self.stop_slot is None and not self.is_held

    @property
    def is_scouting(self) -> bool:
        """True in phase 1."""
        return self._scout is not None and not self.is_leading

    def scout(self, ballot: Ballot, from_slot: int, now_s: float) -> None:
        """Phase 1 of a fresh ballot, for every slot from the learner's first unknown one on."""
        self.retire()
        self.ballot = ballot
        self.dropped_below = 0
        self._scout = _Scout(from_slot, now_s, dict.fromkeys(self.view.acceptors, from_slot))
        for acceptor in self.view.acceptors:
            self._ask(acceptor, from_slot)

    def retire(self) -> None:
        """Stop leading or scouting. What was proposed and not decided is some later leader's to find."""
        self.is_leading = self.is_held = False
        self.stop_slot = None
        self._scout = None
        self._commanders.clear()
        self._adopted.clear()

    def propose(self, value: bytes, now_s: float) -> int:
        """Phase 2 for the next slot; returns the slot. Only while ``may_propose``."""
        slot = self.next_slot
        self.next_slot += 1
        if is_stop_sign(value):
            self.stop_slot = slot
        self._command(slot, value, now_s)
        return slot

    def receive_p1b(self, source: Member, message: P1b, known: Callable[[int], bytes | None], now_s: float) -> bool:
        """Take in one page of promises; true when this page ended phase 1. ``known`` gives decided values."""
        scout = self._scout
        if scout is None or not message.ballot == message.promised == self.ballot:
            return False
        if scout.owed.get(source) != message.from_slot:
            return False
        if message.truncated_below > scout.from_slot and not self.is_leading:
            self.dropped_below = max(self.dropped_below, message.truncated_below)
            return False
        if not self.is_leading:
            self._gather(scout, message.accepted)
        if message.next_slot is not None and not self.is_leading:
            scout.owed[source] = message.next_slot
            self._ask(source, message.next_slot)
            return False
        del scout.owed[source]
        if self.is_leading or len(self.view.acceptors) - len(scout.owed) < self.view.quorum:
            return False
        self._adopt(scout, known, now_s)
        return True

    def receive_p2b(self, source: Member, message: P2b) -> Decided | None:
        """Take in one acceptance; the decision if it completed a majority."""
        if not self.is_leading or not message.ballot == message.promised == self.ballot:
            return None
        commander = self._commanders.get(message.slot)
        if commander is None or source not in self.view.acceptors:
            return None
        commander.accepted_by.add(source)
        if len(commander.accepted_by) < self.view.quorum:
            return None
        del self._commanders[message.slot]
        return Decided(message.slot, commander.value)

    def advance(self, now_s: float) -> None:
        """Propose again what was adopted, as far as the window allows; to be called when a slot was decided."""
        while self._adopted and len(self._commanders) < self._window:
            self._command(*self._adopted.popleft(), now_s)

    def resend_to(self, acceptor: Member) -> None:
        """Repeat to one acceptor what it may have missed, after its connection was made again."""
        if self._scout is not None and acceptor in self._scout.owed:
            self._ask(acceptor, self._scout.owed[acceptor])
        for slot, commander in self._commanders.items():
            if acceptor not in commander.accepted_by:
                self._outputs.send.append(Send((acceptor,), P2a(self.view.epoch, self.ballot, slot, commander.value)))

    def tick(self, now_s: float) -> None:
        """Repeat what has waited for an answer for longer than the retransmission interval."""
        patience = now_s - self._retransmit_interval_s
        if self._scout is not None and self._scout.sent_at_s <= patience:
            self._scout.sent_at_s = now_s
            for acceptor, from_slot in self._scout.owed.items():
                self._ask(acceptor, from_slot)
        for slot, commander in self._commanders.items():
            if commander.sent_at_s <= patience:
                commander.sent_at_s = now_s
                missing = tuple(a for a in self.view.acceptors if a not in commander.accepted_by)
                self._outputs.send.append(Send(missing, P2a(self.view.epoch, self.ballot, slot, commander.value)))

    @staticmethod
    def _gather(scout: _Scout, accepted: tuple[PValue, ...]) -> None:
        for pvalue in accepted:
            best = scout.shown.get(pvalue.slot)
            if best is None or pvalue.ballot > best.ballot:
                scout.shown[pvalue.slot] = pvalue

    def _adopt(self, scout: _Scout, known: Callable[[int], bytes | None], now_s: float) -> None:
        """End phase 1: propose again what may have been chosen, and nothing in the gaps; nothing above a stop-sign."""
        self.is_leading = True
        self.dropped_below = 0
        self.next_slot = max(scout.shown, default=scout.from_slot - 1) + 1
        for slot in range(scout.from_slot, self.next_slot):
            value = known(slot)
            if value is None:
                best = scout.shown.get(slot)
                value = best.value if best is not None else self._noop
                self._adopted.append(Decided(slot, value))
            if is_stop_sign(value):
                self.stop_slot = slot
                self.next_slot = slot + 1
                break
        self.adopted_below = self.next_slot
        scout.shown.clear()
        self.advance(now_s)

    def _command(self, slot: int, value: bytes, now_s: float) -> None:
        self._commanders[slot] = _Commander(value, now_s)
        self._outputs.send.append(Send(self.view.acceptors, P2a(self.view.epoch, self.ballot, slot, value)))

    def _ask(self, acceptor: Member, from_slot: int) -> None:
        self._outputs.send.append(Send((acceptor,), P1a(self.view, self.ballot, from_slot)))

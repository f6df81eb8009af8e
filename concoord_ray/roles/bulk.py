"""Messages on their way to peers: small ones soon, large ones once.

The core repeats what is not answered for ``retransmit_interval_s``, and 50 MB take longer than that. Repeated as often
as it says, they would fill the network with copies. So a large value is not sent to a peer whose connection has no
room, nor again while it waits here, nor soon after it has left: TCP loses nothing while the connection lasts. What is
left out comes with a later repetition, or when the peer catches up. What is ``URGENT`` overtakes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.messages import Decisions, P1b, P2a
from concoord_ray.paxos.outputs import Send
from concoord_ray.paxos.view import Member
from concoord_ray.roles.boot import URGENT, encode

#: From this size on a value is large.
_LARGE_BYTES = 64 << 10
#: How many intervals of retransmission after it has left it is repeated all the same.
_PATIENCE = 8


class Mark(Protocol):
    """A place in what was sent to somebody."""

    @property
    def has_passed(self) -> bool:
        """Whether everything before it has left this process, or never will."""


class Lines(Protocol):
    """How peers are reached: ``net.links.Links``."""

    def has_room(self, to: Member, /) -> bool:
        """Whether little waits to be sent to a member."""

    def mark(self, to: Member, /) -> Mark | None:
        """The end of what was sent to a member until now; None if it is not connected."""

    def send(self, to: Member, payload: bytes, /, *, urgent: bool = False) -> bool:
        """Send; False if that was in vain."""


@dataclass(frozen=True, slots=True)
class _Slots:
    """What a large message is about."""

    kind: type[P1b | P2a | Decisions]
    ballot: Ballot | None
    first: int
    last: int

    def brings(self, asked: _Slots) -> bool:
        """Whether this is, or begins before and reaches into, what somebody wants."""
        same_kind = self.kind is asked.kind and self.ballot == asked.ballot
        return same_kind and self.first <= asked.first <= self.last


@dataclass(slots=True)
class _OnItsWay:
    """A large message that was sent, until it has arrived as far as we can know."""

    slots: _Slots
    end: Mark | None
    passed_at_s: float | None = None


class Bulk:
    """Sends to peers what a core wants sent."""

    def __init__(self, lines: Lines, retransmit_interval_s: float) -> None:
        self._lines = lines
        self._patience_s = _PATIENCE * retransmit_interval_s
        self._on_their_way: dict[Member, list[_OnItsWay]] = {}

    def send(self, sends: Sequence[Send], now_s: float) -> None:
        """Send these, each to whom it should go now."""
        for send in sends:
            slots = _large(send)
            to = send.to if slots is None else [each for each in send.to if self._may_send(each, slots, now_s)]
            if not to:
                continue
            payload = encode(send.message)
            is_urgent = type(send.message) in URGENT
            for member in to:
                if self._lines.send(member, payload, urgent=is_urgent) and slots is not None:
                    self._on_their_way.setdefault(member, []).append(_OnItsWay(slots, self._lines.mark(member)))

    def disconnected(self, member: Member) -> None:
        """What was on its way to a member may be lost."""
        self._on_their_way.pop(member, None)

    def _may_send(self, to: Member, slots: _Slots, now_s: float) -> bool:
        sent = self._on_their_way.get(to)
        if sent is not None:
            sent[:] = [each for each in sent if not self._has_arrived(each, now_s)]
            if any(each.slots.brings(slots) for each in sent):
                return False
        return self._lines.has_room(to)

    def _has_arrived(self, one: _OnItsWay, now_s: float) -> bool:
        if one.passed_at_s is None and (one.end is None or one.end.has_passed):
            one.passed_at_s = now_s
        return one.passed_at_s is not None and now_s - one.passed_at_s >= self._patience_s


def _large(send: Send) -> _Slots | None:
    """What a message is about, if it is large."""
    message = send.message
    if isinstance(message, P2a):
        if len(message.value) > _LARGE_BYTES:
            return _Slots(P2a, message.ballot, message.slot, message.slot)
    elif isinstance(message, P1b):
        if sum(len(pvalue.value) for pvalue in message.accepted) > _LARGE_BYTES:
            return _Slots(P1b, message.ballot, message.from_slot, message.from_slot)
    elif isinstance(message, Decisions) and sum(map(len, message.values)) > _LARGE_BYTES:
        return _Slots(Decisions, None, message.first_slot, message.first_slot + len(message.values) - 1)
    return None

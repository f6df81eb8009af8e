"""Messages on their way to peers: small ones soon, large ones once.

The core repeats what is not answered for ``retransmit_interval_s``, and 50 MB take longer than that. Repeated as often
as it says, they would fill the network with copies. So a large value is not sent to a peer whose connection has no
room, nor again while it waits here, nor soon after it has left: TCP loses nothing while the connection lasts. What is
left out comes with a later repetition, or when the peer catches up. What is ``URGENT`` overtakes them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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


#: What brings a slot to somebody: the kind of message, its ballot, and the slot.
_Freight = tuple[type[P1b | P2a | Decisions], Ballot | None, int]


class _Large(NamedTuple):
    """What a large message is about."""

    kind: type[P1b | P2a | Decisions]
    ballot: Ballot | None
    first: int
    last: int

    @property
    def wanted(self) -> _Freight:
        """What somebody waits for who is sent this: any message that brings its first slot will do."""
        return self.kind, self.ballot, self.first

    def freight(self) -> Iterator[_Freight]:
        """All that it brings."""
        return ((self.kind, self.ballot, slot) for slot in range(self.first, self.last + 1))


@dataclass(slots=True, eq=False)
class _OnItsWay:
    """A large message that was sent, until it has arrived as far as we can know."""

    large: _Large
    end: Mark | None
    left_at_s: float = 0.0


class _Road:
    """What is on its way to one member. However much that is, each message costs the same."""

    __slots__ = ("_leaving", "_left", "_under_way")

    def __init__(self) -> None:
        #: In the order in which they were sent, and so leave and arrive.
        self._leaving: deque[_OnItsWay] = deque()
        self._left: deque[_OnItsWay] = deque()
        #: The last message that brings each.
        self._under_way: dict[_Freight, _OnItsWay] = {}

    def add(self, sent: _OnItsWay) -> None:
        """A message was sent."""
        self._leaving.append(sent)
        for each in sent.large.freight():
            self._under_way[each] = sent

    def look(self, now_s: float, patience_s: float) -> None:
        """See what has left, and forget what left so long ago."""
        leaving, left = self._leaving, self._left
        while leaving and ((end := leaving[0].end) is None or end.has_passed):
            leaving[0].left_at_s = now_s
            left.append(leaving.popleft())
        while left and now_s - left[0].left_at_s >= patience_s:
            arrived = left.popleft()
            for each in arrived.large.freight():
                if self._under_way.get(each) is arrived:
                    del self._under_way[each]

    def brings(self, wanted: _Freight) -> bool:
        """Whether something under way brings it."""
        return wanted in self._under_way


class Bulk:
    """Sends to peers what a core wants sent."""

    def __init__(self, lines: Lines, retransmit_interval_s: float) -> None:
        self._lines = lines
        self._patience_s = _PATIENCE * retransmit_interval_s
        self._roads: dict[Member, _Road] = {}

    def send(self, sends: Sequence[Send], now_s: float) -> None:
        """Send these, each to whom it should go now."""
        for send in sends:
            large = _large(send)
            to = send.to if large is None else [each for each in send.to if self._may_send(each, large, now_s)]
            if not to:
                continue
            payload = encode(send.message)
            is_urgent = type(send.message) in URGENT
            for member in to:
                if self._lines.send(member, payload, urgent=is_urgent) and large is not None:
                    self._roads.setdefault(member, _Road()).add(_OnItsWay(large, self._lines.mark(member)))

    def disconnected(self, member: Member) -> None:
        """What was on its way to a member may be lost."""
        self._roads.pop(member, None)

    def _may_send(self, to: Member, large: _Large, now_s: float) -> bool:
        road = self._roads.get(to)
        if road is not None:
            road.look(now_s, self._patience_s)
            if road.brings(large.wanted):
                return False
        return self._lines.has_room(to)


def _large(send: Send) -> _Large | None:
    """What a message is about, if it is large."""
    message = send.message
    if isinstance(message, P2a):
        if len(message.value) > _LARGE_BYTES:
            return _Large(P2a, message.ballot, message.slot, message.slot)
    elif isinstance(message, P1b):
        if sum(len(pvalue.value) for pvalue in message.accepted) > _LARGE_BYTES:
            return _Large(P1b, message.ballot, message.from_slot, message.from_slot)
    elif isinstance(message, Decisions) and sum(map(len, message.values)) > _LARGE_BYTES:
        return _Large(Decisions, None, message.first_slot, message.first_slot + len(message.values) - 1)
    return None

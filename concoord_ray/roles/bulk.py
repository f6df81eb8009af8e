"""Large values on their way to peers: what keeps a flood of them from cutting the connections that they need.

The core repeats what is not answered for ``retransmit_interval_s``, and 50 MB take longer than that. Repeated as often
as it says, they would pile up until the connection is cut, and begin anew after that, for ever. So a large value is not
sent to a peer whose connection has no room, nor again soon to one that has been sent it over the connection that there
is: TCP loses nothing. What is left out comes with a later repetition, or when the peer catches up.
"""

from __future__ import annotations

from collections.abc import Sequence

from concoord_ray.net.links import Links
from concoord_ray.paxos.messages import Decisions, Message, P1b, P2a
from concoord_ray.paxos.view import Member

#: From this size on a value is large.
_LARGE_BYTES = 64 << 10
#: After so many intervals of retransmission it is repeated all the same.
_PATIENCE = 8


class Bulk:
    """Decides to whom a message goes now."""

    def __init__(self, links: Links, retransmit_interval_s: float) -> None:
        self._links = links
        self._patience_s = _PATIENCE * retransmit_interval_s
        #: The last large value that each peer was sent, and when.
        self._sent: dict[Member, tuple[object, float]] = {}

    def receivers(self, to: Sequence[Member], message: Message, now_s: float) -> Sequence[Member]:
        """Those of ``to`` that the message should go to."""
        if isinstance(message, P2a):
            if len(message.value) > _LARGE_BYTES:
                what = message.epoch, message.ballot, message.slot
                return [member for member in to if self._may_send(member, what, now_s)]
        elif isinstance(message, P1b):
            if sum(len(pvalue.value) for pvalue in message.accepted) > _LARGE_BYTES:
                page = message.epoch, message.ballot, message.from_slot
                return [member for member in to if self._may_send(member, page, now_s)]
        elif isinstance(message, Decisions) and sum(map(len, message.values)) > _LARGE_BYTES:
            return [member for member in to if self._links.has_room(member)]
        return to

    def disconnected(self, member: Member) -> None:
        """What was on its way to a member may be lost."""
        self._sent.pop(member, None)

    def _may_send(self, member: Member, what: object, now_s: float) -> bool:
        if not self._links.has_room(member):
            return False
        last, last_s = self._sent.get(member, (None, 0.0))
        if last == what and now_s - last_s < self._patience_s:
            return False
        self._sent[member] = what, now_s
        return True

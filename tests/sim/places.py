"""Who keeps its place in the view."""

from __future__ import annotations

import math
from collections import Counter

from concoord_ray.paxos.membership import Membership
from concoord_ray.paxos.messages import Heartbeat, P2a, Progress
from concoord_ray.paxos.outputs import Send
from concoord_ray.paxos.view import Member, View, following_view
from tests.sim.invariants import Broken, Watch

#: For how many election timeouts a replica may come no further.
_STALLED_ELECTIONS = 10


class NobodyIsLeftOutUnasked:
    """A replica is left out of a view only if it has left an election timeout's heartbeats of the leader unanswered,
    or has come no further in the time of many more.

    Who leaves out those that live drops the log that they need, and may end as the only one that has it.
    """

    def __init__(self, me: Member, heartbeat_interval_s: float, election_timeout_s: float) -> None:
        self._me = me
        self._least = math.ceil(election_timeout_s / heartbeat_interval_s)
        self._unanswered: Counter[int] = Counter()
        #: How often each was asked since it last had come further, and how far it was then.
        self._stalled: Counter[int] = Counter()
        self._reached: dict[int, int] = {}

    def hears(self, peer: Member, message: object) -> None:
        """It takes in a message of a life that the directory has."""
        if isinstance(message, Progress):
            self._unanswered[peer.index] = 0
            if self._reached.get(peer.index) != message.applied_slot:
                self._reached[peer.index] = message.applied_slot
                self._stalled[peer.index] = 0

    def sends(self, send: Send, membership: Membership, watch: Watch) -> None:
        """It speaks to others."""
        message = send.message
        if isinstance(message, Heartbeat):
            self._unanswered.update(replica.index for replica in send.to)
            self._stalled.update(replica.index for replica in send.to)
        following = following_view(message.value) if isinstance(message, P2a) else None
        if following is not None and not watch.lineage.has_proposed(following):  # Else it may be another's judgement.
            self._check(following, membership, watch)

    def _check(self, following: View, membership: Membership, watch: Watch) -> None:
        view = watch.lineage.view(following.epoch - 1)
        assert view is not None, "it is in that epoch"
        for index in set(view.replicas) - set(following.replicas):
            unanswered = self._unanswered[index]
            is_stalled = self._stalled[index] >= _STALLED_ELECTIONS * self._least
            if index < membership.size.replicas and unanswered < self._least and not is_stalled:
                raise Broken(self, f"{self._me} leaves out replica {index}, which it has asked {unanswered} times")
            watch.counts["left out"] += index < membership.size.replicas

"""Who leads, as far as a client or a gateway can tell, and why nobody does.

Pure. A replica is trusted only in its own word that it leads, the latest one if several say so. A leader whose
connection is open and that says nothing all the same, for ``quorum_timeout_s`` while somebody waits for an answer of
it, counts as none: its process, or its machine, stands still. Before that it is asked for a sign of life, again and
again, so that one with which calls are parked, and which has nothing to say, is left alone. When it speaks, it leads
again, unless it says that it does not. While none leads, everybody connected is asked: what was said unasked may be
lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from concoord_ray.config import Config

#: How often a leader is asked for a sign of life before it counts as silent.
_ASKED_TIMES = 10


class Absence(NamedTuple):
    """Why there is no leader, and what to do about it."""

    reason: str
    advice: str

    def __str__(self) -> str:
        return f"No leader was found: {self.reason}. {self.advice}"


def _unreachable() -> Absence:
    return Absence(
        "this process is connected to none of its replicas",
        "concoord.status() says which of them live; retry when they can be reached.",
    )


class Leadership:
    """What the replicas say of themselves. ``leader`` is the index of the one that is believed, None if none is."""

    def __init__(self, config: Config, now_s: float, unreachable: Callable[[], Absence] | None = None) -> None:
        """``unreachable`` says why there is no connection to any replica."""
        self.leader: int | None = None
        self._config = config
        self._unreachable = unreachable or _unreachable
        #: Those that say that they lead, in the order of their words.
        self._leading: dict[int, None] = {}
        #: Those of them that have fallen silent.
        self._silent: dict[int, None] = {}
        #: Those that are connected and have not said whether they lead.
        self._unheard: dict[int, None] = {}
        #: Of the others that are connected: whom they follow, and whether a majority of the acceptors votes.
        self._following: dict[int, tuple[int | None, bool]] = {}
        self._leaderless_since_s = now_s
        #: When the leader last said anything, or somebody began to wait for it.
        self._heard_at_s = now_s
        self._asked_at_s = now_s
        self._ticked_at_s = now_s
        # Its own peers do not judge it earlier.
        self._silent_after_s = max(config.quorum_timeout_s, config.election_timeout_s)

    def leaderless_s(self, now_s: float) -> float:
        """For how many seconds no replica has said that it leads; 0 if one does."""
        return 0.0 if self.leader is not None else now_s - self._leaderless_since_s

    def connected(self, index: int, now_s: float) -> None:
        """There is a new connection to the replica, or to another life of it: what was said before counts no more."""
        self.gone(index, now_s)
        self._unheard[index] = None

    def leads(self, index: int, now_s: float) -> None:
        """The replica says that it leads."""
        self.gone(index, now_s)
        self._leading[index] = None
        self._choose(now_s)

    def follows(self, index: int, leader: int | None, now_s: float, *, has_quorum: bool) -> None:
        """The replica says that it does not lead, who does, and whether it reaches a majority of the acceptors."""
        self.gone(index, now_s)
        self._following[index] = leader, has_quorum

    def gone(self, index: int, now_s: float) -> None:
        """There is no connection to the replica any more."""
        self._silent.pop(index, None)
        self._unheard.pop(index, None)
        self._following.pop(index, None)
        self._leading.pop(index, None)
        self._choose(now_s)

    def heard(self, index: int, now_s: float) -> None:
        """The replica has said something else. If it had fallen silent, it leads as it did, after any that said so."""
        if index == self.leader:
            self._heard_at_s = now_s
        elif index in self._silent:
            del self._silent[index]
            self._leading = {index: None, **self._leading}
            self._choose(now_s)

    def keeps(self, index: int, now_s: float) -> None:
        """The replica has answered as only a leader does. If we know of none, its word that it leads was lost."""
        self.heard(index, now_s)
        if self.leader is None:
            self.leads(index, now_s)

    def tick(self, now_s: float, *, is_awaited: bool) -> list[int]:
        """Step with the passing of time: whom to ask for a sign of life. ``is_awaited`` if an answer of it is."""
        was_away = now_s - self._ticked_at_s > self._config.election_timeout_s  # Our own pause, not its silence.
        self._ticked_at_s = now_s
        if was_away or not is_awaited:
            self._heard_at_s = now_s
        if self.leader is not None and now_s - self._heard_at_s > self._silent_after_s:
            self._fell_silent(self.leader, now_s)
        interval_s = self._silent_after_s / _ASKED_TIMES
        quiet_since_s = self._asked_at_s if self.leader is None else max(self._asked_at_s, self._heard_at_s)
        if not is_awaited or now_s - quiet_since_s < interval_s:
            return []
        self._asked_at_s = now_s
        return [*self._silent, *self._unheard, *self._following] if self.leader is None else [self.leader]

    def _fell_silent(self, index: int, now_s: float) -> None:
        since_s = self._heard_at_s
        self._silent[index] = None
        del self._leading[index]
        self._choose(now_s)
        if self.leader is None:
            self._leaderless_since_s = since_s

    def absence(self) -> Absence:
        """Why there is no leader."""
        following = tuple(self._following.values())
        leaders = {leader for leader, _ in following if leader is not None}
        if self._silent:
            silent = ", ".join(map(str, tuple(self._silent)))
            return Absence(
                f"replica {silent}, which leads, says nothing though its connection is open: its process, or its "
                f"machine, stands still",
                "concoord.status() names its process and its node: let it go on, or end it; retry then.",
            )
        if not following and self._unheard:
            unheard = ", ".join(map(str, tuple(self._unheard)))
            return Absence(
                f"replica {unheard}, to which this process is connected, does not say who leads: it is starting, or "
                f"its process, or its machine, stands still",
                "concoord.status() names its process and its node. Retry a little later; if it stands still, let it go "
                "on, or end it.",
            )
        if not following:
            return self._unreachable()
        if leaders:
            return Absence(
                f"replica {', '.join(map(str, sorted(leaders)))} leads, as the others say, but this process is not "
                f"connected to it",
                "concoord.status() says where it is. See that it can be reached from here, and retry.",
            )
        if any(has_quorum for _, has_quorum in following):
            return Absence(
                "a majority of its acceptors votes, and replicas live, but none of them leads",
                "They elect a leader by themselves: retry a little later. concoord.status() says who is alive.",
            )
        return Absence(
            "a majority of its acceptors cannot be reached",
            "concoord.status() names the missing members; retry when they are back. If they are lost for good, "
            "concoord.recover() begins again from what is left.",
        )

    def _choose(self, now_s: float) -> None:
        """Believe the latest of those that say that they lead.

        One that says so no more leaves the ones before it: a leader that lost its majority may have said so later than
        its successor, who has no reason to say it again.
        """
        leader = next(reversed(self._leading), None)
        if leader == self.leader:
            return
        self.leader, self._heard_at_s = leader, now_s
        if leader is None:
            self._leaderless_since_s = now_s

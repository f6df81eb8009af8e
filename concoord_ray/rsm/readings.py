"""Reads on their way through a leader: they wait for a confirmation round, for the barrier, and for their turn.

A read is executed only after a confirmation round that began after it arrived, on a state that has every slot below the
barrier taken at that moment. It may be executed later than that, which only shows it a newer state; so reads take
turns. Their results are made and sent only as far as there is room for them:

- few at once, so many that they make about ``read_results_bytes``, judged by the largest of late;
- those of a client that does not take what it was sent already wait until it does, and nobody else with them.

Their number and size are bounded until they are answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from concoord_ray.config import Config
from concoord_ray.paxos.replica import Replica
from concoord_ray.rsm.backlog import size_of
from concoord_ray.rsm.command import Entry

Key = tuple[int, int]

#: How fast a large result is forgotten.
_FORGETTING = 0.9
#: How many run at once at most, and before it is known how large results are.
_AT_ONCE = 32
_AT_ONCE_AT_FIRST = 8


@dataclass(slots=True)
class _Round:
    """Reads that wait for one confirmation, then for the barrier."""

    nonce: int
    barrier: int
    entries: list[Entry] = field(default_factory=list)


class Readings:
    """The reads of one leadership. ``may_answer`` says whether one who asked for a read has room for the result."""

    def __init__(self, replica: Replica, config: Config, may_answer: Callable[[Key], bool]) -> None:
        #: Reads to execute, after every decision that is in ``replica.outputs`` by now.
        self.ready: list[Entry] = []
        self._replica = replica
        self._config = config
        self._may_answer = may_answer
        self._waiting: list[Entry] = []
        self._confirming: _Round | None = None
        self._confirmed: deque[_Round] = deque()
        #: Behind the barrier.
        self._turn: deque[Entry] = deque()
        #: Handed over to the executor, and not answered.
        self._running: set[Key] = set()
        self._sizes: dict[Key, int] = {}
        self._bytes = 0
        self._result_bytes = config.read_results_bytes / _AT_ONCE_AT_FIRST
        #: Nobody has room for what stands in line.
        self._is_stuck = False

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def is_full(self) -> bool:
        """Whether no more may be taken."""
        config = self._config
        return len(self._sizes) >= config.max_queued_commands or self._bytes >= config.max_queued_bytes

    @property
    def wants_flush(self) -> bool:
        """Whether ``advance`` would move something on."""
        if self._turn and len(self._running) < self._at_once and not self._is_stuck:
            return True
        if self._confirmed and self._confirmed[0].barrier <= self._replica.learner.next_slot:
            return True
        if self._confirming is None:
            return bool(self._waiting) and self._replica.may_confirm
        return self._replica.confirmed_nonce >= self._confirming.nonce

    def take(self, entry: Entry) -> None:
        """One more."""
        self._waiting.append(entry)
        size = self._sizes[entry.session, entry.seq] = size_of(entry)
        self._bytes += size

    def answered(self, key: Key, result_bytes: int) -> None:
        """A call has its answer; whether it was a read is known here."""
        size = self._sizes.pop(key, None)
        if size is not None:
            self._bytes -= size
            self._running.discard(key)
            self._result_bytes = max(result_bytes, _FORGETTING * self._result_bytes, 1.0)

    def room(self) -> None:
        """Somebody has room for results again."""
        self._is_stuck = False

    def advance(self, now_s: float) -> None:
        """Move on what may be moved on."""
        confirming, replica = self._confirming, self._replica
        if confirming is not None and replica.confirmed_nonce >= confirming.nonce:
            self._confirmed.append(confirming)
            self._confirming = None
        while self._confirmed and self._confirmed[0].barrier <= replica.learner.next_slot:
            self._turn.extend(self._confirmed.popleft().entries)
            self._is_stuck = False
        self._release()
        if self._waiting and self._confirming is None and replica.may_confirm:
            barrier = replica.read_barrier
            self._confirming = _Round(replica.confirm(now_s), barrier, self._waiting)
            self._waiting = []

    def clear(self) -> None:
        """Forget everything: another leads."""
        self._waiting.clear()
        self._confirming = None
        self._confirmed.clear()
        self._turn.clear()
        self._sizes.clear()
        self._running.clear()
        self._bytes = 0
        self.ready.clear()

    @property
    def _at_once(self) -> int:
        return max(1, min(_AT_ONCE, int(self._config.read_results_bytes / self._result_bytes)))

    def _release(self) -> None:
        """Let as many run as may, without those whose callers have no room."""
        if self._is_stuck:
            return
        at_once = self._at_once
        for _ in range(len(self._turn)):
            if len(self._running) >= at_once:
                return
            entry = self._turn.popleft()
            key = entry.session, entry.seq
            if key not in self._sizes:  # Answered by what an earlier leadership of ours had begun.
                continue
            if self._may_answer(key):
                self._running.add(key)
                self.ready.append(entry)
            else:
                self._turn.append(entry)
        self._is_stuck = bool(self._turn)

"""Sessions: who has asked what, and what was answered (exactly once).

A session is opened in the log and numbers its commands. Per seq it remembers one of: parked, answered (the reply is
kept until the client says that it has it), or acknowledged (only the number is kept, as a range). A seq that is seen
again is answered from here and never executed again, however often, by whichever leader or gateway it was re-sent.

Acknowledgements are per seq, not a low-water mark: one parked acquire would hold the mark for hours.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from concoord_ray.errors import ConcoordError, OutcomeUnknown, SessionExpired
from concoord_ray.rsm.command import Outcome, Reply
from concoord_ray.rsm.context import Scope
from concoord_ray.rsm.guards import has_run

if TYPE_CHECKING:
    from concoord_ray.rsm.waiters import Primitive, Waiter


class Intervals:
    """A set of integers as sorted, disjoint, non-adjacent ranges [first, last]."""

    __slots__ = ("_firsts", "_lasts")

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def __contains__(self, number: int) -> bool:
        at = bisect_right(self._firsts, number) - 1
        return at >= 0 and number <= self._lasts[at]

    def __len__(self) -> int:
        return len(self._firsts)

    def add(self, first: int, last: int) -> None:
        """Add every number from ``first`` to ``last``."""
        low = bisect_right(self._lasts, first - 2)
        high = bisect_right(self._firsts, last + 1)
        if low < high:
            first = min(first, self._firsts[low])
            last = max(last, self._lasts[high - 1])
        self._firsts[low:high] = [first]
        self._lasts[low:high] = [last]

    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The ranges in order."""
        return tuple(zip(self._firsts, self._lasts, strict=True))


class Grant(NamedTuple):
    """What a call was granted, for as long as its cancellation could still take it back."""

    primitive: Primitive
    detail: Any


#: What an answer that is kept takes besides its payload: a constant, so that every replica counts the same.
_ANSWER_BYTES = 200


class Answer(NamedTuple):
    """How a call ended."""

    outcome: Outcome
    payload: bytes
    #: In the order in which they were given.
    grants: tuple[Grant, ...] = ()


class _Calls(NamedTuple):
    """Calls of a session that has ended."""

    executed: Intervals
    #: Withdrawn while their methods waited.
    waited: Intervals


class EndedSessions:
    """What the sessions that ended last had executed, so that no late retry is told that it had no effect."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._calls: dict[int, _Calls] = {}
        self._has_forgotten = False

    def add(self, session: Session) -> None:
        """The session ends, and its calls wait still. The one that ended first is forgotten if there are too many."""
        executed, waited = session.acknowledged, Intervals()
        for seq in session.answers:
            executed.add(seq, seq)
        for waiter in session.parked.values():
            if has_run(waiter):
                waited.add(waiter.seq, waiter.seq)
        self._calls[session.id] = _Calls(executed, waited)
        if len(self._calls) > self._limit:
            del self._calls[next(iter(self._calls))]
            self._has_forgotten = True

    def error(self, session: int, seq: int) -> ConcoordError:
        """Why call ``seq`` of a session that does not exist is refused."""
        ended = f"Session {session} has ended: its process was silent for longer than session_ttl_s, or it was closed. "
        calls = self._calls.get(session)
        if self._has_forgotten if calls is None else seq in calls.executed:
            return OutcomeUnknown(
                f"{ended}Call {seq} was, or may have been, executed before that, and its result is gone. Look at the "
                f"object before a retry."
            )
        if calls is not None and seq in calls.waited:
            return SessionExpired(
                f"{ended}What it held was released, and this call waits no more. What its method did before it began "
                f"to wait is done: a retry is safe if the method only waits, as acquire does. The next call opens a "
                f"new session."
            )
        return SessionExpired(
            f"{ended}What it held was released, and this call was not executed. The next call opens a new session."
        )


class Session:
    """What the ensemble knows of one client process."""

    __slots__ = (
        "acknowledged",
        "answers",
        "description",
        "ended_tasks",
        "holdings",
        "id",
        "kept_bytes",
        "last_slot",
        "nonce",
        "parked",
        "ttl_ns",
    )

    def __init__(self, session_id: int, nonce: int, ttl_ns: int, description: str) -> None:
        self.id = session_id
        self.nonce = nonce
        #: The slot of the last entry that it logged.
        self.last_slot = 0
        self.ttl_ns = ttl_ns
        self.description = description
        self.answers: dict[int, Answer] = {}
        #: How large these are.
        self.kept_bytes = 0
        self.acknowledged = Intervals()
        self.parked: dict[int, Waiter] = {}
        #: Ray tasks that have ended, the latest of them: a call of theirs that comes late holds nothing.
        self.ended_tasks: dict[str, None] = {}
        #: What each scope of this session holds, in the order in which it took them. Also what was in an object that is
        #: deleted: whether another one has it too is not known.
        self.holdings: dict[Scope, dict[Primitive, None]] = {}

    def keep(self, seq: int, answer: Answer) -> int:
        """Remember the answer to a call, until it is acknowledged; by how many bytes more is kept now."""
        before = self.answers.get(seq)
        self.answers[seq] = answer
        more = _size_bytes(answer) - (0 if before is None else _size_bytes(before))
        self.kept_bytes += more
        return more

    def acknowledge(self, acks: tuple[tuple[int, int], ...]) -> int:
        """The client has these replies and will not ask again; how many bytes less are kept now."""
        before = self.kept_bytes
        for first, last in acks:
            if last - first < len(self.answers):
                for seq in range(first, last + 1):
                    self._forget(seq)
            else:
                for seq in [seq for seq in self.answers if first <= seq <= last]:
                    self._forget(seq)
            self.acknowledged.add(first, last)
        return before - self.kept_bytes

    def _forget(self, seq: int) -> None:
        answer = self.answers.pop(seq, None)
        if answer is not None:
            self.kept_bytes -= _size_bytes(answer)

    def reply(self, seq: int) -> Reply | None:
        """The kept reply to ``seq``, None if there is none."""
        answer = self.answers.get(seq)
        return None if answer is None else Reply(self.id, seq, answer.outcome, answer.payload)


def _size_bytes(answer: Answer) -> int:
    return _ANSWER_BYTES + len(answer.payload)

"""One FIFO wait queue under every blocking primitive.

A blocked call is a **parked** (session, seq): it occupies no thread and no slot, only a place in a queue that is part
of the replicated state. A primitive parks the current call by returning what ``WaitQueue.park`` gives; some later
command (a release, a notify, a timer, the end of a session) takes the waiter out and answers it.

Invariants:

- a waiter is in exactly one queue, and its session lists it under its seq, as long as it is parked;
- whatever ends the waiting (wake, timeout, cancel, expiry, deletion) takes it out of both at once, so that nothing can
  be granted to a call that has gone;
- queues are ordered by arrival in the log. Every replica wakes the same waiter.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Iterator
from enum import Enum
from typing import Any, Final, NoReturn, Protocol

from concoord_ray.rsm.context import CallContext, Owner, Scope, current


class Parked(Enum):
    """What a method returns when its call has to wait; the reply comes when the call is woken."""

    PARKED = "parked"


PARKED: Final = Parked.PARKED


class Primitive:
    """Base of everything that parks calls or grants things that can be taken back.

    All methods run inside the executor, with a current ``CallContext``.

    It cannot be copied: it is the one that calls wait in and that sessions hold. If a copy took its place, as in an
    attempt to undo what a method did, nobody would release what is held in it, and nobody would be woken.
    """

    def __copy__(self) -> NoReturn:
        raise TypeError(_no_copy(self))

    def __deepcopy__(self, _: object) -> NoReturn:
        raise TypeError(_no_copy(self))

    def timed_out(self, waiter: Waiter) -> Any:
        """The waiter's time is over and it has left the queue. Returns its call's result, or PARKED to wait on."""
        return False

    def gone(self, waiter: Waiter) -> None:
        """The waiter left the queue because its call was cancelled or its session ended. Nobody reads a result."""

    def give_back(self, grant: Any) -> None:
        """A granted call was cancelled before its reply was acknowledged: undo what was granted."""

    def losing(self, scope: Scope) -> None:
        """What the scope holds is about to be taken away: its own calls that wait for this news are still there."""

    def release_scope(self, scope: Scope) -> None:
        """The scope has ended, and none of its calls waits any more: release what it held."""


def _no_copy(primitive: Primitive) -> str:
    return (
        f"a {type(primitive).__name__} cannot be copied: it is the one that calls wait in, and that processes hold. "
        f"Copy the other attributes of the object alone; to undo, put those back."
    )


class Waiter:
    """One parked call."""

    __slots__ = ("deadline_ns", "note", "object_id", "owner", "parked_at_ns", "primitive", "queue", "seq", "session")

    def __init__(
        self,
        context: CallContext,
        queue: WaitQueue,
        primitive: Primitive,
        note: Any,
        parked_at_ns: int,
        deadline_ns: int | None,
    ) -> None:
        self.session = context.session
        self.seq = context.seq
        self.owner: Owner = context.owner
        self.object_id = context.object_id
        self.queue = queue
        self.primitive = primitive
        self.note = note
        self.parked_at_ns = parked_at_ns
        self.deadline_ns = deadline_ns


class Effects(Protocol):
    """What primitives may do to the state machine around them. The executor is the one implementation."""

    @property
    def time_ns(self) -> int:
        """Ensemble time: it stands still within a batch."""

    @property
    def wall_ns(self) -> int:
        """Replicated wall time, never falling."""

    def changing(self) -> None:
        """A primitive is about to change. Raises in a read."""

    def random(self) -> random.Random:
        """A generator that draws the same numbers on every replica."""

    def next_token(self) -> int:
        """A fencing token above every one given before, in the whole ensemble."""

    def parked(self, waiter: Waiter) -> None:
        """The current call waits from now on."""

    def waits(self, waiter: Waiter) -> bool:
        """Whether it is the one that its session has waiting, and no copy that a method has made by ``pickle``."""

    def answer(self, waiter: Waiter, result: Any) -> None:
        """A waiter that was taken out of its queue gets its result."""

    def granted(self, session: int, seq: int, primitive: Primitive, grant: Any) -> None:
        """The call's result is a grant that ``primitive.give_back(grant)`` undoes if the call is cancelled in time."""

    def holds(self, scope: Scope, primitive: Primitive) -> None:
        """The scope holds something: ``primitive.release_scope`` is called when it ends."""

    def holds_no_more(self, scope: Scope, primitive: Primitive) -> None:
        """The scope holds nothing of the primitive any more."""

    def describe(self, session: int) -> str:
        """Which process a session is, in words."""


class WaitQueue:
    """Parked calls in order of arrival. All operations but iteration take constant time."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: OrderedDict[tuple[int, int], Waiter] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiters)

    def __iter__(self) -> Iterator[Waiter]:
        return iter(self._waiters.values())

    def __reversed__(self) -> Iterator[Waiter]:
        return reversed(self._waiters.values())

    def park(self, primitive: Primitive, *, timeout_s: float | None = None, note: Any = None) -> Any:
        """Park the current call; the method returns what this returns. ``timeout_s`` counts in ensemble time."""
        context = current()
        now_ns = context.effects.time_ns
        # In the future, however short: the present stamp is in the log already, and no other would be proposed for it.
        deadline_ns = None if timeout_s is None else now_ns + max(1, int(timeout_s * 1e9))
        waiter = Waiter(context, self, primitive, note, now_ns, deadline_ns)
        context.effects.parked(waiter)
        self._waiters[waiter.session, waiter.seq] = waiter
        return PARKED

    def append(self, waiter: Waiter) -> None:
        """Move a waiter, taken from another queue, to the end of this one."""
        waiter.queue = self
        self._waiters[waiter.session, waiter.seq] = waiter

    def first(self) -> Waiter | None:
        """The waiter whose turn is next."""
        return next(iter(self._waiters.values()), None)

    def turn(self) -> Waiter | None:
        """As ``first``, of those that wait indeed: copies of waiters are dropped."""
        while (waiter := self.first()) is not None and not current().effects.waits(waiter):
            del self._waiters[waiter.session, waiter.seq]
        return waiter

    def pop(self) -> Waiter | None:
        """Take out the waiter whose turn is next; None if nobody waits."""
        waiter = self.turn()
        if waiter is not None:
            self.remove(waiter)
        return waiter

    def remove(self, waiter: Waiter) -> None:
        """Take out one waiter, wherever it stands."""
        del self._waiters[waiter.session, waiter.seq]

    @staticmethod
    def wake(waiter: Waiter, result: Any) -> None:
        """Answer a waiter that was taken out."""
        current().effects.answer(waiter, result)

"""What Lock and RLock have in common: one holder, a queue, fencing tokens, and news of a grant's end.

Invariants: at most one owner holds it at a time; each grant has a token above all earlier ones of the whole ensemble;
nobody waits while it is free; whoever asked for news of a grant hears of its end before the next one begins.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

from concoord_ray.rsm.context import CallContext, Owner, Scope, current
from concoord_ray.rsm.waiters import PARKED, Primitive, Waiter, WaitQueue
from concoord_ray.threadingobject import inspection
from concoord_ray.threadingobject.limits import lock_timeout_s


class Claim(NamedTuple):
    """What a waiter gets when its turn comes."""

    #: The result is the grant's token, not True.
    fenced: bool = False
    depth: int = 1
    #: For a ``Condition.wait`` that needs its lock back: what it returns, and the token that its caller knows.
    result: bool = True
    known_token: int | None = None


class Grant(NamedTuple):
    """What a cancelled call gives back."""

    token: int
    depth: int
    #: It was a ``Condition.wait`` that had been notified.
    notified: bool


class Mutex(Primitive):
    """Base of ``DLock`` and ``DRLock``."""

    def __init__(self) -> None:
        self._holder: Owner | None = None
        self._depth = 0
        self._token = 0
        #: The token of the holder's own acquire, when it has given the lock up and regained it in ``Condition.wait``.
        self._known_token: int | None = None
        self._since_ns = 0
        self._queue = WaitQueue()
        #: Calls of ``lost``.
        self._watchers = WaitQueue()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'locked' if self.locked() else 'unlocked'}>"

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._holder is not None

    def is_owned_by(self, owner: Owner) -> bool:
        """Whether this owner holds it."""
        return self._holder == owner

    def acquire(self, _concoord_command: CallContext | None = None, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock: True, False if it was not free within ``timeout`` s, or PARKED for the method to return."""
        return cast("bool", self._acquire(lock_timeout_s(blocking, timeout), Claim()))

    def acquire_fenced(
        self, _concoord_command: CallContext | None = None, blocking: bool = True, timeout: float = -1
    ) -> int:
        """As ``acquire``; the result is the grant's fencing token, or 0 if it was not granted."""
        return self._acquire(lock_timeout_s(blocking, timeout), Claim(fenced=True))

    def lost(self, _concoord_command: CallContext | None = None, token: int | None = None) -> bool:
        """Wait for the end of one grant: the one with this token, or else the present one of the caller's process.

        True when it was taken away, False when it was released. RuntimeError if there is no such grant.
        """
        mine = self._holder is not None and self._holder.session == current().session
        if self._holder is None or not (mine if token is None else self._is_current(token)):
            raise RuntimeError("cannot await the loss of a lock that is not held")
        return cast("bool", self._watchers.park(self))

    def force_release(self, _concoord_command: CallContext | None = None) -> bool:
        """Take the lock from whoever holds it; False if nobody does. The holder's token is stale from now on."""
        if self._holder is None:
            return False
        effects = current().effects
        effects.changing()
        self._token = effects.next_token()
        self.free(taken=True)
        return True

    def inspect(self) -> inspection.Inspection:
        """Who holds it, and who waits."""
        held = self._holder
        holders = () if held is None else (inspection.holder(held, self._since_ns, self._token, self._depth),)
        waiting, watching = inspection.waiting(self._queue), inspection.waiting(self._watchers)
        return inspection.Inspection(repr(self), holders, waiting, watching)

    # For conditions.

    def give_up(self) -> Claim:
        """Free the lock, whatever its depth; what its holder needs to have it back as it was."""
        known = self._token if self._known_token is None else self._known_token
        claim = Claim(depth=self._depth, known_token=known)
        self.free(taken=False)
        return claim

    def readmit(self, waiter: Waiter, claim: Claim) -> Any:
        """Give a waiter, which was taken from another queue, the lock when it is its turn: its result, or PARKED."""
        if self._holder is None:
            return self._grant(waiter, claim, waiter.primitive)
        waiter.note = claim
        waiter.deadline_ns = None
        self._queue.append(waiter)
        return PARKED

    # Primitive

    def timed_out(self, waiter: Waiter) -> Any:
        """Not granted: False, or 0 for a token."""
        return 0 if waiter.note.fenced else False

    def give_back(self, grant: Any) -> None:
        """See ``Primitive``."""
        if self._holder is not None and self._token == grant.token:
            current().effects.changing()
            self._depth -= grant.depth
            if self._depth <= 0:
                self.free(taken=False)

    def losing(self, scope: Scope) -> None:
        """See ``Primitive``."""
        if self._holder is not None and self._holder.scope == scope:
            self._tell_watchers(True)

    def release_scope(self, scope: Scope) -> None:
        """See ``Primitive``."""
        if self._holder is not None and self._holder.scope == scope:
            self.free(taken=True)

    # Inside.

    def free(self, *, taken: bool) -> None:
        """End the present grant, and grant the lock to the first in the queue."""
        effects = current().effects
        effects.changing()
        if self._holder is not None:
            effects.holds_no_more(self._holder.scope, self)
        self._holder = None
        self._depth = 0
        self._tell_watchers(taken)
        waiter = self._queue.pop()
        if waiter is not None:
            self._queue.wake(waiter, self._grant(waiter, waiter.note, waiter.primitive))
            self._admit_others_of(waiter)

    def _admit_others_of(self, waiter: Waiter) -> None:
        """A waiter was granted the lock. Other calls of its owner wait on."""

    def _is_current(self, token: int) -> bool:
        return token in (self._token, self._known_token)

    def _check_token(self, token: int | None) -> None:
        if token is not None and not self._is_current(token):
            raise RuntimeError(f"stale release: token {token} was followed by token {self._token}")

    def _acquire(self, timeout_s: float | None, claim: Claim) -> int:
        if self._holder is None:
            return self._grant(current(), claim, self)
        if timeout_s == 0:
            return 0 if claim.fenced else False
        parked: int = self._queue.park(self, timeout_s=timeout_s, note=claim)
        return parked

    def _grant(self, call: CallContext | Waiter, claim: Claim, primitive: Primitive) -> int:
        effects = current().effects
        effects.changing()
        self._holder = call.owner
        self._depth = claim.depth
        self._token = effects.next_token()
        self._known_token = claim.known_token
        self._since_ns = effects.time_ns
        effects.holds(call.owner.scope, self)
        notified = claim.known_token is not None and claim.result
        effects.granted(call.session, call.seq, primitive, Grant(self._token, claim.depth, notified))
        return self._token if claim.fenced else claim.result

    def _tell_watchers(self, taken: bool) -> None:
        while (watcher := self._watchers.pop()) is not None:
            self._watchers.wake(watcher, taken)


def mutex_of(lock: Any) -> Mutex:
    """The mutex inside a lock that was given as an argument: a D-object, or a replicated Lock or RLock."""
    found = lock if isinstance(lock, Mutex) else getattr(lock, "_concoord_mutex", None)
    if not isinstance(found, Mutex):
        raise TypeError(f"a Lock or RLock of this ensemble is needed, not {type(lock).__name__}")
    return found

"""Known mistakes in the threading family, each made on purpose, as in ``mutants``."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from concoord_ray.rsm.calls import Calls
from concoord_ray.rsm.context import current
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.objects import ObjectTable
from concoord_ray.rsm.waiters import PARKED
from concoord_ray.threadingobject.dbarrier import DBarrier
from concoord_ray.threadingobject.dcondition import DCondition
from concoord_ray.threadingobject.devent import DEvent
from concoord_ray.threadingobject.drlock import DRLock
from concoord_ray.threadingobject.dsemaphore import DSemaphore
from concoord_ray.threadingobject.mutex import Claim, Mutex
from tests.sim.mutants import Mutant, replacing
from tests.sim.scenario import Kind


def _frees_all_levels(self: DRLock, _concoord_command: Any = None, token: int | None = None) -> None:
    if not self.is_owned_by(current().owner):
        raise RuntimeError("cannot release un-acquired lock")
    self.free(taken=False)


def _is_everybodys(original: Any) -> Any:
    return lambda self, owner: self.locked()


def _keeps_the_lock(self: Mutex) -> Claim:
    return Claim(depth=self._depth, known_token=self._token)


def _returns_without_the_lock(self: DCondition, waiter: Any) -> bool:
    return False


def _restores_one_level(original: Any) -> Any:
    def give_up(self: Mutex) -> Claim:
        return original(self)._replace(depth=self._depth + 2)  # type: ignore[no-any-return]

    return give_up


def _loses_the_notified(self: DCondition) -> None:
    waiter = self._queue.pop()
    if waiter is not None:
        waiter.deadline_ns = None


def _wakes_the_first_only(self: DBarrier, _concoord_command: Any = None, timeout: float | None = None) -> Any:
    if self._broken:
        return 0
    if len(self._queue) > 0:
        return 1
    return self._queue.park(self, timeout_s=timeout)


def _tells_all_the_same(original: Any) -> Any:
    def wait(self: DBarrier, _concoord_command: Any = None, timeout: float | None = None) -> Any:
        number = original(self, _concoord_command, timeout)
        return 0 if number is not PARKED else number

    return wait


def _sets_silently(self: DEvent, _concoord_command: Any = None) -> None:
    self._is_set = True


def _grants_without_counting(original: Any) -> Any:
    def grant(self: DSemaphore, call: Any) -> None:
        original(self, call)
        self._value += 1

    return grant


THREADING = (
    Mutant(
        "releasing one level of an RLock frees it",
        Kind.THREADING,
        replacing(DRLock, "release", _frees_all_levels),
        frozenset({"ThreadingIsFaithful", "MutualExclusion", "Linearizable"}),
        50,
    ),
    Mutant(
        "an RLock is re-entered by whoever comes",
        Kind.THREADING,
        lambda: patch.object(Mutex, "is_owned_by", _is_everybodys(Mutex.is_owned_by)),
        frozenset({"MutualExclusion", "Linearizable", "NothingIsLeftHeld", "ThreadingIsFaithful", "Liveness"}),
        50,
    ),
    Mutant(
        "a wait does not give the lock up",
        Kind.THREADING,
        replacing(Mutex, "give_up", _keeps_the_lock),
        frozenset({"Liveness"}),
        20,
    ),
    Mutant(
        "a wait that times out goes on without the lock",
        Kind.THREADING,
        replacing(DCondition, "timed_out", _returns_without_the_lock),
        frozenset({"ThreadingIsFaithful"}),
        20,
    ),
    Mutant(
        "a wait gets back more levels than it gave up",
        Kind.THREADING,
        lambda: patch.object(Mutex, "give_up", _restores_one_level(Mutex.give_up)),
        frozenset({"Liveness"}),
        20,
    ),
    Mutant(
        "who is notified is taken out of the queue and forgotten",
        Kind.THREADING,
        replacing(DCondition, "_notify_first", _loses_the_notified),
        frozenset({"Liveness", "KeyError"}),
        20,
    ),
    Mutant(
        "a full barrier wakes nobody but the last to come",
        Kind.THREADING,
        replacing(DBarrier, "wait", _wakes_the_first_only),
        frozenset({"RoundsAreComplete"}),
        50,
    ),
    Mutant(
        "a barrier tells all the same number",
        Kind.THREADING,
        lambda: patch.object(DBarrier, "wait", _tells_all_the_same(DBarrier.wait)),
        frozenset({"RoundsAreComplete"}),
        50,
    ),
    Mutant(
        "set wakes nobody",
        Kind.THREADING,
        replacing(DEvent, "set", _sets_silently),
        frozenset({"NobodyWaitsInVain"}),
        50,
    ),
    Mutant(
        "a permit is granted and kept",
        Kind.THREADING,
        lambda: patch.object(DSemaphore, "_grant", _grants_without_counting(DSemaphore._grant)),
        frozenset({"NobodyWaitsInVain", "Linearizable", "NothingIsLeftHeld"}),
        50,
    ),
    Mutant(
        "a Ray task that ends gives nothing back",
        Kind.THREADING,
        lambda: patch.object(Executor, "_end_task", lambda self, session, task: None),
        frozenset({"MutualExclusion", "Liveness", "NothingIsLeftHeld"}),
        20,
    ),
    Mutant(
        "who awaits the loss of a grant is not told of its end",
        Kind.THREADING,
        replacing(Mutex, "_tell_watchers", lambda self, taken: None),
        frozenset({"NobodyWaitsInVain", "Liveness"}),
        100,
    ),
    Mutant(
        "a guarded call runs whatever its guard says",
        Kind.THREADING,
        replacing(ObjectTable, "_guard_holds", lambda self, record, context, method: True),
        frozenset({"Linearizable"}),
        50,
    ),
    Mutant(
        "a guarded call that runs at last stays among those that wait",
        Kind.THREADING,
        lambda: patch.object(Executor, "_resume", lambda self, waiter: Calls._own_context(self)),
        frozenset({"Liveness", "KeyError", "ExactlyOnce", "Linearizable"}),
        50,
    ),
)

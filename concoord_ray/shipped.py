"""The objects that come with the package, replicated, with handles that know the types of their methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from concoord_ray import objects
from concoord_ray.handle import Handle, Method
from concoord_ray.replicated import ReplicatedClass, replicated

P = ParamSpec("P")
R = TypeVar("R")
H = TypeVar("H", bound=Handle[Any])


if TYPE_CHECKING:

    def _method(of: Callable[Concatenate[Any, P], R]) -> Method[P, R]: ...

    class CounterHandle(Handle[objects.Counter]):
        """A handle of a ``Counter``."""

        increment = _method(objects.Counter.increment)
        decrement = _method(objects.Counter.decrement)
        getvalue = _method(objects.Counter.getvalue)

    class LockHandle(Handle[objects.Lock]):
        """A handle of a ``Lock`` or an ``RLock``."""

        acquire = _method(objects.Lock.acquire)
        acquire_fenced = _method(objects.Lock.acquire_fenced)
        release = _method(objects.Lock.release)
        locked = _method(objects.Lock.locked)
        lost = _method(objects.Lock.lost)
        force_release = _method(objects.Lock.force_release)
        inspect = _method(objects.Lock.inspect)

        def __enter__(self) -> int: ...

        async def __aenter__(self) -> int: ...

    class SemaphoreHandle(Handle[objects.Semaphore]):
        """A handle of a ``Semaphore`` or a ``BoundedSemaphore``."""

        acquire = _method(objects.Semaphore.acquire)
        release = _method(objects.Semaphore.release)
        describe = _method(objects.Semaphore.describe)
        inspect = _method(objects.Semaphore.inspect)

        def __enter__(self) -> bool: ...

        async def __aenter__(self) -> bool: ...

    class ConditionHandle(Handle[objects.Condition]):
        """A handle of a ``Condition``."""

        acquire = _method(objects.Condition.acquire)
        release = _method(objects.Condition.release)
        wait = _method(objects.Condition.wait)
        wait_for = _method(objects.Condition.wait_for)
        notify = _method(objects.Condition.notify)
        notify_all = _method(objects.Condition.notify_all)
        inspect = _method(objects.Condition.inspect)

        def __enter__(self) -> bool: ...

        async def __aenter__(self) -> bool: ...

    class BarrierHandle(Handle[objects.Barrier]):
        """A handle of a ``Barrier``."""

        wait = _method(objects.Barrier.wait)
        reset = _method(objects.Barrier.reset)
        abort = _method(objects.Barrier.abort)
        parties = _method(objects.Barrier.parties)
        n_waiting = _method(objects.Barrier.n_waiting)
        broken = _method(objects.Barrier.broken)
        inspect = _method(objects.Barrier.inspect)

    class EventHandle(Handle[objects.Event]):
        """A handle of an ``Event``."""

        is_set = _method(objects.Event.is_set)
        set = _method(objects.Event.set)
        clear = _method(objects.Event.clear)
        wait = _method(objects.Event.wait)
        inspect = _method(objects.Event.inspect)

    class RWLockHandle(Handle[objects.RWLock]):
        """A handle of an ``RWLock``."""

        acquire_read = _method(objects.RWLock.acquire_read)
        release_read = _method(objects.RWLock.release_read)
        acquire_write = _method(objects.RWLock.acquire_write)
        release_write = _method(objects.RWLock.release_write)
        inspect = _method(objects.RWLock.inspect)

    class CountDownLatchHandle(Handle[objects.CountDownLatch]):
        """A handle of a ``CountDownLatch``."""

        count_down = _method(objects.CountDownLatch.count_down)
        wait = _method(objects.CountDownLatch.wait)
        count = _method(objects.CountDownLatch.count)
        inspect = _method(objects.CountDownLatch.inspect)

    class QueueHandle(Handle[objects.Queue]):
        """A handle of a ``Queue``."""

        put = _method(objects.Queue.put)
        get = _method(objects.Queue.get)
        put_nowait = _method(objects.Queue.put_nowait)
        get_nowait = _method(objects.Queue.get_nowait)
        qsize = _method(objects.Queue.qsize)
        empty = _method(objects.Queue.empty)
        full = _method(objects.Queue.full)
        inspect = _method(objects.Queue.inspect)

    class ElectionHandle(Handle[objects.Election]):
        """A handle of an ``Election``."""

        campaign = _method(objects.Election.campaign)
        resign = _method(objects.Election.resign)
        lost = _method(objects.Election.lost)
        leader = _method(objects.Election.leader)
        candidates = _method(objects.Election.candidates)

else:
    RWLockHandle = CountDownLatchHandle = QueueHandle = ElectionHandle = Handle
    CounterHandle = LockHandle = SemaphoreHandle = ConditionHandle = BarrierHandle = EventHandle = Handle


def _replicate(cls: Callable[P, Any], handle: type[H]) -> ReplicatedClass[P, H]:
    return cast("ReplicatedClass[P, H]", replicated(cls))


Barrier = _replicate(objects.Barrier, BarrierHandle)
BoundedSemaphore = _replicate(objects.BoundedSemaphore, SemaphoreHandle)
Condition = _replicate(objects.Condition, ConditionHandle)
CountDownLatch = _replicate(objects.CountDownLatch, CountDownLatchHandle)
Counter = _replicate(objects.Counter, CounterHandle)
Election = _replicate(objects.Election, ElectionHandle)
Event = _replicate(objects.Event, EventHandle)
Lock = _replicate(objects.Lock, LockHandle)
Queue = _replicate(objects.Queue, QueueHandle)
RLock = _replicate(objects.RLock, LockHandle)
RWLock = _replicate(objects.RWLock, RWLockHandle)
Semaphore = _replicate(objects.Semaphore, SemaphoreHandle)

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
        """A handle of a ``Lock``."""

        acquire = _method(objects.Lock.acquire)
        acquire_fenced = _method(objects.Lock.acquire_fenced)
        release = _method(objects.Lock.release)
        locked = _method(objects.Lock.locked)

        def __enter__(self) -> int: ...

        async def __aenter__(self) -> int: ...

    class SemaphoreHandle(Handle[objects.Semaphore]):
        """A handle of a ``Semaphore``."""

        acquire = _method(objects.Semaphore.acquire)
        release = _method(objects.Semaphore.release)
        describe = _method(objects.Semaphore.describe)

        def __enter__(self) -> bool: ...

        async def __aenter__(self) -> bool: ...

else:
    CounterHandle = LockHandle = SemaphoreHandle = Handle


def _replicate(cls: Callable[P, Any], handle: type[H]) -> ReplicatedClass[P, H]:
    return cast("ReplicatedClass[P, H]", replicated(cls))


Counter = _replicate(objects.Counter, CounterHandle)
Lock = _replicate(objects.Lock, LockHandle)
Semaphore = _replicate(objects.Semaphore, SemaphoreHandle)

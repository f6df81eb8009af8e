"""Replicated classes for the tests of ``rsm``."""

from __future__ import annotations

from typing import Any

from concoord_ray.rsm.context import CallContext, current, now, random
from concoord_ray.rsm.methods import blocking, readonly
from concoord_ray.rsm.waiters import Parked
from concoord_ray.threadingobject.dlock import DLock
from concoord_ray.threadingobject.dsemaphore import DSemaphore


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("this exception cannot even be printed")


class Unpicklable:
    def __reduce__(self) -> str:
        raise SystemExit("pickling me ends the process")

    def __repr__(self) -> str:
        raise ValueError("nor can I be shown")


class Huge:
    def __reduce__(self) -> str:
        raise MemoryError


class Register:
    """Remembers what was appended; every way in which a method can go wrong."""

    def __init__(self, *items: Any) -> None:
        if "fail" in items:
            raise ValueError("no such register")
        self.items = list(items)

    def append(self, item: Any) -> int:
        self.items.append(item)
        return len(self.items)

    @readonly
    def get(self) -> list[Any]:
        return self.items

    def append_and_raise(self, item: Any) -> None:
        self.items.append(item)
        raise KeyError(item)

    def exit(self) -> None:
        raise SystemExit(3)

    def run_out_of_memory(self) -> None:
        raise MemoryError("this process, not this command")

    def raise_unprintable(self) -> None:
        raise Unprintable("never seen")

    def raise_with_unpicklable(self) -> None:
        raise ValueError("one", Unpicklable())

    def raise_surrogate(self) -> None:
        raise ValueError("no file \udcff")

    def echo(self, item: Any) -> Any:
        return item

    def give_function(self) -> Any:
        return (item for item in self.items)

    def give_unpicklable(self) -> Any:
        return Unpicklable()

    def draw(self) -> tuple[float, float, float]:
        return now(), random().random(), random().random()

    def who(self) -> tuple[int, str]:
        return current().owner

    def _hidden(self) -> str:
        return "secret"


class Blocker:
    """Every way in which a method can block, right and wrong. Two of them may share one lock."""

    def __init__(self, lock: Any = None, *, wait: bool = False) -> None:
        self.lock = DLock() if lock is None else lock._concoord_mutex
        self.semaphore = DSemaphore(0)
        if wait:
            self.semaphore.acquire()

    def acquire(self, _concoord_command: CallContext, timeout: float = -1) -> bool | Parked:
        return self.lock.acquire(_concoord_command, timeout=timeout)

    def release(self) -> None:
        self.lock.release()

    def take_permit(self, _concoord_command: CallContext) -> bool | Parked:
        return self.semaphore.acquire(_concoord_command)

    def put_permit(self) -> None:
        self.semaphore.release()

    @blocking
    def forget_to_return(self) -> str:
        self.semaphore.acquire()
        return "done"

    @blocking
    def block_twice(self) -> Any:
        self.semaphore.acquire()
        return self.semaphore.acquire()

    @blocking
    def pretend(self) -> Parked:
        return Parked.PARKED

    @blocking
    def raise_after_parking(self) -> None:
        self.semaphore.acquire()
        raise ValueError("I had second thoughts")

    @blocking
    def wake_myself(self) -> bool | Parked:
        parked = self.semaphore.acquire()
        self.semaphore.release()
        return parked

    @readonly
    def acquire_in_read(self) -> Any:
        return self.lock.acquire()

    @readonly
    def release_in_read(self) -> None:
        self.lock.release()

    @readonly
    def take_permit_in_read(self) -> Any:
        return self.semaphore.acquire()

    @readonly
    def put_permit_in_read(self) -> None:
        self.semaphore.release()

    @readonly
    def describe(self) -> str:
        return f"{self.lock!r} {self.semaphore!r}"

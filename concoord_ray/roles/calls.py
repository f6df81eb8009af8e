"""One call on the direct path, and how its caller waits for it: on a lock, or on a future of its own event loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from concoord_ray.answers import unpack
from concoord_ray.rsm.command import Command, Entry
from concoord_ray.session import Ending


class PendingCall:
    """A call from the time it is made until it has ended. ``end`` is called once, on the client's loop."""

    __slots__ = ("awaits_loss", "command", "ending", "entry", "readonly")

    def __init__(self, command: Command, readonly: bool, *, awaits_loss: bool = False) -> None:
        self.command = command
        self.readonly = readonly
        #: It waits for the loss of a grant, which its caller's own side knows if the lease cannot be kept.
        self.awaits_loss = awaits_loss
        #: Set once it is numbered.
        self.entry: Entry | None = None
        self.ending: Ending | None = None

    def end(self, ending: Ending) -> None:
        """The call ended; nobody waits for this one."""
        self.ending = ending

    def result(self) -> Any:
        """The result of a call that has ended, or what it raised."""
        if self.ending is None:
            raise RuntimeError("the call has not ended")
        return unpack(self.ending)


class Withdrawal(PendingCall):
    """A command on the session's own behalf: whatever becomes of it, ``then`` follows."""

    __slots__ = ("_then",)

    def __init__(self, command: Command, then: Callable[[Ending], None]) -> None:
        super().__init__(command, readonly=False)
        self._then = then

    def end(self, ending: Ending) -> None:
        """Go on."""
        self.ending = ending
        self._then(ending)


class BlockingCall(PendingCall):
    """Its caller is a thread."""

    __slots__ = ("_pending",)

    def __init__(self, command: Command, readonly: bool, *, awaits_loss: bool = False) -> None:
        super().__init__(command, readonly, awaits_loss=awaits_loss)
        # A bare lock is the cheapest thing that a thread can wait for, and its wait can be interrupted.
        self._pending = threading.Lock()
        self._pending.acquire()

    def end(self, ending: Ending) -> None:
        """Wake the thread."""
        self.ending = ending
        self._pending.release()

    def wait(self, timeout_s: float | None) -> bool:
        """Wait until the call has ended; False if it has not in time."""
        return self._pending.acquire(timeout=-1 if timeout_s is None else max(0.0, timeout_s))


class AwaitedCall(PendingCall):
    """Its caller is a coroutine on some event loop."""

    __slots__ = ("_future", "_waker")

    def __init__(self, command: Command, readonly: bool, *, awaits_loss: bool = False) -> None:
        super().__init__(command, readonly, awaits_loss=awaits_loss)
        loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = loop.create_future()
        self._waker = waker_of(loop)

    def end(self, ending: Ending) -> None:
        """Wake the coroutine."""
        self.ending = ending
        self._waker.wake(self._future)

    async def wait(self, timeout_s: float | None) -> bool:
        """Wait until the call has ended; False if it has not in time."""
        if timeout_s is None:
            await self._future
        else:
            await asyncio.wait((self._future,), timeout=timeout_s)
        return self._future.done()


class Waker:
    """Resolves futures of one event loop from other threads, waking it once for all that come at once."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._futures: deque[asyncio.Future[None]] = deque()
        self._is_awake = False

    def wake(self, future: asyncio.Future[None]) -> None:
        """Resolve a future, soon."""
        self._futures.append(future)
        loop = self._loop()
        if not self._is_awake and loop is not None:
            self._is_awake = True
            try:
                loop.call_soon_threadsafe(self._resolve)
            except RuntimeError:  # The loop is closed: nobody waits.
                self._futures.clear()

    def _resolve(self) -> None:
        self._is_awake = False
        futures = self._futures
        while futures:
            future = futures.popleft()
            if not future.done():
                future.set_result(None)


_wakers: WeakKeyDictionary[asyncio.AbstractEventLoop, Waker] = WeakKeyDictionary()


def waker_of(loop: asyncio.AbstractEventLoop) -> Waker:
    """The one waker of an event loop."""
    waker = _wakers.get(loop)
    if waker is None:
        waker = _wakers[loop] = Waker(loop)
    return waker

"""One call on the direct path, and how its caller waits for it: on a lock, or on a future of its own event loop."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from concoord_ray.answers import is_refused_as, unpack
from concoord_ray.config import Config
from concoord_ray.errors import Overloaded
from concoord_ray.rsm.command import Call, Command, Entry, MethodFlag, Outcome, Reply
from concoord_ray.session import Ending


class PendingCall:
    """A call from the time it is made until its caller has what came of it.

    ``end`` is called once, on the client's loop. What the caller is granted by then is not yet its own: it may be
    cancelled before it hears of it.
    """

    __slots__ = ("awaits_loss", "command", "ending", "entry", "is_settled", "may_park", "readonly")

    def __init__(self, command: Command, readonly: bool, flags: MethodFlag = MethodFlag.PLAIN) -> None:
        self.command = command
        self.readonly = readonly
        # Most calls have no flags, and the & of an IntFlag takes half a microsecond.
        self.may_park = bool(flags and flags & MethodFlag.PARKS)
        #: It waits for the loss of a grant, which its caller's own side knows if the lease cannot be kept.
        self.awaits_loss = bool(flags and flags & MethodFlag.AWAITS_LOSS)
        #: Set once it is numbered.
        self.entry: Entry | None = None
        self.ending: Ending | None = None
        #: Its caller has what came of it, or wants it withdrawn.
        self.is_settled = False

    def end(self, ending: Ending) -> None:
        """The call ended; nobody waits for this one."""
        self.ending = ending

    def may_be_granted(self, ending: Ending) -> bool:
        """Whether it ends with what has to be given back if its caller does not take it."""
        is_answer = self.may_park and isinstance(ending, Reply) and ending.outcome != Outcome.REFUSED
        return is_answer and not self.is_settled

    def result(self) -> Any:
        """The result of a call that has ended, or what it raised: from now on it is the caller's."""
        if self.ending is None:
            raise RuntimeError("the call has not ended")
        try:
            result = unpack(self.ending)
        except Exception:
            self.is_settled = True
            raise
        self.is_settled = True
        return result


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

    def __init__(self, command: Command, readonly: bool, flags: MethodFlag = MethodFlag.PLAIN) -> None:
        super().__init__(command, readonly, flags)
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

    def __init__(self, command: Command, readonly: bool, flags: MethodFlag = MethodFlag.PLAIN) -> None:
        super().__init__(command, readonly, flags)
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


class Patience:
    """Of one caller: until its own timeout is over, and for as long as it waits for an ensemble that is overloaded."""

    def __init__(self, config: Config, timeout_s: float | None) -> None:
        now_s = time.monotonic()
        self._until_s = None if timeout_s is None else now_s + timeout_s
        self._again_until_s = now_s + config.quorum_timeout_s
        if self._until_s is not None:
            self._again_until_s = min(self._until_s, self._again_until_s)

    def left_s(self) -> float | None:
        """Seconds until its timeout, None if it has none."""
        return None if self._until_s is None else self._until_s - time.monotonic()

    def is_for(self, call: PendingCall) -> bool:
        """Whether the call has to be made again: the log has refused it, so it was not and will not be executed."""
        return (
            call.ending is not None
            and isinstance(call.command, Call)
            and is_refused_as(call.ending, Overloaded)
            and time.monotonic() < self._again_until_s
        )


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

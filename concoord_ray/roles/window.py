"""How many calls of this process may be under way at once, and how large.

Two windows, because calls that wait for each other must not share one: a thousand that wait for a lock would keep out
the release that they wait for. Calls that do not wait in the ensemble end by themselves, so others can wait for their
turn. Calls that may wait there are refused when there are too many: one might be what another waits for.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque

from concoord_ray.errors import Overloaded
from concoord_ray.roles.calls import Waker, waker_of


class Window:
    """Counts calls and the bytes of their arguments. Thread-safe.

    Whoever waits is woken when there is room: by one that leaves, and by each that enters and leaves more room, so that
    the end of one large call lets in all the small ones that fit. Not more are woken than may enter.
    """

    def __init__(self, calls: int, size_bytes: int) -> None:
        # A coroutine that is destroyed leaves, and the garbage collector may destroy one anywhere, also in here.
        self._lock = threading.RLock()
        self._calls = 0
        self._bytes = 0
        self._max_calls = calls
        self._max_bytes = size_bytes
        self._turns: deque[tuple[Waker, asyncio.Future[None]]] = deque()
        #: How many have been given a turn, and have not come to know of it.
        self._coming = 0

    @property
    def is_full(self) -> bool:
        """Whether another call has to wait. One that is let in may be larger than what is left."""
        return self._calls >= self._max_calls or self._bytes >= self._max_bytes

    @property
    def is_empty(self) -> bool:
        """Whether no call is under way."""
        return self._calls == 0

    def enter(self, size_bytes: int) -> None:
        """One more call."""
        with self._lock:
            self._calls += 1
            self._bytes += size_bytes
            if self._turns:
                self._wake_next()

    def leave(self, size_bytes: int) -> None:
        """One has ended."""
        with self._lock:
            self._calls -= 1
            self._bytes -= size_bytes
            if self._turns:
                self._wake_next()

    async def turn(self) -> None:
        """Wait until another call may enter; in order of arrival. Who does not enter then has to ``pass_turn``."""
        has_waited = False
        while (future := self._queue_up(has_waited=has_waited)) is not None:
            has_waited = True
            try:
                await future
            except BaseException:  # Cancelled, or destroyed.
                self._give_up(future)
                raise

    def pass_turn(self) -> None:
        """Whoever had a turn does not enter: it is for the next."""
        with self._lock:
            self._wake_next()

    def _wake_next(self) -> None:
        if self._turns and self._calls + self._coming < self._max_calls and self._bytes < self._max_bytes:
            self._coming += 1
            waker, future = self._turns.popleft()
            waker.wake(future)

    def _queue_up(self, *, has_waited: bool) -> asyncio.Future[None] | None:
        """Stand in line, if there is one, as the first if we have waited; a future for when it is our turn."""
        with self._lock:
            if has_waited:
                self._coming -= 1
            if not self.is_full:
                return None
            loop = asyncio.get_running_loop()
            future: asyncio.Future[None] = loop.create_future()
            stand = self._turns.appendleft if has_waited else self._turns.append
            stand((waker_of(loop), future))
            return future

    def _give_up(self, future: asyncio.Future[None]) -> None:
        """Whoever does not come any more must not keep a turn that was given to it."""
        with self._lock:
            for turn in self._turns:
                if turn[1] is future:
                    self._turns.remove(turn)
                    return
            self._coming -= 1
            self._wake_next()


class Windows:
    """Those of one process, or one gateway."""

    def __init__(self, calls: int, size_bytes: int, whose: str) -> None:
        self.plain = Window(calls, size_bytes)
        self.parking = Window(calls, size_bytes)
        self._whose = whose

    def of(self, *, may_park: bool) -> Window:
        """The window of such a call."""
        return self.parking if may_park else self.plain

    def check(self, *, may_park: bool) -> None:
        """Raise Overloaded if such a call cannot enter now."""
        if self.of(may_park=may_park).is_full:
            raise self.refusal(may_park=may_park)

    def refusal(self, *, may_park: bool) -> Overloaded:
        """Why."""
        kind = "calls that may wait" if may_park else "calls"
        return Overloaded(
            f"Too many {kind} of {self._whose} are under way, or too large ones. This one was not sent: await some of "
            f"them first, or start the ensemble with larger bounds (max_calls_per_process, max_bytes_per_process, and "
            f"the same per gateway)."
        )

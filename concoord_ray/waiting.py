"""``Condition.wait_for``: a loop over ``wait`` in the process that calls it, where the predicate is at home."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, Protocol


class Waits(Protocol):
    """A condition's ``wait``."""

    def __call__(self, *, timeout: float | None) -> Any:
        """Block."""

    def aio(self, *, timeout: float | None) -> Coroutine[Any, Any, Any]:
        """Await."""


class _Deadline:
    """The time left of a timeout in seconds that begins to run with the first wait."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._until_s: float | None = None

    def left_s(self) -> float | None:
        """Seconds; None if there is no end."""
        if self._timeout is None:
            return None
        now_s = time.monotonic()
        if self._until_s is None:
            self._until_s = now_s + self._timeout
        return self._until_s - now_s


class WaitFor:
    """``wait_for`` of one condition. ``wait_of_caller`` gives its ``wait`` in the name of whoever asks."""

    def __init__(self, wait_of_caller: Callable[[], Waits]) -> None:
        self._wait_of_caller = wait_of_caller

    def __call__(self, predicate: Callable[[], Any], timeout: float | None = None) -> Any:
        """Wait until ``predicate()`` is true, for at most ``timeout`` seconds; its last value."""
        wait, deadline = self._wait_of_caller(), _Deadline(timeout)
        result = predicate()
        while not result:
            left_s = deadline.left_s()
            if left_s is not None and left_s <= 0:
                break
            wait(timeout=left_s)
            result = predicate()
        return result

    def aio(self, predicate: Callable[[], Any], timeout: float | None = None) -> Coroutine[Any, Any, Any]:
        """As calling it, for asyncio; ``predicate`` may be a coroutine function."""
        return self._loop(self._wait_of_caller(), predicate, _Deadline(timeout))

    def remote(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: a predicate is of this process, an ObjectRef is resolved by another."""
        raise TypeError(
            "The predicate of wait_for runs in the calling process, so there is no ObjectRef for it: call "
            "wait_for(...), or await wait_for.aio(...), or loop over wait.remote() yourself."
        )

    async def _loop(self, wait: Waits, predicate: Callable[[], Any], deadline: _Deadline) -> Any:
        result = await _value(predicate)
        while not result:
            left_s = deadline.left_s()
            if left_s is not None and left_s <= 0:
                break
            await wait.aio(timeout=left_s)
            result = await _value(predicate)
        return result


async def _value(predicate: Callable[[], Any]) -> Any:
    result = predicate()
    return await result if inspect.isawaitable(result) else result

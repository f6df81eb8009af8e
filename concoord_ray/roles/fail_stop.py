"""A role that has gone wrong stops: whatever its steps or its background work raise ends it, with that as the reason.

(As Schlichting and Schneider's processors do, *Fail-Stop Processors*, 1983.) A core that has failed half-way must not
be stepped again: its state is none that any rule speaks of. And work that ended unheard of would be waited for for
ever. What calls a role from a loop (a connection, a timer, a thread that has ended something) would log an exception
at best, and go on. So whatever comes from there comes through here: a step is run by ``step``, a task is given to
``watch``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class FailStop:
    """Of one role. To be used on its loop alone."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        """``failed`` is to end the role. It may be told more than once, until the role has ended."""
        self.fail = failed
        self._is_half_way = False

    def step(self, step: Callable[..., object], *arguments: Any) -> None:
        """Run a step of the role, unless one has failed before."""
        if self._is_half_way:
            return
        try:
            step(*arguments)
        except Exception as error:
            self._is_half_way = True
            self.fail(error)

    def watch(self, task: asyncio.Task[None]) -> asyncio.Task[None]:
        """Take note of a task of the role's: if it fails, so does the role. Gives the task."""
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self.fail(error)

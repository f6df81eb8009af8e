"""Puts the calls of each session back into the order in which they were submitted.

Bounded in both ways: calls wait for a missing one at most ``wait_s`` (it may have been cancelled, or be lost with its
caller), however many come meanwhile and however many are missing; and only so many sessions are remembered, the least
recently used forgotten first. A call from the past, run again by Ray, goes through at once.

A gateway's next life knows of no session, and gets what is unfinished, with gaps where calls have ended: that costs
each session one such wait.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class _Line(Generic[T]):
    next_order: int = 0
    held: dict[int, T] = field(default_factory=dict)
    timer: asyncio.TimerHandle | None = None


class Sequencer(Generic[T]):
    """``submit`` calls ``forward`` in order, per session."""

    def __init__(self, forward: Callable[[T], None], wait_s: float, sessions: int) -> None:
        self._forward = forward
        self._wait_s = wait_s
        self._limit = sessions
        self._lines: OrderedDict[int, _Line[T]] = OrderedDict()

    def submit(self, session: int, order: int, item: T) -> None:
        """Forward ``item`` when every earlier one of the session has been, or has kept it waiting for too long."""
        line = self._lines.get(session)
        if line is None:
            line = self._lines[session] = _Line()
            if len(self._lines) > self._limit:
                self._forget_oldest()
        else:
            self._lines.move_to_end(session)
        if order < line.next_order:
            self._forward(item)
            return
        line.held[order] = item
        self._advance(line)

    def _advance(self, line: _Line[T]) -> None:
        before = line.next_order
        while line.held and line.next_order in line.held:
            item = line.held.pop(line.next_order)
            line.next_order += 1
            self._forward(item)
        if line.timer is not None and line.next_order != before:
            line.timer.cancel()
            line.timer = None
        if line.held and line.timer is None:
            line.timer = asyncio.get_running_loop().call_later(self._wait_s, self._skip, line)

    def _skip(self, line: _Line[T]) -> None:
        """What is missing has kept the others waiting for too long: they go, in their order."""
        line.timer = None
        held, line.held = line.held, {}
        line.next_order = max(held) + 1
        for order in sorted(held):
            self._forward(held[order])

    def _forget_oldest(self) -> None:
        _, line = self._lines.popitem(last=False)
        if line.timer is not None:
            line.timer.cancel()
        for order in sorted(line.held):
            self._forward(line.held[order])

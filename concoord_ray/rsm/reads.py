"""What user code may do to its surroundings during a read: nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, NoReturn

from concoord_ray.rsm.context import Scope
from concoord_ray.rsm.waiters import Effects, Primitive, Waiter


class ReadOnlyEffects:
    """Implements ``waiters.Effects`` for @readonly methods: time stands, and everything that changes state raises."""

    def __init__(self, time_ns: int, wall_ns: int, describe: Callable[[int], str]) -> None:
        self.time_ns = time_ns
        self.wall_ns = wall_ns
        self._describe = describe

    @classmethod
    def like(cls, effects: Effects) -> ReadOnlyEffects:
        """The same moment, where nothing may change."""
        return cls(effects.time_ns, effects.wall_ns, effects.describe)

    def changing(self) -> None:
        """See ``Effects``."""
        _refuse("acquire, release or wake")

    def random(self) -> random.Random:
        """See ``Effects``."""
        _refuse("draw random numbers")

    def next_token(self) -> int:
        """See ``Effects``."""
        _refuse("draw a token")

    def parked(self, waiter: Waiter) -> None:
        """See ``Effects``."""
        _refuse("block")

    def waits(self, waiter: Waiter) -> bool:
        """See ``Effects``."""
        _refuse("wake a waiting call")

    def answer(self, waiter: Waiter, result: Any) -> None:
        """See ``Effects``."""
        _refuse("wake a waiting call")

    def granted(self, session: int, seq: int, primitive: Primitive, grant: Any) -> None:
        """See ``Effects``."""
        _refuse("be granted anything")

    def holds(self, scope: Scope, primitive: Primitive) -> None:
        """See ``Effects``."""
        _refuse("hold anything")

    def holds_no_more(self, scope: Scope, primitive: Primitive) -> None:
        """See ``Effects``."""
        _refuse("release anything")

    def describe(self, session: int) -> str:
        """See ``Effects``."""
        return self._describe(session)


def _refuse(what: str) -> NoReturn:
    raise TypeError(f"a @readonly method cannot {what}: it runs on one replica, outside the log")

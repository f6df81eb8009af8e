"""Bounded waiting for what has no event to wait on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0


def until(condition: Callable[[], T], timeout_s: float = PATIENCE_S, interval_s: float = 0.05) -> T:
    """Wait until ``condition()`` is true, and return what it is. The failure shows what it was last."""
    give_up_s = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < give_up_s, f"after {timeout_s} s it is still {found!r}"
        time.sleep(interval_s)

"""A worker of the demo: takes a permit, counts a little, gives it back, again and again.

It is an ordinary Ray actor in a process of its own. Half of the workers call through ``.remote()``, half directly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray

from concoord_ray.demo.evidence import Evidence, Hold, Increment, first_answer_s

#: How many increments a worker makes with one permit.
INCREMENTS_PER_HOLD = 10


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A worker at one moment."""

    increments: int
    is_holder: bool


class Worker:
    """Started by ``work``, which returns when ``stop`` was called; the rest may be asked meanwhile."""

    def __init__(self, semaphore: Any, counter: Any, through_ray: bool) -> None:
        self._acquire = _caller(semaphore.acquire, through_ray)
        self._release = _caller(semaphore.release, through_ray)
        self._increment = _caller(counter.increment, through_ray)
        self._is_over = threading.Event()
        self._holding_since_s: float | None = None
        self._evidence = Evidence()

    def work(self) -> Evidence:
        """Work until told to stop; the record of it."""
        try:
            while not self._is_over.is_set():
                self._hold_once()
        except Exception as error:
            self._evidence.error = repr(error)
        return self._evidence

    def stop(self) -> None:
        """Finish the hold, and end."""
        self._is_over.set()

    def glimpse(self, at_s: float) -> Glimpse:
        """How far the worker is, and whether it held a permit at ``at_s``, which must be past."""
        since_s = self._holding_since_s
        holds = self._evidence.holds
        is_holder = (since_s is not None and since_s <= at_s) or any(h.from_s <= at_s <= h.to_s for h in holds[-50:])
        return Glimpse(len(self._evidence.increments), is_holder)

    def first_answer_s(self, after_s: float) -> float | None:
        """See ``evidence.first_answer_s``: of this worker alone, so far."""
        return first_answer_s([self._evidence], after_s)

    def _hold_once(self) -> None:
        self._acquire()
        self._holding_since_s = since_s = time.monotonic()
        for _ in range(INCREMENTS_PER_HOLD):
            called_at_s = time.monotonic()
            value = self._increment()
            self._evidence.increments.append(Increment(called_at_s, time.monotonic(), value))
        self._evidence.holds.append(Hold(since_s, time.monotonic()))
        self._holding_since_s = None
        self._release()


def _caller(method: Any, through_ray: bool) -> Callable[[], Any]:
    return (lambda: ray.get(method.remote())) if through_ray else method

"""Calls on a counter over all three paths at once, each recorded with when it began and when it was answered."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import ray

from concoord_ray import Handle
from tests.integration.waiting import until
from tests.sim.history import History, Operation

DIRECT_THREADS = 2
AIO_TASKS = 4
REMOTE_THREADS = 4
#: Every so many calls one is a read.
READ_EVERY = 5

PATHS = ("direct", "aio", "remote")


class Load:
    """Increments, and now and then reads, from many callers. One object may be loaded several times over."""

    def __init__(self, counter: Handle[Any], name: str) -> None:
        self.increments = 0
        self._counter = counter
        self._name = name
        self._history = History()
        self._answered: Counter[str] = Counter()
        self._lock = threading.Lock()

    def run(self, calls_per_path: int, disturb: Any) -> None:
        """Make so many calls on each path, and call ``disturb()`` when every path has been answered a few times."""
        begun = {path: self._answered[path] for path in PATHS}
        with ThreadPoolExecutor(DIRECT_THREADS + 1 + REMOTE_THREADS) as pool:
            running = [pool.submit(self._direct, n, calls_per_path // DIRECT_THREADS) for n in range(DIRECT_THREADS)]
            running.append(pool.submit(lambda: asyncio.run(self._aio(calls_per_path // AIO_TASKS))))
            running += [pool.submit(self._remote, n, calls_per_path // REMOTE_THREADS) for n in range(REMOTE_THREADS)]
            until(lambda: all(self._answered[path] >= begun[path] + 5 for path in PATHS), interval_s=0.001)
            disturb()
            for each in running:
                each.result(timeout=90)

    def operations(self) -> tuple[Operation, ...]:
        """Every call that was made."""
        return self._history.operations()

    def _direct(self, thread: int, calls: int) -> None:
        for n in range(calls):
            call = self._begin(f"direct {thread}", n)
            self._end(call, "direct", self._counter.getvalue() if _is_read(n) else self._counter.increment())

    async def _aio(self, calls: int) -> None:
        async def one(task: int) -> None:
            for n in range(calls):
                call = self._begin(f"aio {task}", n)
                method = self._counter.getvalue if _is_read(n) else self._counter.increment
                self._end(call, "aio", await method.aio())

        await asyncio.gather(*map(one, range(AIO_TASKS)))

    def _remote(self, thread: int, calls: int) -> None:
        for n in range(calls):
            call = self._begin(f"remote {thread}", n)
            method = self._counter.getvalue if _is_read(n) else self._counter.increment
            self._end(call, "remote", ray.get(method.remote(), timeout=60))

    def _begin(self, caller: str, n: int) -> int:
        with self._lock:
            self.increments += not _is_read(n)
            op = "getvalue" if _is_read(n) else "increment"
            return self._history.invoke(caller, self._name, op, (), time.monotonic_ns())

    def _end(self, call: int, path: str, result: int) -> None:
        with self._lock:
            self._history.returned(call, result, time.monotonic_ns())
            self._answered[path] += 1


def _is_read(n: int) -> bool:
    return n % READ_EVERY == READ_EVERY - 1

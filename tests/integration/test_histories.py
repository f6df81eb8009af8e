"""Locks and semaphores under contention over all paths, with a leader that dies: every history is linearizable."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Handle
from tests.integration.conftest import MakeEnsemble
from tests.integration.waiting import until
from tests.sim import models
from tests.sim.history import History
from tests.sim.linearizability import assert_linearizable
from tests.sim.models import Model

pytestmark = [pytest.mark.ray]

WORKERS = 6
ROUNDS = 25
WAIT_S = 60.0


class Recorder:
    """Acquires and releases of one object, each worker by a path of its own."""

    def __init__(self, handle: Handle[Any], name: str) -> None:
        self.history = History()
        self.rounds = 0
        self._handle = handle
        self._name = name
        self._lock = threading.Lock()
        self._is_fenced = name != "semaphore"

    def work(self, worker: int) -> None:
        """Acquire and release, now and then without patience."""
        rng = random.Random(worker)
        path = _PATHS[worker % len(_PATHS)]
        for n in range(ROUNDS):
            process = f"{worker}.{n}"
            timeout = rng.choice((-1, 0.05)) if self._is_fenced else rng.choice((None, 0.05))
            acquire = self._handle.acquire_fenced if self._is_fenced else self._handle.acquire
            granted = self._record(process, "acquire", partial(path, acquire, timeout=timeout)) or False
            if granted is not False:
                time.sleep(rng.uniform(0, 0.002))
                keywords = {"token": granted} if self._is_fenced else {}
                self._record(process, "release", partial(path, self._handle.release, **keywords))
            self.rounds += 1

    def _record(self, process: str, op: str, call: Callable[[], Any]) -> Any:
        with self._lock:
            number = self.history.invoke(process, self._name, op, (), time.monotonic_ns())
        result = call() or (False if op == "acquire" else None)
        with self._lock:
            self.history.returned(number, result, time.monotonic_ns())
        return result


def _remote(method: Any, **keywords: Any) -> Any:
    return ray.get(method.remote(**keywords), timeout=WAIT_S)


def _direct(method: Any, **keywords: Any) -> Any:
    return method(**keywords)


def _aio(method: Any, **keywords: Any) -> Any:
    mine = method.of_caller()

    async def call() -> Any:
        return await mine.aio(**keywords)

    return asyncio.run(call())


_PATHS: tuple[Callable[..., Any], ...] = (_direct, _remote, _aio)


def test_every_history_is_linearizable(own_ensemble: MakeEnsemble) -> None:
    ensemble = own_ensemble()
    objects: dict[str, tuple[Any, Model]] = {
        "lock": (concoord.Lock, models.Mutex(tokens=True)),
        "rlock": (concoord.RLock, models.Mutex(tokens=True)),
        "semaphore": (concoord.Semaphore, models.Semaphore(permits=1)),
    }
    for name, (cls, model) in objects.items():
        recorder = Recorder(cls.options(ensemble=ensemble.name).remote(), name)
        with ThreadPoolExecutor(WORKERS) as pool:
            working = [pool.submit(recorder.work, worker) for worker in range(WORKERS)]
            until(lambda r=recorder: r.rounds > WORKERS * ROUNDS // 4, interval_s=0.001)  # type: ignore[misc]
            leader = until(lambda: ensemble.status().leader)
            assert leader is not None
            assert leader.pid is not None
            os.kill(leader.pid, signal.SIGKILL)
            for each in working:
                each.result(timeout=WAIT_S)
        operations = recorder.history.operations()
        assert len(operations) >= WORKERS * ROUNDS
        assert any(operation.op == "release" for operation in operations)
        assert_linearizable(operations, model)

"""What an operation costs does not depend on how many wait. Counted in calls of functions, for a clock is no judge."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from concoord_ray.objects.condition import Condition
from concoord_ray.objects.lock import Lock, RLock
from concoord_ray.objects.semaphore import Semaphore
from concoord_ray.rsm import stack
from concoord_ray.rsm.command import Batch, Entry
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.wire import encode_message
from tests.rsm.log import Log, calling


def calls_of(executor: Executor, batch: bytes) -> int:
    """How many functions the executor calls to apply its next slot, but for what ``rsm.stack`` tries out once."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call") and frame.f_code.co_filename != stack.__file__

    sys.setprofile(count)
    try:
        executor.apply(executor.next_slot, batch)
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("cls", [Lock, RLock, Semaphore, Condition])
def test_a_release_costs_the_same_with_ten_waiters_and_with_ten_thousand(cls: type) -> None:
    costs = []
    for waiters in (10, 10_000):
        log = Log()
        holder, other = log.open(), log.open()
        lock = holder.create(cls)
        holder.call(lock, "acquire")
        entries = tuple(other.entry(calling(lock, "acquire", owner=str(n))) for n in range(waiters))
        log.decide(*entries)
        executor = log.executors[0]
        release = Entry(holder.session, holder.seq + 1, (), encode_message(calling(lock, "release")))
        costs.append(calls_of(executor, encode_message(Batch(log.time_ns, log.time_ns, (release,)))))
    assert costs[0] == costs[1]
    assert 10 < costs[0] < 300

"""What happens in the demo: work, the kill, work, the check."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import ray

import concoord_ray as concoord
from concoord_ray.demo import evidence
from concoord_ray.demo.account import Account
from concoord_ray.demo.evidence import Evidence, Finding
from concoord_ray.demo.watch import Watch, replica_at
from concoord_ray.demo.worker import Glimpse, Worker

PERMITS = 2
WORKERS = 6
#: How long the workers work before the leader is killed, and at least after it.
BEFORE_S = 3.0
AFTER_S = 4.0
#: For each thing that takes a moment or some seconds on an idle machine.
PATIENCE_S = 60.0
_ROW_INTERVAL_S = 0.5
_POLL_INTERVAL_S = 0.02


class Stuck(Exception):
    """Something did not happen in ``PATIENCE_S``."""


class Play:
    """One run."""

    def __init__(self, account: Account, watch: Watch) -> None:
        self._account = account
        self._watch = watch
        self._semaphore = concoord.Semaphore.options(name="permits").remote(PERMITS)
        self._counter = concoord.Counter.options(name="hits").remote()
        actor: Any = ray.remote(Worker).options(num_cpus=0, max_concurrency=3)
        self._workers = [actor.remote(self._semaphore, self._counter, number % 2 == 1) for number in range(WORKERS)]
        self._increments = 0
        self._row_at_s = 0.0

    def run(self) -> list[Finding]:
        """Play it; what the check found."""
        self._glimpse()  # They all run.
        self._account.event(f"{WORKERS} workers start; half of them call by .remote(), half directly")
        self._account.headings()
        work = [worker.work.remote() for worker in self._workers]
        self._row_at_s = time.monotonic()
        self._work_for(BEFORE_S)
        killed_at_s = self._kill_the_leader()
        self._work_for(killed_at_s + AFTER_S - time.monotonic())
        ray.get([worker.stop.remote() for worker in self._workers])
        records: list[Evidence] = ray.get(work, timeout=PATIENCE_S)
        self._row_at_s = math.inf  # Nothing more to show.
        self._account.event("the workers have ended")
        silence_ms = 1000 * evidence.longest_silence_s(records, killed_at_s)
        self._account.event(f"from the kill on, the longest time without an answer to anybody was {silence_ms:.0f} ms")
        return [
            evidence.check_workers(records),
            evidence.check_counter(records, self._counter.getvalue()),
            evidence.check_holders(records, PERMITS),
            self._check_permits(),
            self._check_replicas(),
        ]

    def _kill_the_leader(self) -> float:
        """Kill its process, tell what comes of it until it is back; when it was killed."""
        self._work_until(lambda status: status.leader is not None, "no replica leads")
        old = self._watch.status.leader
        assert old is not None
        assert old.pid is not None
        killed_at_s = time.monotonic()
        os.kill(old.pid, signal.SIGKILL)
        self._account.event(f"KILLED    replica {old.index}, the leader: pid {old.pid}, by SIGKILL")
        answer_ms = 1000 * self._first_answer_s(killed_at_s)
        self._account.event(f"ANSWERED  {answer_ms:.0f} ms after the kill, the first call that was made after it")

        def is_succeeded(status: concoord.EnsembleStatus) -> bool:
            return status.leader is not None and status.leader.pid != old.pid

        def is_back(status: concoord.EnsembleStatus) -> bool:
            replica = replica_at(status, old.index)
            return replica.alive and replica.pid != old.pid

        new = self._work_until(is_succeeded, "no other replica leads").leader
        assert new is not None
        self._account.event(f"LEADS     replica {new.index}: pid {new.pid}")
        status = self._work_until(is_back, f"replica {old.index} did not come back")
        self._account.event(
            f"BACK      replica {old.index}: Ray started it again, pid {replica_at(status, old.index).pid}"
        )
        goal = max(replica.applied_slot or 0 for replica in status.replicas)
        self._work_until(
            lambda status: (replica_at(status, old.index).applied_slot or 0) >= goal,
            f"replica {old.index} did not catch up",
        )
        self._account.event(f"CAUGHT UP replica {old.index}: it had nothing, and has applied {goal:,} slots of the log")
        return killed_at_s

    # While they work.

    def _work_for(self, duration_s: float) -> None:
        until_s = time.monotonic() + duration_s
        while time.monotonic() < until_s:
            self._row_if_due()
            time.sleep(_POLL_INTERVAL_S)

    def _work_until(
        self, condition: Callable[[concoord.EnsembleStatus], bool], otherwise: str
    ) -> concoord.EnsembleStatus:
        """Go on until a status meets the condition; that status."""
        until_s = time.monotonic() + PATIENCE_S
        while not condition(status := self._watch.status):
            if time.monotonic() > until_s:
                raise Stuck(f"{otherwise} within {PATIENCE_S:.0f} s")
            self._row_if_due()
            time.sleep(_POLL_INTERVAL_S)
        return status

    def _first_answer_s(self, after_s: float) -> float:
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            firsts = ray.get([worker.first_answer_s.remote(after_s) for worker in self._workers], timeout=PATIENCE_S)
            answered: list[float] = [first for first in firsts if first is not None]
            if answered:
                return min(answered)
            time.sleep(_POLL_INTERVAL_S)
        raise Stuck(f"no worker had an answer within {PATIENCE_S:.0f} s of the kill")

    def _row_if_due(self) -> None:
        now_s = time.monotonic()
        passed_s = now_s - self._row_at_s
        if passed_s < _ROW_INTERVAL_S:
            return
        glimpses = self._glimpse()
        increments = sum(glimpse.increments for glimpse in glimpses)
        holders = [number for number, glimpse in enumerate(glimpses, 1) if glimpse.is_holder]
        self._account.row(increments, (increments - self._increments) / passed_s, holders)
        self._increments, self._row_at_s = increments, now_s

    def _glimpse(self) -> list[Glimpse]:
        now_s = time.monotonic()
        glimpses: list[Glimpse] = ray.get(
            [worker.glimpse.remote(now_s) for worker in self._workers], timeout=PATIENCE_S
        )
        return glimpses

    # When they have ended.

    def _check_permits(self) -> Finding:
        """All permits are free again: so many can be taken, and not one more."""
        taken = 0
        while taken <= PERMITS and self._semaphore.acquire(blocking=False):
            taken += 1
        return Finding(taken == PERMITS, f"{taken} of {PERMITS} permits were free at the end")

    def _check_replicas(self) -> Finding:
        """All replicas live, and have applied the same log."""

        def is_level(status: concoord.EnsembleStatus) -> bool:
            return all(r.alive for r in status.replicas) and len({r.applied_slot for r in status.replicas}) == 1

        slots = self._work_until(is_level, "the replicas did not become level").replicas[0].applied_slot
        return Finding(True, f"all {len(self._watch.status.replicas)} replicas live, and have applied {slots:,} slots")

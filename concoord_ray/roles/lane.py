"""The lane that executes: decided slots and confirmed reads, one job after another.

User code may take long, and must hold up neither heartbeats nor elections nor the agreement on further slots. So it
runs on a thread of its own, and the role's loop only hands jobs over and gets results back.

The hand-over costs as much as everything else that a leader does for a small command. So calls that have proved to be
quick are executed on the loop itself, while nothing is before them on the thread: a kind of call (class and method) is
quick once it has run ``inline_after_runs`` times in a row within ``quick_call_s`` each, and a single run beyond
``slow_call_s`` is held against it for much longer. Either way jobs are executed in order, and never two at once.

The price: a call that has been quick, and takes a second this time, holds up the loop for that second. It happens once
to a kind of call, on each replica: on all of them at once, mostly, since all execute the same slot. If it takes longer
than an election timeout another replica may come to lead. Nothing is lost by that, and the status, which is answered on
a loop of its own, names the call meanwhile. A slot's time cannot be known before it is executed, and to move a call to
another thread once it runs is not possible.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from concoord_ray.config import Config
from concoord_ray.paxos.outputs import Decided
from concoord_ray.roles.child import Child, ChildFailed
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.roles.mark import Mark, deadly_slot
from concoord_ray.rsm.calls import Applied
from concoord_ray.rsm.command import Batch, Entry, Reply
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.objects import Kind
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.snapshot import Interrupted, SnapshotFailed
from concoord_ray.rsm.transfer import Snapshot
from concoord_ray.rsm.wire import decode_batch

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: After a slow run a kind of call has to be quick this many times as often as at first.
_DISTRUST = 64
#: How long a leader's calls wait for a snapshot before it is left to a child.
_BRIEF_S = 0.01
#: Of how many kinds of call it is remembered how quick they are.
_KINDS = 10_000


@dataclass(slots=True)
class _Job:
    batches: list[tuple[int, Batch]]
    reads: list[Entry]
    kinds: frozenset[Kind]
    calls: int
    began_s: float = 0.0


@dataclass(slots=True)
class _Aside(Generic[T]):
    """Something else that only the thread may do with the executor; ``done`` gets its result on the loop."""

    work: Callable[[], T]
    done: Callable[[T], None]


class _Unborn(NamedTuple):
    """A snapshot that a child makes."""

    slot: int
    child: Child


def _never() -> bool:
    return False


def _patience(seconds: float, is_over: Callable[[], bool]) -> Callable[[], None]:
    """Raises Interrupted when ``is_over``, but not before that much has passed since now."""
    until_s = time.monotonic() + seconds

    def go_on() -> None:
        if time.monotonic() > until_s and is_over():
            raise Interrupted

    return go_on


class Lane:
    """An executor and its thread. ``done`` is a step of the role, on the loop that made the lane."""

    def __init__(
        self,
        executor: Executor,
        config: Config,
        done: Callable[[Applied, list[Reply]], None],
        fail_stop: FailStop,
        mark: Mark | None = None,
    ) -> None:
        self._executor = executor
        self._mark = mark or Mark()
        self._is_holding = False
        self._config = config
        self._done = done
        self._fail_stop = fail_stop
        self._loop = asyncio.get_running_loop()
        self._jobs: queue.SimpleQueue[_Job | _Aside[Any] | None] = queue.SimpleQueue()
        #: Jobs on the thread, or on their way back from it.
        self._handed_over = 0
        self._quick_runs: dict[Kind, int] = {}
        self._current: _Job | None = None
        self._collecting: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="concoord-executor", daemon=True)
        self._thread.start()

    def execute(self, decisions: list[Decided], reads: list[Entry]) -> None:
        """Execute decided slots, then reads; from a slot on that is held (see ``roles.mark``) none of either."""
        if self._mark.held_slot is not None and self._holds(self._mark.held_slot, decisions):
            return
        batches = [(slot, decode_batch(value)) for slot, value in decisions]
        entries = [entry for _, batch in batches for entry in batch.entries] + reads
        kinds = self._executor.kinds_of(entries)
        if self._mark.is_suspicious:
            batches = [(slot, self._mark.watched(slot, batch)) for slot, batch in batches]
        job = _Job(batches, reads, kinds, len(entries))
        if self._handed_over == 0 and all(map(self._is_quick, job.kinds)):
            self._done(*self._perform(job))
        else:
            self._handed_over += 1
            self._jobs.put(job)

    def _holds(self, held: int, decisions: list[Decided]) -> bool:
        """Whether they come to the slot that is held. Then those before it are executed, and no more ever."""
        value = next((value for slot, value in decisions if slot == held), None)
        if value is None:
            return self._is_holding  # Else it is to come, or a snapshot has it behind it.
        self.execute([decided for decided in decisions if decided.slot < held], [])
        self._is_holding = True
        self._mark.hold()
        retry_s = self._config.deadly_retry_s
        self._run_aside(lambda: deadly_slot(self._mark, self._executor, value, retry_s), self._fail_stop.fail)
        return True

    def restore(self, snapshot: Rope) -> None:
        """Go on from a snapshot, after what was handed over before."""

        def restore() -> Applied:
            has_state = self._executor.next_slot > 0
            gc.unfreeze()
            self._executor.restore(snapshot)
            if has_state:
                gc.collect()  # Cycles in the state before: frozen, they would stay.
            # Python would look at a million new objects three times before it takes them for old, and hold up
            # everything for some 0.2 s each time. The price: a cycle among them is not missed if it is dropped later.
            gc.freeze()
            return self._executor.take_applied()

        self._run_aside(restore, lambda applied: self._done(applied, []))

    def take_snapshot(
        self, taken: Callable[[Snapshot | SnapshotFailed], None], has_to_be_brief: Callable[[], bool] = _never
    ) -> None:
        """Take one after what was handed over before; an error if an object's state cannot be pickled.

        If it has to be brief, since calls wait, it is left to a child what is not done after a moment.
        ``has_to_be_brief`` is asked again and again, on the thread: a follower may come to lead meanwhile.
        """
        executor = self._executor

        def take() -> Snapshot | SnapshotFailed | _Unborn:
            slot, extra = executor.next_slot, executor.stop_sign
            try:
                if Child.is_possible():
                    try:
                        return Snapshot(slot, executor.snapshot(extra, _patience(_BRIEF_S, has_to_be_brief)))
                    except Interrupted:
                        with contextlib.suppress(OSError):  # No memory for a child: then others have to wait.
                            return _Unborn(slot, Child(lambda: executor.snapshot(extra)))
                return Snapshot(slot, executor.snapshot(extra))
            except SnapshotFailed as error:  # Its user's mistake: the replica goes on, and so does its log.
                logger.warning("no snapshot can be taken: %s", error)
                return error

        def done(result: Snapshot | SnapshotFailed | _Unborn) -> None:
            if isinstance(result, _Unborn):
                self._collecting = self._fail_stop.watch(self._loop.create_task(self._collect(result, taken)))
            else:
                taken(result)

        self._run_aside(take, done)

    async def _collect(self, unborn: _Unborn, taken: Callable[[Snapshot | SnapshotFailed], None]) -> None:
        try:
            snapshot = Snapshot(unborn.slot, await asyncio.to_thread(unborn.child.collect))
        except (ChildFailed, OSError) as error:  # Perhaps because of what it was to pickle: if so, it turns out now.
            logger.warning("a snapshot is taken by this process after all: %s", error)
            self.take_snapshot(taken)
        else:
            self._fail_stop.step(taken, snapshot)

    def _run_aside(self, work: Callable[[], T], done: Callable[[T], None]) -> None:
        self._handed_over += 1
        self._jobs.put(_Aside(work, done))

    def executing(self) -> str:
        """What has been executing for longer than a moment, as "Class.method"; empty if nothing has. Any thread."""
        job = self._current
        if job is None or time.monotonic() - job.began_s < self._config.executing_report_s:
            return ""
        return ", ".join(sorted(f"{class_name}.{method}" for class_name, method in job.kinds))

    def close(self) -> None:
        """End after what was handed over."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if isinstance(job, _Aside):
                    self._loop.call_soon_threadsafe(self._fail_stop.step, self._back_from, job.done, job.work())
                    del job  # It may hold a snapshot, and the next job may never come.
                    continue
                applied, replies = self._perform(job)
            except BaseException as error:  # Diverged, out of memory: the role decides, on its loop.
                self._loop.call_soon_threadsafe(self._fail_stop.fail, error)
                return
            self._loop.call_soon_threadsafe(self._fail_stop.step, self._back, applied, replies)

    def _back_from(self, done: Callable[[T], None], result: T) -> None:
        self._handed_over -= 1
        done(result)

    def _back(self, applied: Applied, replies: list[Reply]) -> None:
        self._handed_over -= 1
        self._done(applied, replies)

    def _perform(self, job: _Job) -> tuple[Applied, list[Reply]]:
        job.began_s = time.monotonic()
        self._current = job
        for slot, batch in job.batches:
            self._mark.begin(slot)
            self._executor.apply_batch(slot, batch)
        if job.batches:
            self._mark.end(job.batches[-1][0])
        applied = self._executor.take_applied()
        replies = [self._executor.read(entry) for entry in job.reads]
        self._current = None
        self._judge(job, time.monotonic() - job.began_s)
        return applied, replies

    # How quick calls are.

    def _is_quick(self, kind: Kind) -> bool:
        return self._quick_runs.get(kind, 0) >= self._config.inline_after_runs

    def _judge(self, job: _Job, took_s: float) -> None:
        """Remember how long a job took. Its calls are judged together: who kept slow company was not slow for long."""
        runs, needed = self._quick_runs, self._config.inline_after_runs
        if took_s >= self._config.slow_call_s:
            for kind in job.kinds:
                runs[kind] = -needed * _DISTRUST
        elif took_s > self._config.quick_call_s * max(1, job.calls):
            for kind in job.kinds:
                runs[kind] = min(0, runs.get(kind, 0))
        else:
            for kind in job.kinds:
                count = runs.get(kind, 0)
                if count < needed:
                    runs[kind] = count + 1
        if len(runs) > _KINDS:
            runs.clear()

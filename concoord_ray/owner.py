"""Who calls: owners are to replicated locks what threads are to ``threading``.

An owner is a session (added by the ensemble) plus the name made here: the thread, by a number that is never used again;
the asyncio task, if there is one; and the Ray task, if the caller is in a plain one. Ray reuses worker processes, and
the next task must not own what its predecessor did: what an owner in a Ray task holds ends with that task.

Ray tells only the main thread which task runs (every other thread is given an id of its own that means nothing), and
tells nobody when it has ended. But Python knows whose code the main thread runs, see ``RayTasks``.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import os
import sys
import threading
from types import CodeType, FrameType, GeneratorType
from typing import Any
from weakref import WeakKeyDictionary, ref

import ray

from concoord_ray.rsm.context import IN_TASK

_serials = itertools.count(1)
_tasks: WeakKeyDictionary[asyncio.Task[object], int] = WeakKeyDictionary()


class _Thread(threading.local):
    serial = 0
    #: The Ray task that it works for, empty for none; None if that was never asked.
    task: str | None = None


_thread = _Thread()


class _Run:
    """One run of one Ray task."""

    __slots__ = ("code", "generator", "key", "name")

    def __init__(self, name: str, key: tuple[str, int] | None, code: CodeType | None) -> None:
        self.name = name
        #: Ray's id and the number of the attempt, which may follow the last one in the same worker. None if the main
        #: thread has not told.
        self.key = key
        #: What the main thread runs at the bottom of its stack.
        self.code = code
        #: Of a task that yields: its frames are gone while it is held back, and not because it has ended.
        self.generator: ref[GeneratorType[Any, Any, Any]] | None = None


class RayTasks:
    """The plain Ray task that this worker runs.

    A worker's main thread is in Ray's ``main_loop``, and runs a task as long as there is Python above that: the task's
    function is at the bottom. (One that is compiled to C looks ended where it runs no Python at all.)
    """

    def __init__(self) -> None:
        self._run: _Run | None = None
        self._lock = threading.Lock()

    def forked(self) -> None:
        """This is a child: who held the lock is not here."""
        self._lock = threading.Lock()

    def of_caller(self) -> str:
        """The name of the task that the calling thread works for, empty for none."""
        if threading.current_thread() is threading.main_thread():
            return self._of_main_thread()
        known = _thread.task
        if known is None or (known and not self.is_running(known)):
            known = _thread.task = self._of_new_thread()
        return known

    def is_running(self, name: str) -> bool:
        """Whether this task runs; any thread may ask."""
        run = self._run
        if run is None or run.name != name:
            return False
        if run.generator is not None:
            generator = run.generator()
            return generator is not None and generator.gi_frame is not None
        in_loop, bottom = _bottom(sys._current_frames().get(threading.main_thread().ident or 0))
        if not in_loop or bottom is None:
            return not in_loop
        is_other = run.code is not None and bottom.f_code is not run.code
        return not is_other or _is_rays_own(bottom) or _yields(bottom)

    def _of_main_thread(self) -> str:
        worker: Any = ray._private.worker.global_worker
        key = (worker.current_task_id.hex(), worker.core_worker.get_current_task_attempt_number())
        bottom = _bottom(sys._getframe())[1]
        code = None if bottom is None else bottom.f_code
        with self._lock:
            run = self._run
            if run is not None and run.key is None and run.code is code:
                run.key = key  # A thread of this task was first.
            elif run is None or run.key != key:
                run = self._run = _Run(f"{key[0]}.{key[1]}", key, code)
            if bottom is not None and run.generator is None and _yields(bottom):
                run.generator = _generator_of(bottom)
            return run.name

    def _of_new_thread(self) -> str:
        in_loop, bottom = _bottom(sys._current_frames().get(threading.main_thread().ident or 0))
        if not in_loop or bottom is None or _is_rays_own(bottom):
            return ""  # Nothing runs: it works for the process.
        with self._lock:
            run = self._run
            if run is None or run.code is not bottom.f_code:
                run = self._run = _Run(f"thread-{next(_serials)}", None, bottom.f_code)
                if _yields(bottom):
                    run.generator = _generator_of(bottom)
            return run.name


TASKS = RayTasks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TASKS.forked)


def current_owner() -> str:
    """The name of whoever runs this, unique within the process."""
    serial = _thread.serial
    if not serial:
        serial = _thread.serial = next(_serials)
    name = str(serial)
    if asyncio._get_running_loop() is not None:
        task = asyncio.current_task()
        if task is not None:
            number = _tasks.get(task)
            if number is None:
                number = _tasks[task] = next(_serials)
            name = f"{name}/{number}"
    if ray._private.worker.global_worker.mode != ray.WORKER_MODE:
        return name
    if ray.get_runtime_context().get_actor_id() is not None:
        return name
    ray_task = TASKS.of_caller()
    return f"{name}{IN_TASK}{ray_task}" if ray_task else name


def _bottom(frame: FrameType | None) -> tuple[bool, FrameType | None]:
    """Of a worker's main thread: whether it is in Ray's loop, and the frame right above that; None if it is idle."""
    above = None
    while frame is not None:
        if frame.f_code.co_name == "main_loop" and frame.f_globals.get("__name__") == "ray._private.worker":
            return True, above
        above, frame = frame, frame.f_back
    return False, None


def _is_rays_own(frame: FrameType) -> bool:
    """Whether this is what Ray does before and after a task."""
    return str(frame.f_globals.get("__name__")).startswith("ray.")


def _yields(frame: FrameType) -> bool:
    return bool(frame.f_code.co_flags & inspect.CO_GENERATOR)


def _generator_of(frame: FrameType) -> ref[GeneratorType[Any, Any, Any]] | None:
    """The generator whose frame this is. Only the collector knows; it is asked once in a task."""
    found = (each for each in gc.get_objects() if type(each) is GeneratorType and each.gi_frame is frame)
    generator = next(found, None)
    return None if generator is None else ref(generator)

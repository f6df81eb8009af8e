"""Who calls: owners are to replicated locks what threads are to ``threading``.

An owner is a session (added by the ensemble) plus the name made here: the Ray task, if the caller is in a plain one
(Ray reuses worker processes, and the next task must not own what its predecessor did); the thread, by a number that is
never used again; and the asyncio task, if there is one.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from weakref import WeakKeyDictionary

import ray

from concoord_ray.rsm.context import IN_TASK

_serials = itertools.count(1)
_thread = threading.local()
_tasks: WeakKeyDictionary[asyncio.Task[object], int] = WeakKeyDictionary()


def current_owner() -> str:
    """The name of whoever runs this, unique within the process."""
    serial = getattr(_thread, "serial", None)
    if serial is None:
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
    context = ray.get_runtime_context()
    return name if context.get_actor_id() is not None else f"{name}{IN_TASK}{context.get_task_id()}"


def is_task_running() -> bool:
    """Whether this process runs a Ray task at the moment; any thread may ask. Always true in a driver.

    A worker's main thread is in Ray's own loop, with no Python above it, unless it runs a task. No call into Ray tells
    as much to another thread.
    """
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return frame is None or frame.f_code.co_name != "main_loop" or not frame.f_code.co_filename.endswith("worker.py")

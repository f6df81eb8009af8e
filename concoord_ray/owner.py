"""Who calls: owners are to replicated locks what threads are to ``threading``.

An owner is a session (added by the ensemble) plus the name made here: the Ray task, if the caller is in a plain one
(Ray reuses worker processes, and the next task must not own what its predecessor did); the thread, by a number that is
never used again; and the asyncio task, if there is one.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from weakref import WeakKeyDictionary

import ray

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
    return name if context.get_actor_id() is not None else f"{name}@{context.get_task_id()}"

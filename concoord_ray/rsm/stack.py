"""The same depth of Python's stack for user code, wherever it is called from.

How deep a method may recurse depends on how much of the stack those use that call it; and what it has changed by the
time of its RecursionError is part of the state. A replica that executes on its event loop would so come to another
state than one that executes on a thread. So the limit is moved while user code runs: ``DEPTH`` calls are left to it.

How much is in use cannot be asked for: some calls of C count, and show in no frame. It is tried out, once for every way
to come here. Ways are told apart by the instructions that the frames are at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: How many calls deep user code may go: as deep as Python lets a program by default.
DEPTH = 1000
#: Of so many ways it is remembered how much of the stack they use.
_WAYS = 1000

_in_use: dict[int, int] = {}


@contextmanager
def even_stack() -> Iterator[None]:
    """Leave ``DEPTH`` calls to the body."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(_used(before) + DEPTH)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _used(limit: int) -> int:
    way = limit
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        way = (way * 31 + frame.f_lasti) & 0xFFFFFFFFFFFF
        frame = frame.f_back
    used = _in_use.get(way)
    if used is None:
        if len(_in_use) >= _WAYS:
            _in_use.clear()
        used = _in_use[way] = limit - _unwatched_room()
    return used


def _unwatched_room() -> int:
    """A profiler or debugger in Python would be called at the very end of the stack, and end there."""
    profiler, tracer = sys.getprofile(), sys.gettrace()
    sys.setprofile(None)
    sys.settrace(None)
    try:
        return _room() + 1
    finally:
        sys.settrace(tracer)
        sys.setprofile(profiler)


def _room() -> int:
    try:
        return _room() + 1
    except RecursionError:
        return 0

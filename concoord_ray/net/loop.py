"""The event loop for threads of our own: uvloop's where it is installed. (Ray's async actors pick it up themselves.)"""

from __future__ import annotations

import asyncio
from types import ModuleType

uvloop: ModuleType | None
try:
    import uvloop
except ImportError:  # it does not exist for every platform; asyncio's own loop does the same, slower
    uvloop = None


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop for this thread to run; the caller closes it."""
    return asyncio.new_event_loop() if uvloop is None else uvloop.new_event_loop()

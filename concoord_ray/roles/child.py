"""A child for a moment: it has a copy of this process's memory, makes something of it, hands that over, and is gone.

For a leader that has to make a snapshot itself since it is the only replica left, or that has come to lead while it
made one. To pickle a million small objects takes a second, for which they must not change; the child has them as they
were, at the price of a fork (some milliseconds), so that calls go on meanwhile. Redis saves its data in the same way.

A fork copies no thread but the one that forks, so whatever lock another one held stays held in the child for ever.
Hence the child runs nothing but the pickler: no loop, no logging, nothing of Ray. At once it closes every descriptor
but the pipe's, or connections would outlive this process, and it ends without any cleaning up. What it runs of users'
code (``__getstate__``, ``__reduce__``) may still wait for such a lock. So whoever collects gives up on a child that
says nothing for ``SILENCE_S``, and has to do without.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable

from concoord_ray.rsm.rope import Rope

#: How long a child may take for all that comes before its first byte, or between two.
SILENCE_S = 60.0
_BLOCK_BYTES = 1 << 20
#: It has as much to do as this process, and less of a hurry.
_NICENESS = 5
#: Above the descriptors that any process has.
_DESCRIPTORS = 1 << 20

# Python warns of what is said above.
warnings.filterwarnings("ignore", category=DeprecationWarning, module=__name__.replace(".", r"\."))


class ChildFailed(Exception):
    """The child gave nothing that could be used."""


class Child:
    """Its memory is as this process's was when it was made; see ``collect``."""

    def __init__(self, work: Callable[[], Rope]) -> None:
        """Fork, and let the child do the work. Raises OSError if there can be no child."""
        self._descriptor, into = os.pipe()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self._descriptor)
            os.close(into)
            raise
        if self._pid == 0:
            _live(work, into)
        os.close(into)

    @staticmethod
    def is_possible() -> bool:
        """Not on macOS, whose own libraries do not survive a fork."""
        return sys.platform == "linux"

    def collect(self, silence_s: float = SILENCE_S) -> Rope:
        """What it made; waits for it. Raises ChildFailed, and then it is gone as well."""
        try:
            made = self._read(silence_s)
        except BaseException:
            os.kill(self._pid, signal.SIGKILL)  # Not waited for yet, so its pid is still its own.
            raise
        finally:
            os.close(self._descriptor)
            status = _status_of(self._pid)
        if status != 0:
            raise ChildFailed(f"the child ended with status {status}")
        return made

    def _read(self, silence_s: float) -> Rope:
        with contextlib.suppress(OSError, AttributeError):  # Only for speed, and not everywhere.
            fcntl.fcntl(self._descriptor, fcntl.F_SETPIPE_SZ, _BLOCK_BYTES)
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN | select.POLLHUP)
        read = Rope()
        while True:
            if not poll.poll(silence_s * 1000):
                raise ChildFailed(f"the child has said nothing for {silence_s} s")
            if not (data := os.read(self._descriptor, _BLOCK_BYTES)):
                return read
            read.write(data)


def _status_of(pid: int) -> int:
    """How a child ended; -1 if somebody else in this process has seen it first."""
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return -1


def _live(work: Callable[[], Rope], into: int) -> None:
    """All of a child's life. It never returns."""
    status = 1
    try:
        os.closerange(3, into)
        os.closerange(into + 1, _DESCRIPTORS)
        os.nice(_NICENESS)
        for piece in work().pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(into, left) :]
        status = 0
    finally:
        os._exit(status)

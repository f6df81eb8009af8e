"""What happened, line by line, and one hash of all of it.

The hash covers every line since the start, the memory only the last ones: a long run stays small, and a failing seed is
run again with ``full=True``.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterable

from tests.sim.clock import NS, Scheduler


class Trace:
    """A log of (virtual time, node, event) with a running blake2b hash."""

    def __init__(self, scheduler: Scheduler, keep: int = 400, full: bool = False) -> None:
        self._scheduler = scheduler
        self._hash = hashlib.blake2b(digest_size=16)
        self._lines: deque[str] = deque(maxlen=None if full else keep)
        self.count = 0

    def log(self, node: str, event: str) -> None:
        seconds, rest = divmod(self._scheduler.now_ns, NS)
        line = f"{seconds:5d}.{rest:09d} {node:<12} {event}"
        self._hash.update(line.encode())
        self._hash.update(b"\n")
        self._lines.append(line)
        self.count += 1

    def digest(self) -> str:
        """Hash of all lines so far: equal for equal seeds, and only for equal runs."""
        return self._hash.hexdigest()

    def lines(self) -> tuple[str, ...]:
        """The lines still kept, oldest first."""
        return tuple(self._lines)

    def tail(self, count: int = 50) -> str:
        """The last ``count`` kept lines as text, with a note of how many came before."""
        kept = list(self._lines)[-count:]
        return "\n".join([f"... {self.count - len(kept)} lines before (seed {self._scheduler.seed})", *kept])

    def grep(self, *words: str) -> Iterable[str]:
        """The kept lines that contain every one of ``words``."""
        return [line for line in self._lines if all(word in line for word in words)]

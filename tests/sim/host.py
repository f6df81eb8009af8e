"""A simulated process: it runs, is stopped like by SIGSTOP, or is dead.

Whatever acts on a process goes through ``dispatch``: a running host acts at once, a paused one later and in order, a
dead one never. A restarted host is another ``life``; nothing that was meant for an earlier life reaches it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum

from tests.sim.clock import LocalClock, LocalTimer, Scheduler
from tests.sim.trace import Trace


class HostState(Enum):
    UP = "up"
    PAUSED = "paused"
    DOWN = "down"


class Crashed(BaseException):
    """Unwinds the code of a host that crashed in the middle of a step. Not an Exception: no role may catch it."""


class Host:
    """One process that can be paused, crashed and restarted, with its own clock."""

    def __init__(self, scheduler: Scheduler, trace: Trace, name: str, drift_ppm: int = 0) -> None:
        self.scheduler = scheduler
        self.trace = trace
        self.name = name
        self.clock = LocalClock(scheduler, drift_ppm)
        self.state = HostState.UP
        self.life = 0
        self._deferred: deque[Callable[[], None]] = deque()
        self._crash_listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"Host({self.name}, {self.state.value}, life {self.life})"

    def on_crash(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` at every crash of this host, once it is down. For the network and the disk."""
        self._crash_listeners.append(listener)

    def dispatch(self, callback: Callable[[], None]) -> None:
        """Let the process do something: now, when it is resumed, or never."""
        if self.state is HostState.UP:
            self._run(callback)
        elif self.state is HostState.PAUSED:
            self._deferred.append(callback)

    def after(self, delay_s: float, callback: Callable[[], None]) -> LocalTimer:
        """A timer of this life on this host's own clock. It fires late if the host is paused, never after a crash."""
        return self.clock.after(delay_s, lambda: self.dispatch(callback))

    def pause(self) -> None:
        if self.state is HostState.UP:
            self.state = HostState.PAUSED
            self.trace.log(self.name, "paused")

    def resume(self) -> None:
        """Run everything that was deferred, in order, then go on."""
        if self.state is not HostState.PAUSED:
            return
        self.state = HostState.UP
        self.trace.log(self.name, f"resumed with {len(self._deferred)} events waiting")
        while self._deferred and self.state is HostState.UP:
            self._run(self._deferred.popleft())

    def crash(self) -> None:
        """Lose memory, timers and everything deferred. Harmless if the host is down."""
        if self.state is HostState.DOWN:
            return
        self.state = HostState.DOWN
        self.life += 1
        self._deferred.clear()
        self.clock.cancel_all()
        self.trace.log(self.name, "crashed")
        for listener in self._crash_listeners:
            listener()

    def restart(self) -> None:
        """Be up again, with nothing running. Whoever calls this starts the roles."""
        if self.state is not HostState.DOWN:
            raise RuntimeError(f"{self!r}: only a host that is down can restart")
        self.state = HostState.UP
        self.trace.log(self.name, f"restarted, life {self.life}")

    def _run(self, callback: Callable[[], None]) -> None:
        life = self.life
        try:
            callback()
        except Crashed:
            if self.life == life:
                raise

"""Virtual time: one scheduler for the whole simulation, and a clock of its own for every host.

Time is whole nanoseconds, so that no sum depends on the order of float additions. Events of the same instant run in the
order in which they were scheduled. All randomness is drawn from named streams of one seed: a part of the simulation
that draws more or less does not change what another part sees.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

NS = 1_000_000_000
_PPM = 1_000_000


def to_ns(seconds: float) -> int:
    """Seconds as whole nanoseconds."""
    return round(seconds * NS)


class Livelock(Exception):
    """The simulation ran more events than it was allowed: something schedules itself without end."""


class Timer:
    """A scheduled callback. ``cancel`` may be called at any time, any number of times."""

    __slots__ = ("callback", "due_ns")

    def __init__(self, due_ns: int, callback: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Scheduler:
    """A heap of (time, sequence, callback), and the only source of randomness."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.now_ns = 0
        self.events = 0
        self._heap: list[tuple[int, int, Timer]] = []
        self._sequence = 0

    def stream(self, name: str) -> random.Random:
        """A random generator of its own for one part of the simulation. The same name always gives the same numbers."""
        return random.Random(f"{self.seed}/{name}")

    @property
    def now_s(self) -> float:
        return self.now_ns / NS

    def at_ns(self, due_ns: int, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` at a true time; at once after the current event if that has passed."""
        timer = Timer(max(due_ns, self.now_ns), callback)
        self._sequence += 1
        heapq.heappush(self._heap, (timer.due_ns, self._sequence, timer))
        return timer

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Run ``callback`` after a delay of true time."""
        return self.at_ns(self.now_ns + to_ns(delay_s), callback)

    def step(self, limit_ns: int | None = None) -> bool:
        """Run the next event. False if there is none (up to ``limit_ns``)."""
        while self._heap:
            due_ns, _, timer = self._heap[0]
            if limit_ns is not None and due_ns > limit_ns:
                return False
            heapq.heappop(self._heap)
            if timer.callback is None:
                continue
            callback, timer.callback = timer.callback, None
            self.now_ns = due_ns
            self.events += 1
            callback()
            return True
        return False

    def run(self, duration_s: float, stop: Callable[[], bool] | None = None, max_events: int = 10_000_000) -> bool:
        """Run for ``duration_s`` of virtual time, or until ``stop()`` holds. True if ``stop`` ended it.

        Without ``stop`` the clock ends exactly ``duration_s`` later, whether or not there were events.
        Raises Livelock after ``max_events`` events.
        """
        limit_ns = self.now_ns + to_ns(duration_s)
        for _ in range(max_events):
            if stop is not None and stop():
                return True
            if not self.step(limit_ns):
                self.now_ns = limit_ns
                return stop is not None and stop()
        raise Livelock(f"seed {self.seed}: {max_events} events by {self.now_s:.6f} s, and no end")


class LocalTimer:
    """A timer on one host's clock: it moves when that clock jumps or changes its rate."""

    __slots__ = ("_clock", "callback", "due_local_ns", "true")

    def __init__(self, clock: LocalClock, due_local_ns: int, callback: Callable[[], None]) -> None:
        self._clock = clock
        self.due_local_ns = due_local_ns
        self.callback = callback
        self.true: Timer | None = None

    def cancel(self) -> None:
        self._clock.forget(self)


class LocalClock:
    """What one host believes about time: its monotonic clock runs fast or slow and may jump ahead; its wall clock
    may also step back.
    """

    def __init__(self, scheduler: Scheduler, drift_ppm: int = 0, wall_offset_s: float = 0.0) -> None:
        self._scheduler = scheduler
        #: What the clock was built with; to drift by it again ends a fault.
        self.own_drift_ppm = drift_ppm
        self._drift_ppm = drift_ppm
        self._base_local_ns = scheduler.now_ns
        self._base_true_ns = scheduler.now_ns
        self._wall_offset_ns = to_ns(wall_offset_s)
        self._timers: dict[int, LocalTimer] = {}

    @property
    def drift_ppm(self) -> int:
        return self._drift_ppm

    def now_ns(self) -> int:
        """Monotonic local time."""
        elapsed_ns = self._scheduler.now_ns - self._base_true_ns
        return self._base_local_ns + elapsed_ns * (_PPM + self._drift_ppm) // _PPM

    def now(self) -> float:
        """Monotonic local time in seconds."""
        return self.now_ns() / NS

    def wall(self) -> float:
        """Wall time in seconds, which may step back."""
        return (self.now_ns() + self._wall_offset_ns) / NS

    def jump(self, by_s: float) -> None:
        """Move the monotonic clock ahead, as after a suspended machine. Timers that this passes fire at once."""
        if by_s < 0:
            raise ValueError(f"jump({by_s}): a monotonic clock never goes back; use step_wall()")
        self._rebase(self._drift_ppm, to_ns(by_s))

    def step_wall(self, by_s: float) -> None:
        """Set the wall clock ahead or back, as an operator or NTP does. Timers do not notice."""
        self._wall_offset_ns += to_ns(by_s)

    def drift(self, ppm: int) -> None:
        """From now on gain ``ppm`` microseconds per second (lose them, if negative)."""
        if ppm <= -_PPM:
            raise ValueError(f"drift({ppm}): the clock would stop or run backwards")
        self._rebase(ppm, 0)

    def after(self, delay_s: float, callback: Callable[[], None]) -> LocalTimer:
        """Run ``callback`` once this clock has advanced by ``delay_s``."""
        timer = LocalTimer(self, self.now_ns() + to_ns(delay_s), callback)
        self._timers[id(timer)] = timer
        self._arm(timer)
        return timer

    def forget(self, timer: LocalTimer) -> None:
        """Cancel one timer; nothing happens if it has fired."""
        if self._timers.pop(id(timer), None) is not None and timer.true is not None:
            timer.true.cancel()

    def cancel_all(self) -> None:
        for timer in list(self._timers.values()):
            self.forget(timer)

    def _rebase(self, drift_ppm: int, jump_ns: int) -> None:
        self._base_local_ns = self.now_ns() + jump_ns
        self._base_true_ns = self._scheduler.now_ns
        self._drift_ppm = drift_ppm
        # In the order of their deadlines, so that a jump over several timers fires them as the clock would have.
        for timer in sorted(self._timers.values(), key=lambda each: each.due_local_ns):
            self._arm(timer)

    def _arm(self, timer: LocalTimer) -> None:
        if timer.true is not None:
            timer.true.cancel()
        ahead_ns = max(0, timer.due_local_ns - self._base_local_ns)
        rate = _PPM + self._drift_ppm
        due_ns = self._base_true_ns + -(-ahead_ns * _PPM // rate)
        timer.true = self._scheduler.at_ns(due_ns, lambda: self._fire(timer))

    def _fire(self, timer: LocalTimer) -> None:
        self._timers.pop(id(timer), None)
        timer.callback()

"""Interleaved measuring: what is compared runs in turn, round by round, so that the machine's moods hit all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True)
class Samples:
    """The median of each round, in round order. Units are the caller's: seconds a call, or calls a second."""

    medians: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Over all rounds."""
        return statistics.median(self.medians)

    def ratio_to(self, base: Samples) -> tuple[float, float, float]:
        """(lowest, median, highest) ratio, round by round."""
        ratios = sorted(mine / its for mine, its in zip(self.medians, base.medians, strict=True))
        return ratios[0], statistics.median(ratios), ratios[-1]


def latencies(calls: Mapping[str, Callable[[], object]], *, rounds: int, calls_per_round: int) -> dict[str, Samples]:
    """The median latency in seconds of each kind of call, one at a time, per round."""
    samples = {name: Samples() for name in calls}
    for call in calls.values():  # Warm up: connections, code paths, caches.
        for _ in range(20):
            call()
    for _ in range(rounds):
        for name, call in calls.items():
            times = []
            for _ in range(calls_per_round):
                began = time.perf_counter()
                call()
                times.append(time.perf_counter() - began)
            samples[name].medians.append(statistics.median(times))
    return samples


def throughputs(bursts: Mapping[str, Callable[[int], object]], *, rounds: int, calls: int) -> dict[str, Samples]:
    """Calls a second of each kind, when ``calls`` are under way at once, per round."""
    samples = {name: Samples() for name in bursts}
    for burst in bursts.values():
        burst(calls // 10)
    for _ in range(rounds):
        for name, burst in bursts.items():
            began = time.perf_counter()
            burst(calls)
            samples[name].medians.append(calls / (time.perf_counter() - began))
    return samples

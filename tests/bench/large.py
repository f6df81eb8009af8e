"""``python -m tests.bench.large``: who calls a small object, how long does a large one in the same ensemble hold it up?

A process of its own calls a counter every two milliseconds over the direct path, and notes how long each call took.
Meanwhile replicas are killed and catch up by snapshot (the log is truncated, so that nothing else helps), snapshots are
written to disk, and a backup is made: first while the ensemble holds next to nothing, then with a large object in it.
What the second adds to the first is the large object's doing; the rest is the fault's, and the machine's. A single
worst call says more of the machine than of anything else: look at the median of the rounds' worst.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import ray

import concoord_ray as concoord
from concoord_ray import Ensemble, EnsembleStatus

_NAME = "large"
_INTERVAL_S = 0.002
#: So many slots come between two truncations: a replica that was away for a moment needs a snapshot.
_TRUNCATE_SLOTS = 64
_RECOVERY_S = 120.0


@concoord.replicated
class Large:
    """What is large, in one of two shapes."""

    def __init__(self) -> None:
        self.parts: dict[int, Any] = {}

    def put(self, number: int, part: bytes) -> None:
        """One value, by way of the log."""
        self.parts[number] = part

    def grow(self, begin: int, end: int) -> None:
        """Small objects, four for each number: it is their count that makes them large."""
        for n in range(begin, end):
            self.parts[n] = {"n": n, "at": (n, n / 7), "by": {"x": (n,)}}

    @concoord.readonly
    def size(self) -> int:
        """How many parts there are."""
        return len(self.parts)


class Prober:
    """Calls a small object all the time, as an actor of its own."""

    def __init__(self, counter: concoord.Handle[Any]) -> None:
        self._counter = counter
        self._calls: list[tuple[float, float]] = []
        self._is_over = False

    def run(self) -> None:
        """Until ``stop``."""
        while not self._is_over:
            began_s = time.monotonic()
            self._counter.increment()
            self._calls.append((began_s, time.monotonic()))
            time.sleep(_INTERVAL_S)

    def take(self) -> list[tuple[float, float]]:
        """The calls since the last time: when each began and when it ended, on the machine's monotonic clock."""
        taken, self._calls = self._calls, []
        return taken

    def stop(self) -> None:
        """End ``run``."""
        self._is_over = True


class Figures(NamedTuple):
    """What one case did to the calls of a small object, and to the memory of the replicas."""

    took_s: float
    calls: int
    median_ms: float
    p99_ms: float
    worst_ms: float
    #: Of each replica's index: resident size at the end, and at its highest, in MiB.
    memory: dict[int, tuple[int, int]]

    @classmethod
    def typical(cls, rounds: list[Figures]) -> Figures:
        """The median of each figure; memory as it was in the last round."""
        return cls(
            took_s=statistics.median(each.took_s for each in rounds),
            calls=round(statistics.median(each.calls for each in rounds)),
            median_ms=statistics.median(each.median_ms for each in rounds),
            p99_ms=statistics.median(each.p99_ms for each in rounds),
            worst_ms=statistics.median(each.worst_ms for each in rounds),
            memory=rounds[-1].memory,
        )


class Memory:
    """The resident size of every replica, looked at all the time."""

    def __init__(self) -> None:
        self.pids: dict[int, int] = {}
        self._peaks: dict[int, int] = {}
        self._last: dict[int, int] = {}
        threading.Thread(target=self._look, daemon=True).start()

    def take(self) -> dict[int, tuple[int, int]]:
        """(now, highest since the last time), in MiB, by index."""
        peaks, self._peaks = self._peaks, {}
        return {index: (self._last[index], peaks[index]) for index in sorted(peaks)}

    def _look(self) -> None:
        while True:
            for index, pid in list(self.pids.items()):
                try:
                    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                except (FileNotFoundError, ProcessLookupError):
                    continue
                self._last[index] = pages >> 8
                self._peaks[index] = max(self._peaks.get(index, 0), pages >> 8)
            time.sleep(0.01)


class Bench:
    """One ensemble, its prober, and what is done to it."""

    def __init__(self, ensemble: Ensemble, settle_s: float) -> None:
        self._ensemble = ensemble
        self._settle_s = settle_s
        large: Any = Large  # mypy takes a decorated class for the class.
        self._large = large.options(name="large", ensemble=_NAME).remote()
        counter = concoord.Counter.options(name="counter", ensemble=_NAME).remote()
        remote: Any = ray.remote  # Its types know no options.
        self._prober = remote(max_concurrency=3)(Prober).remote(counter)
        self._running = self._prober.run.remote()
        self._memory = Memory()

    def close(self) -> None:
        """Stop the prober; raises what it raised."""
        ray.get(self._prober.stop.remote())
        ray.get(self._running)

    def settled(self) -> EnsembleStatus:
        """Wait until everybody lives and has come as far as the leader."""
        until_s = time.monotonic() + _RECOVERY_S
        while time.monotonic() < until_s:
            status = self._ensemble.status()
            self._memory.pids.update({r.index: r.pid for r in status.replicas if r.pid is not None and r.alive})
            slots = [replica.applied_slot or 0 for replica in status.replicas if replica.alive]
            if status.leader is not None and len(slots) == len(status.replicas) and max(slots) - min(slots) < 1000:
                return status
            time.sleep(0.2)
        raise TimeoutError(f"not settled after {_RECOVERY_S} s: {self._ensemble.status()}")

    def measured(self, act: Callable[[], object]) -> Figures:
        """Do something, and tell how the prober fared until everything had settled again."""
        self.settled()
        time.sleep(self._settle_s)
        ray.get(self._prober.take.remote())
        self._memory.take()
        began_s = time.monotonic()
        act()
        self.settled()
        time.sleep(self._settle_s)
        calls = [1000 * (ended_s - at_s) for at_s, ended_s in ray.get(self._prober.take.remote())]
        return Figures(
            took_s=time.monotonic() - began_s,
            calls=len(calls),
            median_ms=statistics.median(calls),
            p99_ms=statistics.quantiles(calls, n=100)[98],
            worst_ms=max(calls),
            memory=self._memory.take(),
        )

    def fill(self, shape: str, megabytes: int) -> None:
        """Make the large object large."""
        if shape == "values":
            for number in range(megabytes):
                self._large.put(number, bytes([number % 256]) * 1_000_000)
        else:
            for begin in range(0, megabytes * 2500, 2500):
                self._large.grow(begin, begin + 2500)
        print(f"  the object has {self._large.size()} parts")

    # What is done.

    def nothing(self) -> None:
        """As long as anything else takes."""
        time.sleep(5)

    def kill_followers(self, count: int) -> None:
        """SIGKILL so many at once, and wait until their processes are gone."""
        followers = [replica for replica in self.settled().replicas if not replica.is_leader]
        for follower in followers[:count]:
            assert follower.pid is not None
            os.kill(follower.pid, signal.SIGKILL)
        time.sleep(0.5)

    def backup(self) -> None:
        """Of the whole ensemble, to a file."""
        with tempfile.TemporaryDirectory() as directory:
            concoord.backup(Path(directory) / "backup", _NAME)

    def replace_acceptor(self) -> None:
        """A view change, at which every follower writes a snapshot to its disk."""
        acceptor = self._ensemble.status().acceptors[0]
        assert acceptor.pid is not None
        os.kill(acceptor.pid, signal.SIGKILL)
        time.sleep(1.0)


@contextmanager
def benched(settle_s: float, **settings: Any) -> Iterator[Bench]:
    """A bench with an ensemble of its own."""
    ensemble = concoord.init(_NAME, truncate_slots=_TRUNCATE_SLOTS, **settings)
    try:
        bench = Bench(ensemble, settle_s)
        yield bench
        bench.close()
    finally:
        concoord.shutdown(_NAME)


def cases(bench: Bench, rounds: int, *, has_storage: bool) -> dict[str, Figures]:
    """Every case, in turn, so often."""
    acts: dict[str, Callable[[], object]] = {
        "nothing happens": bench.nothing,
        "a follower is killed": lambda: bench.kill_followers(1),
        "both followers are killed": lambda: bench.kill_followers(2),
        "a backup is made": bench.backup,
    }
    if has_storage:
        acts["snapshots are written"] = bench.replace_acceptor
    figures: dict[str, list[Figures]] = {name: [] for name in acts}
    for _ in range(rounds):
        for name, act in acts.items():
            figures[name].append(bench.measured(act))
    return {name: Figures.typical(each) for name, each in figures.items()}


def show(title: str, without: dict[str, Figures], with_it: dict[str, Figures]) -> None:
    """A table."""
    print(f"\n{title}: latency of a small call in ms, without the large object -> with it")
    print(f"  {'':28}{'median':>14}{'p99':>16}{'worst':>18}{'calls':>7}{'seconds':>8}  memory in MiB, now/peak")
    for name, figures in with_it.items():
        before = without[name]
        memory = "  ".join(f"{now}/{peak}" for now, peak in figures.memory.values())
        print(
            f"  {name:28}{before.median_ms:6.1f} ->{figures.median_ms:5.1f}{before.p99_ms:7.1f} ->{figures.p99_ms:6.1f}"
            f"{before.worst_ms:8.1f} ->{figures.worst_ms:7.1f}{figures.calls:7}{figures.took_s:8.1f}  {memory}"
        )


def main() -> None:
    """Measure, and print a table for each shape."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.large", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=100, help="of values; 2,500 times as many small objects")
    parser.add_argument("--shapes", nargs="+", choices=("values", "objects"), default=("values", "objects"))
    parser.add_argument("--storage", choices=("without", "with", "both"), default="both")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--settle", type=float, default=2.0, help="seconds before and after each case")
    options = parser.parse_args()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        for shape in options.shapes:
            for has_storage in {"both": (False, True), "without": (False,), "with": (True,)}[options.storage]:
                with tempfile.TemporaryDirectory() as directory:
                    settings = {"storage": directory} if has_storage else {}
                    with benched(options.settle, **settings) as bench:
                        without = cases(bench, options.rounds, has_storage=has_storage)
                        bench.fill(shape, options.megabytes)
                        with_it = cases(bench, options.rounds, has_storage=has_storage)
                        show(f"{shape}{', with storage' if has_storage else ''}", without, with_it)
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()

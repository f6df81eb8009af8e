"""``python -m tests.bench``: direct, aio and ``.remote()`` calls against a bare sync and a bare async Ray actor."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import ray

import concoord_ray as concoord
from tests.bench.measure import Samples, latencies, throughputs


class BareSync:
    """What people use today: an ordinary actor."""

    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> int:
        """One call."""
        self.value += 1
        return self.value


class BareAsync:
    """An async actor, as a gateway is."""

    def __init__(self) -> None:
        self.value = 0

    async def increment(self) -> int:
        """One call."""
        self.value += 1
        return self.value


def main() -> None:
    """Measure, print a table, and with ``--json`` the figures."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=150, help="calls a round, one at a time")
    parser.add_argument("--burst", type=int, default=1000, help="calls under way at once")
    parser.add_argument("--failovers", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        ensemble = concoord.init("bench")
        alone, together = _measure(options.rounds, options.calls, options.burst)
        failovers = [_fail_over(ensemble) for _ in range(options.failovers)]
    finally:
        concoord.shutdown("bench")
        ray.shutdown()
    if options.json:
        figures = {name: s.medians for group in (alone, together) for name, s in group.items()}
        json.dump({**figures, "failover": failovers}, sys.stdout, indent=1)
        return
    _print(alone, "one at a time (latency)", lambda s: f"{s.median * 1e6:8.0f} us")
    _print(together, f"{options.burst} under way at once (throughput)", lambda s: f"{s.median:8.0f} /s")
    print("leader SIGKILLed, time to the next answer:", ", ".join(f"{t * 1e3:.0f} ms" for t in failovers))


def _measure(rounds: int, calls: int, burst: int) -> tuple[dict[str, Samples], dict[str, Samples]]:
    sync: Any = ray.remote(BareSync)
    bare: Any = ray.remote(BareAsync)
    sync, bare = sync.remote(), bare.remote()
    hits = concoord.Counter.options(ensemble="bench").remote()
    loop = asyncio.new_event_loop()

    async def one() -> None:
        await hits.increment.aio()

    async def many(count: int) -> None:
        await asyncio.gather(*(hits.increment.aio() for _ in range(count)))

    alone = latencies(
        {
            "bare async actor": lambda: ray.get(bare.increment.remote()),
            "bare sync actor": lambda: ray.get(sync.increment.remote()),
            "direct": hits.increment,
            "direct, readonly": hits.getvalue,
            "aio": lambda: loop.run_until_complete(one()),
            ".remote()": lambda: ray.get(hits.increment.remote()),
        },
        rounds=rounds,
        calls_per_round=calls,
    )
    together = throughputs(
        {
            "bare async actor": lambda n: ray.get([bare.increment.remote() for _ in range(n)]),
            "bare sync actor": lambda n: ray.get([sync.increment.remote() for _ in range(n)]),
            "aio": lambda n: loop.run_until_complete(many(n)),
            ".remote()": lambda n: ray.get([hits.increment.remote() for _ in range(n)]),
        },
        rounds=rounds,
        calls=burst,
    )
    loop.close()
    return alone, together


def _fail_over(ensemble: concoord.Ensemble) -> float:
    """SIGKILL the leader; seconds until the next call, begun at once, has its answer."""
    hits = concoord.Counter.options(name="failover", get_if_exists=True, ensemble="bench").remote()
    while True:
        status = ensemble.status()
        if status.leader is not None and all(r.alive for r in status.replicas):
            break
        time.sleep(0.2)
    before = hits.increment()
    assert status.leader.pid is not None
    os.kill(status.leader.pid, signal.SIGKILL)
    began = time.perf_counter()
    after = hits.increment()
    took_s = time.perf_counter() - began
    if after != before + 1:
        sys.exit(f"a call was lost or applied twice: {before} was followed by {after}")
    return took_s


def _print(samples: dict[str, Samples], title: str, show: Callable[[Samples], str]) -> None:
    base = next(iter(samples.values()))
    print(f"\n{title}: median, and ratio to the bare async actor as lowest / median / highest of the rounds")
    for name, sample in samples.items():
        low, middle, high = sample.ratio_to(base)
        print(f"  {name:18} {show(sample)}   {low:6.2f} / {middle:6.2f} / {high:6.2f}")


if __name__ == "__main__":
    main()

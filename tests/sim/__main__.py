"""``python -m tests.sim``: run seeds of the simulator, and report what they add up to.

    python -m tests.sim --seeds 2000 --kind full          2,000 seeds of the whole system
    python -m tests.sim --seed 42 --kind protocol --trace  one seed, with everything that happened in it

A seed that fails is run again with fewer and fewer faults, and reported with those that matter.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.sim.many import report, run_many, shrunk, summarize
from tests.sim.run import run
from tests.sim.scenario import Kind, draw


def main() -> int:
    """The exit status is the number of seeds that failed, at most 100."""
    arguments = _arguments()
    kind = Kind(arguments.kind)
    if arguments.seed is not None:
        return _one(arguments.seed, kind, arguments.trace)
    seeds = range(arguments.start, arguments.start + arguments.seeds)
    began_s = time.perf_counter()
    summary = summarize(run_many(seeds, kind, arguments.jobs), kind)
    print(summary)
    print(f"  {'took':<24} {time.perf_counter() - began_s:.1f} s")
    for failure in summary.failures[:3]:
        print(f"\n{report(shrunk(failure))}")
    if len(summary.failures) > 3:
        print("\nFailed too:", ", ".join(f"{each.seed} ({each.invariant})" for each in summary.failures[3:]))
    return min(len(summary.failures), 100)


def _one(seed: int, kind: Kind, trace: bool) -> int:
    print(draw(seed, kind))
    outcome = run(seed, kind, full_trace=trace, tail_lines=1_000_000 if trace else 40)
    if trace:
        print(*outcome.plan, outcome.tail, sep="\n")
    print(f"{outcome}\ntrace hash {outcome.trace_hash}")
    if outcome.failure and not trace:
        print(report(shrunk(outcome)))
    return int(bool(outcome.failure))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Run seeds of the simulator.")
    parser.add_argument("--seeds", type=int, default=200, help="how many (default %(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default %(default)s)")
    parser.add_argument("--kind", choices=[kind.value for kind in Kind], default=Kind.FULL.value)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default %(default)s)")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: print everything that happened")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

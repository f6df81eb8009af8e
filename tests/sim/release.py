"""``python -m tests.sim.release``: as many seeds as a release asks for, in as many sittings as it takes.

What has been run is written to a file after every chunk, so that it can be interrupted at any time and goes on there.
Chunks of the kinds take turns, each kind as far from its end as the others.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import msgspec

from tests.sim.many import report, run_many, summarize
from tests.sim.scenario import Kind

#: How many seeds of each kind a release has passed.
TARGETS = {
    Kind.PROTOCOL: 1_000_000,
    Kind.FULL: 100_000,
    Kind.THREADING: 100_000,
    Kind.STORAGE: 50_000,
    Kind.THIN: 20_000,
}
_CHUNK_SEEDS = 500


class Progress(msgspec.Struct):
    """How far one kind has come."""

    done_seeds: int = 0
    failed_seeds: list[int] = []
    virtual_s: float = 0.0
    took_s: float = 0.0
    counts: dict[str, int] = {}
    faults: dict[str, int] = {}


def main() -> int:
    """The exit status is 1 if any seed has failed, in this sitting or an earlier one."""
    arguments = _arguments()
    state: Path = arguments.state
    progress = _load(state)
    stop_at_s = time.monotonic() + arguments.hours * 3600
    while time.monotonic() < stop_at_s:
        share = {kind: progress[kind.value].done_seeds / target for kind, target in TARGETS.items()}
        kind = min(share, key=lambda each: share[each])
        if share[kind] >= 1:
            break
        _run_chunk(kind, progress[kind.value], arguments.jobs)
        _save(state, progress)
        print(_line(kind, progress[kind.value]), flush=True)
    print("\n".join(_line(kind, progress[kind.value]) for kind in TARGETS))
    return int(any(each.failed_seeds for each in progress.values()))


def _run_chunk(kind: Kind, progress: Progress, jobs: int) -> None:
    began_s = time.perf_counter()
    seeds = range(progress.done_seeds, min(progress.done_seeds + _CHUNK_SEEDS, TARGETS[kind]))
    summary = summarize(run_many(seeds, kind, jobs), kind, stop_at_failures=len(seeds))
    for failure in summary.failures:
        print(report(failure), flush=True)
    progress.done_seeds += summary.seeds
    progress.failed_seeds += [failure.seed for failure in summary.failures]
    progress.virtual_s += summary.virtual_s
    progress.took_s += time.perf_counter() - began_s
    for total, more in ((progress.counts, summary.counts), (progress.faults, summary.faults)):
        for name, count in more.items():
            total[name] = total.get(name, 0) + count


def _line(kind: Kind, progress: Progress) -> str:
    counts = progress.counts
    struck = sum(count for name, count in progress.faults.items() if "skipped" not in name)
    return (
        f"{kind.value:<10} {progress.done_seeds:>9,} of {TARGETS[kind]:,} seeds, {len(progress.failed_seeds)} failed; "
        f"{progress.virtual_s / 3600:.1f} h of virtual time in {progress.took_s / 3600:.2f} h; {struck:,} faults, "
        f"{counts.get('views', 0):,} views, {counts.get('snapshots', 0):,} snapshots, {counts.get('slots', 0):,} slots"
    )


def _load(state: Path) -> dict[str, Progress]:
    known = msgspec.json.decode(state.read_bytes(), type=dict[str, Progress]) if state.exists() else {}
    return {kind.value: known.get(kind.value, Progress()) for kind in TARGETS}


def _save(state: Path, progress: dict[str, Progress]) -> None:
    temporary = state.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(progress)))
    temporary.replace(state)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.release", description=__doc__)
    parser.add_argument("--state", type=Path, default=Path("simulated.json"), help="the file (default %(default)s)")
    parser.add_argument("--hours", type=float, default=12.0, help="stop after this long (default %(default)s)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

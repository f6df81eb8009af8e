"""Many seeds at once, over processes, and what they add up to; shrinking the plan of a seed that failed."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from tests.sim.faults import Plan, shrink
from tests.sim.run import Outcome, run
from tests.sim.scenario import Kind


@dataclass(slots=True)
class Summary:
    """What some seeds added up to."""

    kind: Kind
    seeds: int = 0
    virtual_s: float = 0.0
    events: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.virtual_s += outcome.virtual_s
        self.events += outcome.events
        self.faults.update(outcome.faults)
        self.counts.update(outcome.counts)
        if outcome.failure:
            self.failures.append(outcome)

    def __str__(self) -> str:
        rows = [
            ("seeds", f"{self.seeds} {self.kind.value}, {len(self.failures)} failed"),
            ("virtual time", f"{self.virtual_s / 3600:.2f} h, {self.events:,} events"),
            *((name, f"{self.counts[name]:,}") for name in sorted(self.counts)),
            *((f"fault: {name}", f"{self.faults[name]:,}") for name in sorted(self.faults) if "skipped" not in name),
        ]
        return "\n".join(f"  {name:<24} {text}" for name, text in rows)


def run_many(seeds: Iterable[int], kind: Kind, jobs: int) -> Iterator[Outcome]:
    """The outcomes of these seeds, in order. ``jobs`` processes share the work; 1 runs here."""
    one = partial(run, kind=kind)
    if jobs <= 1:
        yield from map(one, seeds)
        return
    # Spawned, not forked: a child must not inherit the threads of whoever runs the tests.
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(one, seeds, chunksize=16)


def summarize(outcomes: Iterable[Outcome], kind: Kind, stop_at_failures: int = 10) -> Summary:
    """Add outcomes up, until that many have failed."""
    summary = Summary(kind)
    for outcome in outcomes:
        summary.add(outcome)
        if len(summary.failures) >= stop_at_failures:
            break
    return summary


def shrunk(outcome: Outcome, max_runs: int = 100) -> Outcome:
    """The same failure (of the same invariant) with as few faults as can be found in ``max_runs`` runs."""

    def fails(plan: Plan) -> bool:
        return run(outcome.seed, outcome.kind, plan=plan).invariant == outcome.invariant

    plan = shrink(outcome.plan, fails, max_runs)
    return run(outcome.seed, outcome.kind, plan=plan)


def report(outcome: Outcome) -> str:
    """A failure for people: the seed, how to run it again, the faults, the last lines of the trace."""
    again = f"python -m tests.sim --kind {outcome.kind.value} --seed {outcome.seed}"
    faults = "\n".join(map(str, outcome.plan)) or "    none"
    return (
        f"{outcome.kind.value} seed {outcome.seed} failed: {outcome.failure}\n"
        f"Run it again: {again} [--trace]\nFaults:\n{faults}\n{outcome.tail}"
    )

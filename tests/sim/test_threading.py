"""The whole threading family through the storm, seed by seed.

More of them: ``python -m tests.sim --kind threading --seeds 20000``.
"""

from __future__ import annotations

import pytest

from tests.sim.many import report, run_many, summarize
from tests.sim.run import run
from tests.sim.scenario import Kind
from tests.sim.test_full_stack import JOBS, SEEDS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_seed_breaks_an_invariant() -> None:
    summary = summarize(run_many(range(SEEDS), Kind.THREADING, JOBS), Kind.THREADING)
    print(f"\n{summary}")
    assert not summary.failures, "\n".join(report(each) for each in summary.failures[:3])
    assert summary.seeds == SEEDS
    assert summary.counts["commands"] > 50 * SEEDS, "the clients are hardly heard: the storm proves nothing"
    assert summary.counts["undecided"] <= SEEDS // 100, "too many histories are too long to be judged"


def test_a_seed_is_the_same_run_every_time_and_everywhere() -> None:
    seeds = range(4)
    here = [run(seed, Kind.THREADING).trace_hash for seed in seeds]
    elsewhere = [outcome.trace_hash for outcome in run_many(seeds, Kind.THREADING, JOBS)]
    assert here == elsewhere
    assert len(set(here)) == len(here)

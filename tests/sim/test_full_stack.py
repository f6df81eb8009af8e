"""The whole system, seed by seed: clients, a gateway, replicas that execute, acceptors with and without disks, a storm.

More of them: ``python -m tests.sim --seeds 20000``. ``CONCOORD_SIM_SEEDS`` sets how many run here.
"""

from __future__ import annotations

import os

import pytest

from tests.sim.many import report, run_many, summarize
from tests.sim.run import run
from tests.sim.scenario import Kind, draw

SEEDS = int(os.environ.get("CONCOORD_SIM_SEEDS", "500"))
JOBS = 2


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_seed_breaks_an_invariant() -> None:
    summary = summarize(run_many(range(SEEDS), Kind.FULL, JOBS), Kind.FULL)
    print(f"\n{summary}")
    assert not summary.failures, "\n".join(report(each) for each in summary.failures[:3])
    assert summary.seeds == SEEDS
    assert summary.counts["commands"] > 50 * SEEDS, "the clients are hardly heard: the storm proves nothing"
    assert summary.counts["undecided"] <= SEEDS // 100, "too many histories are too long to be judged"


def test_a_seed_is_the_same_run_every_time_and_everywhere() -> None:
    seeds = range(4)
    here = [run(seed, Kind.FULL).trace_hash for seed in seeds]
    elsewhere = [outcome.trace_hash for outcome in run_many(seeds, Kind.FULL, JOBS)]
    assert here == elsewhere
    assert len(set(here)) == len(here)


def test_the_scenarios_differ_in_everything_that_matters() -> None:
    scenarios = [draw(seed, Kind.FULL) for seed in range(200)]
    for several in (
        {each.durable for each in scenarios},
        {each.has_gateway for each in scenarios},
        {each.is_calm for each in scenarios},
        {each.network.flavour for each in scenarios},
        {each.config.acceptors for each in scenarios},
        {each.config.max_slots_in_flight for each in scenarios},
    ):
        assert len(several) > 1


def test_a_plan_without_faults_is_a_run_without_faults() -> None:
    outcome = run(1, Kind.FULL, plan=())
    assert outcome.failure == ""
    assert not outcome.faults

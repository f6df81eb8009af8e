"""Consensus alone, seed by seed, and a crash of an acceptor at every single step of its disk.

More of them: ``python -m tests.sim --kind protocol --seeds 20000``. ``CONCOORD_SIM_SEEDS`` sets how many run here.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from tests.sim.faults import FaultProfile
from tests.sim.host import HostState
from tests.sim.many import report, run_many, summarize
from tests.sim.network import NetworkProfile
from tests.sim.protocol import ProtocolOnly
from tests.sim.run import run
from tests.sim.scenario import Kind, draw
from tests.sim.store import StoreProfile, Survival
from tests.sim.test_full_stack import JOBS, SEEDS

STORM_S = 0.25


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_seed_breaks_an_invariant() -> None:
    seeds = 20 * SEEDS  # They take a fraction of the time of the others.
    summary = summarize(run_many(range(seeds), Kind.PROTOCOL, JOBS), Kind.PROTOCOL)
    print(f"\n{summary}")
    assert not summary.failures, "\n".join(report(each) for each in summary.failures[:3])
    assert summary.seeds == seeds
    assert summary.counts["elections"] > 2 * seeds, "leaders hardly change: the storm proves nothing"
    assert summary.counts["views"] > seeds, "views hardly change"
    assert summary.counts["snapshots"] > seeds // 10, "hardly anyone falls behind the log"


def test_a_seed_is_the_same_run_every_time_and_everywhere() -> None:
    seeds = range(4)
    here = [run(seed, Kind.PROTOCOL).trace_hash for seed in seeds]
    elsewhere = [outcome.trace_hash for outcome in run_many(seeds, Kind.PROTOCOL, JOBS)]
    assert here == elsewhere
    assert len(set(here)) == len(here)


def crashed_at(step: int | None, survival: Survival) -> ProtocolOnly:
    """A short run on a quiet network, whose first acceptor crashes instead of that step of its disk, and comes back."""
    scenario = draw(0, Kind.PROTOCOL)
    scenario = replace(
        scenario,
        config=msgspec.structs.replace(scenario.config, storage="on disk"),
        network=NetworkProfile(),
        store=StoreProfile(survival=survival, torn_probability=0.5),
        faults=FaultProfile(storm_s=0),
        think_max_s=0.02,
    )
    cluster = ProtocolOnly(scenario)
    store = cluster.world.stores["acceptor0"]
    store.crash_at_step = step
    cluster.start()
    for _ in range(50):
        cluster.world.run(STORM_S / 5)
        cluster.is_winding_down = cluster.scheduler.now_s >= STORM_S
        down = [host for host in cluster.members() if host.state is HostState.DOWN]
        for host in down:
            cluster.restart(host)
        if cluster.is_winding_down and not down and cluster.is_settled():
            return cluster
    raise AssertionError(f"crash instead of step {step}: {cluster.progress()}")


@pytest.mark.parametrize("survival", list(Survival))
def test_an_acceptor_may_crash_at_any_step_of_its_disk(survival: Survival) -> None:
    steps = crashed_at(None, survival).world.stores["acceptor0"].steps
    assert steps > 40
    for step in range(1, steps + 1):
        cluster = crashed_at(step, survival)
        assert cluster.world.hosts["acceptor0"].life == 1, f"it did not crash at step {step}"
        assert len(cluster.watch.slots.decided) > 5

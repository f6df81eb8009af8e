"""Large values on a slow network, seed by seed.

More of them: ``python -m tests.sim --kind thin --seeds 20000``. ``CONCOORD_SIM_SEEDS`` sets how many run here.
"""

from __future__ import annotations

import pytest

from tests.sim.many import report, run_many, summarize
from tests.sim.scenario import Kind
from tests.sim.test_full_stack import JOBS, SEEDS


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_seed_breaks_an_invariant() -> None:
    seeds = SEEDS // 2
    summary = summarize(run_many(range(seeds), Kind.THIN, JOBS), Kind.THIN)
    print(f"\n{summary}")
    assert not summary.failures, "\n".join(report(each) for each in summary.failures[:3])
    assert summary.seeds == seeds
    assert summary.counts["elections"] > 2 * seeds, "leaders hardly change: the storm proves nothing"
    assert summary.counts["slots"] > 5 * seeds, "hardly anything is decided"

"""Every known mistake is found within its stated number of seeds; without it, the seed that found it is fine.

That the code as it is passes all of these seeds is what ``test_full_stack``, ``test_protocol`` and the
like show.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest

from tests.sim.mutants import MUTANTS as PAXOS_AND_RSM
from tests.sim.run import Outcome, run
from tests.sim.storage_mutants import STORAGE
from tests.sim.thin_mutants import THIN
from tests.sim.threading_mutants import THREADING
from tests.sim.view_mutants import DISKS, VIEWS

JOBS = 2
MUTANTS = (*PAXOS_AND_RSM, *THREADING, *VIEWS, *DISKS, *STORAGE, *THIN)


def caught(index: int) -> Outcome | None:
    """The first seed that breaks with this mutant by an invariant that it was made to break; None if none does."""
    mutant = MUTANTS[index]
    with mutant.patch():
        for seed in range(mutant.first_seed, mutant.first_seed + mutant.seeds):
            outcome = run(seed, mutant.kind)
            if outcome.invariant in mutant.invariants:
                return outcome
    return None


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[Outcome | None]]:
    """What became of each mutant; they run side by side."""
    with multiprocessing.get_context("spawn").Pool(JOBS) as pool:
        yield pool.map(caught, range(len(MUTANTS)), chunksize=1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("index", range(len(MUTANTS)), ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_is_caught(index: int, outcomes: list[Outcome | None]) -> None:
    mutant, outcome = MUTANTS[index], outcomes[index]
    assert outcome is not None, f"{mutant.seeds} seeds did not find it: {mutant.name}"
    assert run(outcome.seed, mutant.kind).failure == ""

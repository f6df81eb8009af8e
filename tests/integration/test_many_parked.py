"""20,000 calls wait on one node: others are answered meanwhile, and all resolve when they are released."""

from __future__ import annotations

import time

import pytest
import ray

import concoord_ray as concoord
from tests.integration.casualties import kill, leader, settled
from tests.integration.conftest import MakeEnsemble
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

PARKED = 20_000


@pytest.mark.timeout(300)
def test_twenty_thousand_parked_acquires_leave_others_alone_and_all_resolve(own_ensemble: MakeEnsemble) -> None:
    name = own_ensemble("many-parked").name
    semaphore = concoord.Semaphore.options(ensemble=name).remote(0)
    counter = concoord.Counter.options(ensemble=name).remote()
    began_s = time.monotonic()
    parked = [semaphore.acquire.remote() for _ in range(PARKED)]
    submitted_s = time.monotonic()
    # The last one is parked once everything that this process submitted after it is answered.
    assert ray.get(counter.increment.remote(), timeout=120) == 1
    queued_s = time.monotonic()
    assert ray.wait(parked, timeout=0.1)[0] == []
    waits_s = []
    for n in range(2, 42, 2):
        asked_s = time.monotonic()
        assert counter.increment() == n
        assert ray.get(counter.increment.remote(), timeout=30) == n + 1
        waits_s.append((time.monotonic() - asked_s) / 2)
    released_s = time.monotonic()
    semaphore.release(PARKED // 2)
    assert all(ray.get(parked[: PARKED // 2], timeout=120))
    half_s = time.monotonic()
    assert ray.wait(parked[PARKED // 2 :], timeout=0)[0] == []
    kill(leader(settled(name)))
    semaphore.release(PARKED // 2)
    assert all(ray.get(parked, timeout=120))
    ended_s = time.monotonic()
    until(lambda: "count=0" in semaphore.describe())
    print(  # noqa: T201
        f"submit {submitted_s - began_s:.1f} s, queue {queued_s - submitted_s:.1f} s, others {max(waits_s) * 1e3:.1f} "
        f"ms at most, release half {half_s - released_s:.1f} s, the rest after a failover {ended_s - half_s:.1f} s"
    )

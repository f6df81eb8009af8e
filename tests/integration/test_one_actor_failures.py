"""Three ways in which a semaphore made of one Ray actor fails in production, replayed against ours."""

from __future__ import annotations

import os
import signal

import pytest
import ray

import concoord_ray as concoord
from tests.integration.conftest import MakeEnsemble
from tests.integration.drivers import Drivers
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray]
WAIT_S = 60.0


@pytest.mark.usefixtures("ensemble")
def test_cancelled_waiters_leak_no_permit() -> None:
    """Cancelled while they wait, and while they are granted: whoever comes next finds every permit."""
    semaphore = concoord.BoundedSemaphore.remote(2)
    assert semaphore.acquire()
    assert semaphore.acquire()
    refs = [semaphore.acquire.remote() for _ in range(40)]
    until(lambda: len(semaphore.inspect().waiting) == 40)
    for at, ref in enumerate(refs):
        if at in (10, 30):
            semaphore.release()  # Races with the cancels around it.
        ray.cancel(ref)

    def all_ended() -> bool:
        pending = ray.wait(refs, num_returns=len(refs), timeout=0)[1]
        for ref in pending:
            ray.cancel(ref)  # Ray may lose a cancel.
        return not pending

    until(all_ended, interval_s=3)
    granted = 0
    for ref in refs:
        try:
            granted += bool(ray.get(ref, timeout=WAIT_S))
        except ray.exceptions.TaskCancelledError:
            continue
    for _ in range(granted):
        semaphore.release()
    until(lambda: not semaphore.inspect().holders)
    assert semaphore.describe() == "<DBoundedSemaphore count=2>"


@pytest.mark.usefixtures("ensemble")
def test_a_thousand_blocked_acquires_do_not_starve_a_release() -> None:
    semaphore = concoord.Semaphore.remote(0)
    refs = [semaphore.acquire.remote() for _ in range(1200)]
    until(lambda: len(semaphore.inspect().waiting) == 1200)
    ray.get(semaphore.release.remote(), timeout=WAIT_S)
    assert ray.get(refs[0], timeout=WAIT_S) is True
    ray.get(semaphore.release.remote(1199), timeout=WAIT_S)
    assert ray.get(refs, timeout=WAIT_S) == [True] * 1200


def test_restarts_forget_no_permit_and_a_late_release_raises_no_capacity(
    own_ensemble: MakeEnsemble, drivers: Drivers
) -> None:
    ensemble = own_ensemble(replicas=2, acceptors=1)
    semaphore = concoord.BoundedSemaphore.options(name="jobs", ensemble=ensemble.name).remote(2)
    assert ray.get(semaphore.acquire.remote(), timeout=WAIT_S) is True
    holder = drivers.start(
        """
        import time
        jobs = concoord.get("jobs", ensemble=name)
        print(ray.get(jobs.acquire.remote()), flush=True)
        time.sleep(600)
        """,
        name=ensemble.name,
    )
    assert holder.line() == "True"
    status = ensemble.status()
    assert status.leader is not None
    for member in (*status.gateways, status.leader):
        assert member.pid is not None
        os.kill(member.pid, signal.SIGKILL)
    assert ray.get(semaphore.describe.remote(), timeout=WAIT_S) == "<DBoundedSemaphore count=0>"
    holder.kill()
    assert semaphore.acquire(timeout=WAIT_S) is True
    semaphore.release()
    semaphore.release()
    with pytest.raises(ValueError, match="released too many times"):
        semaphore.release()
    assert semaphore.describe() == "<DBoundedSemaphore count=2>"

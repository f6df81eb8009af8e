"""User code may take long: nobody takes that for death, and the status says what runs."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import concoord_ray as concoord
from tests.integration.casualties import leader, settled
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


class SlowState:
    def __init__(self) -> None:
        self.calls = 0

    def work(self, duration_s: float) -> int:
        time.sleep(duration_s)
        self.calls += 1
        return self.calls


def test_a_slow_method_is_not_taken_for_a_dead_leader_and_status_names_it() -> None:
    slow = concoord.replicated(determinism="ignore")(SlowState).remote()
    before = settled("default")
    with ThreadPoolExecutor(1) as pool:
        # Longer than any election timeout.
        call = pool.submit(slow.work, 5.0)
        until(lambda: leader(concoord.status()).executing == "SlowState.work")
        assert call.result(60) == 1
    after = concoord.status()
    assert leader(after).incarnation == leader(before).incarnation
    assert [r.incarnation for r in after.replicas] == [r.incarnation for r in before.replicas]
    assert slow.work(0) == 2
    until(lambda: leader(concoord.status()).executing is None)


def test_a_method_that_was_quick_until_now_is_named_too_and_has_its_effect_once() -> None:
    """It is executed on the loops of the replicas, which it holds up."""
    once_slow = concoord.replicated(determinism="ignore")(SlowState).remote()
    quick = 40
    assert [once_slow.work(0) for _ in range(quick)] == list(range(1, quick + 1))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(once_slow.work, 5.0)
        until(lambda: any(each.executing == "SlowState.work" for each in concoord.status().replicas))
        assert call.result(60) == quick + 1
    assert once_slow.work(0) == quick + 2

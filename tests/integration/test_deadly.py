"""Methods that end the process they run in: every replica dies of them, and one after the other says of which."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import concoord_ray as concoord
from concoord_ray import ConcoordError, EnsembleStatus
from tests.integration.casualties import a_follower, kill, leader, reborn, settled, strong
from tests.integration.conftest import INIT_TIMEOUT_S, MakeEnsemble
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

NAME = "deadly"
#: Some six restarts, each of which takes Ray a second, and an election each.
NAMED_WITHIN_S = 90.0


class BombState:
    """One that goes off, and another that only takes its time."""

    def __init__(self) -> None:
        self.calls = 0

    def count(self) -> int:
        self.calls += 1
        return self.calls

    def idle(self) -> None:
        """Nothing."""

    def explode(self) -> None:
        os._exit(1)

    def ponder(self, duration_s: float) -> int:
        time.sleep(duration_s)
        return self.count()


def bomb(name: str) -> Any:
    return concoord.replicated(determinism="ignore")(BombState).options(name="bomb", ensemble=name).remote()


async def explode_among_others(deadly: Any) -> None:
    """Of all the calls in the same slot it is the one in the middle."""
    others = [deadly.idle.options(timeout=5.0).aio() for _ in range(40)]
    calls = (*others[:20], deadly.explode.options(timeout=5.0).aio(), *others[20:])
    for result in await asyncio.gather(*calls, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def faults(status: EnsembleStatus) -> list[str]:
    return [replica.fault for replica in status.replicas if replica.fault is not None]


@pytest.mark.parametrize("is_stored", [False, True], ids=["in-memory", "stored"])
def test_status_names_what_kills_and_recover_begins_before_it(
    own_ensemble: MakeEnsemble, tmp_path: Path, is_stored: bool
) -> None:
    own_ensemble(NAME, session_ttl_s=5.0, **({"storage": str(tmp_path)} if is_stored else {}))
    deadly = bomb(NAME)
    assert [deadly.count() for _ in range(50)] == list(range(1, 51))
    with contextlib.suppress(ConcoordError):
        asyncio.run(explode_among_others(deadly))
    (fault, *_) = until(lambda: faults(concoord.status(NAME)), NAMED_WITHIN_S)
    assert "In it: BombState.explode of object 1 ('bomb'). " in fault
    assert "recover()" in fault
    # All of them come to it; none dies of it as fast as Ray could start it again.
    until(lambda: len(faults(concoord.status(NAME))) == 3, NAMED_WITHIN_S)
    concoord.recover(NAME, timeout_s=INIT_TIMEOUT_S)
    again = concoord.get("bomb", ensemble=NAME)
    assert again.count() == 51, "what was acknowledged is lost"
    assert faults(strong(NAME)) == []


def test_to_be_killed_while_it_executes_once_or_twice_changes_nothing(own_ensemble: MakeEnsemble) -> None:
    """First a leader, then its next life: the one after that executes the slot, and nobody leaves."""
    own_ensemble(NAME)
    slow = bomb(NAME)
    assert slow.count() == 1
    before = settled(NAME)
    victim, index = leader(before), leader(before).index
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(slow.ponder, 3.0)
        for _ in range(2):
            until(lambda: "ponder" in (concoord.status(NAME).replicas[index].executing or ""))
            kill(victim)
            victim = reborn(NAME, "replicas", victim)
        assert call.result(60) == 2
    assert slow.count() == 3
    after = strong(NAME)
    assert faults(after) == []
    assert a_follower(after).alive

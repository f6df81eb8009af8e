"""A state that one machine cannot restore: its replica says whose it is, waits, and is back when that is mended."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

import concoord_ray as concoord
from concoord_ray import MemberStatus
from tests.integration.casualties import a_follower, kill, strong
from tests.integration.conftest import MakeEnsemble
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]

RETRY_S = 1.0


class DelicateState:
    """Cannot be restored while there is a file of this name."""

    def __init__(self, obstacle: str) -> None:
        self.obstacle = obstacle
        self.count = 0

    def increment(self) -> int:
        self.count += 1
        return self.count

    def __getstate__(self) -> dict[str, Any]:
        return {"obstacle": self.obstacle, "count": self.count}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if Path(state["obstacle"]).exists():
            raise ZeroDivisionError("in the way")
        self.__dict__.update(state)


Delicate = concoord.replicated(DelicateState)


def test_a_state_that_cannot_be_restored_is_named_and_waited_for(own_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    name, obstacle, data = "delicate", tmp_path / "obstacle", tmp_path / "data"
    own_ensemble(name, storage=str(data), disk_retry_s=RETRY_S, snapshot_log_bytes=4 << 10)
    counter = Delicate.options(name="counter", ensemble=name).remote(str(obstacle))
    assert [counter.increment() for _ in range(300)][-1] == 300
    follower = a_follower(strong(name))

    def now() -> MemberStatus:
        return concoord.status(name).replicas[follower.index]

    until(lambda: list(data.glob(f"*/*/replica-{follower.index}/snapshot-*")))
    obstacle.touch()
    kill(follower)
    for already in range(300, 303):
        fault = until(lambda: now().fault)
        assert fault is not None
        assert "DelicateState, object 1 called 'counter'" in fault
        assert "ZeroDivisionError: in the way (raised in " in fault
        assert not now().alive
        assert counter.increment() == already + 1
        time.sleep(RETRY_S)  # By then it is another life, or about to be.
    obstacle.unlink()
    assert strong(name).replicas[follower.index].alive
    assert counter.increment() == 304

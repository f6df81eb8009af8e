"""Snapshots of a lane: brief ones are those of a child, if they take long, and have what was executed before them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from concoord_ray.config import Config
from concoord_ray.paxos.outputs import Decided
from concoord_ray.roles import lane as lanes
from concoord_ray.roles.child import Child, ChildFailed
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.roles.lane import Lane
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.snapshot import SnapshotFailed
from concoord_ray.rsm.transfer import Snapshot
from concoord_ray.rsm.wire import NOOP

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")


async def taken(has_to_be_brief: Callable[[], bool], slots: int = 5) -> Snapshot | SnapshotFailed:
    """The snapshot that a lane takes when there is more to execute already."""
    loop = asyncio.get_running_loop()
    broken: asyncio.Future[Any] = loop.create_future()
    lane = Lane(Executor("here"), Config(), lambda *_: None, FailStop(broken.set_exception))
    lane.execute([Decided(slot, NOOP) for slot in range(slots)], [])
    result: asyncio.Future[Snapshot | SnapshotFailed] = loop.create_future()
    lane.take_snapshot(result.set_result, has_to_be_brief)
    lane.execute([Decided(slots, NOOP)], [])
    await asyncio.wait([result, broken], return_when=asyncio.FIRST_COMPLETED)
    lane.close()
    await asyncio.to_thread(lane._thread.join)
    return result.result()


def restored(snapshot: Snapshot | SnapshotFailed) -> int:
    assert isinstance(snapshot, Snapshot)
    executor = Executor("here")
    executor.restore(snapshot.data)
    assert snapshot.slot == executor.next_slot
    return executor.next_slot


def test_a_small_state_needs_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_BRIEF_S", 1000.0)
    monkeypatch.setattr(Child, "__init__", None)
    assert restored(asyncio.run(taken(lambda: True))) == 5


def test_nor_does_one_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_BRIEF_S", -1.0)
    monkeypatch.setattr(Child, "__init__", None)
    assert restored(asyncio.run(taken(lambda: False))) == 5


def test_a_follower_that_comes_to_lead_leaves_what_it_has_begun_to_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def comes_to_lead() -> bool:
        asked.append(bool(asked))
        return asked[-1]

    def collect(child: Child) -> Rope:
        collected.append(child)
        return really_collect(child)

    asked: list[bool] = []
    collected: list[Child] = []
    really_collect = Child.collect
    monkeypatch.setattr(lanes, "_BRIEF_S", -1.0)
    monkeypatch.setattr(Child, "collect", collect)
    assert restored(asyncio.run(taken(comes_to_lead))) == 5
    assert asked == [False, True]
    assert len(collected) == 1


@pytest.mark.parametrize("is_brief", [False, True])
def test_it_has_what_was_executed_before(is_brief: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_BRIEF_S", -1.0)
    assert restored(asyncio.run(taken(lambda: is_brief))) == 5


def test_a_child_that_fails_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(child: Child) -> Rope:
        collect(child)
        raise ChildFailed("on purpose")

    collect = Child.collect
    monkeypatch.setattr(lanes, "_BRIEF_S", -1.0)
    monkeypatch.setattr(Child, "collect", fail)
    assert restored(asyncio.run(taken(lambda: True))) == 6


def test_no_child_can_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(child: Child, _: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(lanes, "_BRIEF_S", -1.0)
    monkeypatch.setattr(Child, "__init__", fail)
    assert restored(asyncio.run(taken(lambda: True))) == 5

"""Which state a backup is of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from concoord_ray import actors, recovery
from concoord_ray.errors import CallTimeout, ConfigurationError, QuorumLost
from concoord_ray.rsm.executor import Executor
from concoord_ray.status import EnsembleStatus, MemberStatus


def replica(index: int, applied_slot: int, *, is_leader: bool = False, alive: bool = True) -> MemberStatus:
    return MemberStatus("replica", index, 7, "node", 1, None, alive, True, applied_slot, is_leader)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Which replica was asked for a snapshot, and of which slot."""
    caught: list[tuple[int, int]] = []

    def snapshot_of(_: Any, index: int, slot: int, timeout_s: float) -> bytes:
        caught.append((index, slot))
        return bytes(Executor("e").snapshot())

    client = SimpleNamespace(call=lambda *_, **__: [])
    attachment = SimpleNamespace(client=client, plan=SimpleNamespace(name="here", ensemble="e"))
    monkeypatch.setattr(recovery, "attachment_to", lambda _: attachment)
    monkeypatch.setattr(actors, "snapshot_of", snapshot_of)
    return caught


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        # A deposed leader that does not know it yet, while the one that leads did not answer.
        ((replica(0, 10, is_leader=True), replica(1, 20, alive=False), replica(2, 19)), (2, 19)),
        ((replica(0, 10), replica(1, 20, is_leader=True), replica(2, 19)), (2, 20)),
        ((replica(0, 20, is_leader=True), replica(1, 30, alive=False)), (0, 20)),
    ],
)
def test_a_backup_has_what_any_living_replica_has_executed(
    asked: list[tuple[int, int]],
    replicas: tuple[MemberStatus, ...],
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    leader = next(each for each in replicas if each.is_leader)
    status = EnsembleStatus("here", "e", 0, leader, replicas, (), (), ())
    monkeypatch.setattr(recovery, "status", lambda _: status)
    recovery.backup(tmp_path / "backup", "here")
    assert asked == [expected]


def test_where_no_file_can_be_no_state_is_asked_for(
    asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    leader = replica(0, 10, is_leader=True)
    monkeypatch.setattr(recovery, "status", lambda _: EnsembleStatus("here", "e", 0, leader, (leader,), (), (), ()))
    for path in (tmp_path, tmp_path / "nowhere" / "backup"):
        with pytest.raises(ConfigurationError, match="directory"):
            recovery.backup(path, "here")
    assert asked == []


def test_there_is_no_backup_while_nobody_leads(
    asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    status = EnsembleStatus("here", "e", 0, None, (replica(0, 10),), (), (), ())
    monkeypatch.setattr(recovery, "status", lambda _: status)
    with pytest.raises(QuorumLost):
        recovery.backup(tmp_path / "backup", "here")
    assert asked == []


def test_if_a_replica_does_not_answer_the_next_is_asked_and_the_leader_last(
    monkeypatch: pytest.MonkeyPatch, asked: list[tuple[int, int]], tmp_path: Path
) -> None:
    replicas = (replica(0, 20, is_leader=True), replica(1, 18), replica(2, 19))
    monkeypatch.setattr(recovery, "status", lambda _: EnsembleStatus("here", "e", 0, replicas[0], replicas, (), (), ()))
    answer = actors.snapshot_of
    silent = {2}

    def snapshot_of(plan: Any, index: int, slot: int, timeout_s: float) -> bytes:
        data = answer(plan, index, slot, timeout_s)
        if index in silent:
            raise ray.exceptions.GetTimeoutError("Get timed out")
        return data

    monkeypatch.setattr(actors, "snapshot_of", snapshot_of)
    recovery.backup(tmp_path / "backup", "here")
    assert asked == [(2, 20), (1, 20)]
    silent.update({0, 1})
    with pytest.raises(CallTimeout, match=r"No replica of 'here'.*replica 2: .*replica 1: .*replica 0: "):
        recovery.backup(tmp_path / "backup", "here")
    assert asked[2:] == [(2, 20), (1, 20), (0, 20)]

"""What an ensemble is to begin with is on disk before it begins, and does not count unless it has begun."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from concoord_ray.paxos.view import Role
from concoord_ray.restart import judge
from concoord_ray.storage.birth import write_birth
from concoord_ray.storage.snapshots import SnapshotFiles
from concoord_ray.storage.survey import NO_SNAPSHOT, Kept, look_into_snapshots, survey
from tests.storage.pieces import flip
from tests.storage.remnants import ENSEMBLE, FIRST, NAME, Disk, birth, view

SLOT = 50
#: Of an ensemble that was recovered.
BEGUN = view(0, (0, 1, 2), first_slot=SLOT)


class Died(BaseException):
    """The machine lost its power."""


class Power:
    """Fails before some step of what is done to files, and then there is none any more."""

    def __init__(self, steps: int) -> None:
        self._left = steps
        self.is_lost = False

    def step(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **settings: Any) -> Any:
            if self._left == 0:
                self.is_lost = True
                raise Died
            self._left -= 1
            return do(*args, **settings)

        return done


def deaths(do: Callable[[], None]) -> Iterator[bool]:
    """Do it again and again, each time dying a step later; at last it comes to its end."""
    for steps in itertools.count():
        power = Power(steps)
        patches = [patch.object(os, "fsync", power.step(os.fsync))]
        patches += [
            patch.object(Path, name, power.step(getattr(Path, name))) for name in ("rename", "replace", "unlink")
        ]
        try:
            for each in patches:
                each.start()
            do()
        except Died:
            pass
        finally:
            for each in patches:
                each.stop()
        yield power.is_lost
        if not power.is_lost:
            return


def finds(disk: Disk, node: str = "node") -> list[tuple[str, Kept]]:
    return [(node, kept) for kept in survey(str(disk.root), NAME)]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def began(disk: Disk) -> None:
    """Its acceptors have joined the first view."""
    write_birth(birth(disk.root, first=BEGUN))
    for index in range(3):
        disk.vote(index, BEGUN)


@contextmanager
def files_of(disk: Disk) -> Iterator[SnapshotFiles]:
    files = SnapshotFiles(disk.directory(Role.REPLICA, 0), ensemble=ENSEMBLE)
    try:
        yield files
    finally:
        files.close()


def test_what_never_began_is_not_waited_for(disk: Disk) -> None:
    for index in range(3):
        disk.sow(index, SLOT)
    assert judge(str(disk.root), NAME, finds(disk)) == (None, "")


def test_what_came_before_it_is_started(disk: Disk, tmp_path: Path) -> None:
    disk.sow(0, SLOT)
    old = Disk(tmp_path / "old")
    for index in range(3):
        old.vote(index, FIRST)
    ((_, kept),) = finds(old)
    found, lack = judge(str(disk.root), NAME, [*finds(disk), ("node", Kept("f" * 32, None, {}, {})), ("node", kept)])
    assert found is not None
    assert lack == ""


def test_once_it_has_begun_it_counts_wherever_the_certificate_is(disk: Disk, tmp_path: Path) -> None:
    began(disk)
    assert "no replica's snapshot" in judge(str(disk.root), NAME, finds(disk))[1]
    other = Disk(tmp_path / "other")
    other.sow(3, SLOT)
    found, lack = judge(str(disk.root), NAME, [*finds(disk), *finds(other, "other node")])
    assert found is not None
    assert (lack, found.nodes[3]) == ("", "other node")


def test_a_damaged_seed_is_none(disk: Disk) -> None:
    directory = disk.sow(0, SLOT)
    began(disk)
    ((_, kept),) = finds(disk)
    assert look_into_snapshots(str(disk.root), NAME, kept, 60.0).replicas == {0: SLOT}
    seed = directory / f"seed-{SLOT:020}"
    flip(seed, seed.stat().st_size - 1, 1)
    assert look_into_snapshots(str(disk.root), NAME, kept, 60.0).replicas == {0: NO_SNAPSHOT}


def test_dying_while_it_is_written_does_no_harm(disk: Disk) -> None:
    def write() -> None:
        with files_of(disk) as files:
            files.write_seed(SLOT, b"a seed")

    seen = []
    for has_died in deaths(write):
        assert judge(str(disk.root), NAME, finds(disk)) == (None, "")
        seen.append(has_died)
    assert seen == [True] * (len(seen) - 1) + [False]
    assert len(seen) > 3
    assert [path.name for path in disk.directory(Role.REPLICA, 0).iterdir() if path.suffix] == []


def test_dying_while_it_becomes_a_snapshot_loses_nothing(disk: Disk) -> None:
    disk.sow(0, SLOT)
    began(disk)

    def begin() -> None:
        with files_of(disk) as files:
            files.adopt_seed()

    for has_died in deaths(begin):
        found, lack = judge(str(disk.root), NAME, finds(disk))
        assert found is not None
        assert lack == ""
        assert finds(disk)[0][1].replicas == {0: SLOT}
        if not has_died:
            with files_of(disk) as files:
                assert files.newest() == (SLOT, b"a seed")


def test_the_directory_with_the_seed_is_the_furthest(disk: Disk) -> None:
    disk.sow(0, SLOT)
    with files_of(disk) as files:
        assert files.reach == SLOT

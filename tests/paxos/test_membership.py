"""When a resizing is done, and nobody needs the members that have left."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from concoord_ray.config import Config
from concoord_ray.paxos.membership import Size, is_reached
from concoord_ray.paxos.view import View
from tests.paxos.pieces import view

SIZE = Size(acceptors=3, replicas=3)
IN_MEMORY = Config()
ON_DISK = Config(storage="/data")
NEW = view(epoch=2, first_slot=50)


@dataclass
class Case:
    why: str
    standings: list[tuple[View | None, int]]
    in_memory: bool
    on_disk: bool


@pytest.mark.parametrize(
    "case",
    [
        Case("all have entered it", [(NEW, 50)] * 3, True, True),
        Case("one could not be asked", [(NEW, 50)] * 2, False, False),
        Case("one is in the epoch before", [(NEW, 50), (NEW, 50), (view(epoch=1), 50)], False, False),
        Case("one has not begun", [(NEW, 50), (NEW, 50), (None, 0)], False, False),
        Case("acceptors are missing", [(view(acceptors=2, epoch=2), 50)] * 3, False, False),
        Case("there are more acceptors", [(view(acceptors=5, epoch=2), 50)] * 3, False, False),
        Case("a replica is missing", [(view(replicas=2, epoch=2), 50)] * 3, False, False),
        # Who restarts from a snapshot of the epoch before needs its acceptors, and its replicas' log.
        Case("one disk has what happened before it", [(NEW, 50), (NEW, 49), (NEW, 0)], True, False),
        Case("two disks have", [(NEW, 50), (NEW, 0), (NEW, 60)], True, True),
    ],
    ids=lambda case: case.why,
)
def test_nobody_needs_those_that_have_left(case: Case) -> None:
    assert is_reached(SIZE, case.standings, IN_MEMORY) is case.in_memory
    assert is_reached(SIZE, case.standings, ON_DISK) is case.on_disk


def test_a_lone_replica_needs_its_own_disk_only() -> None:
    alone = view(replicas=1, epoch=3, first_slot=7)
    assert not is_reached(Size(3, 1), [(alone, 6)], ON_DISK)
    assert is_reached(Size(3, 1), [(alone, 7)], ON_DISK)


def test_members_of_other_indices_are_not_those_that_are_wanted() -> None:
    odd = View(1, (*view().acceptors[:2], view(acceptors=5).acceptors[4]), (0, 1, 3))
    assert not is_reached(SIZE, [(odd, 0)] * 3, IN_MEMORY)

"""Which view there should be, when nobody needs the members that have left, and how long the log is kept."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from concoord_ray.config import Config
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.membership import Membership, Size, is_reached
from concoord_ray.paxos.messages import Progress
from concoord_ray.paxos.truncation import Truncation
from concoord_ray.paxos.view import View
from tests.paxos.pieces import acceptor, follower, replica, view

SIZE = Size(acceptors=3, replicas=3)
IN_MEMORY = Config()
ON_DISK = Config(storage="/data")
#: The slot of the command, and the view that came of it.
RESIZED = 49
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
        # In a view from before, somebody may have proposed another size, and it may still come to hold.
        Case("they are still where they were told to", [(view(epoch=1, first_slot=49), 50)] * 3, False, False),
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
    assert is_reached(SIZE, RESIZED, case.standings, IN_MEMORY) is case.in_memory
    assert is_reached(SIZE, RESIZED, case.standings, ON_DISK) is case.on_disk


def test_a_lone_replica_needs_its_own_disk_only() -> None:
    alone = view(replicas=1, epoch=3, first_slot=7)
    assert not is_reached(Size(3, 1), 5, [(alone, 6)], ON_DISK)
    assert is_reached(Size(3, 1), 5, [(alone, 7)], ON_DISK)


def test_members_of_other_indices_are_not_those_that_are_wanted() -> None:
    odd = View(1, (*view().acceptors[:2], view(acceptors=5).acceptors[4]), (0, 1, 3))
    assert not is_reached(SIZE, -1, [(odd, 0)] * 3, IN_MEMORY)


# What the leader would make of it.


def judged(size: Size, current: View, alive: tuple[int, ...], replicas: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """The indices of the view that replica 0 wants, when these acceptors answer and these other replicas report."""
    membership, truncation = Membership(0, IN_MEMORY), Truncation(0, IN_MEMORY)
    membership.size = size
    for index in alive:
        membership.heard(acceptor(index), 10.0)
    for index in replicas:
        truncation.progressed(replica(index), Progress(0, 100, 0), 10.0)
    acceptors, kept = membership.wanted(current, truncation, 0, 10.1)
    return [each.index for each in acceptors], list(kept)


def test_it_is_not_handed_to_a_dead_replica() -> None:
    membership, truncation = Membership(1, IN_MEMORY), Truncation(1, IN_MEMORY)
    membership.size = Size(3, 1)
    for index in range(3):
        membership.heard(acceptor(index), 10.0)
    assert membership.wanted(view(), truncation, 0, 10.1)[1] == (0, 1, 2)
    truncation.progressed(replica(0), Progress(0, 1, 0), 10.0)
    assert membership.wanted(view(), truncation, 0, 10.1)[1] == (0,)


def test_acceptors_that_cannot_change_keep_no_replica() -> None:
    """Two of five are dead, and just those are to stay: the others go on, and replicas come and go all the same."""
    five = view(acceptors=5)
    assert judged(Size(3, 2), five, (2, 3, 4), (1,)) == ([0, 1, 2, 3, 4], [0, 1])
    assert judged(Size(3, 2), five, (0, 1, 2, 3, 4), (1,)) == ([0, 1, 2], [0, 1])


def test_an_acceptor_whose_connection_was_closed_does_not_count_as_alive() -> None:
    membership, truncation = Membership(0, IN_MEMORY), Truncation(0, IN_MEMORY)
    membership.size = Size(4, 3)
    newcomer = acceptor(3)
    membership.set_acceptors((*map(acceptor, range(3)), newcomer))
    for member in (acceptor(0), acceptor(1), newcomer):
        membership.heard(member, 10.0)
    assert len(membership.wanted(view(), truncation, 0, 10.1)[0]) == 4
    membership.disconnected(newcomer)
    assert len(membership.wanted(view(), truncation, 0, 10.1)[0]) == 3
    membership.heard(newcomer, 10.2)
    assert len(membership.wanted(view(), truncation, 0, 10.3)[0]) == 4


def test_a_resizing_is_followed_by_a_new_view_in_any_case() -> None:
    """The view may have the size already; a stop-sign that was proposed in it before does not count any more then."""
    membership, truncation = Membership(0, IN_MEMORY), Truncation(0, IN_MEMORY)
    for index in range(3):
        membership.heard(acceptor(index), 10.0)
    current = view(epoch=1, first_slot=20)
    assert membership.following(current, 40, truncation, 0, 10.1) is None
    membership.resize(SIZE, 30)
    assert membership.following(current, 40, truncation, 0, 10.1) == view(epoch=2, first_slot=41)
    assert membership.following(view(epoch=2, first_slot=41), 45, truncation, 0, 10.1) is None


# How long the log is kept.


def kept_below(truncation: Truncation, learner: Learner) -> int:
    truncation.decide(view(replicas=2), learner)
    return truncation.below


def test_the_log_waits_for_a_replica_that_is_on_its_way_into_the_view() -> None:
    """Its snapshot would be too old by the time it is there, again and again."""
    truncation, learner = Truncation(0, Config(truncate_slots=10)), Learner()
    truncation.applied_slot = 500
    truncation.progressed(replica(1), Progress(0, 500, 0), 10.0)
    truncation.progressed(replica(2), Progress(0, 0, 0), 10.0)
    assert kept_below(truncation, learner) == 0
    learner.log_bytes = IN_MEMORY.max_log_bytes // 2 + 1  # But not until commands have to be refused.
    assert kept_below(truncation, learner) == 500


def test_a_log_that_is_nearly_full_is_dropped_however_little_that_is() -> None:
    """It would take nothing any more, and so never have as much as is worth it."""
    truncation, learner = Truncation(0, Config(max_log_bytes=4000)), Learner()
    truncation.applied_slot = 5
    truncation.progressed(replica(1), Progress(0, 5, 0), 10.0)
    learner.log_bytes = 999
    assert kept_below(truncation, learner) == 0
    learner.log_bytes = 1000
    assert kept_below(truncation, learner) == 5


def test_the_word_of_an_earlier_life_is_worth_nothing() -> None:
    one = follower(0)
    one.receive(replica(1, incarnation=1), Progress(0, 100, 0), 1.0)
    assert one.truncation.progress == {}
    one.receive(replica(1), Progress(0, 100, 0), 1.0)
    assert one.truncation.progress_of(1) == Progress(0, 100, 0)

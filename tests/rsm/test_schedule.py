"""When a replica writes a snapshot to its disk."""

from __future__ import annotations

import random

from concoord_ray.config import Config
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.messages import Progress
from concoord_ray.paxos.replica import Replica
from concoord_ray.rsm.schedule import SnapshotSchedule
from tests.paxos.pieces import NOOP, replica, view

CONFIG = Config(storage="/data", snapshot_log_bytes=1000)
EMPTY = Learner()


def follower(applied_slot: int = 10, first_slot: int = 0) -> Replica:
    one = Replica(replica(0), view(epoch=1, first_slot=first_slot), CONFIG, noop=NOOP, rng=random.Random(0), now_s=0.0)
    one.truncation.applied_slot = applied_slot
    return one


def leading(*others: int) -> Replica:
    """A leader that hears from these."""
    one = follower()
    one.leader.is_leading = True
    for index in others:
        one.truncation.progressed(replica(index), Progress(1, 10, 0), 0.0)
    return one


def grown(size_bytes: int = 1000) -> SnapshotSchedule:
    schedule = SnapshotSchedule(CONFIG)
    schedule.logged(1, size_bytes)
    return schedule


def test_once_the_log_has_grown() -> None:
    assert not grown(999).is_due(follower())
    assert grown(1000).is_due(follower())


def test_not_before_the_log_is_as_long_as_the_last_snapshot_was() -> None:
    schedule = grown(4000)
    schedule.found(5, 5000)
    assert not schedule.is_due(follower())
    schedule.logged(1, 1000)
    assert schedule.is_due(follower())


def test_small_slots_count_for_what_a_restart_takes_with_them() -> None:
    config = Config(storage="/data", snapshot_log_bytes=1000, snapshot_slots=100)
    schedule = SnapshotSchedule(config)
    schedule.logged(99, 0)
    assert not schedule.is_due(follower())
    schedule.logged(1, 0)
    assert schedule.is_due(follower())
    schedule.found(5, 5000)
    schedule.logged(399, 0)
    assert not schedule.is_due(follower()), "a large snapshot costs more than to go through so many again"
    schedule.logged(1, 0)
    assert schedule.is_due(follower())


def test_before_the_log_is_full_however_large_the_last_snapshot_was() -> None:
    """A full log takes nothing any more, and is not dropped before there are snapshots: it would be full for ever."""
    config = Config(storage="/data", snapshot_log_bytes=1000, snapshot_slots=10, max_log_bytes=8000)
    schedule = SnapshotSchedule(config)
    schedule.found(5, 100_000)
    schedule.logged(50, 1999)
    assert not schedule.is_due(follower()), "a slot takes no more of the log than its value"
    schedule.logged(1, 1)
    assert schedule.is_due(follower())
    assert schedule.begin(10, EMPTY)
    schedule.written(10, 100_000)
    schedule.logged(1, 1999)
    assert not schedule.is_due(follower(applied_slot=20))
    schedule.logged(1, 1)
    assert schedule.is_due(follower(applied_slot=20))


def test_what_was_logged_while_a_snapshot_was_taken_counts_for_the_next() -> None:
    """Else a log that fills up meanwhile is full for ever, with nothing due."""
    config = Config(storage="/data", snapshot_log_bytes=1000, snapshot_slots=10, max_log_bytes=8000)
    schedule = SnapshotSchedule(config)
    one = follower(applied_slot=20)
    for slot in range(20):
        one.learner.learn(slot, bytes(400), is_final=True)
    one.learner.ready()
    schedule.logged(20, 8000)
    assert schedule.begin(2, one.learner)
    schedule.written(2, 100_000)
    assert schedule.is_due(one)


def test_not_if_nothing_has_happened_since() -> None:
    schedule = grown()
    schedule.found(10, 1)
    assert not schedule.is_due(follower(applied_slot=10))


def test_at_once_when_an_epoch_has_begun() -> None:
    schedule = SnapshotSchedule(CONFIG)
    schedule.found(4, 1)
    assert schedule.is_due(follower(first_slot=5))
    schedule.found(5, 1)
    assert not schedule.is_due(follower(first_slot=5))


def test_at_once_when_the_disk_is_of_no_use_without_another_replica() -> None:
    one = follower(applied_slot=20)
    one.learner.jump(20)  # By a snapshot from another.
    schedule = SnapshotSchedule(CONFIG)
    schedule.found(10, 1)
    assert schedule.is_due(one)
    schedule.found(20, 1)
    assert not schedule.is_due(one)


def test_the_leader_leaves_it_to_two_others_that_are_there() -> None:
    assert not grown().is_due(leading(1, 2))


def test_the_leader_helps_when_one_other_is_there() -> None:
    """Two disks have to hold a snapshot, or no further view change may come while a replica is away."""
    assert grown().is_due(leading(1))
    assert grown().is_due(leading())


def test_one_at_a_time_and_none_that_is_older() -> None:
    schedule = grown()
    assert schedule.begin(10, EMPTY)
    assert not schedule.begin(11, EMPTY)
    assert not schedule.is_due(follower(applied_slot=20))
    assert schedule.durable_slot == 0, "what is being written may be lost"
    schedule.written(10, 300)
    assert schedule.durable_slot == 10
    assert not schedule.begin(10, EMPTY)
    assert not schedule.is_due(follower(applied_slot=20)), "the log has not grown since"


def test_what_must_not_be_gone_on_from_is_replaced_at_once() -> None:
    schedule = SnapshotSchedule(CONFIG)
    schedule.found(10, 5000)
    schedule.discarded()
    assert schedule.durable_slot == 0
    assert schedule.is_due(follower(applied_slot=10))

"""Snapshots from replica to replica: chunk by chunk, whatever is lost, and from whoever has one."""

from __future__ import annotations

import random

import pytest

from concoord_ray.config import Config
from concoord_ray.paxos.messages import SnapshotChunk, SnapshotComing, SnapshotPull
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.transfer import Snapshot, SnapshotSink, SnapshotSource
from tests.paxos.pieces import replica

CONFIG = Config(snapshot_chunk_bytes=10)
ME, ONE, OTHER = replica(0), replica(1), replica(2)
WHOLE = Snapshot(50, Rope([bytes(range(40)), bytes(range(40, 95))]))


def source(snapshot: Snapshot = WHOLE) -> SnapshotSource:
    made = SnapshotSource(CONFIG)
    made.pull(ME, SnapshotPull(0, -1, 0), 0, snapshot.slot, 0.0)
    made.made(snapshot, 0.0)
    return made


def transferred(sink: SnapshotSink, sources: dict[int, SnapshotSource], loss: float, seed: int = 0) -> Snapshot:
    """Pull until it is whole, over a network that loses."""
    rng = random.Random(seed)
    now_s = 0.0
    for _ in range(20_000):
        now_s += 0.05
        asking = sink.tick(0, tuple(replica(index) for index in sources), now_s)
        while asking:
            (to, pull), *asking = asking
            answer = sources[to.index].pull(ME, pull, 0, 50, now_s) if rng.random() >= loss else None
            if isinstance(answer, SnapshotChunk) and rng.random() >= loss:
                whole, asking = sink.receive(to, answer, 0, now_s)
                if whole is not None:
                    return whole
    raise AssertionError("it never becomes whole")


@pytest.mark.parametrize("loss", [0.0, 0.3, 0.5])
def test_a_snapshot_arrives_whole(loss: float) -> None:
    assert transferred(SnapshotSink(CONFIG), {1: source()}, loss) == WHOLE


def test_a_snapshot_is_made_when_it_is_asked_for_and_forgotten_when_nobody_asks() -> None:
    one = SnapshotSource(CONFIG)
    assert one.pull(ME, SnapshotPull(3, -1, 0), 0, 50, 0.0) == SnapshotComing(3)
    wanted = [one.is_wanted]
    assert one.made(WHOLE, 1.0) == [(ME, SnapshotChunk(50, 1, 0, 95, bytes(range(10))))]
    wanted.append(one.is_wanted)
    assert wanted == [True, False]
    assert one.pull(OTHER, SnapshotPull(3, 1, 90), 0, 60, 2.0) == SnapshotChunk(50, 1, 90, 95, bytes(range(90, 95)))
    one.tick(2.0 + CONFIG.snapshot_keep_s + 0.1)
    assert one.pull(OTHER, SnapshotPull(3, 1, 90), 0, 60, 20.0) == SnapshotComing(3)
    assert one.is_wanted


def test_a_snapshot_from_before_the_log_is_no_help() -> None:
    """Who went on from it would be behind again: the log has been dropped up to a later slot meanwhile."""
    one = source()
    assert one.pull(ME, SnapshotPull(3, -1, 0), 51, 80, 1.0) == SnapshotComing(3)
    assert one.is_wanted


def test_who_has_come_no_further_says_so_and_another_is_asked_at_once() -> None:
    """Simulator seeds 21 and 101 of the full stack: everyone but a retired replica had lost everything."""
    sink = SnapshotSink(CONFIG)
    ((to, pull),) = sink.tick(7, (ONE, OTHER), 0.0)
    assert to == ONE
    answer = SnapshotSource(CONFIG).pull(ME, pull, 0, 7, 0.0)
    assert isinstance(answer, SnapshotChunk)
    assert sink.receive(ONE, answer, 7, 0.0) == (None, [])
    ((to, _),) = sink.tick(7, (ONE, OTHER), 0.02)
    assert to == OTHER


def test_a_source_that_falls_silent_is_left_for_another() -> None:
    silent = SnapshotSource(CONFIG)
    assert transferred(SnapshotSink(CONFIG), {1: silent, 2: source()}, 0.0) == WHOLE


def begun(sink: SnapshotSink, one: SnapshotSource) -> SnapshotPull:
    """The first chunk is here; gives what is asked for next."""
    ((to, pull),) = sink.tick(0, (ONE,), 0.0)
    first = one.pull(ME, pull, 0, 50, 0.0)
    assert isinstance(first, SnapshotChunk)
    _, ((_, following),) = sink.receive(to, first, 0, 0.0)
    return following


@pytest.mark.parametrize("slot", [50, 60])
def test_a_source_that_had_to_make_another_begins_anew(slot: int) -> None:
    """Also if it is of the same slot: no byte of the one goes into the other."""
    sink, one = SnapshotSink(CONFIG), source()
    pull = begun(sink, one)
    assert (pull.number, pull.offset) == (1, 10)
    later = Snapshot(slot, Rope([b"another" * 9]))
    one.made(later, 0.1)
    assert one.pull(ME, pull, 0, 60, 0.1) == SnapshotComing(0)
    ((_, chunk),) = one.made(later, 0.2)
    whole, asking = sink.receive(ONE, chunk, 0, 0.2)
    assert whole is None
    assert [pull.offset for _, pull in asking] == [0]
    assert transferred(sink, {1: one}, 0.0) == later


def asked_at(sink: SnapshotSink, until_s: float) -> list[float]:
    """When it asks, if nothing comes."""
    times = [step / 100 for step in range(1, int(until_s * 100))]
    return [now_s for now_s in times if sink.tick(0, (ONE,), now_s)]


def test_a_slow_link_is_not_filled_with_copies() -> None:
    """100 MB never arrived over a link that needed longer for a chunk than for the next question."""
    sink, one = SnapshotSink(CONFIG), source()
    pull = begun(sink, one)
    chunk = one.pull(ME, pull, 0, 50, 0.0)
    assert isinstance(chunk, SnapshotChunk)
    assert len(asked_at(sink, 1.0)) <= 2
    sink.receive(ONE, chunk, 0, 1.0)  # It took a second.
    sink.tick(0, (ONE,), 1.0)
    again = [1 + step / 100 for step in range(1, 500) if sink.tick(0, (ONE,), 1 + step / 100)]
    assert again[0] >= 4.9


def test_a_source_that_makes_one_is_waited_for() -> None:
    """Making it may take longer than anybody's patience with a silent one; the next would have to make it too."""
    sink = SnapshotSink(CONFIG)
    sink.tick(0, (ONE, OTHER), 0.0)
    asked = set()
    for step in range(1, 30):
        asked |= {to for to, _ in sink.tick(0, (ONE, OTHER), float(step))}
        sink.wait(ONE, float(step))
    assert asked == {ONE}
    for step in range(30, 120):  # But not for ever.
        asked |= {to for to, _ in sink.tick(0, (ONE, OTHER), float(step))}
        sink.wait(ONE, float(step))
    assert asked == {ONE, OTHER}


def test_what_is_late_or_of_somebody_else_is_ignored() -> None:
    sink = SnapshotSink(CONFIG)
    sink.tick(0, (ONE,), 0.0)
    assert sink.receive(OTHER, SnapshotChunk(50, 1, 0, 95, bytes(10)), 0, 0.0) == (None, [])
    assert sink.receive(ONE, SnapshotChunk(50, 1, 20, 95, bytes(10)), 0, 0.0) == (None, [])


def test_no_more_is_kept_than_was_announced() -> None:
    sink = SnapshotSink(CONFIG)
    sink.tick(0, (ONE,), 0.0)
    assert sink.receive(ONE, SnapshotChunk(50, 1, 0, 15, bytes(10)), 0, 0.0)[1]
    assert sink.receive(ONE, SnapshotChunk(50, 1, 10, 15, bytes(10)), 0, 0.0) == (None, [])
    assert sink.receive(ONE, SnapshotChunk(50, 1, 10, 15, b""), 0, 0.0) == (None, [])
    whole, _ = sink.receive(ONE, SnapshotChunk(50, 1, 10, 15, bytes(5)), 0, 0.0)
    assert whole == Snapshot(50, Rope([bytes(15)]))

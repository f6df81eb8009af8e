"""The production storage under the simulator, seed by seed, and the hands that spoil it.

More of them: ``python -m tests.sim --kind storage --seeds 20000``. ``CONCOORD_SIM_SEEDS`` sets how many run here.
"""

from __future__ import annotations

import itertools
import random
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from concoord_ray.errors import StorageFailed
from concoord_ray.paxos.outputs import Promised, Record, Truncated
from concoord_ray.paxos.view import Role
from concoord_ray.storage.database import FILE_NAME
from concoord_ray.storage.durable import DurableStorage
from concoord_ray.storage.rows import Identity
from concoord_ray.storage.watermark import FILE_NAME as WATERMARK
from concoord_ray.storage.watermark import Watermark
from tests.sim.invariants import Broken
from tests.sim.many import report, run_many, summarize
from tests.sim.real_disk import new_directory
from tests.sim.run import run
from tests.sim.scenario import Kind
from tests.sim.spoilt import LOG, Image, damaged, flipped, mixed, read_image, torn_log, write_image
from tests.sim.test_full_stack import JOBS, SEEDS
from tests.sim.trouble import OPENING_STEPS, Kick, Refusal, Trouble, Way, appending, opening, recording
from tests.sim.written import ServedAsWritten, Written
from tests.storage.pieces import HIGH, START, VIEW, accepted, opened, records

#: What every CI run has seen, at the least, per hundred seeds.
SEEN = {
    "disk: damage found": 40,
    "disk: damage without effect": 25,
    "disk: databases of another life": 5,
    "disk: commits under way that survived": 50,
    "disk: commits under way that vanished": 40,
    "disk: commits cut short: torn": 10,
    "disk: commits cut short: checkpoint torn": 5,
    "disk: failed commits": 50,
    "disk: openings cut short": 50,
    "truncations": 50,
    "views": 30,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_seed_breaks_an_invariant() -> None:
    summary = summarize(run_many(range(SEEDS), Kind.STORAGE, JOBS), Kind.STORAGE)
    print(f"\n{summary}")
    assert not summary.failures, "\n".join(report(each) for each in summary.failures[:3])
    assert summary.seeds == SEEDS
    rare = {name: summary.counts[name] for name, least in SEEN.items() if summary.counts[name] * 100 < least * SEEDS}
    assert not rare, "this hardly happens: the storm proves nothing about it"


def test_a_seed_is_the_same_run_every_time_and_everywhere() -> None:
    """Also what SQLite draws by chance, and where the files are, leaves no trace."""
    seeds = range(8)
    here = [(outcome.trace_hash, outcome.counts) for outcome in (run(seed, Kind.STORAGE) for seed in seeds)]
    elsewhere = [(outcome.trace_hash, outcome.counts) for outcome in run_many(seeds, Kind.STORAGE, JOBS)]
    assert here == elsewhere
    assert len({trace_hash for trace_hash, _ in here}) == len(here)


def test_nothing_is_left_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of one that failed."""
    monkeypatch.setattr("tests.sim.real_disk._parent", lambda: tmp_path)
    assert run(0, Kind.STORAGE, plan=()).failure == ""
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("tests.sim.real_journal.RealJournal._commit", lambda self: 1 / 0)
    assert run(0, Kind.STORAGE).invariant == "ZeroDivisionError"
    assert not list(tmp_path.iterdir())


@pytest.fixture
def data() -> Iterator[Path]:
    """Where a storage is that has something in it."""
    root = new_directory()
    with opened(root / "data") as storage:
        storage.append([*START, *(accepted(slot) for slot in range(40))])
    yield root / "data"
    shutil.rmtree(root)


def opened_in(trouble: Trouble, directory: Path) -> DurableStorage:
    with opening(trouble):
        return DurableStorage.open(directory, ensemble="e", role=Role.ACCEPTOR, index=0, incarnation=1)


@pytest.fixture(params=["data", "nothing", "half created", "half created, with all but the word for it"])
def before(data: Path, request: pytest.FixtureRequest) -> Image:
    """What an opening may find."""
    if request.param == "data":
        return read_image(data)
    shutil.rmtree(data)
    if request.param == "nothing":
        return {}
    with opened(data, incarnation=2), closing(Watermark(data, Identity("e", Role.ACCEPTOR, 0, 2))) as mark:
        mark.raise_to(0)
    if request.param == "half created":
        (data / FILE_NAME).write_bytes(b"half")
    return read_image(data)


def test_any_step_of_an_opening_may_be_its_last(data: Path, before: Image) -> None:
    """The process dies before it, or the disk refuses it: the next opening knows nothing of that."""
    write_image(data, before)
    written = records(data)
    steps = 0
    for steps in range(1, OPENING_STEPS + 1):
        for trouble in (kick := Kick(data, steps), refusal := Refusal(steps, "disk I/O error")):
            write_image(data, before)
            try:
                opened_in(trouble, data).close()
            except StorageFailed:
                assert trouble.struck
            if kick.image is not None and trouble is kick:
                write_image(data, kick.image)
            assert records(data) == written
        if kick.image is None and not refusal.struck:
            break
    assert 15 < steps < OPENING_STEPS, "some steps are never the last in a simulation"


def append_for_ever(storage: DurableStorage, written: list[Record]) -> None:
    """Add to ``written`` what was; its last is the promise."""
    for slot in itertools.count(40):
        storage.append([accepted(slot, b"v" * 3000)])
        written.insert(-1, accepted(slot, b"v" * 3000))


@pytest.mark.parametrize("way", list(Way))
def test_a_commit_that_fails_is_the_last_and_what_was_before_is_there(data: Path, way: Way) -> None:
    rng, written = random.Random(1), records(data)
    storage = opened_in(Trouble(), data)
    with appending(storage, way, data, rng), pytest.raises(StorageFailed):
        append_for_ever(storage, written)
    with pytest.raises(StorageFailed, match="failed before"):
        storage.append([accepted(99)])
    image = read_image(data)
    storage.close()
    write_image(data, image)
    served = records(data)
    is_there = way in (Way.SYNC, Way.CHECKPOINT)
    assert served[:-1] == written[:-1] + [accepted(len(written) - 2, b"v" * 3000)] * is_there


def test_of_a_commit_that_was_torn_there_is_all_or_nothing(data: Path) -> None:
    rng, before = random.Random(1), records(data)
    storage = opened_in(Trouble(), data)
    with recording(storage, data) as recorder:
        storage.append([accepted(40, b"v" * 3000), Truncated(7, 0), accepted(41, b"w", HIGH)])
    start, end = recorder.images
    storage.close()
    write_image(data, end)
    after = records(data)
    outcomes = []
    for _ in range(200):
        write_image(data, {**end, LOG: torn_log(start[LOG], end[LOG], rng)})
        outcomes.append(records(data) == after)
        if not outcomes[-1]:
            assert records(data) == before
    assert 0 < sum(outcomes) < len(outcomes) / 2


def test_damage_strikes_every_file_and_changes_what_it_names() -> None:
    rng = random.Random(1)
    image = {FILE_NAME: bytes(range(256)) * 32, LOG: b"log" * 1000, WATERMARK: b"w" * 16, "lock": b"17\n"}
    old = [{name: content[::-1] for name, content in image.items()}]
    struck: Counter[str] = Counter()
    for _ in range(500):
        spoilt, story = damaged(image, old, rng)
        changed = {name for name in image if spoilt.get(name) != image[name]}
        assert all(name in story or "watermark" in story for name in changed)
        struck.update(changed)
    assert min(struck[name] for name in image) > 20


def test_bits_and_sectors() -> None:
    rng = random.Random(1)
    assert all(flipped(b"some bytes", rng, 5)[:5] == b"some " for _ in range(100))
    sectors = {mixed(b"a" * 1024, b"b" * 1024, rng) for _ in range(100)}
    assert sectors == {one * 512 + other * 512 for one in (b"a", b"b") for other in (b"a", b"b")}


@pytest.mark.parametrize(
    "served",
    [
        [*START, accepted(0)],
        [*START, accepted(0), accepted(1), accepted(2)],
        [*START, accepted(0), accepted(1, b"other")],
        [*START, accepted(0), accepted(1), Promised(0, HIGH)],
        [*START, accepted(0), accepted(1), Truncated(1, 0)],
        [accepted(0), accepted(1)],
        [],
    ],
)
def test_the_checker_misses_nothing(served: list[Record]) -> None:
    """What is gone, new, otherwise, in the wrong order; the two that are right are in the next test."""
    written = Written().and_then([*START, accepted(0), accepted(1)])
    with pytest.raises(Broken, match="came back with"):
        ServedAsWritten().check(VIEW.acceptors[0], served, written, [accepted(2), accepted(3)])


def test_what_was_under_way_is_there_or_not() -> None:
    before: list[Record] = [*START, accepted(0), accepted(1)]
    under_way: list[Record] = [accepted(2, b"", HIGH), accepted(0, b"", HIGH), Truncated(1, 0)]
    after: list[Record] = [START[0], Truncated(1, 0), accepted(1), accepted(2, b"", HIGH), Promised(0, HIGH)]
    written = Written().and_then(before)
    for served in (before, after):
        found = ServedAsWritten().check(VIEW.acceptors[0], served, written, under_way)
        assert found.truncated.below == (0 if served is before else 1)
    promise_taken_back = [START[0], Truncated(1, 0), accepted(2, b"", HIGH), accepted(1)]
    with pytest.raises(Broken, match="promised 0"):
        ServedAsWritten().check(VIEW.acceptors[0], promise_taken_back, written, under_way)

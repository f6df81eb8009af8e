"""The mark of what is being executed: what a life learns from it of those before it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from concoord_ray.config import Config
from concoord_ray.paxos.outputs import Decided
from concoord_ray.roles.fail_stop import FailStop
from concoord_ray.roles.lane import Lane
from concoord_ray.roles.mark import DeadlySlot, Mark, deadly_slot, find_mark
from concoord_ray.rsm.command import Batch, Call, Entry
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.wire import NOOP, encode_message

DEATHS = 3


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "executing"


def life(path: Path, *slots: int, dies_in: int | None = None) -> tuple[int, int | None]:
    """A life that executes slots, and perhaps dies in another; what it knew of those before it."""
    mark = Mark.open(path, DEATHS)
    known = mark.deaths, mark.held_slot
    for slot in slots:
        mark.begin(slot)
        mark.end(slot)
    if dies_in is not None:
        mark.begin(dies_in)
    mark.close()
    return known


def test_the_first_life_knows_nothing(path: Path) -> None:
    assert life(path) == (0, None)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_slot_is_held_after_so_many_deaths_in_it(path: Path) -> None:
    for death in range(DEATHS):
        assert life(path, 0, 1, dies_in=2) == (death, None)
    assert life(path, 0, 1) == (DEATHS, 2)


def test_slot_zero_is_a_slot(path: Path) -> None:
    for _ in range(DEATHS):
        life(path, dies_in=0)
    assert life(path) == (DEATHS, 0)


def test_deaths_in_other_slots_are_no_row(path: Path) -> None:
    for slot in (7, 7, 8, 7, 7):
        life(path, dies_in=slot)
    assert life(path) == (2, None)


def test_who_executed_it_clears_it(path: Path) -> None:
    for _ in range(DEATHS - 1):
        life(path, dies_in=7)
    assert life(path, 7) == (DEATHS - 1, None)
    assert life(path, dies_in=7) == (0, None)
    assert life(path, dies_in=7) == (1, None)


def test_who_went_past_it_with_a_snapshot_clears_it(path: Path) -> None:
    for _ in range(DEATHS):
        life(path, dies_in=7)
    life(path, 9)
    assert life(path) == (0, None)


def test_who_died_before_it_says_nothing_of_it(path: Path) -> None:
    for _ in range(DEATHS):
        life(path, dies_in=7)
        life(path, 5, 6)
    assert life(path) == (DEATHS, 7)


def test_who_held_it_lets_the_next_life_try(path: Path) -> None:
    for _ in range(DEATHS):
        life(path, dies_in=7)
    mark = Mark.open(path, DEATHS)
    mark.hold()
    mark.close()
    assert life(path) == (DEATHS, None), "it did not get as far"
    assert life(path, dies_in=7) == (DEATHS, None)
    assert life(path) == (DEATHS + 1, 7)


@pytest.mark.parametrize("end", ["os._exit(1)", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_it_outlives_the_process(path: Path, end: str) -> None:
    code = f"""
import os
from pathlib import Path
from concoord_ray.roles.mark import Mark
mark = Mark.open(Path({str(path)!r}), 1)
mark.begin(41)
mark.end(41)
mark.begin(42)
{end}
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, stderr=subprocess.DEVNULL)
    assert ended.returncode in (1, -signal.SIGABRT, -signal.SIGKILL)
    mark = Mark.open(path, 1)
    assert (mark.deaths, mark.held_slot) == (1, 42)
    mark.close()


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 56, b"x" * 4000])
def test_what_is_no_mark_is_begun_anew(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert life(path, dies_in=3) == (0, None)
    assert life(path) == (1, None)
    assert path.stat().st_size == 56


def test_what_another_life_has_or_cannot_be_is_done_without(tmp_path: Path) -> None:
    first = find_mark("e", 0, tmp_path, DEATHS)
    second = find_mark("e", 0, tmp_path, DEATHS)
    second.begin(3)
    first.close()
    second.close()
    assert life(tmp_path / "executing") == (0, None)
    find_mark("e", 0, tmp_path / "nowhere", DEATHS).close()
    (tmp_path / "executing").unlink()
    (tmp_path / "executing").symlink_to(tmp_path / "elsewhere")
    find_mark("e", 0, tmp_path, DEATHS).close()
    assert not (tmp_path / "elsewhere").exists()


def test_without_a_directory_of_its_own_it_is_among_those_of_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    mark = find_mark("e1", 0, None, DEATHS)
    other = find_mark("e1", 1, None, DEATHS)
    names = {"concoord-executing-e1-0", "concoord-executing-e1-1"}
    assert {path.name for path in tmp_path.iterdir()} == names
    old_s = time.time() - 100_000
    for path in tmp_path.iterdir():
        os.utime(path, (old_s, old_s))
    other.close()
    another = find_mark("e2", 0, None, DEATHS)
    assert {path.name for path in tmp_path.iterdir()} == {"concoord-executing-e1-0", "concoord-executing-e2-0"}
    mark.close()
    another.close()


# In a lane.


def called(object_id: int, method: str, seq: int = 1) -> bytes:
    return encode_message(Batch(0, 0, (Entry(5, seq, (), encode_message(Call(object_id, method, "", b""))),)))


async def run(mark: Mark, values: list[bytes]) -> tuple[list[BaseException], int]:
    """What a lane says that has failed, and how far it comes; there are more slots after those, and a read."""
    failed: list[BaseException] = []
    executor = Executor("here")
    lane = Lane(executor, Config(), lambda *_: None, FailStop(failed.append), mark)
    lane.execute([Decided(slot, value) for slot, value in enumerate(values)], [])
    lane.execute([Decided(len(values), NOOP)], [])
    lane.close()
    await asyncio.to_thread(lane._thread.join)
    await asyncio.sleep(0)
    return failed, executor.next_slot


def test_a_lane_executes_what_is_before_the_held_slot_and_names_what_is_in_it(path: Path) -> None:
    for _ in range(DEATHS):
        life(path, dies_in=2)
    mark = Mark.open(path, DEATHS)
    (error,), reached = asyncio.run(run(mark, [NOOP, NOOP, called(3, "explode"), NOOP]))
    assert reached == 2
    assert isinstance(error, DeadlySlot)
    assert "slot 2 of the log is not executed, for 3 lives" in str(error)
    assert "explode of object 3" in str(error)
    mark.close()
    mark = Mark.open(path, DEATHS)
    assert asyncio.run(run(mark, [NOOP, NOOP, called(3, "explode"), NOOP])) == ([], 5)
    mark.close()
    assert life(path) == (0, None)


def test_of_many_calls_the_one_is_named_that_the_last_life_died_in(path: Path) -> None:
    """The first death only says in which slot."""
    entries = tuple(Entry(5, n, (), encode_message(Call(n, "m", "", b""))) for n in range(20))
    for death in range(DEATHS):
        mark = Mark.open(path, DEATHS)
        assert mark.died_at == (None if death <= 1 else 12)
        mark.begin(3)
        for index, entry in enumerate(mark.watched(3, Batch(0, 0, entries)).entries):
            assert entry is entries[index]
            if index == 12:
                break
        mark.close()
    mark = Mark.open(path, DEATHS)
    executor = Executor("here")
    assert str(deadly_slot(mark, executor, encode_message(Batch(0, 0, entries)), 30.0)).count("m of object 12.") == 1
    mark.close()


def test_one_death_changes_nothing(path: Path) -> None:
    life(path, dies_in=2)
    mark = Mark.open(path, DEATHS)
    assert asyncio.run(run(mark, [NOOP, NOOP, NOOP])) == ([], 4)
    mark.close()
    assert life(path) == (0, None)


def test_a_process_that_ends_in_a_slot_leaves_it(path: Path) -> None:
    class Ends(Executor):
        def apply_batch(self, slot: int, batch: Batch) -> None:
            if slot == 1:
                raise MemoryError
            super().apply_batch(slot, batch)

    async def execute(mark: Mark) -> None:
        lane = Lane(Ends("here"), Config(), lambda *_: None, FailStop(lambda _: None), mark)
        try:
            lane.execute([Decided(0, NOOP), Decided(1, NOOP)], [])
        finally:
            lane.close()

    mark = Mark.open(path, DEATHS)
    with pytest.raises(MemoryError):
        asyncio.run(execute(mark))
    mark.close()
    assert life(path) == (1, None)


def test_many_calls_are_named_in_short() -> None:
    error = DeadlySlot(5, 3, [f"A.m{each} of object 1" for each in range(20)], 30.0)
    error.snapshot = (Path("/data/snapshot-4"), 4)
    assert "A.m7 of object 1, and 12 more; or it is a call that waited, and goes on there. " in str(error)
    assert "source='/data/snapshot-4'" in str(error)
    assert "what was executed from slot 4 on is lost" in str(error)
    assert "no call; or it is a call that waited" in str(DeadlySlot(5, 3, [], 30.0))

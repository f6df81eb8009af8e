"""Processes that die, disks that are full: what was acknowledged is there, and one process has the directory."""

from __future__ import annotations

import random
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from concoord_ray.errors import StorageError
from concoord_ray.paxos.outputs import Accepted, Promised, Truncated
from tests.storage.children import (
    KEPT,
    append_for_ever,
    append_of,
    append_until_files_may_not_grow,
    child,
    hold,
    write_a_snapshot_that_is_too_large,
)
from tests.storage.pieces import LOW, START, accepted, opened, records

KILLS = 10
PATIENCE_S = 30


def received(connection: Connection) -> list[int]:
    """What a dead process had sent."""
    slots = []
    try:
        while connection.poll(0):
            slots.append(connection.recv())
    except EOFError:
        pass
    return slots


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    """Ten times on the same data, in the middle of appends, truncations and checkpoints."""
    data, rng, acknowledged = tmp_path / "data", random.Random(1), -1
    for _ in range(KILLS):
        with child(append_for_ever, data) as (process, acknowledgements):
            until = acknowledged + rng.randrange(20, 200)
            while acknowledged < until:
                assert acknowledgements.poll(PATIENCE_S)
                acknowledged = acknowledgements.recv()
            process.kill()
            process.join(PATIENCE_S)
            acknowledged = max([acknowledged, *received(acknowledgements)])
        found = records(data)
        values = [record for record in found if isinstance(record, Accepted)]
        slots = [record.pvalue.slot for record in values]
        assert slots[-1] in (acknowledged, acknowledged + 1)  # One was under way.
        acknowledged = slots[-1]
        assert values == [append_of(slot)[0] for slot in range(slots[0], slots[-1] + 1)]
        below = max(
            (r.below for slot in range(slots[-1] + 1) for r in append_of(slot) if isinstance(r, Truncated)), default=0
        )
        assert slots[0] == below
        assert found[-1] == Promised(0, LOW)
    assert acknowledged > 10 * KEPT


def test_after_a_file_could_not_grow_nothing_is_written_and_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with child(append_until_files_may_not_grow, data) as (_, results):
        assert results.poll(PATIENCE_S)
        slot, (first, second) = results.recv()
    assert slot > 10
    assert f"{data}" in first
    assert "Make room on the disk" in first
    assert "writing has failed before" in second
    found = records(data)
    assert found[1:-1] == [accepted(s, b"v" * 500) for s in range(len(found) - 2)]
    assert len(found) - 2 in (slot, slot + 1)  # What failed may have come so far.
    with opened(data) as storage:
        storage.append([accepted(slot, b"again")])
    assert accepted(slot, b"again") in records(data)


def test_a_snapshot_that_did_not_fit_leaves_the_one_before(tmp_path: Path) -> None:
    with child(write_a_snapshot_that_is_too_large, tmp_path / "data") as (_, results):
        assert results.poll(PATIENCE_S)
        error, newest, names = results.recv()
    assert "File too large" in error
    assert newest == (1, b"first")
    assert names == ["lock", "snapshot-00000000000000000001"]


def test_a_second_process_is_told_who_has_the_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with opened(data) as storage:
        storage.append(START)
    with child(hold, data) as (process, ready):
        assert ready.poll(PATIENCE_S)
        with pytest.raises(StorageError, match=rf"{data} is in use by process {process.pid}\b"), opened(data):
            pass
    assert records(data) == list(START)

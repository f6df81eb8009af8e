"""What was appended comes back, to the member that it belongs to, and takes no more room than it must."""

from __future__ import annotations

import copy
import itertools
import random
import sqlite3
from pathlib import Path

import pytest

from concoord_ray.errors import StorageError, StorageFailed
from concoord_ray.paxos.acceptor import Acceptor
from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.messages import Message, P1a, P2a, Ping
from concoord_ray.paxos.outputs import Joined, Promised, Record, Truncated
from concoord_ray.paxos.view import Member, Role, View
from concoord_ray.storage.database import FILE_NAME
from concoord_ray.storage.durable import DurableStorage, set_aside
from tests.storage.pieces import HIGH, INCARNATION, LOW, START, VIEW, accepted, accepted_slots, opened, records

LEADER = Member(Role.REPLICA, 0, 1)
SLOTS_AN_EPOCH = 50


def size_bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in directory.iterdir())


def rows_on_disk(storage: DurableStorage) -> int:
    """Rows that take room, dropped or not."""
    return sum(1 for _ in storage._database.rows())


def view(epoch: int) -> View:
    return View(epoch, (Member(Role.ACCEPTOR, 0, INCARNATION),), (0,), epoch * SLOTS_AN_EPOCH)


def restored(storage: DurableStorage) -> Acceptor:
    one = Acceptor(Member(Role.ACCEPTOR, 0, storage.incarnation), page_bytes=1 << 20)
    one.restore(storage.load())
    return one


def memory(one: Acceptor) -> tuple[View | None, int, list[Message]]:
    """All that an acceptor can tell; it is asked on a copy, because asking makes it promise."""
    asked = copy.deepcopy(one)
    asked.outputs.take()
    for epoch in range(20):
        asked.receive(LEADER, Ping(epoch, epoch, 0))
        asked.receive(LEADER, P1a(view(epoch), Ballot(1 << 40, 0, 1), 0))
    return one.view, one.truncated_below, [send.message for send in asked.outputs.take().send]


def append_until_it_fails(storage: DurableStorage) -> tuple[int, str]:
    """Which slot failed, and how."""
    for slot in range(10_000):
        try:
            storage.append([accepted(slot, b"v" * 1000)])
        except StorageFailed as error:
            return slot, str(error)
    raise AssertionError("nothing failed")


class Leaders:
    """Leaders that come and go, as one acceptor sees them: seeded, in no good order, over several epochs."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._slot = 0

    def message(self) -> P1a | P2a | Ping:
        """What arrives next."""
        rng = self._rng
        self._slot += rng.random() < 0.5
        epoch = max(0, self._slot // SLOTS_AN_EPOCH - (rng.random() < 0.2))
        ballot = Ballot(rng.randrange(self._slot // 10 + 1), rng.randrange(3), rng.getrandbits(64))
        kind = rng.random()
        if kind < 0.15:
            return P1a(view(epoch), ballot, 0)
        if kind < 0.2:
            return Ping(epoch, 0, max(0, self._slot - rng.randrange(20, 80)))
        if kind < 0.5:  # Of the leader that leads for ten slots.
            ballot = Ballot(self._slot // 10, 3, 9)
        return P2a(epoch, ballot, max(0, self._slot - rng.randrange(10)), rng.randbytes(rng.choice((3, 40, 2000))))


@pytest.mark.parametrize("seed", range(4))
def test_an_acceptor_that_is_restored_is_the_one_that_it_was(tmp_path: Path, seed: int) -> None:
    leaders, rng = Leaders(seed), random.Random(seed)
    live = Acceptor(Member(Role.ACCEPTOR, 0, INCARNATION), page_bytes=1 << 20)
    for life in range(6):
        with opened(tmp_path / "data", incarnation=INCARNATION + life) as storage:
            assert memory(restored(storage)) == memory(live)
            live = restored(storage)
            for _ in range(120):
                for _ in range(rng.choice((1, 1, 5))):
                    live.receive(LEADER, leaders.message())
                storage.append(live.outputs.take().persist)
            assert memory(restored(storage)) == memory(live)
    assert live.truncated_below > 0
    assert live.view is not None
    assert live.view.epoch > 1


def test_records_come_back_in_an_order_in_which_they_can_be_replayed(tmp_path: Path) -> None:
    next_view = view(1)
    appended: list[Record] = [
        *START,
        accepted(3),
        Joined(next_view),
        Promised(1, HIGH),
        accepted(2),
        accepted(3, b"new"),
    ]
    with opened(tmp_path / "data") as storage:
        storage.append(appended)
        storage.append([accepted(51, epoch=1, ballot=HIGH), Truncated(2, 0)])
    assert records(tmp_path / "data") == [
        Joined(VIEW), Joined(next_view), Truncated(2, 0), accepted(2), accepted(3, b"new"),
        accepted(51, epoch=1, ballot=HIGH), Promised(0, LOW), Promised(1, HIGH),
    ]  # fmt: skip


def test_the_promise_of_an_acceptance_outlives_its_truncation(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        storage.append([*START, accepted(0, ballot=HIGH)])
        storage.append([Truncated(1, 0)])
    assert records(tmp_path / "data") == [Joined(VIEW), Truncated(1, 0), Promised(0, HIGH)]


def test_dropped_epochs_go_entirely(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        storage.append([*START, accepted(1), accepted(9), Joined(view(1)), accepted(50, epoch=1)])
        storage.append([Truncated(2, 1)])
        storage.append([Truncated(1, 0), accepted(1, epoch=1), accepted(9), Promised(0, HIGH)])  # All of it too late.
    kept = [Joined(view(1)), Truncated(2, 1), accepted(50, epoch=1), Promised(1, LOW)]
    assert records(tmp_path / "data") == kept


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000])
def test_an_append_of_any_size_is_one_commit(tmp_path: Path, rows: int) -> None:
    with opened(tmp_path / "data") as storage:
        storage.append(START)
        before = storage._account.commit
        storage.append(accepted_slots(range(rows)))
        assert storage._account.commit == before + 1
        storage.append([])
        assert storage._account.commit == before + 1
    assert records(tmp_path / "data") == [START[0], *accepted_slots(range(rows)), START[1]]


def test_values_of_any_size_come_back(tmp_path: Path) -> None:
    values = [accepted(slot, bytes([slot]) * size) for slot, size in enumerate((1, 1000, 4096, 100_000, 5_000_000))]
    with opened(tmp_path / "data") as storage:
        storage.append([*START, *values])
        storage.append([accepted(3, b"small")])
    assert records(tmp_path / "data")[1:-1] == [*values[:3], accepted(3, b"small"), values[4]]


def test_the_incarnation_is_that_of_the_data(tmp_path: Path) -> None:
    with opened(tmp_path / "a" / "b", incarnation=INCARNATION) as storage:
        assert storage.incarnation == INCARNATION
    with opened(tmp_path / "a" / "b", incarnation=5) as storage:
        assert storage.incarnation == INCARNATION
    with opened(tmp_path / "a" / "c", incarnation=5) as storage:
        assert storage.incarnation == 5


def test_what_a_data_directory_consists_of(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for _ in range(2):
        with opened(data):
            assert {file.name for file in data.iterdir()} == {"lock", "watermark", FILE_NAME, f"{FILE_NAME}-wal"}
        assert {file.name for file in data.iterdir()} == {"lock", "watermark", FILE_NAME}


def test_data_of_another_member_are_refused_and_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        storage.append(START)
    with (
        pytest.raises(StorageError, match="acceptor 0 of ensemble 'e', not of acceptor 0 of ensemble 'other'"),
        opened(tmp_path / "data", ensemble="other"),
    ):
        pass
    with pytest.raises(StorageError, match="not of acceptor 1"), opened(tmp_path / "data", index=1):
        pass
    with pytest.raises(StorageError, match="not of replica 0"), opened(tmp_path / "data", role=Role.REPLICA):
        pass
    assert records(tmp_path / "data") == list(START)


def test_set_aside_makes_room_for_a_new_life(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for life in (1, 2):
        with opened(data, incarnation=life) as storage:
            assert storage.incarnation == life
            storage.append([accepted(life)])
            with pytest.raises(StorageError, match="in use by process"):
                set_aside(data)
        assert set_aside(data) == tmp_path / f"data.corrupt-{life}"
    assert records(tmp_path / "data.corrupt-1") == [accepted(1), Promised(0, LOW)]
    assert records(tmp_path / "data.corrupt-2") == [accepted(2), Promised(0, LOW)]
    with pytest.raises(StorageFailed, match="No such file"):
        set_aside(data)


def test_of_what_was_set_aside_the_last_are_kept(tmp_path: Path) -> None:
    """Numbers are not used again, so the highest is the newest."""
    data = tmp_path / "data"
    for name in ("data.corrupt-x", "data.2", "data.retired-1"):
        (tmp_path / name).mkdir()
    for number in range(1, 13):
        data.mkdir()
        (data / "file").write_bytes(b"%d" % number)
        assert set_aside(data) == tmp_path / f"data.corrupt-{number}"
    left = {path.name: path for path in tmp_path.iterdir()}
    assert left.keys() == {f"data.corrupt-{n}" for n in range(5, 13)} | {"data.corrupt-x", "data.2", "data.retired-1"}
    assert (left["data.corrupt-12"] / "file").read_bytes() == b"12"


def test_after_a_full_disk_nothing_is_written_any_more(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        storage.append(START)
        storage._database._connection.execute("PRAGMA max_page_count=20")
        slot, error = append_until_it_fails(storage)
        assert "database or disk is full" in error
        assert "Make room" in error
        storage._database._connection.execute("PRAGMA max_page_count=1000000")
        with pytest.raises(StorageFailed, match=r"failed before: database or disk is full"):
            storage.append([accepted(slot)])
    assert slot > 10
    assert records(tmp_path / "data")[1:-1] == [accepted(s, b"v" * 1000) for s in range(slot)]


def test_an_append_that_did_not_fit_is_not_there_in_part(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        storage.append(START)
        storage.append([accepted(0)])  # From here on nothing is left to be freed, which would be one more transaction.
        assert not storage._is_purging
        storage._database._connection.execute("PRAGMA max_page_count=200")
        with pytest.raises(StorageFailed, match="database or disk is full"):
            storage.append([accepted(slot, b"v" * 1000) for slot in range(1, 1000)])
    assert records(tmp_path / "data") == [START[0], accepted(0), START[1]]


def test_a_failed_checkpoint_is_not_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite would: its automatic checkpoints ignore errors. But the kernel reports a failed write-back once."""
    with opened(tmp_path / "data") as storage:
        tried: list[str] = []

        def checkpoint(mode: str) -> None:
            tried.append(mode)
            raise sqlite3.OperationalError("disk I/O error")

        monkeypatch.setattr(storage._database, "_checkpoint", checkpoint)
        slot, error = append_until_it_fails(storage)
        assert "disk I/O error" in error
        for _ in range(2):
            with pytest.raises(StorageFailed, match="failed before"):
                storage.append([accepted(0)])
        assert tried == ["PASSIVE"]
    assert records(tmp_path / "data")[:-1] == [accepted(s, b"v" * 1000) for s in range(slot + 1)]  # Durable, untold.


def test_every_commit_is_synced_and_checkpoints_are_ours(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        ask = storage._database._connection.execute
        settings = {name: ask(f"PRAGMA {name}").fetchone()[0] for name in (
            "journal_mode", "synchronous", "fullfsync", "checkpoint_fullfsync", "wal_autocheckpoint", "locking_mode",
        )}  # fmt: skip
    assert settings == {
        "journal_mode": "wal", "synchronous": 2, "fullfsync": 1, "checkpoint_fullfsync": 1, "wal_autocheckpoint": 0,
        "locking_mode": "exclusive",
    }  # fmt: skip


def test_a_setting_that_sqlite_does_not_take_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("concoord_ray.storage.database._SETTINGS", (("journal_mode", "MEMORY", "wal"),))
    with (
        pytest.raises(StorageFailed, match="answers 'memory' to journal_mode=MEMORY, not 'wal'"),
        opened(tmp_path / "d"),
    ):
        pass


def test_a_commit_frees_a_bounded_part_of_what_was_truncated(tmp_path: Path) -> None:
    """And frees it faster than others add, so that it comes to an end."""
    with opened(tmp_path / "data") as storage:
        storage.append([*START, *accepted_slots(range(5000))])
        storage.append([Truncated(5000, 0)])
        left = [rows_on_disk(storage)]
        assert storage.load() == [START[0], Truncated(5000, 0), START[1]]
        while left[-1] > 100:
            storage.append([accepted(5000 + len(left))])
            left.append(rows_on_disk(storage))
        assert all(0 < before - after <= 300 for before, after in itertools.pairwise(left))
        large = [accepted(6000 + slot, b"v" * 400_000) for slot in range(20)]
        storage.append(large)
        storage.append([Truncated(7000, 0)])
        assert 10 < rows_on_disk(storage) < 25


def test_truncation_goes_on_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path / "data") as storage:
        storage.append([*START, *accepted_slots(range(2000))])
        storage.append([Truncated(2000, 0)])
        assert rows_on_disk(storage) > 1000
    with opened(tmp_path / "data") as storage:
        for slot in range(2000, 2020):
            storage.append([accepted(slot)])
        assert rows_on_disk(storage) == 25
    assert records(tmp_path / "data") == [START[0], Truncated(2000, 0), *accepted_slots(range(2000, 2020)), START[1]]


def test_disk_use_is_flat_over_many_slots(tmp_path: Path) -> None:
    data, sizes, group, kept = tmp_path / "data", [], 100, 2000
    with opened(data) as storage:
        storage.append(START)
        for slot in range(0, 200_000, group):
            truncation = [Truncated(slot - kept, 0)] if slot % 1000 == 0 and slot > kept else []
            storage.append([*accepted_slots(range(slot, slot + group)), *truncation])
            sizes.append(size_bytes(data))
    assert max(sizes) < 12 << 20
    assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2]) * 1.05
    assert len(records(data)) < 2 * kept


def test_space_goes_back_to_the_file_system_when_little_is_left(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with opened(data) as storage:
        for slot in range(0, 2000, 100):
            storage.append([accepted(one, b"v" * 10_000) for one in range(slot, slot + 100)])
        storage.append([Truncated(2000, 0)])
        full = (data / FILE_NAME).stat().st_size
        for slot in range(2000, 2200):
            storage.append([accepted(slot)])
    assert full > 20 << 20
    assert (data / FILE_NAME).stat().st_size < 8 << 20
    assert records(data)[1:-1] == accepted_slots(range(2000, 2200))

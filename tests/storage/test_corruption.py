"""Data that were changed on disk are named, never served: each byte, each length, each file, each row."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from concoord_ray.errors import StorageCorrupt, StorageError
from concoord_ray.paxos.outputs import Record, Truncated
from concoord_ray.paxos.view import Role
from concoord_ray.storage.database import FILE_NAME, log_of
from concoord_ray.storage.durable import set_aside
from concoord_ray.storage.rows import Identity
from concoord_ray.storage.watermark import FILE_NAME as WATERMARK
from concoord_ray.storage.watermark import Watermark, read_watermark
from tests.storage.pieces import HIGH, START, accepted, accepted_slots, crashed, flipped, opened, records

LOG = log_of(Path(FILE_NAME)).name
#: Half of the bits of the first so many bytes are tried, which are the headers of SQLite's files; then a bit of every
#: so many.
HEADER_BYTES, STRIDE = 100, 61

LATER: list[list[Record]] = [
    [accepted(40, b"v" * 700)],
    [accepted(40, b"w" * 700, HIGH), accepted(41, b"x" * 5000, HIGH)],
    [Truncated(5, 0)],
    [accepted(42, b"y", HIGH)],
]


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """What a crash leaves: rows in the database, some in overflow pages; free pages; commits in the log."""
    data = tmp_path / "data"
    with opened(data) as storage:
        storage.append([*START, *(accepted(slot, b"%d" % slot * 90) for slot in range(40))])
        storage.append([accepted(39, b"z" * 9000), accepted(38, b"z" * 9000)])
        storage.append([accepted(39, b"short", HIGH)])
    shutil.copytree(data, tmp_path / "base")
    left = crashed(data, tmp_path / "damaged", LATER)
    shutil.copytree(data, tmp_path / "closed")
    return left


def served(directory: Path) -> list[Record] | None:
    """What a restarted acceptor would be given, None if nothing. Looks at a copy, since opening changes it."""
    shutil.rmtree(directory.with_name("copy"), ignore_errors=True)
    try:
        return records(shutil.copytree(directory, directory.with_name("copy")))
    except StorageCorrupt:
        return None


def flips(size: int) -> Iterator[tuple[int, int]]:
    """Positions and masks."""
    rng = random.Random(size)
    yield from ((at, 1 << bit) for at in range(min(HEADER_BYTES, size)) for bit in range(at % 2, 8, 2))
    yield from ((at, 1 << rng.randrange(8)) for at in range(HEADER_BYTES, size, STRIDE))


@pytest.mark.parametrize(
    ("state", "name", "least_found"),
    [("closed", FILE_NAME, 0.3), ("damaged", FILE_NAME, 0.1), ("damaged", LOG, 1.0), ("damaged", WATERMARK, 1.0)],
)
def test_a_flipped_bit_is_found_or_without_effect(damaged: Path, state: str, name: str, least_found: float) -> None:
    """Without effect where the log holds a newer page, and in unused space: all of the log is used."""
    directory = damaged.with_name(state)
    intact, found, total = served(directory), 0, 0
    assert intact is not None
    for at, mask in flips((directory / name).stat().st_size):
        with flipped(directory / name, at, mask):
            outcome = served(directory)
        assert outcome in (None, intact), f"byte {at} of {name}, mask {mask:#x}"
        total += 1
        found += outcome is None
    assert served(directory) == intact
    assert total >= 64
    assert found >= least_found * total


FILES = pytest.mark.parametrize("name", [FILE_NAME, LOG, WATERMARK])


@FILES
def test_a_file_that_was_cut_is_found(damaged: Path, name: str) -> None:
    """Whatever the length: all that is in a file is needed."""
    content = (damaged / name).read_bytes()
    for length in {*range(min(40, len(content))), *range(0, len(content), 509), len(content) - 1}:
        (damaged / name).write_bytes(content[:length])
        assert served(damaged) is None, f"{length} of {len(content)} bytes of {name}"


@FILES
def test_a_file_that_is_gone_is_found_and_nothing_else_touched(damaged: Path, name: str) -> None:
    (damaged / name).unlink()
    left = contents(damaged)
    for _ in range(2):
        with pytest.raises(StorageCorrupt, match="Set its directory aside"), opened(damaged):
            pass
        assert contents(damaged) == left
    set_aside(damaged)
    assert records(damaged) == []


def test_after_a_power_failure_some_commit_and_all_before_it_are_served(damaged: Path) -> None:
    """The watermark is not synced, so it may be old then. What was acknowledged is in the log, which is."""
    states = [crashed_after(damaged, count) for count in range(len(LATER) + 1)]
    log = log_of(damaged / FILE_NAME)
    content = log.read_bytes()
    last = read_watermark(damaged)
    assert last is not None
    with closing(Watermark(damaged, last.identity)) as mark:
        mark.raise_to(last.commit - (len(LATER) - 2))
    outcomes = []
    for length in range(0, len(content) + 1, 173):
        log.write_bytes(content[:length])
        outcomes.append(served(damaged))
    assert all(outcome is None or outcome in states[2:] for outcome in outcomes)
    assert outcomes[0] is None
    log.write_bytes(content)
    assert served(damaged) == states[-1]
    assert all(state in outcomes for state in states[2:-1])


def test_after_a_power_failure_a_log_that_is_gone_is_found_also_if_there_was_a_log_before_it(tmp_path: Path) -> None:
    """The watermark is as it was when it was last synced, which is not only when the storage is opened."""
    data = tmp_path / "data"
    with opened(data) as storage, synced_watermarks(data) as synced:
        storage.append(START)
        for slot in range(400):
            storage.append([accepted(slot, b"v" * 10_000)])
        image = shutil.copytree(data, tmp_path / "image")
    assert len(synced) in range(2, 10)
    (image / WATERMARK).write_bytes(synced[-1])
    assert served(image) is not None
    log_of(image / FILE_NAME).unlink()
    assert served(image) is None


def contents(directory: Path) -> dict[str, bytes]:
    """Of the files that hold anything. SQLite makes an empty log to look into where there is none."""
    files = {file.name: file.read_bytes() for file in directory.iterdir() if file.name != "lock"}
    return {name: content for name, content in files.items() if content}


@contextmanager
def synced_watermarks(directory: Path) -> Iterator[list[bytes]]:
    """What is in a watermark whenever it is synced."""
    synced: list[bytes] = []

    def sync(descriptor: int) -> None:
        os.fsync(descriptor)
        synced.append((directory / WATERMARK).read_bytes())

    with patch("concoord_ray.storage.watermark.sync", sync):
        yield synced


def crashed_after(damaged: Path, count: int) -> list[Record]:
    """The records after so many of the later appends."""
    to = shutil.copytree(damaged.with_name("base"), damaged.with_name(f"after-{count}"))
    with opened(to) as storage:
        for append in LATER[:count]:
            storage.append(append)
        return storage.load()


def rows_changed(statement: str, *values: object) -> Callable[[Path], None]:
    def change(directory: Path) -> None:
        with closing(sqlite3.connect(directory / FILE_NAME)) as connection, connection:
            connection.execute(statement, values)

    return change


def put_back_an_old_row(directory: Path) -> None:
    """As a page that was never written would: each row by itself is right."""
    with closing(sqlite3.connect(directory.with_name("old") / FILE_NAME)) as connection:
        (old,) = connection.execute("SELECT * FROM records WHERE kind=3 AND slot=39")
    rows_changed("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?)", *old)(directory)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (rows_changed("DELETE FROM records WHERE kind=3 AND slot=20"), "rows are lost"),
        (rows_changed("DELETE FROM records WHERE kind=0"), "rows are lost"),
        (rows_changed("DELETE FROM records WHERE kind=4"), "row totals .* is gone"),
        (rows_changed("DELETE FROM records"), "row totals .* is gone"),
        (rows_changed("UPDATE records SET slot=99 WHERE slot=20"), r"accepted \(slot 99.* where accepted \(slot 20"),
        (rows_changed("UPDATE records SET kind=9 WHERE slot=20"), r"kind 9 \(slot 20.* where accepted"),
        (rows_changed("UPDATE records SET checksum=1 WHERE slot=20"), r"accepted \(slot 20, epoch 0\): its checksum"),
        (rows_changed("UPDATE records SET content=x'00' WHERE slot=20"), "its checksum is not that of its content"),
        (rows_changed("UPDATE records SET content='text' WHERE slot=20"), "its content is not bytes"),
        (
            rows_changed(
                "UPDATE records SET (checksum, content) = "
                "(SELECT checksum, content FROM records AS other WHERE kind=3 AND other.slot = 41 - records.slot) "
                "WHERE kind=3 AND slot IN (20, 21)"
            ),
            r"accepted \(slot 20, epoch 0\): it is where accepted \(slot 21, epoch 0\) was written",
        ),
        (put_back_an_old_row, "old ones came back"),
        (rows_changed("CREATE TABLE more (a)"), "its tables are not those of this version"),
        (rows_changed("CREATE INDEX more ON records (slot)"), "its tables are not those of this version"),
    ],
)  # fmt: skip
def test_rows_that_others_changed_are_named(tmp_path: Path, change: Callable[[Path], None], reason: str) -> None:
    data = tmp_path / "data"
    with opened(data) as storage:
        storage.append([*START, *accepted_slots(range(40))])
    shutil.copytree(data, tmp_path / "old")
    with opened(data) as storage:
        storage.append([accepted(39, b"new", HIGH)])
    change(data)
    with pytest.raises(StorageCorrupt, match=rf"acceptor\.sqlite: .*{reason}"), opened(data):
        pass


def test_an_older_copy_of_the_database_is_found(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with opened(data) as storage:
        storage.append(START)
    shutil.copytree(data, tmp_path / "old")
    with opened(data) as storage:
        storage.append([accepted(0)])
    shutil.copy(tmp_path / "old" / FILE_NAME, data / FILE_NAME)
    with pytest.raises(StorageCorrupt, match=r"is of commit 3, but commit 5 was acknowledged"), opened(data):
        pass


def test_no_file_of_another_kind_is_taken_for_a_database(damaged: Path) -> None:
    (damaged / FILE_NAME).write_bytes(b"something else " * 1000)
    with pytest.raises(StorageCorrupt, match="SQLite"), opened(damaged):
        pass


def test_damage_that_only_a_later_commit_would_meet_is_found(damaged: Path) -> None:
    """The list of free pages: no row is read from it, and the next ones would be written where it says."""
    path = damaged.with_name("closed") / FILE_NAME
    for byte_of_the_count in (36, 37, 38, 39):
        with flipped(path, byte_of_the_count, 1):
            assert served(path.parent) is None


def test_a_schema_that_is_no_text_any_more_is_found(damaged: Path) -> None:
    """SQLite quotes it, and Python cannot decode the quotation."""
    path = damaged.with_name("closed") / FILE_NAME
    with flipped(path, path.read_bytes().index(b"CREATE TABLE") + 5, 0x80):
        assert served(path.parent) is None


def test_a_creation_that_was_cut_short_is_begun_again(tmp_path: Path) -> None:
    """Before ``open`` has returned for the first time nobody was told of anything."""
    data = tmp_path / "data"
    with opened(data, incarnation=1):
        pass
    Watermark.create(data, Identity("e", Role.ACCEPTOR, 0, 1))
    for name in (FILE_NAME, LOG, f"{FILE_NAME}-journal"):
        (data / name).write_bytes(b"half")
    with opened(data, incarnation=2) as storage:
        assert storage.incarnation == 2
        assert storage.load() == []


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=r"file/data: .*Mend"), opened(tmp_path / "file" / "data"):
        pass

"""The newest sound snapshot is read, whatever happened to its file and to those beside it."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from concoord_ray.errors import ConfigurationError, StorageCorrupt, StorageError, StorageFailed
from concoord_ray.rsm.rope import Rope
from concoord_ray.storage import snapshots
from concoord_ray.storage.snapshots import Header, SnapshotFiles, checked_target, read_file, write_file
from tests.storage.pieces import flipped


@contextmanager
def opened(directory: Path, ensemble: str = "e", keep: int = 2) -> Iterator[SnapshotFiles]:
    files = SnapshotFiles(directory, ensemble=ensemble, keep=keep)
    try:
        yield files
    finally:
        files.close()


def names(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir() if file.name != "lock")


def name(slot: int) -> str:
    return f"snapshot-{slot:020}"


@pytest.mark.parametrize("data", [b"", b"x", os.urandom((1 << 20) - 1), os.urandom(3 << 20)], ids=len)
def test_what_was_written_is_read(tmp_path: Path, data: bytes) -> None:
    write_file(tmp_path / "backup", data, ensemble="ensemble", slot=1 << 40)
    header, content = read_file(tmp_path / "backup")
    assert content == data
    assert (header.ensemble, header.slot, header.python) == ("ensemble", 1 << 40, sys.version_info.minor)
    assert names(tmp_path) == ["backup"]


def test_a_rope_is_written_as_the_bytes_that_it_is(tmp_path: Path) -> None:
    pieces = [os.urandom(size) for size in (5, (3 << 20) + 1, 70_000)]
    for name_of_it, data in (("rope", Rope(pieces)), ("bytes", b"".join(pieces))):
        write_file(tmp_path / name_of_it, data, ensemble="e", slot=1)
    assert (tmp_path / "rope").read_bytes() == (tmp_path / "bytes").read_bytes()
    assert read_file(tmp_path / "rope")[1] == b"".join(pieces)


def test_two_that_write_one_file_at_once_both_write_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two backups to one path do."""
    path, blocks = tmp_path / "backup", snapshots._blocks

    def interrupted(pieces: Iterable[bytes]) -> Iterator[memoryview]:
        first, *rest = blocks(pieces)
        yield first
        monkeypatch.undo()
        write_file(path, b"the other" * 1000, ensemble="e", slot=2)
        assert read_file(path)[1] == b"the other" * 1000
        yield from rest

    monkeypatch.setattr(snapshots, "_blocks", interrupted)
    write_file(path, b"one" * 5000, ensemble="e", slot=1)
    assert read_file(path)[1] == b"one" * 5000
    assert names(tmp_path) == ["backup"]


def test_where_a_backup_can_be(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"")
    for each in ("new", "old"):
        assert checked_target(str(tmp_path / each)) == tmp_path / each


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere/backup", "there is no directory"),
        ("old/backup", "there is no directory"),
        (".", "this is a directory"),
        ("pipe", "no ordinary file"),
        ("locked/backup", "may not write"),
    ],
)
def test_where_no_backup_can_be(tmp_path: Path, path: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old").write_bytes(b"")
    (tmp_path / "locked").mkdir()
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(os, "access", lambda directory, _: directory.name != "locked")  # Root may do all.
    with pytest.raises(ConfigurationError, match=why):
        checked_target(tmp_path / path)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    for content in (b"long " * 1000, b"short"):
        write_file(tmp_path / "backup", content, ensemble="e", slot=1)
        assert read_file(tmp_path / "backup")[1] == content


def test_a_flipped_bit_anywhere_is_found(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    write_file(path, b"some content of it", ensemble="ensemble", slot=77)
    for at in range(path.stat().st_size):
        for bit in range(8):
            with flipped(path, at, 1 << bit), pytest.raises(StorageCorrupt, match=f"{path}: "):
                read_file(path)
    assert read_file(path)[1] == b"some content of it"


def test_a_file_of_another_length_is_found(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    write_file(path, b"some content of it", ensemble="ensemble", slot=77)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(StorageCorrupt, match=f"{path}: "):
            read_file(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(StorageCorrupt, match="holds 19 bytes of 18"):
        read_file(path)


def test_the_newest_is_read_and_the_oldest_go(tmp_path: Path) -> None:
    data = tmp_path / "a" / "b"
    with opened(data) as files:
        assert files.newest() is None
        for slot in (5, 9, 10, 100):
            assert files.write(slot, b"at %d" % slot) == data / name(slot)
            assert files.newest() == (slot, b"at %d" % slot)
        assert names(data) == [name(10), name(100)]
    with opened(data, keep=1) as files:
        assert files.newest() == (100, b"at 100")
        files.write(101, b"at 101")
        assert names(data) == [name(101)]
    with pytest.raises(ConfigurationError, match="keep=0"):
        SnapshotFiles(data, ensemble="e", keep=0)


def test_a_broken_one_is_named_and_put_aside_and_the_one_before_it_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path, keep=3) as files:
        for slot in (1, 2, 3):
            files.write(slot, b"at %d" % slot)
        (tmp_path / name(3)).write_bytes(b"torn")
        (tmp_path / name(2)).write_bytes((tmp_path / name(1)).read_bytes())
        with caplog.at_level(logging.WARNING, logger=snapshots.__name__):
            assert files.newest() == (1, b"at 1")
        assert f"{name(3)}: it does not begin as a snapshot does" in caplog.text
        assert f"{name(2)}: it holds the snapshot of slot 1" in caplog.text
        assert names(tmp_path) == [name(1), f"{name(2)}.corrupt", f"{name(3)}.corrupt"]
        (tmp_path / name(1)).write_bytes(b"")
        assert files.newest() is None


def test_what_a_crash_left_half_written_is_removed(tmp_path: Path) -> None:
    with opened(tmp_path) as files:
        files.write(1, b"whole")
    (tmp_path / f"{name(2)}.tmp").write_bytes(b"half")
    (tmp_path / "notes.tmp").write_bytes(b"somebody else's")
    with opened(tmp_path) as files:
        assert files.newest() == (1, b"whole")
        assert names(tmp_path) == ["notes.tmp", name(1)]


def test_of_those_that_were_set_aside_the_last_are_kept(tmp_path: Path) -> None:
    """A replica whose state is found to be wrong at every checkpoint sets all of them aside every time."""
    with opened(tmp_path) as files:
        for slot in (3, 1, 2, 9, 4, 5, 6):  # Not by their slots: a wrong replica goes on from an older one.
            files.write(slot, b"of a state that is wrong")
            files.set_all_aside()
        assert names(tmp_path) == [f"{name(slot)}.corrupt" for slot in (4, 5, 6, 9)]
        assert files.newest() is None


def test_a_failed_fsync_leaves_no_file_and_a_later_write_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with opened(tmp_path) as files:
        files.write(1, b"first")
        with monkeypatch.context() as patched:
            patched.setattr("concoord_ray.storage.files.sync", fail)
            with pytest.raises(StorageFailed, match=rf"{name(2)}: .*Input/output error.*Mend the disk"):
                files.write(2, b"second")
        assert names(tmp_path) == [name(1)]
        files.write(2, b"second again")
        assert files.newest() == (2, b"second again")


def test_a_stranger_is_refused_and_left_alone(tmp_path: Path) -> None:
    with opened(tmp_path) as files:
        files.write(1, b"ours")
    with (
        opened(tmp_path, ensemble="other") as files,
        pytest.raises(StorageError, match="of ensemble 'e', not of 'other'"),
    ):
        files.newest()
    assert names(tmp_path) == [name(1)]


def test_another_python_version_is_refused_and_its_file_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_the_future(*fields: object) -> Header:
        ensemble, slot, python, *rest = fields
        return Header(ensemble, slot, python + 1, *rest)  # type: ignore[arg-type, operator]

    with opened(tmp_path) as files:
        with monkeypatch.context() as patched:
            patched.setattr(snapshots, "Header", from_the_future)
            files.write(1, b"pickled")
        with pytest.raises(StorageError, match=rf"written by Python 3\.{sys.version_info.minor + 1}"):
            files.newest()
    assert names(tmp_path) == [name(1)]


def test_another_format_is_refused_and_its_file_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path) as files:
        with monkeypatch.context() as patched:
            patched.setattr(snapshots, "_FORMAT", 2)
            files.write(1, b"of tomorrow")
        with pytest.raises(StorageError, match="is of format 2, not 1"):
            files.newest()
    assert names(tmp_path) == [name(1)]


def test_one_process_has_the_directory(tmp_path: Path) -> None:
    with opened(tmp_path), pytest.raises(StorageError, match=f"in use by process {os.getpid()}"):
        SnapshotFiles(tmp_path, ensemble="e")
    with opened(tmp_path):
        pass


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"backup: .*No such file"):
        read_file(tmp_path / "backup")

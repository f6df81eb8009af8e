"""Names are durable before anything is said on the strength of them, whoever has made them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from concoord_ray.paxos.view import Role
from concoord_ray.storage.birth import is_certified
from concoord_ray.storage.files import make_directory
from concoord_ray.storage.snapshots import SnapshotFiles, write_file
from tests.storage.remnants import Disk


@contextmanager
def synced() -> Iterator[list[Path]]:
    """What is synced meanwhile, in order."""
    fsync, seen = os.fsync, []

    def sync(descriptor: int) -> None:
        fsync(descriptor)
        seen.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))

    with patch.object(os, "fsync", sync):
        yield seen


def test_a_new_directory_is_durable_and_so_are_those_above_it(tmp_path: Path) -> None:
    with synced() as seen:
        make_directory(tmp_path / "a" / "b" / "c")
    assert [path for path in seen if path.is_relative_to(tmp_path)] == [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_a_directory_that_another_process_has_just_made_is_durable_too(tmp_path: Path) -> None:
    """That process may be the acceptor's own former life, which was killed before its sync."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    with synced() as seen:
        make_directory(tmp_path / "a" / "b")
    assert [path for path in seen if path.is_relative_to(tmp_path)] == [tmp_path, tmp_path / "a"]


def test_what_we_cannot_have_made_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """We may not be allowed to."""
    (tmp_path / "ours").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path.parent)
    with synced() as seen:
        make_directory(tmp_path / "ours")
    assert seen == [tmp_path]


def test_a_birth_certificate_that_another_member_has_just_written_is_durable(tmp_path: Path) -> None:
    """It is renamed, and to be seen, before its directory is synced; and with it in place an acceptor answers."""
    disk = Disk(tmp_path)
    member = disk.directory(Role.ACCEPTOR, 0)
    member.mkdir(parents=True)
    with synced() as seen:
        assert not is_certified(member.parent, member)
    assert seen == []
    disk.certify(member)
    with synced() as seen:
        assert is_certified(member.parent, member)
    assert seen == [member.parent, member]


def test_a_snapshot_of_an_earlier_life_is_durable_before_it_counts(tmp_path: Path) -> None:
    """The log is dropped for it."""
    write_file(tmp_path / f"snapshot-{7:020}", b"state", ensemble="e", slot=7)
    with synced() as seen:
        snapshots = SnapshotFiles(tmp_path, ensemble="e")
    assert tmp_path in seen
    assert snapshots.reach == 7
    snapshots.close()

"""Disks that are full, gone or somebody else's: who needs them says so and stops, and is back when they are mended."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import concoord_ray as concoord
from concoord_ray import ConfigurationError, EnsembleStatus, MemberStatus, OutcomeUnknown, QuorumLost
from concoord_ray.storage.database import FILE_NAME as DATABASE
from concoord_ray.storage.database import log_of
from tests.integration.casualties import a_follower, kill, strong
from tests.integration.conftest import INIT_TIMEOUT_S, MakeEnsemble
from tests.integration.injection import one_failing_sync
from tests.integration.waiting import until

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(180)]

#: The ensemble that all of this happens to, and the index of whom it happens to.
NAME = "disks"
MEMBER = 1


@pytest.fixture(scope="module")
def storage(cluster: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of an ensemble that is at full strength before and after every test."""
    path = tmp_path_factory.mktemp("disks")
    settings: dict[str, Any] = {"disk_retry_s": 1.0, "quorum_timeout_s": 2.0, "snapshot_log_bytes": 4 << 10}
    concoord.init(NAME, storage=str(path), timeout_s=INIT_TIMEOUT_S, **settings)
    yield path
    concoord.shutdown(NAME)


def test_no_place_for_data_is_said_at_once(own_ensemble: MakeEnsemble, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"acceptor 0.*Mend the disk"):
        own_ensemble("nowhere", storage=str(tmp_path / "file" / "data"), acceptors=1, replicas=1)
    with pytest.raises(ConfigurationError, match="no ensemble"):
        concoord.status("nowhere")


def test_a_member_whose_directory_is_gone_is_back_when_that_is(storage: Path) -> None:
    """Ray would never again start an actor whose constructor has raised."""
    counter = concoord.Counter.options(ensemble=NAME).remote()
    before = strong(NAME)
    directories = [_directory(storage, role) for role in ("acceptor", "replica")]
    for directory in directories:  # A file in the way keeps root out, too.
        directory.rename(directory.with_name(f"away-{directory.name}"))
        directory.touch()
    for member in (before.acceptors[MEMBER], before.replicas[MEMBER]):
        kill(member)
        _await_fault(member, storage)
    assert [counter.increment() for _ in range(20)] == list(range(1, 21))
    for directory in directories:
        directory.unlink()
        directory.with_name(f"away-{directory.name}").rename(directory)
    _assert_all_are_themselves(before)
    assert counter.increment() == 21


def test_who_can_write_no_more_stops_and_the_others_go_on(storage: Path) -> None:
    """Nothing can be written by the processes that there are; those that Ray starts after them can."""
    counter = Counted()
    before = strong(NAME)
    follower = a_follower(before)
    acceptor = next(each for each in before.acceptors if each.index != follower.index)
    for member in (acceptor, follower):
        assert member.pid is not None
        resource.prlimit(member.pid, resource.RLIMIT_FSIZE, (0, 0))
    _await_fault(acceptor, storage, counter)
    _await_fault(follower, storage, counter)
    _assert_all_are_themselves(before)
    counter.check()


def test_after_a_sync_that_failed_an_acceptor_writes_nothing_and_is_back_as_itself(
    storage: Path, tmp_path: Path
) -> None:
    """The next sync would succeed, without what the kernel has dropped: who asks again acknowledges what is lost."""
    counter = Counted()
    before = strong(NAME)
    old = before.acceptors[MEMBER]
    assert old.pid is not None
    database = _directory(storage, "acceptor") / DATABASE
    with one_failing_sync(old.pid, (database, log_of(database)), tmp_path / "calls") as seen:
        fault = _await_fault(old, storage, counter)
        counter.increment(50)
        until(lambda: _now(old).pid not in (None, old.pid))
        calls = seen.calls()
    assert "disk I/O error (SQLITE_IOERR_FSYNC)" in fault
    assert "it has all that it ever acknowledged" in fault
    assert [each.has_failed for each in calls[:-1]] == [False] * (len(calls) - 1)
    assert calls[-1].has_failed, "something was written after a sync had failed"
    _assert_all_are_themselves(before)
    counter.check()


def test_a_snapshot_that_was_not_synced_is_none(storage: Path, tmp_path: Path) -> None:
    """The replica stops, since the log would be kept as well for as long as that; and is back by itself."""
    counter = Counted()
    before = strong(NAME)
    follower = a_follower(before)
    assert follower.pid is not None
    with one_failing_sync(follower.pid, (), tmp_path / "calls") as seen:
        fault = _await_fault(follower, storage, counter)
        calls = [each.call for each in seen.calls() if each.call != "pwrite64"]
    assert "[Errno 5] Input/output error" in fault
    assert calls[:2] == ["fsync", "unlink"]
    assert not any(call.startswith("rename") for call in calls)
    _assert_all_are_themselves(before)
    counter.check()


def test_directories_that_others_have_are_gone_back_to(storage: Path) -> None:
    """A majority finds its directories locked, by processes that should be dead: what they know is not given up."""
    counter = concoord.Counter.options(ensemble=NAME).remote()
    assert counter.increment() == 1
    before = strong(NAME)
    locked = []
    for index in (0, 1):
        directory = _directory(storage, "acceptor", index)
        aside = directory.with_name(f"aside-{index}")
        directory.rename(aside)  # The acceptor has the lock of this one; the next of the name is ours to lock.
        shutil.copytree(aside, directory)
        locked.append((directory / "lock").open())
        fcntl.flock(locked[-1], fcntl.LOCK_EX)
        kill(before.acceptors[index])
    until(lambda: all(_is_another(before.acceptors[index]) for index in (0, 1)))
    with pytest.raises((QuorumLost, OutcomeUnknown)):
        counter.increment()
    for file in locked:
        file.close()
    _assert_all_are_themselves(before)
    assert counter.increment() in (2, 3)


def test_a_full_disk_is_waited_for(storage: Path) -> None:
    """One member has a small disk to itself. It is full for all the processes that Ray starts, one after the other."""
    counter = Counted()
    before = strong(NAME)
    old = before.acceptors[MEMBER]
    directory = _directory(storage, "acceptor")
    with _small_disk(directory):
        kill(old)  # The next life opens what is on the small disk.
        until(lambda: concoord.status(NAME).acceptors[MEMBER].pid not in (None, old.pid))
        strong(NAME)
        filler = directory / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 12))
        for _ in range(3):  # Whenever one life after the other is asked.
            _await_fault(old, storage, counter)
        filler.unlink()
        _assert_all_are_themselves(before)
        counter.check()


class Counted:
    """A counter of which we know how often it was incremented, every time with success."""

    def __init__(self) -> None:
        self._counter = concoord.Counter.options(ensemble=NAME).remote()
        self.made = 0

    def increment(self, times: int) -> None:
        for _ in range(times):
            self.made += 1
            assert self._counter.increment() == self.made

    def check(self) -> None:
        assert self._counter.getvalue() == self.made


def _directory(storage: Path, role: str, index: int = MEMBER) -> Path:
    (directory,) = storage.glob(f"*/*/{role}-{index}")
    return directory


def _now(member: MemberStatus) -> MemberStatus:
    """The member at the same index."""
    status = concoord.status(NAME)
    return (status.acceptors if member.role == "acceptor" else status.replicas)[member.index]


def _await_fault(member: MemberStatus, storage: Path, counter: Counted | None = None) -> str:
    """Wait until it says that it cannot serve, and why, while calls go on, each of which succeeds."""

    def look() -> str | None:
        if counter is not None:
            counter.increment(50)
        now = _now(member)
        assert not (now.alive and now.fault)
        return now.fault

    fault = until(look)
    assert fault is not None
    assert str(storage) in fault
    assert "disk" in fault
    return fault


def _is_another(member: MemberStatus) -> bool:
    now = _now(member)
    return now.alive and now.incarnation != member.incarnation


def _assert_all_are_themselves(before: EnsembleStatus) -> None:
    after = strong(NAME)
    assert after.epoch == before.epoch
    assert [each.incarnation for each in after.acceptors] == [each.incarnation for each in before.acceptors]


@contextlib.contextmanager
def _small_disk(directory: Path) -> Iterator[None]:
    """Put what is in a directory on a disk of two megabytes, mounted there."""
    away = directory.with_name(f"away-{directory.name}")
    directory.rename(away)
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode != 0:
        directory.rmdir()
        away.rename(directory)
        pytest.skip("only root may mount a small disk")
    try:
        shutil.copytree(away, directory, dirs_exist_ok=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(directory)], check=True)

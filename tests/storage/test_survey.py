"""A survey tells what a disk has, and neither changes it nor keeps anybody from it."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from concoord_ray.paxos.view import Role
from concoord_ray.storage import survey as survey_module
from concoord_ray.storage.birth import FILE_NAME as BIRTH
from concoord_ray.storage.birth import directory_of, is_certified, read_birth, write_birth
from concoord_ray.storage.database import FILE_NAME, sound_rows
from concoord_ray.storage.durable import set_aside
from concoord_ray.storage.files import DirectoryLock
from concoord_ray.storage.places import Place, places_of
from concoord_ray.storage.rows import Identity
from concoord_ray.storage.survey import NO_SNAPSHOT, Kept, Votes, look_into_snapshots, survey
from concoord_ray.storage.watermark import Watermark
from tests.storage.children import child
from tests.storage.pieces import HIGH, accepted_slots, flip, opened
from tests.storage.remnants import ENSEMBLE, FIRST, NAME, Disk, acceptor, birth, dropped, proposed, view


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def look(disk: Disk) -> Kept:
    (kept,) = survey(str(disk.root), NAME)
    return kept


def votes_of(kept: Kept, index: int) -> Votes:
    votes = kept.acceptors[index]
    assert votes is not None
    return votes


def bytes_in(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_survey_tells_everything_and_changes_nothing(disk: Disk) -> None:
    later = view(1, (0, 1, acceptor(2, life=2)), first_slot=11)
    disk.vote(0, FIRST, dropped(5), proposed(later))
    disk.vote(1)
    disk.save(0, 5, 9)
    disk.save(3)
    before = bytes_in(disk.root)
    kept = look(disk)
    assert bytes_in(disk.root) == before
    assert kept.birth == birth(disk.root)
    votes = votes_of(kept, 0)
    assert (votes.incarnation, votes.joined, votes.dropped_below) == (acceptor(0).incarnation, (FIRST,), 5)
    assert votes.proposed == ((HIGH, later),)
    assert votes_of(kept, 1).joined == ()
    assert kept.replicas == {0: 9, 3: NO_SNAPSHOT}
    assert kept.in_use == kept.faults == ()
    assert kept.has_memory


def test_a_stop_sign_that_is_truncated_proposes_nothing_any_more(disk: Disk) -> None:
    later = view(1, (0, 1), first_slot=11)
    disk.vote(0, FIRST, proposed(later), later, dropped(11, first_epoch=1))
    votes = votes_of(look(disk), 0)
    assert (votes.joined, votes.proposed) == ((later,), ())


def test_nor_if_it_is_not_yet_purged(disk: Disk) -> None:
    later = view(1, (0, 1), first_slot=2001)
    disk.vote(0, FIRST, *accepted_slots(range(2000)), proposed(later))
    assert votes_of(look(disk), 0).proposed
    disk.vote(0, dropped(2001))
    assert votes_of(look(disk), 0).proposed == ()


def test_the_more_often_a_memory_was_written_the_higher_its_commit(disk: Disk, tmp_path: Path) -> None:
    disk.vote(0, FIRST)
    commit = votes_of(look(disk), 0).commit
    disk.vote(0, dropped(5))
    assert votes_of(look(disk), 0).commit > commit


def test_an_acceptor_that_was_killed_while_its_data_were_created_has_none(disk: Disk) -> None:
    disk.certify()
    directory = disk.directory(Role.ACCEPTOR, 0)
    directory.mkdir()
    Watermark.create(directory, Identity(ENSEMBLE, Role.ACCEPTOR, 0, 1))
    (directory / FILE_NAME).write_bytes(b"half of a database")
    before = bytes_in(disk.root)
    assert look(disk).acceptors == {}
    assert bytes_in(disk.root) == before


def test_a_member_that_is_set_aside_meanwhile_hides_no_other(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.vote(0, FIRST)
    gone = disk.save(1, 5)
    disk.save(2, 7)
    look_at = survey_module._is_locked

    def is_locked(directory: Path) -> bool:
        is_it = look_at(directory)
        if directory == gone:
            set_aside(directory)
        return is_it

    monkeypatch.setattr(survey_module, "_is_locked", is_locked)
    kept = look(disk)
    assert kept.replicas == {1: NO_SNAPSHOT, 2: 7}
    assert votes_of(kept, 0).joined


def test_nor_if_it_was_the_only_place_of_a_replica(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    disk.vote(0, FIRST)
    gone = disk.save(1, 5)

    def set_aside_first(directory: Path) -> list[Place]:
        if directory == gone and gone.exists():
            set_aside(gone)
        return places_of(directory)

    monkeypatch.setattr(survey_module, "places_of", set_aside_first)
    kept = look(disk)
    assert kept.replicas == {1: NO_SNAPSHOT}
    assert votes_of(kept, 0).joined


def test_what_is_broken_is_named(disk: Disk) -> None:
    database = disk.vote(0, FIRST) / FILE_NAME
    flip(database, 20, 0xFF)
    kept = look(disk)
    assert kept.acceptors == {0: None}
    assert str(database) in kept.faults[0]
    assert not kept.has_memory


def hold_both(root: Path, ready: Connection) -> None:
    """Have an acceptor's and a replica's directory until the other side hangs up."""
    disk = Disk(root)
    with opened(disk.directory(Role.ACCEPTOR, 0), ensemble=ENSEMBLE) as storage:
        lock = DirectoryLock(disk.directory(Role.REPLICA, 0))
        ready.send(True)
        ready.poll(60)
        storage.append([dropped(5)])  # The survey is not in the way of it.
        lock.release()
    ready.send(True)


def test_what_another_process_has_is_in_use_and_not_broken(disk: Disk) -> None:
    directories = [disk.vote(0, FIRST), disk.save(0, 5)]
    with child(hold_both, disk.root) as (_, holder):
        assert holder.recv()
        kept = look(disk)
        holder.send(True)
        assert holder.recv()
    assert kept.in_use == tuple(map(str, directories))
    assert (kept.acceptors, kept.replicas, kept.faults) == ({0: None}, {0: NO_SNAPSHOT}, ())
    kept = look(disk)
    assert (votes_of(kept, 0).dropped_below, kept.replicas, kept.in_use) == (5, {0: 5}, ())


def test_an_acceptor_can_start_while_its_data_are_read(disk: Disk) -> None:
    directory = disk.vote(0, FIRST)
    rows = sound_rows(directory / FILE_NAME)
    next(rows)
    disk.vote(0, dropped(5))
    assert votes_of(look(disk), 0).dropped_below == 5


@pytest.mark.parametrize("joined", [True, False])
def test_of_several_directories_of_an_acceptor_the_one_that_it_will_open_counts(disk: Disk, joined: bool) -> None:
    directory = disk.vote(0, *([FIRST] if joined else []))
    directory.rename(directory.with_name(f"{directory.name}.2"))
    disk.vote(0, *([] if joined else [FIRST]), life=2)
    assert votes_of(look(disk), 0).incarnation == acceptor(0, 1 if joined else 2).incarnation


def test_what_was_set_aside_is_not_there(disk: Disk) -> None:
    set_aside(disk.vote(0, FIRST))
    set_aside(disk.vote(1, FIRST), "retired")
    set_aside(disk.save(1, 5), "retired")
    kept = look(disk)
    assert (kept.acceptors, kept.replicas) == ({}, {})


def test_a_node_with_replicas_alone_has_no_birth_certificate_and_is_found(disk: Disk) -> None:
    disk.save(4, 5)
    kept = look(disk)
    assert (kept.ensemble, kept.birth, kept.replicas) == (ENSEMBLE, None, {4: 5})


def test_nothing_is_found_where_nothing_is(disk: Disk) -> None:
    assert survey(str(disk.root), NAME) == []
    assert survey(str(disk.root / "nowhere"), NAME) == []


def test_a_damaged_birth_certificate_is_written_again(disk: Disk) -> None:
    disk.certify()
    path = directory_of(str(disk.root), NAME, ENSEMBLE) / BIRTH
    flip(path, 40, 1)
    assert survey(str(disk.root), NAME) == []
    write_birth(birth(disk.root))
    assert read_birth(path) == birth(disk.root)
    assert [each.name for each in path.parent.iterdir()] == [BIRTH]


def births_of(disk: Disk, *acceptors: int) -> list[Path]:
    """The node's certificate, and its copies."""
    own = directory_of(str(disk.root), NAME, ENSEMBLE) / BIRTH
    return [own, *(disk.directory(Role.ACCEPTOR, index) / BIRTH for index in acceptors)]


@pytest.mark.parametrize("damaged", [[0], [1], [2], [0, 1], [0, 2], [1, 2]])
def test_one_whole_copy_of_the_birth_certificate_is_enough(disk: Disk, damaged: list[int]) -> None:
    disk.vote(0, FIRST)
    disk.vote(1, FIRST)
    paths = births_of(disk, 0, 1)
    for at in damaged:
        flip(paths[at], 40, 1)
    before = bytes_in(disk.root)
    kept = look(disk)
    assert bytes_in(disk.root) == before
    assert kept.birth == birth(disk.root)
    for member in (paths[1].parent, paths[2].parent, paths[1].parent):  # As the acceptors start, one after the other.
        is_certified(paths[0].parent, member)
    assert [read_birth(path) for path in paths] == [birth(disk.root)] * 3


def test_if_no_copy_is_whole_all_are_named_and_nobody_is_certified(disk: Disk) -> None:
    disk.vote(0, FIRST)
    paths = births_of(disk, 0)
    flip(paths[0], 40, 1)
    paths[1].write_bytes(b"")
    kept = look(disk)
    assert (kept.birth, kept.broken_births) == (None, tuple(map(str, paths)))
    assert not is_certified(paths[0].parent, paths[1].parent)


def test_the_certificate_of_another_ensemble_is_none(disk: Disk) -> None:
    disk.vote(0, FIRST)
    paths = births_of(disk, 0)
    disk.certify(ensemble="f" * 32)
    other = directory_of(str(disk.root), NAME, "f" * 32)
    paths[1].write_bytes((other / BIRTH).read_bytes())
    paths[0].unlink()
    kept = next(each for each in survey(str(disk.root), NAME) if each.ensemble == ENSEMBLE)
    assert kept.birth is None
    assert "is of ensemble ffff" in kept.faults[0]
    assert not is_certified(paths[0].parent, paths[1].parent)


def test_a_copy_that_was_set_aside_does_not_count(disk: Disk) -> None:
    set_aside(disk.vote(0, FIRST))
    set_aside(disk.vote(1, FIRST), "retired")
    disk.save(2, 5)
    births_of(disk)[0].unlink()
    kept = look(disk)
    assert (kept.birth, kept.broken_births, kept.acceptors) == (None, (), {})


def read(disk: Disk, patience_s: float = 60.0) -> Kept:
    return look_into_snapshots(str(disk.root), NAME, look(disk), patience_s)


def snapshot(directory: Path, slot: int) -> Path:
    return directory / f"snapshot-{slot:020}"


def test_snapshots_that_are_not_whole_are_named_and_those_before_them_count(disk: Disk) -> None:
    whole, torn, none = disk.save(0, 5, 9), disk.save(1, 6, 9), disk.save(2, 7, 8)
    disk.save(3)
    broken = [snapshot(torn, 9), snapshot(none, 8), snapshot(none, 7)]
    flip(broken[0], 60, 1)
    broken[1].write_bytes(broken[1].read_bytes()[:20])
    broken[2].write_bytes(snapshot(whole, 5).read_bytes())
    before = bytes_in(disk.root)
    assert look(disk).replicas == {0: 9, 1: 9, 2: 8, 3: NO_SNAPSHOT}
    kept = read(disk)
    assert bytes_in(disk.root) == before
    assert kept.replicas == {0: 9, 1: 6, 2: NO_SNAPSHOT, 3: NO_SNAPSHOT}
    assert kept.broken_snapshots == tuple(map(str, broken))
    assert all(str(path) in fault for path, fault in zip(broken, kept.faults, strict=True))


def test_a_snapshot_before_a_whole_one_is_not_read(disk: Disk) -> None:
    flip(snapshot(disk.save(0, 5, 9), 5), 60, 1)
    assert read(disk) == look(disk)


def test_a_snapshot_that_there_was_no_time_to_read_counts_by_its_name(disk: Disk) -> None:
    flip(snapshot(disk.save(0, 5, 9), 9), -1, 1)
    assert read(disk, patience_s=-1.0).replicas == {0: 9}
    assert read(disk).replicas == {0: 5}


def test_of_several_directories_of_a_replica_the_furthest_whole_snapshot_counts(disk: Disk) -> None:
    directory = disk.save(0, 5)
    directory.rename(directory.with_name(f"{directory.name}.2"))
    flip(snapshot(disk.save(0, 9), 9), 60, 1)
    assert read(disk).replicas == {0: 5}


def test_a_snapshot_of_another_version_is_not_started_from_and_nothing_before_it(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as later:
        later.setattr("concoord_ray.storage.snapshots._FORMAT", 2)
        disk.save(0, 9)
    disk.save(0, 5)
    kept = read(disk)
    assert kept.replicas == {0: NO_SNAPSHOT}
    assert "is of format 2" in kept.faults[0]

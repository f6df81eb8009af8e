"""A database is served beside the watermark that it was made with, and nowhere else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from concoord_ray.errors import StorageCorrupt, StorageError
from concoord_ray.paxos.outputs import Promised, Record
from concoord_ray.paxos.view import Role
from concoord_ray.storage.database import FILE_NAME, log_of
from concoord_ray.storage.durable import read_contents, set_aside
from concoord_ray.storage.rows import Identity
from concoord_ray.storage.watermark import FILE_NAME as WATERMARK
from concoord_ray.storage.watermark import Watermark
from tests.storage.pieces import HIGH, START, accepted, accepted_slots, crashed, opened, records

LOG = log_of(Path(FILE_NAME)).name
TWO_LIVES = r"acceptor\.sqlite: it is of acceptor 0 of ensemble 'e' in incarnation 1, .* in incarnation 2: .*elsewhere"


def put(files: tuple[str, ...], source: Path, to: Path) -> None:
    """Copy these from one directory to another, as somebody would by hand: what is there of them is overwritten."""
    for name in files:
        (to / name).unlink(missing_ok=True)
        if (source / name).exists():
            shutil.copy(source / name, to / name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What an acceptor has in its second life; in its first it had acknowledged more, and that was set aside."""
    data = tmp_path / "data"
    with opened(data, incarnation=1) as storage:
        storage.append(START)
        for slot in range(20):
            storage.append([accepted(slot)])
    set_aside(data)
    with opened(data, incarnation=2) as storage:
        storage.append([*START, Promised(0, HIGH), accepted(0, b"newer", HIGH)])
    return data


def test_a_database_that_is_copied_back_from_where_it_was_set_aside_is_not_served(data: Path) -> None:
    """It is sound, it is this member's, and it has more commits than the watermark asks for."""
    put((FILE_NAME, LOG), data.with_name("data.corrupt-1"), data)
    with pytest.raises(StorageCorrupt, match=TWO_LIVES), opened(data, incarnation=3):
        pass
    with pytest.raises(StorageCorrupt, match=TWO_LIVES):
        read_contents(data, lambda _: True)
    assert set_aside(data).name == "data.corrupt-2"
    with opened(data, incarnation=3) as storage:
        assert (storage.incarnation, storage.load()) == (3, [])


def test_nor_with_the_log_that_a_crash_has_left(data: Path, tmp_path: Path) -> None:
    left = crashed(tmp_path / "data.corrupt-1", tmp_path / "left", [[accepted(20)]])
    assert (left / LOG).stat().st_size > 0
    put((FILE_NAME, LOG), left, data)
    with pytest.raises(StorageCorrupt, match=TWO_LIVES), opened(data):
        pass


def test_nor_is_one_beside_the_watermark_of_another_life(data: Path) -> None:
    put((WATERMARK,), data.with_name("data.corrupt-1"), data)
    with pytest.raises(StorageCorrupt, match=r"in incarnation 2, .* in incarnation 1: .*elsewhere"), opened(data):
        pass


@pytest.mark.parametrize("files", [(FILE_NAME, LOG), (WATERMARK,)])
@pytest.mark.parametrize(("ensemble", "index"), [("e", 1), ("other", 0)])
def test_what_was_exchanged_with_another_member_is_refused_and_can_be_changed_back(
    data: Path, files: tuple[str, ...], ensemble: str, index: int
) -> None:
    """To begin anew would make two members forget for one mistake."""
    other, aside = data.with_name("other"), data.with_name("aside")
    with opened(other, ensemble=ensemble, index=index) as storage:
        storage.append([*START, *accepted_slots(range(50))])
    kept: list[Record] = records(data)
    shutil.copytree(data, aside)
    put(files, other, data)
    named = rf"acceptor {index} of ensemble '{ensemble}', not of acceptor 0"
    with pytest.raises(StorageError, match=named) as refused, opened(data):
        pass
    assert not isinstance(refused.value, StorageCorrupt)
    put(files, aside, data)
    assert records(data) == kept


def test_a_database_that_was_put_where_a_creation_was_cut_short_is_not_deleted(data: Path, tmp_path: Path) -> None:
    """What that has left is removed by the next attempt; this is not of it."""
    cut = tmp_path / "cut"
    cut.mkdir()
    Watermark.create(cut, Identity("e", Role.ACCEPTOR, 0, 2))
    put((FILE_NAME, LOG), data.with_name("data.corrupt-1"), cut)
    for _ in range(2):
        with pytest.raises(StorageCorrupt, match=TWO_LIVES), opened(cut):
            pass
    put((WATERMARK,), data.with_name("data.corrupt-1"), cut)
    assert accepted(19) in records(cut)

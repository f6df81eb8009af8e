"""Which of several ensembles of a name is started again, and what generation the next one is of."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from concoord_ray import genesis, restart
from concoord_ray.errors import ConfigurationError
from concoord_ray.restart import find_data, judge, next_generation, usable
from concoord_ray.storage.survey import Kept, look_into_snapshots, survey
from tests.storage.pieces import flip
from tests.storage.remnants import ENSEMBLE, FIRST, NAME, Disk, dropped

OTHER = "f" * 32
Finds = list[tuple[str, Kept]]


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    """With all that is needed."""
    disk = Disk(tmp_path)
    for index in range(3):
        disk.vote(index, FIRST)
    return disk


def finds(disk: Disk) -> Finds:
    return [("node", kept) for kept in survey(str(disk.root), NAME)]


def test_what_was_recovered_comes_before_what_it_was_recovered_from(disk: Disk, tmp_path: Path) -> None:
    disk.certify(generation=1_700_000_000, ensemble=OTHER)
    found, _ = judge(str(tmp_path), NAME, finds(disk))
    assert found is not None
    assert (found.plan.ensemble, found.plan.generation) == (OTHER, 1_700_000_000)


def test_two_that_do_not_come_from_one_another_are_an_error(disk: Disk, tmp_path: Path) -> None:
    disk.certify(ensemble=OTHER)
    with pytest.raises(ConfigurationError, match=f"{ENSEMBLE}, {OTHER}"):
        judge(str(tmp_path), NAME, finds(disk))


def test_data_without_a_birth_certificate_are_waited_for(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    disk.save(3)
    assert judge(str(tmp_path), NAME, finds(disk)) == (None, "")  # Nothing was ever in it.
    disk.save(3, 50)
    found, lack = judge(str(tmp_path), NAME, finds(disk))
    assert found is None
    assert ENSEMBLE in lack


def test_that_there_is_an_older_ensemble_does_not_help(disk: Disk, tmp_path: Path) -> None:
    (known,) = finds(disk)
    unknown = ("another node", Kept(OTHER, None, {}, {3: 50}))
    assert OTHER in judge(str(tmp_path), NAME, [known, unknown])[1]


def test_the_directory_is_the_one_that_was_asked_for(disk: Disk) -> None:
    found, lack = judge("/elsewhere", NAME, finds(disk))
    assert found is not None
    assert (found.plan.config.storage, lack) == ("/elsewhere", "")


def test_a_node_without_room_gives_way_to_those_that_share_its_disk(disk: Disk, tmp_path: Path) -> None:
    ((_, kept),) = finds(disk)
    everywhere = [(node, kept) for node in ("a", "head", "m", "z")]
    found, _ = judge(str(tmp_path), NAME, usable(everywhere, {"a", "m", "z"}))
    assert found is not None
    assert found.nodes == {0: "a", 1: "m", 2: "z"}
    alone = usable([("head", kept)], {"a"})
    assert alone == [("head", kept)]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[Finds]:
    """What the nodes say, one time after the other; the last goes for ever."""
    told: list[Finds] = []
    monkeypatch.setattr(genesis, "find_plan", lambda _: None)
    monkeypatch.setattr(restart, "_LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr(restart, "_IN_USE_PATIENCE_S", 0.05)
    monkeypatch.setattr(restart, "_ask_nodes", lambda *_: told.pop(0) if len(told) > 1 else told[0])
    return told


def test_nodes_that_come_later_are_waited_for(disk: Disk, tmp_path: Path, answers: list[Finds]) -> None:
    little = Disk(tmp_path / "little")
    little.vote(0, FIRST)
    answers += [finds(little), finds(little), finds(disk)]
    found = find_data(str(tmp_path), NAME, until_s=math.inf)
    assert found is not None
    assert len(answers) == 1


def test_if_they_do_not_come_it_is_said_what_is_missing(tmp_path: Path, answers: list[Finds]) -> None:
    little = Disk(tmp_path)
    little.vote(0, FIRST)
    answers += [finds(little)]
    with pytest.raises(ConfigurationError, match="the data of 1, 2 are not there"):
        find_data(str(tmp_path), NAME, until_s=0.0)


def test_what_is_in_use_is_waited_for_a_while_and_then_done_without(
    disk: Disk, tmp_path: Path, answers: list[Finds]
) -> None:
    ((node, kept),) = finds(disk)
    acceptors = {**kept.acceptors, 2: None}
    in_use = [(node, Kept(kept.ensemble, kept.birth, acceptors, {}, ("a directory",)))]
    answers += [in_use, in_use, finds(disk)]
    assert find_data(str(tmp_path), NAME, until_s=math.inf) is not None
    assert len(answers) == 1
    answers[:] = [in_use]
    found = find_data(str(tmp_path), NAME, until_s=math.inf)
    assert found is not None
    answers[:] = [[(node, Kept(kept.ensemble, kept.birth, dict.fromkeys(acceptors), {}, ("a directory",)))]]
    with pytest.raises(ConfigurationError, match="Other processes have a directory"):
        find_data(str(tmp_path), NAME, until_s=0.0)


def test_nothing_is_found_where_nothing_is(tmp_path: Path, answers: list[Finds]) -> None:
    answers.append([])
    assert find_data(str(tmp_path), NAME, until_s=0.0) is None


def test_who_was_slower_than_another_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(genesis, "find_plan", lambda _: "a plan")
    assert find_data(str(tmp_path), NAME, until_s=0.0) is None


@pytest.fixture
def readings(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often snapshots were read, once for each time."""
    times: list[int] = []

    def read(_: object, kept: Finds, ensemble: str) -> Finds:
        times.append(len(times))
        return [(node, look_into_snapshots(str(disk.root), NAME, each, 60.0)) for node, each in kept]

    monkeypatch.setattr("concoord_ray.restart._Snapshots._read", read)
    return times


def damaged(disk: Disk, *slots: int, indices: tuple[int, ...] = (0, 1, 2)) -> list[str]:
    """The paths of these snapshots, which are written and damaged."""
    paths = [disk.save(index, *slots) / f"snapshot-{slot:020}" for index in indices for slot in slots]
    for path in paths:
        flip(path, -1, 1)
    return sorted(map(str, paths))


def test_if_every_snapshot_is_damaged_it_is_said_at_once(
    disk: Disk, tmp_path: Path, answers: list[Finds], readings: list[int]
) -> None:
    for index in range(3):
        disk.vote(index, dropped(50))
    paths = damaged(disk, 50, 60)
    answers += [finds(disk)]
    with pytest.raises(ConfigurationError) as raised:
        find_data(str(tmp_path), NAME, until_s=math.inf)
    text = str(raised.value)
    assert "has dropped the log below slot 50, and no replica's snapshot goes so far" in text
    assert f"Damaged, and not used: {', '.join(paths)}." in text
    assert "begin again from a backup with recover(source=...)." in text
    assert len(readings) == 1


def test_one_that_does_not_go_so_far_is_named_to_recover_from(
    disk: Disk, tmp_path: Path, answers: list[Finds], readings: list[int]
) -> None:
    for index in range(3):
        disk.vote(index, dropped(50))
    damaged(disk, 60)
    whole = disk.save(1, 40) / f"snapshot-{40:020}"
    answers += [finds(disk)]
    with pytest.raises(ConfigurationError, match=f"--storage {tmp_path} --source {whole}. What came after slot 40 is"):
        find_data(str(tmp_path), NAME, until_s=math.inf)


def test_one_whole_snapshot_is_enough(
    disk: Disk, tmp_path: Path, answers: list[Finds], readings: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    for index in range(3):
        disk.vote(index, dropped(50))
    paths = damaged(disk, 60, indices=(0, 2))
    disk.save(1, 50)
    answers += [finds(disk)]
    assert find_data(str(tmp_path), NAME, until_s=math.inf) is not None
    assert all(path in caplog.text for path in paths)


def test_snapshots_are_not_read_where_the_log_is_enough(
    disk: Disk, tmp_path: Path, answers: list[Finds], readings: list[int]
) -> None:
    damaged(disk, 60)
    answers += [finds(disk)]
    assert find_data(str(tmp_path), NAME, until_s=math.inf) is not None
    assert readings == []


def test_a_replica_that_may_have_a_whole_one_is_waited_for_and_nothing_is_read_again_meanwhile(
    disk: Disk, tmp_path: Path, answers: list[Finds], readings: list[int]
) -> None:
    for index in range(3):
        disk.vote(index, dropped(50))
    damaged(disk, 60, indices=(0, 2))
    without = finds(disk)
    disk.save(1, 60)
    answers += [without, without, without, finds(disk)]
    assert find_data(str(tmp_path), NAME, until_s=math.inf) is not None
    assert len(readings) == 2


def test_if_every_birth_certificate_is_damaged_it_is_said_at_once_what_can_be_done(
    disk: Disk, tmp_path: Path, answers: list[Finds]
) -> None:
    newest = [disk.save(index, 40 + index) / f"snapshot-{40 + index:020}" for index in range(3)][-1]
    paths = sorted(disk.root.rglob("birth"))
    for path in paths:
        flip(path, 40, 1)
    answers += [finds(disk)]
    with pytest.raises(ConfigurationError) as raised:
        find_data(str(tmp_path), NAME, until_s=math.inf)
    text = str(raised.value)
    assert f"no whole copy of the birth certificate of {ENSEMBLE} is there" in text
    assert len(paths) == 4
    assert all(str(path) in text for path in paths)
    assert f"concoord recover --name {NAME} --storage {tmp_path} --source {newest}" in text
    assert f"move {tmp_path / NAME / ENSEMBLE} elsewhere" in text


def test_a_node_that_has_a_whole_certificate_is_waited_for(disk: Disk, tmp_path: Path, answers: list[Finds]) -> None:
    whole = finds(disk)
    for path in disk.root.rglob("birth"):
        flip(path, 40, 1)
    ((_, broken),) = finds(disk)
    partly = [("node", Kept(ENSEMBLE, None, {0: broken.acceptors[0]}, {}, broken_births=broken.broken_births))]
    answers += [partly, partly, whole]
    assert find_data(str(tmp_path), NAME, until_s=math.inf) is not None
    assert len(answers) == 1


@pytest.mark.parametrize(
    ("known", "wall_s", "expected"),
    [
        ([0, 0], 1_800_000_000.9, 1_800_000_000),
        ([1_800_000_000, 0], 1_800_000_060.0, 1_800_000_060),
        ([3, 1_800_000_000], 1_500_000_000.0, 1_800_000_001),  # The clock was set back.
    ],
)
def test_the_next_generation_is_later_than_any(known: list[int], wall_s: float, expected: int) -> None:
    assert next_generation(known, wall_s) == expected

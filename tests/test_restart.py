"""Which of several ensembles of a name is started again, and what generation the next one is of."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from concoord_ray import genesis, restart
from concoord_ray.errors import ConfigurationError
from concoord_ray.restart import find_data, judge, next_generation
from concoord_ray.storage.survey import Kept, survey
from tests.storage.remnants import ENSEMBLE, FIRST, NAME, Disk

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

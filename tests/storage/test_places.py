"""Which of its directories a member opens, while others may have some of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from concoord_ray.errors import StorageFailed
from concoord_ray.storage.files import DirectoryLock
from concoord_ray.storage.places import open_furthest, places_of, taken


class Kept:
    """A directory whose data have come as far as a file in it says."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self._lock = DirectoryLock(directory)
        self.reach = int((directory / "reach").read_text()) if (directory / "reach").exists() else -1

    def come_to(self, reach: int) -> None:
        (self.directory / "reach").write_text(str(reach))

    def close(self) -> None:
        self._lock.release()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return tmp_path / "acceptor-1"


def opened(own: Path, *, come_to: int | None = None) -> Kept:
    found = open_furthest(own, Kept, patience_s=0.0)
    if come_to is not None:
        found.come_to(come_to)
    return found


def test_the_first_directory_is_the_members_own(own: Path) -> None:
    assert opened(own).directory == own


def test_a_directory_that_another_has_is_gone_around(own: Path) -> None:
    first = opened(own, come_to=4)
    second = opened(own)
    assert second.directory == own.with_name("acceptor-1.2")
    assert second.reach == -1
    assert taken(own, second.directory) == [own]
    assert opened(own).directory == own.with_name("acceptor-1.3")
    first.close()
    assert taken(own, second.directory) == [own.with_name("acceptor-1.3")]


@pytest.mark.parametrize(("first", "second", "chosen"), [(4, -1, 1), (4, 5, 2), (5, 4, 1), (4, 4, 2)])
def test_of_those_that_are_free_the_furthest_is_opened(own: Path, first: int, second: int, chosen: int) -> None:
    both = [opened(own, come_to=first), opened(own, come_to=second)]
    for each in both:
        each.close()
    assert opened(own).directory == places_of(own)[chosen - 1].directory
    assert not taken(own, places_of(own)[chosen - 1].directory)  # Those that were looked at are free again.


def test_one_that_cannot_be_opened_is_an_error_and_no_reason_to_begin_anew(own: Path) -> None:
    def fail(_: Path) -> Kept:
        raise StorageFailed("broken")

    with pytest.raises(StorageFailed):
        open_furthest(own, fail)
    assert [place.number for place in places_of(own)] == [1]


def test_others_beside_it_are_no_places_of_it(own: Path) -> None:
    for name in ("acceptor-1.corrupt-1", "acceptor-10", "acceptor-1.2"):
        own.with_name(name).mkdir()
    assert [place.directory.name for place in places_of(own)] == ["acceptor-1", "acceptor-1.2"]

"""Sets of seqs as ranges."""

from __future__ import annotations

import itertools
import random

import pytest

from concoord_ray.rsm.sessions import Intervals


@pytest.mark.parametrize(
    ("added", "ranges"),
    [
        ([], ()),
        ([(1, 1)], ((1, 1),)),
        ([(1, 1), (2, 2)], ((1, 2),)),
        ([(2, 2), (1, 1)], ((1, 2),)),
        ([(1, 1), (3, 3)], ((1, 1), (3, 3))),
        ([(1, 1), (3, 3), (2, 2)], ((1, 3),)),
        ([(5, 9), (1, 20)], ((1, 20),)),
        ([(1, 5), (7, 9), (4, 8)], ((1, 9),)),
        ([(1, 2), (10, 11), (20, 21), (3, 19)], ((1, 21),)),
        ([(1, 5), (2, 3)], ((1, 5),)),
    ],
)
def test_ranges_are_sorted_disjoint_and_not_adjacent(
    added: list[tuple[int, int]], ranges: tuple[tuple[int, int], ...]
) -> None:
    numbers = Intervals()
    for first, last in added:
        numbers.add(first, last)
    assert numbers.ranges() == ranges
    assert len(numbers) == len(ranges)


@pytest.mark.parametrize("seed", range(20))
def test_it_holds_what_a_set_holds(seed: int) -> None:
    rng = random.Random(seed)
    numbers, model = Intervals(), set[int]()
    for _ in range(60):
        first = rng.randrange(80)
        last = first + rng.choice((0, 0, 0, 1, 5))
        numbers.add(first, last)
        model.update(range(first, last + 1))
        assert {n for n in range(100) if n in numbers} == model
    ranges = numbers.ranges()
    assert all(later[0] > earlier[1] + 1 for earlier, later in itertools.pairwise(ranges))


def test_seqs_acknowledged_in_order_are_one_range() -> None:
    numbers = Intervals()
    for seq in range(1, 10_000):
        numbers.add(seq, seq)
    assert numbers.ranges() == ((1, 9_999),)

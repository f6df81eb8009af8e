"""Decisions come in any order and any number of times, and are handed on in slot order, each once."""

from __future__ import annotations

import itertools

import pytest

from concoord_ray.errors import Diverged
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.outputs import Decided


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_slots_are_handed_on_in_order_without_gaps_each_once(order: tuple[int, ...]) -> None:
    learner = Learner()
    handed: list[Decided] = []
    for slot in order:
        for _ in range(2):
            handed += learner.learn(slot, b"%d" % slot, is_final=True)
            assert [one.slot for one in handed] == list(range(learner.next_slot))
    assert handed == [Decided(slot, b"%d" % slot) for slot in range(4)]


@pytest.mark.parametrize("slot", [0, 5])
def test_a_slot_with_two_values_stops_the_replica(slot: int) -> None:
    learner = Learner()
    learner.learn(slot, b"one", is_final=True)
    with pytest.raises(Diverged, match=f"slot {slot} "):
        learner.learn(slot, b"another", is_final=True)


def test_a_value_is_known_before_its_turn_has_come() -> None:
    learner = Learner()
    learner.learn(2, b"c", is_final=True)
    assert [learner.value_of(slot) for slot in range(4)] == [None, None, b"c", None]
    assert learner.next_slot == 0


def test_the_empty_value_is_a_value() -> None:
    learner = Learner()
    assert learner.learn(1, b"", is_final=True) == []
    assert learner.learn(0, b"", is_final=True) == [Decided(0, b""), Decided(1, b"")]


@pytest.mark.parametrize(
    ("from_slot", "page_bytes", "slots"), [(0, 100, [0, 1, 2]), (0, 4, [0, 1]), (1, 1, [1]), (3, 100, []), (9, 9, [])]
)
def test_a_page_is_bounded_and_never_empty_while_there_is_something(
    from_slot: int, page_bytes: int, slots: list[int]
) -> None:
    learner = Learner()
    for slot in range(3):
        learner.learn(slot, b"vv", is_final=True)
    learner.learn(4, b"beyond a gap", is_final=True)
    assert [one.slot for one in learner.page(from_slot, page_bytes)] == slots

"""The clockwork of leadership."""

from __future__ import annotations

import random

import pytest

from concoord_ray.paxos.ballot import BOTTOM
from concoord_ray.paxos.election import Election, Standing
from tests.paxos.pieces import CONFIG, ballot, replica


def election(index: int = 0, seed: int = 0) -> Election:
    return Election(replica(index), CONFIG, rng=random.Random(seed), now_s=0.0)


def test_timeouts_are_drawn_between_one_and_two_election_timeouts() -> None:
    one = election()
    drawn = set()
    for _ in range(100):
        one.wait(10.0)
        assert 11.0 <= one.deadline_s < 12.0
        drawn.add(one.deadline_s)
    assert len(drawn) > 50


def test_the_same_seed_draws_the_same_timeouts() -> None:
    def draws(one: Election) -> list[float]:
        drawn = []
        for _ in range(5):
            one.wait(0.0)
            drawn.append(one.deadline_s)
        return drawn

    assert draws(election(seed=3)) == draws(election(seed=3)) != draws(election(seed=4))


@pytest.mark.parametrize(("behind", "line"), [(-1, [0, 1, 2]), (0, [1, 2, 0]), (1, [2, 0, 1]), (2, [0, 1, 2])])
def test_replicas_stand_in_line_behind_the_one_that_is_gone(behind: int, line: list[int]) -> None:
    deadlines = {}
    for index in range(3):
        one = election(index, seed=index)
        one.stand_in_line(5.0, 3, behind)
        deadlines[index] = one.deadline_s
    places = [deadlines[index] for index in line]
    assert places[0] == 5.0
    assert 5.1 <= places[1] < 5.2 <= places[2] < 5.4


def test_the_next_ballot_is_above_every_one_seen() -> None:
    one = election(1)
    assert one.next_ballot() > BOTTOM
    one.saw(ballot(6, 2))
    one.saw(ballot(3, 0))
    assert one.next_ballot() > ballot(6, 2)
    assert one.next_ballot() > ballot(7, 1)


def test_a_follower_remembers_the_highest_leader() -> None:
    one = election()
    one.follow(replica(1), ballot(5, 1), 0.0)
    one.follow(replica(2), ballot(4, 2), 0.0)
    assert one.leader_ballot == ballot(5, 1)
    assert one.standing is Standing.FOLLOWER

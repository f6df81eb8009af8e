"""From what is on the disks of several nodes: who is started where, and whether that is enough."""

from __future__ import annotations

from pathlib import Path

import pytest

from concoord_ray.paxos.membership import Size
from concoord_ray.storage.remains import Remains, put_together
from concoord_ray.storage.survey import survey
from tests.storage.pieces import flip
from tests.storage.remnants import FIRST, NAME, Disk, acceptor, birth, dropped, proposed, view


class Nodes:
    """Machines, each with a disk."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __getitem__(self, node: str) -> Disk:
        return Disk(self._root / node)

    def remains(self, *nodes: str) -> Remains:
        """What is made of what these have; of all, if none is named."""
        there = nodes or sorted(path.name for path in self._root.iterdir())
        finds = [(node, kept) for node in there for kept in survey(str(self._root / node), NAME)]
        return put_together(birth(self._root), finds)


@pytest.fixture
def nodes(tmp_path: Path) -> Nodes:
    return Nodes(tmp_path)


def three_nodes(nodes: Nodes, *snapshots: int) -> None:
    """n0, n1 and n2, with an acceptor and a replica each."""
    for index in range(3):
        nodes[f"n{index}"].vote(index, FIRST)
        nodes[f"n{index}"].save(index, *snapshots)


def test_everyone_comes_back_where_the_data_are(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    assert nodes.remains() == Remains(Size(3, 3), {0: "n0", 1: "n1", 2: "n2"}, "")


def test_a_majority_is_enough_and_the_rest_is_started_too(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    assert nodes.remains("n0", "n2") == Remains(Size(3, 3), {0: "n0", 2: "n2"}, "")


def test_less_than_a_majority_is_not_enough_and_it_is_said_who_is_missing(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    assert nodes.remains("n1").lack == ("epoch 0 needs 2 of its acceptors 0, 1, 2; the data of 0, 2 are not there")


def test_shrinking_needs_those_of_the_view_before_until_snapshots_go_beyond_it(nodes: Nodes) -> None:
    smaller = view(1, (0,), first_slot=11)
    three_nodes(nodes, 5)
    nodes["n0"].vote(0, smaller)
    assert nodes.remains() == Remains(Size(3, 3), {0: "n0", 1: "n1", 2: "n2"}, "")
    assert "epoch 0 needs 2" in nodes.remains("n0").lack
    nodes["n0"].save(0, 11)
    assert nodes.remains("n0") == Remains(Size(1, 3), {0: "n0"}, "")


def test_shrinking_starts_those_of_the_view_before_too_if_their_disks_are_lost(nodes: Nodes) -> None:
    three_nodes(nodes, 5)
    nodes["n0"].vote(0, proposed(view(1, (0,), first_slot=11)))
    assert nodes.remains("n0", "n1") == Remains(Size(3, 3), {0: "n0", 1: "n1"}, "")


def test_growing_starts_the_new_ones_before_any_has_joined(nodes: Nodes) -> None:
    larger = view(1, range(7), first_slot=11)
    three_nodes(nodes, 5)
    for index in range(3, 7):
        nodes[f"n{index}"].vote(index)
    assert nodes.remains().size == Size(7, 3)  # The wish may be in the log, and be all that there is of it.
    nodes["n0"].vote(0, proposed(larger))
    assert nodes.remains() == Remains(Size(7, 3), {index: f"n{index}" for index in range(7)}, "")
    assert nodes.remains("n0", "n1", "n2").lack == (
        "epoch 1 needs 4 of its acceptors 0, 1, 2, 3, 4, 5, 6; the data of 3, 4, 5, 6 are not there"
    )


def test_a_stop_sign_of_an_epoch_that_is_over_proposes_nothing(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    nodes["n0"].vote(0, proposed(view(1, range(7), first_slot=11)))
    nodes["n1"].vote(1, view(1, (0, 1, 2), first_slot=12))
    assert nodes.remains("n0", "n1") == Remains(Size(3, 3), {0: "n0", 1: "n1"}, "")


def test_a_replica_that_the_view_has_left_out_is_started_again(nodes: Nodes) -> None:
    for index in range(3):
        nodes[f"n{index}"].vote(index, FIRST, view(1, (0, 1, 2), replicas=2, first_slot=11))
        nodes[f"n{index}"].save(index)
    assert nodes.remains().size == Size(3, 3)


def test_replicas_without_an_acceptor_come_back_to_their_snapshots(nodes: Nodes) -> None:
    for index in range(3):
        nodes[f"n{index}"].vote(index, FIRST, dropped(50))
        nodes[f"n{index}"].save(index)
    nodes["n3"].save(3, 60)
    nodes["n4"].save(4, 50)
    nodes["n5"].save(3, 40)
    assert nodes.remains() == Remains(Size(3, 5), {0: "n0", 1: "n1", 2: "n2", 3: "n3", 4: "n4"}, "")
    assert nodes.remains("n0", "n1", "n2").lack == (
        "epoch 0 needs 2 of its acceptors 0, 1, 2; 0 has dropped the log below slot 50, and no replica's snapshot goes "
        "so far; 1 has dropped the log below slot 50, and no replica's snapshot goes so far; 2 has dropped the log "
        "below slot 50, and no replica's snapshot goes so far"
    )


def test_votes_come_before_a_replicas_state(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    nodes["n9"].save(1, 90)
    assert nodes.remains().nodes[1] == "n1"


def test_unless_nobody_else_has_the_state_and_the_votes_are_not_needed(nodes: Nodes) -> None:
    for index in range(3):
        nodes[f"n{index}"].vote(index, FIRST, dropped(50))
    nodes["n8"].save(1, 60)
    nodes["n9"].save(2, 40)
    assert nodes.remains() == Remains(Size(3, 3), {0: "n0", 1: "n8", 2: "n2"}, "")
    assert nodes.remains("n0", "n1", "n8").lack  # Here they are needed.


def test_an_acceptor_that_never_took_part_is_no_reason_to_be_anywhere(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    nodes["n8"].vote(3)
    nodes["n9"].save(3, 60)
    assert nodes.remains().nodes[3] == "n9"


def test_of_two_lives_the_one_in_the_newest_view_counts(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    second = view(1, (0, acceptor(1, life=2), 2), first_slot=11)
    nodes["a"].vote(1, life=2)
    for index in (0, 2):
        nodes[f"n{index}"].vote(index, second)
    assert nodes.remains() == Remains(Size(3, 3), {0: "n0", 1: "a", 2: "n2"}, "")


def test_a_former_life_does_not_vote_for_a_later_one(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    nodes["n0"].vote(0, view(1, (0, acceptor(1, life=2), 2), first_slot=11))
    assert "the data of 1, 2 are not there" in nodes.remains("n0", "n1").lack


def test_of_two_copies_of_one_life_the_one_that_has_forgotten_nothing_counts(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    nodes["z"].vote(1, FIRST)  # As it was copied once.
    nodes["n1"].vote(1, dropped(5))
    assert nodes.remains().nodes[1] == "n1"


def test_broken_data_are_not_counted_and_not_preferred(nodes: Nodes) -> None:
    three_nodes(nodes, 50)
    flip(nodes["n1"].vote(1) / "acceptor.sqlite", 20, 0xFF)
    assert nodes.remains() == Remains(Size(3, 3), {0: "n0", 1: "n1", 2: "n2"}, "")
    assert "the data of 1, 2 are not there" in nodes.remains("n0", "n1").lack


def test_nodes_that_share_a_disk_share_the_members(tmp_path: Path) -> None:
    nodes = Nodes(tmp_path)
    for index in range(3):
        nodes["shared"].vote(index, FIRST)
        nodes["shared"].save(index)
    finds = [(node, kept) for node in ("a", "b", "c") for kept in survey(str(tmp_path / "shared"), NAME)]
    assert put_together(birth(tmp_path), finds).nodes == {0: "a", 1: "b", 2: "c"}


def test_a_recovered_ensemble_needs_the_state_that_it_began_with(nodes: Nodes) -> None:
    begun = view(0, (0, 1, 2), first_slot=100)
    for index in range(3):
        nodes[f"n{index}"].vote(index, begun)
    finds = [(f"n{index}", kept) for index in range(3) for kept in survey(str(nodes[f"n{index}"].root), NAME)]
    remains = put_together(birth(nodes["n0"].root, first=begun), finds)
    assert remains.lack == "the log begins at slot 100, and no replica's snapshot of what was before is there"

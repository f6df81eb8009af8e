"""What ``concoord status`` prints, for people and for programs."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from concoord_ray.cli.status import as_json, as_table
from concoord_ray.net.identity import Address
from concoord_ray.status import EnsembleStatus, MemberStatus


def member(role: str, index: int, **fields: Any) -> MemberStatus:
    known: dict[str, Any] = {
        "incarnation": 7,
        "node_id": "0123456789abcdef",
        "pid": 100 + index,
        "address": Address("192.0.2.1", 4000 + index),
        "alive": True,
        "in_view": True,
    }
    return MemberStatus(role, index, **known | fields)


LEADER = member("replica", 1, applied_slot=1200, is_leader=True)
DEAD: dict[str, Any] = {"alive": False, "pid": None, "node_id": None, "address": None}

STATUS = EnsembleStatus(
    name="default",
    id="e",
    epoch=0,
    leader=LEADER,
    replicas=(
        member("replica", 0, applied_slot=1190),
        LEADER,
        member("replica", 2, applied_slot=3, executing="Board.draw"),
    ),
    acceptors=(member("acceptor", 0), member("acceptor", 1, in_view=False), member("acceptor", 2)),
    registries=(member("registry", 0, **DEAD),),
    gateways=(member("gateway", 81985529216, in_view=False),),
)


def lines_of(status: EnsembleStatus, role: str) -> list[str]:
    """The lines of the members of one role, with single spaces."""
    return [" ".join(line.split()) for line in as_table(status).splitlines() if line.startswith(role)]


def test_the_headline_says_who_leads_and_whether_a_majority_votes() -> None:
    assert as_table(STATUS).splitlines()[0] == (
        "Ensemble 'default', epoch 0: replica 1 leads, a majority of acceptors votes."
    )


def test_the_headline_says_what_is_missing() -> None:
    lost = dataclasses.replace(STATUS, leader=None, acceptors=(member("acceptor", 0), *STATUS.acceptors[1:2] * 2))
    assert as_table(lost).splitlines()[0] == (
        "Ensemble 'default', epoch 0: nobody leads, NO MAJORITY of acceptors votes."
    )


def test_replicas_that_have_diverged_are_no_healthy_ensemble() -> None:
    """Though they live, one leads, and a majority of acceptors votes: no call is answered."""
    wrong = member("replica", 0, applied_slot=1200, fault="The replicas 0 and 1 disagree at slot 1000")
    diverged = dataclasses.replace(STATUS, replicas=(wrong, LEADER))
    assert STATUS.is_healthy
    assert (diverged.has_quorum, diverged.has_diverged, diverged.is_healthy) == (True, True, False)
    lines = as_table(diverged).splitlines()
    assert lines[0] == (
        "Ensemble 'default', epoch 0: replica 1 leads, a majority of acceptors votes, but THE REPLICAS HAVE DIVERGED, "
        "and no call is answered."
    )
    assert lines_of(diverged, "replica")[0].startswith("replica 0 has diverged")
    assert lines[-1] == "replica 0: The replicas 0 and 1 disagree at slot 1000"
    assert json.loads(as_json(diverged))["has_diverged"] is True


def test_a_fault_of_one_that_is_away_is_no_divergence() -> None:
    away = dataclasses.replace(STATUS, replicas=(member("replica", 0, fault="no disk", **DEAD), LEADER))
    assert away.is_healthy


def test_each_member_has_a_line_that_says_how_it_does() -> None:
    assert lines_of(STATUS, "replica") == [
        "replica 0 follows 01234567 100 192.0.2.1:4000 1190",
        "replica 1 leads 01234567 101 192.0.2.1:4001 1200",
        "replica 2 executes Board.draw for long 01234567 102 192.0.2.1:4002 3",
    ]
    assert lines_of(STATUS, "acceptor")[1] == (
        "acceptor 1 does not vote yet: it has begun without memory 01234567 101 192.0.2.1:4001"
    )
    assert lines_of(STATUS, "registry") == ["registry 0 does not answer"]
    assert lines_of(STATUS, "gateway")[0].startswith("gateway serves 01234567")


def test_the_columns_are_straight() -> None:
    lines = as_table(STATUS).splitlines()[1:]
    at = lines[0].index("NODE")
    assert {line[at - 2 : at] for line in lines} <= {"  ", ""}


def test_json_has_every_field_by_its_name() -> None:
    told = json.loads(as_json(STATUS))
    assert set(told) == {field.name for field in dataclasses.fields(EnsembleStatus)} | {"has_quorum", "has_diverged"}
    assert set(told["leader"]) == {field.name for field in dataclasses.fields(MemberStatus)}
    assert told["leader"]["address"] == "192.0.2.1:4001"
    assert told["registries"][0]["address"] is None
    assert [replica["applied_slot"] for replica in told["replicas"]] == [1190, 1200, 3]

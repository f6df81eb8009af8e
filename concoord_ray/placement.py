"""Where the members of an ensemble are placed: Ray's placement groups.

A group is for the ensemble's first members, one bundle for each index. Groups do not grow: an index that comes later
has a group of its own, and so has every index whose data are on some node.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group

from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size

#: What a role asks Ray for. Bundles of nothing are refused, and any share of a CPU, however small, would take the last
#: whole one from the tasks of its node: a node of one CPU could run none.
ROLE_MEMORY_BYTES = 1 << 20
_BUNDLE_MEMORY_BYTES = 3 * ROLE_MEMORY_BYTES


def bundles_of(plan: Plan, size: Size) -> int:
    """How many bundles there are: bundle i is for acceptor i, replica i and registry i."""
    return max(*size, plan.config.registries)


def create_group(plan: Plan, size: Size) -> PlacementGroup:
    """The placement group that the ensemble begins with. Found if it exists."""
    return _group(plan, plan.group_name, bundles_of(plan, size), plan.config.placement)


def create_group_for(plan: Plan, index: int, node: str = "", others: Collection[str] = ()) -> PlacementGroup:
    """A group of one bundle: for an index that the first group has no bundle for, since groups do not grow, or for
    members whose data are on ``node``. Found if it exists.

    They are placed there if they can be, and elsewhere when that node is lost, but on none of the ``others``. Ray keeps
    to these as they are named now: after a second loss the members of two such groups may meet on one node.
    """
    settings: dict[str, Any] = {}
    if node:
        settings["_soft_target_node_id"] = node
    if others:
        settings["bundle_label_selector"] = [{"ray.io/node-id": f"!in({','.join(sorted(others))})"}]
    return _group(plan, f"{plan.group_name}:{index}", 1, "STRICT_PACK", **settings)


def groups_of(plan: Plan, indices: Iterable[int]) -> list[PlacementGroup]:
    """The groups that were made for these indices alone."""
    return existing(f"{plan.group_name}:{index}" for index in indices)


def first_group_of(plan: Plan) -> list[PlacementGroup]:
    """The group that the ensemble began with, if there is one."""
    return existing([plan.group_name])


def all_groups_of(plan: Plan) -> list[PlacementGroup]:
    """Every group of this life of the ensemble, however large it was."""
    return existing(group_name for group_name in all_names(plan.name) if plan.has_group(group_name))


def all_names(name: str) -> list[str]:
    """The names of the groups, also removed ones, of every life of every ensemble that is, or was, called so."""
    table: Any = ray.util.placement_group_table  # It has no types.
    names = [str(group["name"]) for group in table().values()]
    return [group_name for group_name in names if group_name.startswith(f"concoord:{name}:")]


def nodes_of(group: PlacementGroup) -> list[str]:
    """Where the bundles of a group that is placed are, in their order."""
    table: Any = ray.util.placement_group_table
    return [node for _, node in sorted(table(group)["bundles_to_node_id"].items())]


def can_hold_members(node: Mapping[str, Any]) -> bool:
    """Whether a node, as ``ray.nodes`` tells of it, has the memory of a bundle, at least while nobody uses any."""
    return bool(node["Resources"].get("memory", 0.0) >= _BUNDLE_MEMORY_BYTES)


def _group(plan: Plan, name: str, bundles: int, strategy: str, **settings: Any) -> PlacementGroup:
    bundle = {"memory": float(_BUNDLE_MEMORY_BYTES)}
    with contextlib.suppress(ValueError):  # There is none yet. To ask first spares the log a complaint of Ray's.
        found: PlacementGroup = ray.util.get_placement_group(name)
        return found
    try:
        made: PlacementGroup = placement_group([bundle] * bundles, strategy, name=name, lifetime="detached", **settings)
    except ray.exceptions.RaySystemError:  # Somebody else was first.
        made = ray.util.get_placement_group(name)
    return made


def existing(names: Iterable[str]) -> list[PlacementGroup]:
    """The groups of these names that there are."""
    found = []
    for name in names:
        with contextlib.suppress(ValueError):  # It was never created.
            found.append(ray.util.get_placement_group(name))
    return found

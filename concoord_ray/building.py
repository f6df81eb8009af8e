"""The actors of an ensemble: all of them started, and its first view decided; or all of them stopped."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup

from concoord_ray import actors, genesis, placement
from concoord_ray.directory import MemberReport
from concoord_ray.errors import ConfigurationError
from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Role, View
from concoord_ray.rsm.snapshot import header as snapshot_header

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.1
#: How often who waits for Ray to place members looks whether they are wanted still.
_LOOK_S = 1.0


def start_members(plan: Plan, size: Size, nodes: Mapping[int, str], until_s: float) -> list[tuple[Role, int]]:
    """Start every actor that is missing, each in a bundle of the first group or in a group of its own.

    If ``nodes`` says where they have to be, since their data are there, each index has a group of its own: the first
    group could be told to be on these nodes, but not to leave them when they are lost.
    """
    bundles: list[tuple[PlacementGroup, int]] = []
    indices = range(placement.bundles_of(plan, size))
    first = placement.first_group_of(plan)
    if not first and not nodes and not placement.groups_of(plan, indices):
        first = [placement.create_group(plan, size)]
    used = dict(nodes)
    for group in first:
        _await_group(plan, group, until_s)
        used.update(enumerate(placement.nodes_of(group)))
        bundles += [(group, bundle) for bundle in range(group.bundle_count)]
    is_apart = plan.config.placement == "STRICT_SPREAD"
    for index in indices[len(bundles) :]:
        others = {node for other, node in used.items() if other != index and is_apart}
        wanted = nodes.get(index, "")
        group = placement.create_group_for(plan, index, wanted, others)
        _await_group(plan, group, until_s)
        for node in placement.nodes_of(group):  # None, if it has lost its place again.
            used[index] = node
            if node != wanted and wanted:
                text = "members %d of %r start on node %s without their data: node %s is gone or has no room for them"
                logger.warning(text, index, plan.name, node, wanted)
        bundles.append((group, 0))
    members = actors.members_of(plan, size)
    for role, index in members:
        actors.create_role(plan, role, index, *bundles[index])
    return members


def build(plan: Plan, until_s: float, seed: bytes = b"") -> None:
    """Start every actor that is missing, each with its data if a node has them, decide the first view, and say so.

    With a ``seed``, a snapshot, the log begins where that ends. What a recovery has begun only who has the seed builds;
    others wait for the view, since without the state they would begin an empty ensemble.

    Raises ConfigurationError if it cannot be built in time, or if it is stopped meanwhile. Then nothing of what was
    started here is left, unless others may go on with it.
    """
    if not genesis.is_held_by(plan):
        raise _stopped(plan)
    try:
        if plan.generation and not seed and genesis.find_view(plan) is None:
            _await_recovery(plan, until_s)
        elif (places := genesis.find_places(plan)) is not None or genesis.find_view(plan) is None:
            _build(plan, until_s, places or {}, seed)
    except BaseException:
        if not genesis.is_held_by(plan):  # Whoever stopped it has not seen all that was started since.
            destroy(plan)
        raise
    if not genesis.mark_running(plan):
        destroy(plan)
        raise _stopped(plan)


def _stopped(plan: Plan) -> ConfigurationError:
    return ConfigurationError(
        f"The ensemble {plan.name!r} was stopped while it was starting, or whoever began to start it has given up. "
        f"Call concoord.init({plan.name!r}) to start it again."
    )


def _build(plan: Plan, until_s: float, nodes: Mapping[int, str], seed: bytes) -> None:
    size = genesis.find_size(plan)
    members = start_members(plan, size, nodes, until_s)
    reports = _first_reports(plan, members, until_s)
    view = genesis.find_view(plan)
    first_slot = snapshot_header(seed).next_slot if seed else 0
    if view is None:
        if seed:
            actors.seed(plan, size, seed, max(1.0, until_s - time.monotonic()))
        acceptors = tuple(reports[key].member for key in members if key[0] is Role.ACCEPTOR)
        view = genesis.propose_view(plan, View(0, acceptors, tuple(range(size.replicas)), first_slot))
    if seed and view.first_slot != first_slot:
        raise ConfigurationError(
            f"The ensemble {plan.name!r} was begun by somebody else, at slot {view.first_slot}, not {first_slot}. Look "
            f"who does that, and call concoord.recover({plan.name!r}) again."
        )


def _await_recovery(plan: Plan, until_s: float) -> None:
    """Wait until whoever recovers the ensemble has decided its first view."""
    while genesis.find_view(plan) is None:
        if not genesis.is_held_by(plan):
            return
        if time.monotonic() > until_s:
            state = "" if plan.rescued is None else f"Its state is in {plan.rescued}. "
            source = ", source=..." if plan.rescued is None else ""
            raise ConfigurationError(
                f"A recovery of the ensemble {plan.name!r} has begun and not ended. {state}If whoever began it has "
                f"died, call concoord.recover({plan.name!r}{source}) again; or concoord.shutdown({plan.name!r}), if "
                f"that state is not needed."
            )
        time.sleep(_LOOK_AGAIN_S)


def destroy(plan: Plan, following: Plan | None = None) -> None:
    """Kill every actor for good, then remove the groups: the other way round they would be restarted for ever.

    Whoever waits in the ensemble is told first. The gateways go last, when the processes that call through them know
    that it is no more: what is called after that would end with Ray's own error. ``following`` begins in its place.
    Safe to repeat, at any time: nobody but this life of the ensemble is touched.
    """
    genesis.mark_ending(plan)
    gateways = _take_leave(plan)
    names = {plan.actor_name(*gateway) for gateway in actors.gateways_of(plan)}
    for actor_name in actors.actor_names(plan):
        if actor_name not in names:
            actors.kill(actor_name)
    for group in placement.all_groups_of(plan):
        ray.util.remove_placement_group(group)
    _wait([gateway.alone.remote() for gateway in gateways], plan.config.close_timeout_s)
    for actor_name in actors.actor_names(plan):
        actors.kill(actor_name)
    genesis.erase(plan, following)
    _sweep(plan.name)


def _sweep(name: str) -> None:
    """Stop what is left of lives that are over: whoever was slow may have started it when all had been stopped.

    A life has actors only after it has come to hold its name, and never holds it again. So what is there before we look
    who holds the name, and is not of that life, is nobody's.
    """
    found, groups = actors.all_names(name), placement.all_names(name)
    held = genesis.find_plan(name)
    for actor_name in found:
        if held is None or not held.has_actor(actor_name):
            actors.kill(actor_name)
    for group in placement.existing(g for g in groups if held is None or not held.has_group(g)):
        ray.util.remove_placement_group(group)


def _take_leave(plan: Plan) -> list[Any]:
    """Let the gateways tell whoever waits in the ensemble that it is no more; gives those that have.

    Those of lost nodes are not waited for.
    """
    alive: Any = ray.nodes  # It has no types.
    nodes = {node["NodeID"] for node in alive() if node["Alive"]}
    leaving = {}
    for role, node in actors.gateways_of(plan):
        with contextlib.suppress(ValueError):  # Somebody else ends the ensemble too.
            gateway = ray.get_actor(plan.actor_name(role, node), namespace=genesis.NAMESPACE)
            if node in nodes:
                leaving[gateway.leave.remote()] = gateway
    return [leaving[ref] for ref in _wait(list(leaving), plan.config.leave_timeout_s)]


def _wait(refs: list[Any], timeout_s: float) -> list[Any]:
    """Those that have ended in time."""
    return ray.wait(refs, num_returns=len(refs), timeout=timeout_s)[0] if refs else []


def _await_group(plan: Plan, group: PlacementGroup, until_s: float) -> None:
    while not group.wait(min(_LOOK_S, max(0.1, until_s - time.monotonic()))):
        if not genesis.is_held_by(plan):
            raise _stopped(plan)
        if time.monotonic() > until_s:
            raise _unplaced(plan)


def _unplaced(plan: Plan) -> ConfigurationError:
    if plan.config.placement == "STRICT_SPREAD":
        why = "it needs a node for each acceptor and replica. Add nodes, or use placement='SPREAD'."
    else:
        why = "no node has memory left for them, in Ray's own account of it. 'ray status' shows who has how much."
    return ConfigurationError(
        f"Ray could not place all members of the ensemble {plan.name!r} with placement={plan.config.placement}: {why}"
    )


def _first_reports(plan: Plan, members: list[tuple[Role, int]], until_s: float) -> dict[actors.Key, MemberReport]:
    """What every member says once it has started.

    An ensemble that has been before does without those that a broken disk keeps from it; they go on trying.
    """
    while True:
        reports, faults = actors.describe(plan, members)
        missing = [key for key in members if key not in reports]
        if not missing:
            return reports
        if not genesis.is_held_by(plan):
            raise _stopped(plan)
        names = ", ".join(f"{role} {index}" for role, index in missing)
        if all(key in faults for key in missing):
            # One disk has many members' directories: what is wrong with it is said once.
            alike: dict[str, str] = {}
            for role, index in missing:
                alike.setdefault(faults[role, index].replace(f"{role}-{index}", ""), faults[role, index])
            reasons = " ".join(alike.values())
            if genesis.find_view(plan) is None:
                raise ConfigurationError(f"The ensemble {plan.name!r} cannot start for want of {names}: {reasons}")
            logger.warning("%r starts without %s: %s", plan.name, names, reasons)
            return reports
        if time.monotonic() > until_s:
            raise ConfigurationError(
                f"{names} of the ensemble {plan.name!r} did not start in time. Ray's log of the actors (ray logs "
                f"actor) says why; is concoord_ray installed on every node?"
            )
        time.sleep(_LOOK_AGAIN_S)

"""An ensemble is given another size: members are started, the log is told, and those that are too many are stopped.

Invariants:

- the record of the size (``genesis``) names at least whoever the log may name: it grows before the log is told, and
  shrinks when the ensemble has come to its new size, or when the log certainly was not told and all that was started
  for it is gone again. So a size that cannot be placed leaves nothing behind, and can be followed by any other;
- only what the new size needs is started. What an earlier resizing, which was cut short, has left in the record may be
  impossible, and goes at the end of the next;
- one resizing at a time: to stop what another has just started could cost that one its majority. Who resizes has the
  only actor of some name. Ray gives a name once, and ends the actor with the process that made it.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from concoord_ray import actors, genesis, placement
from concoord_ray.attach import attachment_to
from concoord_ray.building import destroy, start_members
from concoord_ray.client import Client
from concoord_ray.config import MAX_MEMBERS
from concoord_ray.errors import CallTimeout, ConfigurationError, Overloaded, QuorumLost, SessionExpired
from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size, is_reached
from concoord_ray.paxos.view import Role, View
from concoord_ray.restart import retire
from concoord_ray.rsm.command import Resize
from concoord_ray.status import EnsembleStatus, gather_status

logger = logging.getLogger(__name__)

_LOOK_AGAIN_S = 0.1
#: With these the log has certainly not been told.
_NOT_TOLD = (ConfigurationError, Overloaded, QuorumLost, SessionExpired)


def resize(plan: Plan, replicas: int | None, acceptors: int | None, timeout_s: float) -> EnsembleStatus:
    """See ``Ensemble.resize``."""
    until_s = time.monotonic() + timeout_s
    for number in (replicas, acceptors):
        if number is not None and (type(number) is not int or not 1 <= number <= MAX_MEMBERS):
            raise ConfigurationError(
                f"resize to {number!r}: give whole numbers from 1 to {MAX_MEMBERS}; an ensemble needs one of each."
            )
    attachment = attachment_to(plan.name, plan.ensemble)
    if attachment.plan.ensemble != plan.ensemble:
        raise _shut_down(plan)
    plan = attachment.plan  # It may be another life of the ensemble by now: what is started has to be of this one.
    with _alone(plan, until_s):
        if not genesis.is_held_by(plan):
            raise _shut_down(plan)
        try:
            slot, new = _told(plan, attachment.client, acceptors, replicas, until_s)
            both = _recorded(plan, new)
            start_members(plan, new, {}, until_s)
            _await_size(plan, new, slot, until_s)
            _stop_surplus(plan, both, new)
        except BaseException:
            if not genesis.is_held_by(plan):  # Whoever stopped it has not seen all that was started since.
                destroy(plan)
            raise
    return gather_status(plan)


def _shut_down(plan: Plan) -> ConfigurationError:
    return ConfigurationError(
        f"The ensemble {plan.name!r} that was to be resized was shut down; what has that name now, if anything, is "
        f"another, or was started again. Call concoord.init({plan.name!r}), and resize what that gives."
    )


@contextlib.contextmanager
def _alone(plan: Plan, until_s: float) -> Iterator[None]:
    """Be the only one who resizes this ensemble."""
    claim = _claimed(plan, until_s)
    try:
        yield
    finally:
        ray.kill(claim)


def _claimed(plan: Plan, until_s: float) -> Any:
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"name": plan.actor_name(Role.CLIENT, "resizing"), "namespace": genesis.NAMESPACE, "max_restarts": -1}
    while True:
        try:
            return _claim.options(**options, num_cpus=0, scheduling_strategy=here).remote()
        except ValueError as error:  # Somebody has it.
            if time.monotonic() > until_s:
                raise CallTimeout(
                    f"Somebody else has been resizing the ensemble {plan.name!r} all this time, so this resizing has "
                    f"not begun. Try again when that one has ended."
                ) from error
        time.sleep(_LOOK_AGAIN_S)


def _told(plan: Plan, client: Client, acceptors: int | None, replicas: int | None, until_s: float) -> tuple[int, Size]:
    """Start who is to take part, then let it be agreed that they shall; gives what the log says then, and its slot."""
    there = genesis.find_size(plan)
    wanted = Size(acceptors or 1, replicas or 1)
    both = _recorded(plan, wanted)
    try:
        start_members(plan, wanted, {}, until_s)
    except BaseException:
        _take_back(plan, both, there)
        raise
    try:
        slot, *size = client.call(Resize(acceptors, replicas), timeout_s=max(0.1, until_s - time.monotonic()))
    except _NOT_TOLD:
        _take_back(plan, both, there)
        raise
    return slot, Size(*size)


def _recorded(plan: Plan, size: Size) -> Size:
    """Have the record name the members of a size, too; gives what it names then."""
    there = genesis.find_size(plan)
    both = Size(*map(max, there, size))
    if both != there:
        genesis.put_size(plan, both)
    return both


def _take_back(plan: Plan, both: Size, there: Size) -> None:
    """Of a resizing that cannot be nothing stays; why it cannot be is what its caller has to know."""
    started = set(actors.members_of(plan, both)) - set(actors.members_of(plan, there))
    try:
        found = gather_status(plan)
        if not any(m.in_view and (m.role, m.index) in started for m in (*found.acceptors, *found.replicas)):
            _stop_surplus(plan, both, there)
    except Exception:
        logger.warning("what was started to resize %r is not all stopped; the next resizing does it", plan.name)
        logger.info("why it is not stopped", exc_info=True)


def _await_size(plan: Plan, new: Size, slot: int, until_s: float) -> None:
    """Wait until nobody needs the members that the ensemble has no place for any more."""
    members = [member for member in actors.members_of(plan, new) if member[0] is Role.REPLICA]

    def standings() -> list[tuple[View | None, int]]:
        return [(report.view, report.durable_slot) for report in actors.describe(plan, members).reports.values()]

    while not is_reached(new, slot, standings(), plan.config):
        if time.monotonic() > until_s:
            raise CallTimeout(
                f"The ensemble {plan.name!r} is not of the new size yet; it goes on towards it. concoord.status() says "
                f"who is missing."
            )
        time.sleep(_LOOK_AGAIN_S)


def _stop_surplus(plan: Plan, both: Size, new: Size) -> None:
    """Stop the members that one size has and another has not, and forget them."""
    surplus = sorted(set(actors.members_of(plan, both)) - set(actors.members_of(plan, new)))
    reports = actors.describe(plan, surplus).reports
    actors.stop(plan, surplus)
    for group in placement.groups_of(plan, range(placement.bundles_of(plan, new), placement.bundles_of(plan, both))):
        ray.util.remove_placement_group(group)
    genesis.put_size(plan, new)
    retire(plan, {member: reports[member].node_id for member in surplus if member in reports})


class _Claim:
    """Does nothing but have its name."""


_remote: Any = ray.remote
_claim = _remote(_Claim)

"""Finding an ensemble again by its data, when nothing of it is left in Ray.

Every node that is alive is asked what its disk has (``storage.survey``), and ``storage.remains`` says what can be made
of it. Nodes join a cluster one after the other, so what is not enough may be so in a moment; and a directory may still
be a process's that is just ending. Both are waited for, and in the end it is said what is missing: an ensemble that is
started without the data of a majority would wait for them without a word.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from concoord_ray import genesis
from concoord_ray.errors import ConfigurationError, StorageBusy, StorageError
from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Role, View
from concoord_ray.roles.boot import Boot
from concoord_ray.storage.durable import set_aside
from concoord_ray.storage.places import places_of
from concoord_ray.storage.remains import put_together
from concoord_ray.storage.survey import Kept, survey

logger = logging.getLogger(__name__)

#: How long one node may take to look at its disk.
_SURVEY_TIMEOUT_S = 60.0
#: How long to wait for processes to let go of directories that we can do without.
_IN_USE_PATIENCE_S = 10.0
_LOOK_AGAIN_S = 0.5
#: How long a process that was killed may take to be gone.
_ENDING_PATIENCE_S = 10.0


class Found(NamedTuple):
    """An ensemble that was before."""

    plan: Plan
    view: View
    #: By index, the node with its data.
    nodes: dict[int, str]
    size: Size


def find_data(storage: str, name: str, until_s: float) -> Found | None:
    """The ensemble called ``name`` whose data are on the nodes, None if there is none, or if somebody has started it.

    Raises ConfigurationError if there are two, neither of which was recovered from the other; or if until ``until_s``
    only a part of its data is there, and too little of it.
    """
    patient_until_s = min(until_s, time.monotonic() + _IN_USE_PATIENCE_S)
    told: set[str] = set()
    while genesis.find_plan(name) is None:
        kept = _ask_nodes(storage, name)
        _tell({fault for _, each in kept for fault in each.faults} - told)
        told.update(fault for _, each in kept for fault in each.faults)
        found, lack = judge(storage, name, kept)
        now_s = time.monotonic()
        in_use = sorted({directory for _, each in kept for directory in each.in_use})
        if not lack and (not in_use or now_s >= patient_until_s):
            return found
        if lack and now_s >= until_s:
            others = f" Other processes have {', '.join(in_use)}." if in_use else ""
            raise ConfigurationError(
                f"There are data of the ensemble {name!r} in {storage}, but not enough to go on from: {lack}.{others} "
                f"Start the nodes that have the rest, then call init() again; or begin again from a backup with "
                f"recover(source=...)."
            )
        time.sleep(_LOOK_AGAIN_S)
    return None


def judge(storage: str, name: str, kept: list[tuple[str, Kept]]) -> tuple[Found | None, str]:
    """What to start, if anything was before; and what is missing without which it would not go on, if anything is."""
    births = {each.birth.ensemble: each.birth for _, each in kept if each.birth is not None}
    unknown = sorted({each.ensemble for _, each in kept if each.has_memory} - births.keys())
    lack = ""
    if unknown:
        lack = f"the birth certificate of {', '.join(unknown)} is not there, which its acceptors' nodes have"
    if not births:
        return None, lack
    latest = max(birth.generation for birth in births.values())
    living = [birth for birth in births.values() if birth.generation == latest]
    if len(living) > 1:
        raise ConfigurationError(
            f"There are data of {len(living)} ensembles called {name!r} in {storage}: "
            f"{', '.join(sorted(birth.ensemble for birth in living))}. Move all but one of these directories "
            f"elsewhere, on every node."
        )
    (birth,) = living
    remains = put_together(birth, [(node, each) for node, each in kept if each.ensemble == birth.ensemble])
    config = msgspec.structs.replace(birth.config, storage=storage)
    plan = Plan(birth.name, birth.ensemble, birth.secret, config, birth.generation)
    return Found(plan, birth.view, remains.nodes, remains.size), lack or remains.lack


def prepare(found: Found) -> None:
    """Say what there is to be started; before the plan is proposed, so that whoever finds the plan can help."""
    genesis.erase_ending(found.plan)  # Of its last life, if whoever stopped it has died.
    genesis.put_size(found.plan, found.size)
    genesis.propose_view(found.plan, found.view)
    genesis.put_places(found.plan, found.nodes)


def last_generation(storage: str, name: str) -> int:
    """The highest generation of an ensemble called ``name`` that any node has data of, 0 if none."""
    births = [each.birth for _, each in _ask_nodes(storage, name) if each.birth is not None]
    return max((birth.generation for birth in births), default=0)


def next_generation(known: Iterable[int], wall_s: float) -> int:
    """The generation of an ensemble that is recovered now: above all that are known, and above those that are not.

    When Ray was started anew, a backup does not say what else has come of it since: its generation alone would give the
    same tokens to two ensembles. So it is the time in seconds. A clock that was set back is caught as far as can be
    known, by the highest generation that anything of this name is left of.
    """
    return max(int(wall_s), *(each + 1 for each in known))


def retire(plan: Plan, members: Mapping[tuple[Role, int], str]) -> None:
    """Set the data of members aside that the ensemble has no place for any more, so that no restart finds them.

    ``members`` says on which nodes they were. Nobody needs the data: what cannot be set aside is only logged.
    """
    if not plan.config.storage:
        return
    refs = [
        _on(node, _retiring).remote(msgspec.msgpack.encode(plan.boot(role, index)))
        for (role, index), node in members.items()
    ]
    for ref in refs:
        try:
            ray.get(ref, timeout=_ENDING_PATIENCE_S + _SURVEY_TIMEOUT_S)
        except (ray.exceptions.RayError, StorageError) as error:
            logger.warning("data of a member that was left out of %r stay where they are: %s", plan.name, error)


def _ask_nodes(storage: str, name: str) -> list[tuple[str, Kept]]:
    alive: Any = ray.nodes  # It has no types.
    nodes = [node["NodeID"] for node in alive() if node["Alive"]]
    asked = {_on(node, _survey).remote(storage, name): node for node in nodes}
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_SURVEY_TIMEOUT_S)
    if silent:
        logger.warning("%d nodes did not say what they have of %r", len(silent), name)
    found = []
    for ref in ready:
        try:
            found += [(asked[ref], kept) for kept in msgspec.msgpack.decode(ray.get(ref), type=list[Kept])]
        except (ray.exceptions.RayError, StorageError) as error:  # The node is gone, or we may not look there.
            logger.warning("node %s cannot say what it has of %r: %s", asked[ref], name, error)
    return found


def _tell(faults: set[str]) -> None:
    for fault in sorted(faults):
        logger.warning("%s", fault)


def _on(node: str, function: Any) -> Any:
    return function.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def _look(storage: str, name: str) -> bytes:
    return msgspec.msgpack.encode(survey(storage, name))


def _retire(boot: bytes) -> None:
    """Set a member's directories aside, once its process is gone."""
    until_s = time.monotonic() + _ENDING_PATIENCE_S
    for _, directory in places_of(msgspec.msgpack.decode(boot, type=Boot).data_directory()):
        while directory.is_dir():
            try:
                set_aside(directory, "retired")
            except StorageBusy:
                if time.monotonic() >= until_s:
                    raise
                time.sleep(_LOOK_AGAIN_S)


_remote: Any = ray.remote
_survey = _remote(num_cpus=0)(_look)
_retiring = _remote(num_cpus=0)(_retire)

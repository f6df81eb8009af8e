"""Finding an ensemble again by its data, when nothing of it is left in Ray.

Every node that is alive is asked what its disk has (``storage.survey``), and ``storage.remains`` says what can be made
of it. Nodes join a cluster one after the other, so what is not enough may be so in a moment; and a directory may still
be a process's that is just ending. Both are waited for, and in the end it is said what is missing: an ensemble that is
started without the data of a majority would wait for them without a word.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from concoord_ray import genesis
from concoord_ray.errors import ConfigurationError, StorageBusy, StorageError
from concoord_ray.genesis import Plan
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Role, View
from concoord_ray.placement import can_hold_members
from concoord_ray.roles.boot import Boot
from concoord_ray.storage.birth import directory_of
from concoord_ray.storage.durable import set_aside
from concoord_ray.storage.places import places_of
from concoord_ray.storage.remains import Finds, is_complete, put_together
from concoord_ray.storage.survey import NO_SNAPSHOT, Kept, look_into_snapshots, survey

logger = logging.getLogger(__name__)

#: How long one node may take to look at its disk.
_SURVEY_TIMEOUT_S = 60.0
#: How long to wait for processes to let go of directories that we can do without.
_IN_USE_PATIENCE_S = 10.0
_LOOK_AGAIN_S = 0.5
#: How long a node may read snapshots; what it has not come to counts as whole. Some gigabytes can be read in it.
_READING_PATIENCE_S = 20.0
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
    only a part of its data is there, and too little of it: at once if it is damage that makes it too little, and all
    who have data of it have been asked.
    """
    patient_until_s = min(until_s, time.monotonic() + _IN_USE_PATIENCE_S)
    told: set[str] = set()
    snapshots = _Snapshots(storage, name)
    while genesis.find_plan(name) is None:
        kept: Finds = _ask_nodes(storage, name)
        found, lack = judge(storage, name, kept)
        now_s = time.monotonic()
        in_use = sorted({directory for _, each in kept for directory in each.in_use})
        is_waiting = bool(in_use) and now_s < patient_until_s
        if found is not None and not lack and not is_waiting:
            kept = snapshots.read(kept, found.plan.ensemble)
            found, lack = judge(storage, name, kept)
        faults = {fault for _, each in kept for fault in each.faults} - told
        _tell(faults)
        told |= faults
        if not lack and not is_waiting:
            return found
        if lack and (now_s >= until_s or (not in_use and _is_damage_all(kept))):
            raise ConfigurationError(_shortage(storage, name, kept, lack, in_use))
        time.sleep(_LOOK_AGAIN_S)
    return None


class _Snapshots:
    """What is in the snapshots of the nodes, read again only if anything has changed by their names."""

    def __init__(self, storage: str, name: str) -> None:
        self._storage = storage
        self._name = name
        self._last: tuple[Finds, Finds] = ([], [])

    def read(self, kept: Finds, ensemble: str) -> Finds:
        """The same with only such snapshots in it as are whole, if without any there is too little to go on from."""
        if kept != self._last[0]:
            none = [
                (node, msgspec.structs.replace(each, replicas=dict.fromkeys(each.replicas, NO_SNAPSHOT)))
                for node, each in kept
            ]
            is_needed = judge(self._storage, self._name, none)[1] != ""
            self._last = (kept, self._read(kept, ensemble) if is_needed else kept)
        return self._last[1]

    def _read(self, kept: Finds, ensemble: str) -> Finds:
        asked = {
            _on(node, _reading).remote(self._storage, self._name, msgspec.msgpack.encode(each)): node
            for node, each in kept
            if each.ensemble == ensemble and each.replicas
        }
        read = {asked[ref]: msgspec.msgpack.decode(answer, type=Kept) for ref, answer in _answers(asked, self._name)}
        return [(node, read.get(node, each) if each.ensemble == ensemble else each) for node, each in kept]


def _damaged(kept: Finds) -> dict[str, str]:
    """Files that cannot be done without and are damaged, with their ensembles."""
    certified = {each.ensemble for _, each in kept if each.birth is not None}
    found = {}
    for _, each in kept:
        births = each.broken_births if each.ensemble not in certified else ()
        found.update(dict.fromkeys((*births, *each.broken_snapshots), each.ensemble))
    return found


def _is_damage_all(kept: Finds) -> bool:
    """Whether it is for damaged files that there is too little, and no other node is known to have more."""
    ensembles = set(_damaged(kept).values())
    return bool(ensembles) and all(
        is_complete([each for _, each in kept if each.ensemble == ensemble]) for ensemble in ensembles
    )


def _shortage(storage: str, name: str, kept: Finds, lack: str, in_use: list[str]) -> str:
    """What is missing, and what can be done."""
    damaged = _damaged(kept)
    text = f"There are data of the ensemble {name!r} in {storage}, but not enough to go on from: {lack}."
    if damaged:
        text += f" Damaged, and not used: {', '.join(sorted(damaged))}."
    if in_use:
        text += f" Other processes have {', '.join(in_use)}."
    text += (
        " If there are nodes that have the rest, start them and call init() again; if there are none, begin again from "
        "a backup with recover(source=...)"
    )
    snapshots = [
        (slot, each.ensemble, index, node)
        for node, each in kept
        for index, slot in each.replicas.items()
        if slot != NO_SNAPSHOT and each.ensemble in damaged.values()
    ]
    if snapshots:
        slot, ensemble, index, node = max(snapshots)
        directory = directory_of(storage, name, ensemble)
        text += (
            f", or from the newest snapshot that a replica has, on node {node}: concoord recover --name {name} "
            f"--storage {storage} --source {directory}/{Role.REPLICA}-{index}/snapshot-{slot:020}. What came after "
            f"slot {slot} is lost then"
        )
        if all(each.birth is None for _, each in kept if each.ensemble == ensemble):
            text += f". Afterwards move {directory} elsewhere on every node, or the next start asks for it again"
    return f"{text}."


def judge(storage: str, name: str, kept: Finds) -> tuple[Found | None, str]:
    """What to start, if anything was before; and what is missing without which it would not go on, if anything is."""
    births = {each.birth.ensemble: each.birth for _, each in kept if each.birth is not None}
    unknown = sorted({each.ensemble for _, each in kept if each.has_memory} - births.keys())
    lack = ""
    if unknown:
        are_there = any(each.broken_births for _, each in kept if each.ensemble in unknown)
        lack = (
            f"{'no whole copy of ' if are_there else ''}the birth certificate of {', '.join(unknown)} is "
            f"{'' if are_there else 'not '}there, which every node with an acceptor of it has"
        )
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


def _ask_nodes(storage: str, name: str) -> Finds:
    nodes: Any = ray.nodes  # It has no types.
    alive = {node["NodeID"]: node for node in nodes() if node["Alive"]}
    asked = {_on(node, _survey).remote(storage, name): node for node in alive}
    answers = _answers(asked, name)
    found = {asked[ref]: msgspec.msgpack.decode(answer, type=list[Kept]) for ref, answer in answers}
    finds = [(node, kept) for node in sorted(found) for kept in found[node]]
    return usable(finds, {node for node in alive if can_hold_members(alive[node])})


def usable(finds: Finds, able: Collection[str]) -> Finds:
    """Of nodes with the same data, since they share a disk, those that are ``able`` to hold members, if any is."""
    first = [(node, kept) for node, kept in finds if node in able]
    held = [kept for _, kept in first]
    return first + [(node, kept) for node, kept in finds if node not in able and kept not in held]


def _answers(asked: Mapping[Any, str], name: str) -> list[tuple[Any, bytes]]:
    """What the nodes say that say something in time."""
    if not asked:
        return []
    ready, silent = ray.wait(list(asked), num_returns=len(asked), timeout=_SURVEY_TIMEOUT_S)
    if silent:
        logger.warning("%d nodes did not say what they have of %r", len(silent), name)
    answers = []
    for ref in ready:
        try:
            answers.append((ref, ray.get(ref)))
        except (ray.exceptions.RayError, StorageError) as error:  # The node is gone, or we may not look there.
            logger.warning("node %s cannot say what it has of %r: %s", asked[ref], name, error)
    return answers


def _tell(faults: set[str]) -> None:
    for fault in sorted(faults):
        logger.warning("%s", fault)


def _on(node: str, function: Any) -> Any:
    return function.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def _look(storage: str, name: str) -> bytes:
    return msgspec.msgpack.encode(survey(storage, name))


def _read(storage: str, name: str, kept: bytes) -> bytes:
    known = msgspec.msgpack.decode(kept, type=Kept)
    return msgspec.msgpack.encode(look_into_snapshots(storage, name, known, _READING_PATIENCE_S))


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
_reading = _remote(num_cpus=0)(_read)
_retiring = _remote(num_cpus=0)(_retire)

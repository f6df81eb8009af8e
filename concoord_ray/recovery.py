"""Backups, and ensembles that begin again: from a backup, or from what is left when a majority was lost for good.

``recover`` stops the old ensemble, and until the new one runs its state may be nowhere but in this process. So it is
first written to a file, which every later error names, and so do the plans of the old ensemble, while it is being
stopped, and of the new one, until it runs (``Plan.rescued``). The new one takes the name over from the old directly,
and as long as its first view is not decided nobody else can build it: whoever calls ``init`` waits. If a recovery is
cut short the name stays with it, so that no empty ensemble is begun in its place; the next ``recover`` goes on from
that file.
"""

from __future__ import annotations

import logging
import secrets
import socket
import tempfile
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import ray

from concoord_ray import actors, genesis
from concoord_ray.attach import attachment_to, detach
from concoord_ray.building import build, destroy
from concoord_ray.ensemble import DEFAULT_ENSEMBLE, Ensemble, check_name, config_of, status
from concoord_ray.errors import CallTimeout, ConcoordError, ConfigurationError, QuorumLost
from concoord_ray.genesis import Plan, Rescued
from concoord_ray.restart import last_generation, next_generation
from concoord_ray.rsm.command import ListObjects
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.snapshot import Header, SnapshotFailed
from concoord_ray.rsm.snapshot import header as snapshot_header
from concoord_ray.status import EnsembleStatus, MemberStatus, gather_status
from concoord_ray.storage.files import machine_faults, make_directory
from concoord_ray.storage.snapshots import checked_target, read_file, write_file

logger = logging.getLogger(__name__)

#: How long one that has left for a fault may take to give its state.
_FAULTY_ANSWERS_S = 10.0
_FILE_NAME = "state"


class _State(NamedTuple):
    """A state to begin again with."""

    data: bytes
    #: Where it is from.
    origin: str
    #: If it was rescued before, where.
    file: Rescued | None = None


def backup(path: str | Path, name: str = DEFAULT_ENSEMBLE, *, timeout_s: float = 120.0) -> int:
    """Write the state of the whole ensemble to a file of this process's machine, while calls go on.

    It holds everything that was acknowledged before this call; the number returned is the first slot of the log that is
    not in it. The file is there as a whole or not at all, and has a checksum. Safe to repeat. Raises
    ConfigurationError, before the state is asked for, if there can be no file at ``path``; QuorumLost if nobody leads;
    SnapshotFailed if the state holds what cannot be in a file; CallTimeout if no replica gives it in time.
    """
    target = checked_target(path)
    until_s = time.monotonic() + timeout_s
    attachment_to(name).client.call(ListObjects(), readonly=True)  # From here on we know what has to be in it.
    found = status(name)
    if found.leader is None or found.leader.applied_slot is None:
        raise QuorumLost(f"Nobody leads the ensemble {name!r} at the moment. Try again a little later.")
    # The leader comes last: to take a snapshot would hold it up.
    asked = sorted(_living(found), key=lambda replica: replica.is_leader)
    # One that was deposed may say that it leads, and not know of the latest: what anybody has executed has to be in it.
    reached = max(replica.applied_slot or 0 for replica in asked)
    plan = attachment_to(name).plan
    _, data = _state_of_any(plan, [(replica.index, reached) for replica in asked], until_s)
    slot = snapshot_header(data).next_slot
    write_file(target, data, ensemble=plan.ensemble, slot=slot)
    return slot


def recover(
    name: str = DEFAULT_ENSEMBLE, *, source: str | Path | None = None, timeout_s: float = 120.0, **settings: Any
) -> Ensemble:
    """Begin again from what is left, after a majority of the acceptors was lost for good. Nothing does it by itself.

    The state is that of the file ``source`` (``concoord.backup``), or else of the replica that has come furthest among
    those that live, or that have left with a ``fault``, as they do before a slot that kills them. **What was
    acknowledged after that state is lost**; a warning says at which slot it ends. The old ensemble is stopped; its
    data, if it had ``storage``, stay on disk. The new one has another identity: handles have to be got again, sessions
    of before end within ``session_ttl_s`` and give back what they held, and fencing tokens are higher than all that
    were ever given. ``settings`` are as for ``init``; without any, the old ensemble's hold.

    Raises ConfigurationError without a ``source`` if the ensemble does not need it, if nothing is left of it, or if its
    replicas have diverged. **With one it is done in any case**: also an ensemble that is well goes back to the state of
    the file, and the warning says how much further it was. If it is cut short, also by ``timeout_s`` or by the death of
    this process, call it again: without a ``source`` it keeps the state in a file meanwhile, which errors name, and
    which it finds again if it is called on the same machine.
    """
    check_name(name)
    if not ray.is_initialized():
        ray.init()
    until_s = time.monotonic() + timeout_s
    old = genesis.find_plan(name)
    last = _last_state(old, name, source, until_s)
    head = snapshot_header(last.data)
    state = Executor(head.ensemble)
    state.restore(last.data)  # Which shows, before anything is stopped, that it can be.
    config = old.config if old is not None and not settings else config_of(**settings)
    known = [state.generation, 0 if old is None else old.generation]
    known.append(last_generation(config.storage, name) if config.storage else 0)
    generation = next_generation(known, time.time())
    undone = "" if old is None or source is None else _undone(old, head)
    rescued = last.file
    if rescued is None and old is not None and source is None:
        rescued = _rescue(old, last.data)
    plan = Plan(name, uuid.uuid4().hex, secrets.token_bytes(32), config, generation, rescued=rescued)
    seed = state.moved_to(plan.ensemble)
    detach(name)
    try:
        # Whoever finds the old one half stopped finds by its plan where its state is.
        _take_over(plan, None if old is None else msgspec.structs.replace(old, rescued=rescued), seed, until_s)
    except BaseException as error:
        if rescued is None:
            raise
        said = f"The state to go on from is kept in {rescued}: call concoord.recover({name!r}) again."
        if not isinstance(error, Exception):
            logger.critical("the recovery of %r was cut short. %s", name, said)
            raise
        raise ConfigurationError(f"{error} {said}") from error
    if rescued is not None:
        _discard(rescued)
    logger.warning(
        "%r was recovered from %s, as it was at slot %d: whatever was acknowledged after that is lost%s.",
        name,
        last.origin,
        head.next_slot,
        undone,
    )
    return Ensemble(plan)


def _take_over(plan: Plan, old: Plan | None, seed: bytes, until_s: float) -> None:
    """Have the ensemble of this plan hold the name, begun with the seed."""
    if old is not None:
        destroy(old, plan)
    held = genesis.find_holder(plan.name)
    is_ours = held.plan is not None and held.plan.life == plan.life
    if not is_ours and not genesis.propose_plan(plan, held):
        raise ConfigurationError(
            f"Somebody else has just started or recovered an ensemble called {plan.name!r}. Look at it first."
        )
    build(plan, until_s, seed)
    attachment_to(plan.name, plan.ensemble, plan.life).client.wait_until_open(max(1.0, until_s - time.monotonic()))


def _rescue(old: Plan, data: bytes) -> Rescued:
    """Write the last state of an ensemble that is to be stopped where it can be found again."""
    storage = Path(old.config.storage) if old.config.storage else None
    with machine_faults(storage or Path(tempfile.gettempdir())):
        if storage is not None and storage.is_dir():
            make_directory(storage / old.name)
            directory = tempfile.mkdtemp(prefix="recovery-", dir=storage / old.name)
        else:  # Also if this machine is none of those that have the data.
            directory = tempfile.mkdtemp(prefix="concoord-recovery-")
    path = Path(directory, _FILE_NAME)
    write_file(path, data, ensemble=old.ensemble, slot=snapshot_header(data).next_slot)
    return Rescued(socket.gethostname(), str(path))


def _discard(rescued: Rescued) -> None:
    path = Path(rescued.path)
    try:
        path.unlink()
        path.parent.rmdir()
    except OSError as error:
        logger.warning("%s is not needed any more, and could not be deleted: %s", rescued, error)


def checked_source(source: str | Path) -> Path:
    """The path of a backup. Raises ConfigurationError if there is no such file."""
    if not isinstance(source, (str, Path)):
        raise ConfigurationError(f"source={source!r}: give the path of a file that concoord.backup() wrote.")
    path = Path(source)
    if path.is_dir():
        raise ConfigurationError(f"source={str(source)!r}: this is a directory. Give a file that backup() wrote.")
    if not path.exists():
        raise ConfigurationError(f"source={str(source)!r}: there is no such file on this machine.")
    return path


def _undone(old: Plan, head: Header) -> str:
    """What a state from a file undoes of the ensemble that it replaces, as far as anybody there can say."""
    reached = max((replica.applied_slot or 0 for replica in gather_status(old).replicas if replica.alive), default=0)
    if reached == 0:
        return ""
    if head.ensemble != old.ensemble:
        return f"; the ensemble that it replaces, which is not the one of the file, was at slot {reached}"
    return f"; the ensemble that it replaces was {max(0, reached - head.next_slot)} slots further, at slot {reached}"


def _last_state(old: Plan | None, name: str, source: str | Path | None, until_s: float) -> _State:
    if source is not None:
        return _State(read_file(checked_source(source))[1], f"the backup {source}")
    if old is None:
        raise ConfigurationError(f"There is no ensemble called {name!r} to recover: give source=, a backup's file.")
    found = gather_status(old)
    if found.has_diverged:
        said = next(replica.fault for replica in found.replicas if replica.alive and replica.fault is not None)
        raise ConfigurationError(
            f"The replicas of {name!r} have diverged, so no state that is left is known to be right: give source=, a "
            f"backup's file. What they say: {said}"
        )
    if found.is_healthy and not genesis.find_holder(name).is_ending:  # Else it is about to be no more.
        raise ConfigurationError(f"The ensemble {name!r} has a majority and a leader: there is nothing to recover.")
    return _furthest_state(old, found, until_s)


def _furthest_state(old: Plan, found: EnsembleStatus, until_s: float) -> _State:
    """The state that has come furthest: of the replicas that live, that have left, or of an earlier recovery."""
    states = [*_states_of_those_that_left(old, found, until_s), *_rescued_states(old)]
    best = max(states, key=lambda state: snapshot_header(state.data).next_slot, default=None)
    living = [(replica.index, replica.applied_slot) for replica in _living(found) if replica.applied_slot]
    if best is not None and all(slot <= snapshot_header(best.data).next_slot for _, slot in living):
        return best
    if not living:
        why = "No replica of {name!r} lives and knows anything"
        if old.generation and genesis.find_view(old) is None:
            why = "A recovery of the ensemble {name!r} from a backup has not come to its end"
        raise ConfigurationError(f"{why.format(name=old.name)}: give source=, a backup's file.")
    index, data = _state_of_any(old, living, until_s)
    return _State(data, f"replica {index}")


def _rescued_states(old: Plan) -> list[_State]:
    """What an earlier recovery has kept that has not come to its end."""
    if old.rescued is None:
        return []
    if not Path(old.rescued.path).is_file():
        raise ConfigurationError(
            f"A recovery of the ensemble {old.name!r} has not come to its end, and its state is in {old.rescued}, "
            f"which is not on this machine. Call recover() there, or copy the file and give its path as source=."
        )
    data = read_file(Path(old.rescued.path))[1]
    return [_State(data, f"what an earlier recovery had kept in {old.rescued}", old.rescued)]


def _states_of_those_that_left(old: Plan, found: EnsembleStatus, until_s: float) -> list[_State]:
    """The states of replicas that have left for a fault, as far as they can give them."""
    states = []
    for replica in found.replicas:
        if replica.fault is None or replica.alive:
            continue
        patience_s = min(_FAULTY_ANSWERS_S, max(1.0, until_s - time.monotonic()))
        try:
            data = actors.snapshot_of(old, replica.index, 0, patience_s)
        except (ConcoordError, ray.exceptions.RayError) as error:
            logger.warning("replica %d of %r, which has left, gives no state: %s", replica.index, old.name, error)
        else:
            states.append(_State(data, f"replica {replica.index}, which has left"))
    return states


def _living(found: EnsembleStatus) -> list[MemberStatus]:
    """The replicas that live, the furthest first."""
    living = [replica for replica in found.replicas if replica.alive]
    return sorted(living, key=lambda replica: replica.applied_slot or 0, reverse=True)


def _state_of_any(plan: Plan, replicas: Sequence[tuple[int, int]], until_s: float) -> tuple[int, bytes]:
    """Index and state of the first of some replicas that gives it, each with the effects of all below its slot.

    Each has its share of the time that is left. Raises CallTimeout, or SnapshotFailed if the state is the reason.
    """
    refusals = []
    for position, (index, slot) in enumerate(replicas):
        share_s = max(1.0, (until_s - time.monotonic()) / (len(replicas) - position))
        try:
            return index, actors.snapshot_of(plan, index, slot, share_s)
        except SnapshotFailed:
            raise
        except (ConcoordError, ray.exceptions.RayError) as error:
            refusals.append(f"replica {index}: {error}")
            logger.warning("replica %d of %r, at slot %d, gives no state: %s", index, plan.name, slot, error)
    raise CallTimeout(
        f"No replica of {plan.name!r} gave its state in time. Try again with a larger timeout_s; concoord.recover() "
        f"also takes a backup's file as source=. {'; '.join(refusals)}"
    )

"""Ensembles: started, looked at, stopped.

Starting is idempotent and may be done by several processes at once: the plan is decided by one put-if-absent, actors
are created if they do not exist, and the first view is decided by another put-if-absent, so that whoever helps, and
whoever dies half-way, one ensemble comes of it.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import time
import uuid
from pathlib import Path
from typing import Any

import ray

from concoord_ray import actors, genesis
from concoord_ray.attach import ask, attachment_to, detach
from concoord_ray.building import build, destroy
from concoord_ray.config import Config
from concoord_ray.errors import ConfigurationError, QuorumLost
from concoord_ray.genesis import Plan
from concoord_ray.handle import Handle
from concoord_ray.resizing import resize
from concoord_ray.restart import find_data, last_generation, next_generation, prepare
from concoord_ray.rsm.command import Delete, ListObjects, Lookup, ObjectInfo
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.snapshot import Header
from concoord_ray.rsm.snapshot import header as snapshot_header
from concoord_ray.status import EnsembleStatus, gather_status
from concoord_ray.storage.snapshots import checked_target, read_file, write_file

logger = logging.getLogger(__name__)

DEFAULT_ENSEMBLE = "default"
#: How long one that has left for a fault may take to give its state.
_FAULTY_ANSWERS_S = 10.0
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Ensemble:
    """An ensemble that runs. It outlives this process as long as Ray does."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def __repr__(self) -> str:
        return f"<concoord ensemble {self.name!r} {self._plan.ensemble}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._plan.name

    @property
    def id(self) -> str:
        """Its identity, which is never used again, not by an ensemble of the same name either."""
        return self._plan.ensemble

    @property
    def config(self) -> Config:
        """Its settings."""
        return self._plan.config

    def status(self) -> EnsembleStatus:
        """See ``concoord.status``."""
        return status(self.name)

    def resize(
        self, *, replicas: int | None = None, acceptors: int | None = None, timeout_s: float = 120.0
    ) -> EnsembleStatus:
        """Change how many acceptors and replicas there are, while calls go on; returns when it has happened.

        A number that is not given stays what it was to be, also if an earlier resizing was cut short.
        A view change does it: the first majority agrees to the next view, and from then on only that one's counts.
        Actors of members that are no more are stopped. Raises ConfigurationError for numbers that cannot be, or if
        Ray cannot place the new members: then nothing has changed. Raises CallTimeout if it takes longer than
        ``timeout_s``: then the ensemble goes on towards the new size by itself, unless another resizing was under way
        all that time, as the error says: one waits for the other. Safe to repeat.
        """
        return resize(self._plan, replicas, acceptors, timeout_s)

    def shutdown(self) -> None:
        """See ``concoord.shutdown``."""
        shutdown(self.name)


def init(
    name: str = DEFAULT_ENSEMBLE,
    *,
    replicas: int = 3,
    acceptors: int = 3,
    registries: int = 1,
    storage: str | Path | None = None,
    placement: str = "SPREAD",
    session_ttl_s: float = 10.0,
    timeout_s: float = 120.0,
    **settings: Any,
) -> Ensemble:
    """Start the ensemble called ``name``, or attach to it if it runs already (its own settings hold then).

    ``acceptors`` remember, and any minority of them may die; ``replicas`` execute, and all but one may die.
    With ``storage``, a directory on the disk of every node, everything is kept there before it is acknowledged: after
    all of the actors, and all of Ray, have stopped, the same call starts the ensemble again as it was, on the nodes
    that have its data: it waits for as many of these nodes as it cannot do without. If none of them is up, nothing
    says that there was an ensemble before, and an empty one begins; so start Ray everywhere first. Never restore or
    copy an acceptor's directory: one that has forgotten what it promised undoes what was decided. Delete it instead,
    and a view change lets a new acceptor in. Without ``storage``, a majority of the acceptors and one replica have to
    stay alive.
    ``placement`` is the placement group's strategy: ``SPREAD`` works on one machine, ``STRICT_SPREAD`` insists on a
    node for each. Of members that were started from their data, or by ``resize``, two may still meet on one node when
    one machine after the other is lost, since Ray only keeps them off the nodes of that time; ``status`` shows it. A
    process that is silent for ``session_ttl_s`` loses what it holds. ``settings`` are fields of
    ``concoord_ray.config.Config``. Starts Ray, if this process has not, as Ray's own calls do.

    Raises ConfigurationError if the settings cannot work, or if within ``timeout_s`` the members cannot be placed or
    too few of the nodes with its data are there. Safe to call again, from anywhere.
    """
    config = _config(
        replicas=replicas,
        acceptors=acceptors,
        registries=registries,
        placement=placement,
        storage=storage,
        session_ttl_s=session_ttl_s,
        **settings,
    )
    _check_name(name)
    if not ray.is_initialized():
        ray.init()
    until_s = time.monotonic() + timeout_s
    _await_end(name, until_s)
    found = find_data(config.storage, name, until_s) if config.storage else None
    if found is not None:
        prepare(found)
    fresh = Plan(name, uuid.uuid4().hex, secrets.token_bytes(32), config)
    plan, is_ours = genesis.propose_plan(found.plan if found is not None else fresh)
    places = genesis.find_places(plan)
    try:
        if places is not None or genesis.find_view(plan) is None:
            build(plan, until_s, places or {})
            genesis.erase_places(plan)
    except BaseException:
        if is_ours and (places is not None or genesis.find_view(plan) is None):
            destroy(plan)
        raise
    attachment_to(name, plan.ensemble).client.wait_until_open(max(1.0, until_s - time.monotonic()))
    return Ensemble(plan)


def _await_end(name: str, until_s: float) -> None:
    """If somebody is just stopping the ensemble of that name, wait until it is gone."""
    while (plan := genesis.find_plan(name)) is not None and genesis.is_ending(plan):
        if time.monotonic() > until_s:
            raise ConfigurationError(
                f"The ensemble {name!r} is being stopped, and is not gone yet. If whoever stops it has died, call "
                f"concoord.shutdown({name!r}) again."
            )
        time.sleep(0.1)


def shutdown(name: str = DEFAULT_ENSEMBLE) -> None:
    """Stop the ensemble. No effect if there is none.

    Everything in it is gone, unless it has ``storage``: there its data stay, and ``init`` starts it again from them.
    Delete the directory ``<storage>/<name>`` on every node to be rid of it.
    """
    if not ray.is_initialized():
        return
    detach(name)
    plan = genesis.find_plan(name)
    if plan is not None:
        destroy(plan)


def status(name: str = DEFAULT_ENSEMBLE) -> EnsembleStatus:
    """Who is in the ensemble and how each member does. Works while members are dead; takes about a second then."""
    plan = genesis.find_plan(name) if ray.is_initialized() else None
    if plan is None:
        attachment_to(name)  # Says why there is none.
        raise ConfigurationError(f"There is no ensemble called {name!r}.")
    return gather_status(plan)


def get(name: str, *, ensemble: str = DEFAULT_ENSEMBLE) -> Handle[Any]:
    """The handle of the object called ``name``. Raises NoSuchObject if there is none. Linearizable, safe to retry."""
    attachment, info = ask(ensemble, Lookup(name))
    return Handle(ensemble, attachment.plan.ensemble, info)


def list_objects(*, ensemble: str = DEFAULT_ENSEMBLE) -> list[str]:
    """The names of all named objects, in order of creation. Linearizable, safe to retry."""
    found: list[ObjectInfo] = ask(ensemble, ListObjects())[1]
    return [info.name for info in found if info.name is not None]


def delete(target: str | Handle[Any], *, ensemble: str = DEFAULT_ENSEMBLE) -> None:
    """Delete an object, by name or handle. Calls that wait in it fail with NoSuchObject, as every later one.

    Raises NoSuchObject if there is none.
    """
    handle = get(target, ensemble=ensemble) if isinstance(target, str) else target
    handle.concoord_attachment().client.call(Delete(handle.concoord_reference()[1]))


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"name={name!r}: use 1 to 64 letters, digits, dots, dashes and underscores.")


def _directory(storage: Any) -> str:
    if storage in (None, ""):
        return ""
    if not isinstance(storage, (str, Path)):
        raise ConfigurationError(f"storage={storage!r}: give the path of a directory, or None to keep all in memory.")
    storage = str(storage)
    if "://" in storage:
        raise ConfigurationError(f"storage={storage!r}: give a directory on the disk of every node, not an address.")
    return str(Path(storage).expanduser().absolute())


def _config(**settings: Any) -> Config:
    unknown = sorted(settings.keys() - set(Config.__struct_fields__))
    if unknown:
        raise ConfigurationError(
            f"init() has no setting {', '.join(unknown)}. The settings are: {', '.join(Config.__struct_fields__)}."
        )
    if "storage" in settings:
        settings["storage"] = _directory(settings["storage"])
    for field, value in settings.items():
        default = getattr(Config(), field)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            settings[field] = float(value)
        elif type(value) is not type(default):
            raise ConfigurationError(f"{field}={value!r}: give a value of type {type(default).__name__}.")
    return Config(**settings)


def backup(path: str | Path, name: str = DEFAULT_ENSEMBLE, *, timeout_s: float = 120.0) -> int:
    """Write the state of the whole ensemble to a file of this process's machine, while calls go on.

    It holds everything that was acknowledged before this call; the number returned is the first slot of the log that is
    not in it. The file is there as a whole or not at all, and has a checksum. Safe to repeat. Raises
    ConfigurationError, before the state is asked for, if there can be no file at ``path``.
    """
    target = checked_target(path)
    attachment_to(name).client.call(ListObjects(), readonly=True)  # From here on we know what has to be in it.
    found = status(name)
    if found.leader is None or found.leader.applied_slot is None:
        raise QuorumLost(f"Nobody leads the ensemble {name!r} at the moment. Try again a little later.")
    alive = {replica.index: replica.applied_slot or 0 for replica in found.replicas if replica.alive}
    others = {index: slot for index, slot in alive.items() if index != found.leader.index} or alive
    plan = attachment_to(name).plan
    # One that was deposed may say that it leads, and not know of the latest: what anybody has executed has to be in it.
    data = actors.snapshot_of(plan, max(others, key=others.__getitem__), max(alive.values()), timeout_s)
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
    the file, and the warning says how much further it was.
    """
    _check_name(name)
    if not ray.is_initialized():
        ray.init()
    until_s = time.monotonic() + timeout_s
    old = genesis.find_plan(name)
    data, origin = _last_state(old, name, source, timeout_s)
    head = snapshot_header(data)
    state = Executor(head.ensemble)
    state.restore(data)  # Which shows, before anything is stopped, that it can be.
    config = old.config if old is not None and not settings else _config(**settings)
    known = [state.generation, 0 if old is None else old.generation]
    known.append(last_generation(config.storage, name) if config.storage else 0)
    generation = next_generation(known, time.time())
    plan = Plan(name, uuid.uuid4().hex, secrets.token_bytes(32), config, generation)
    seed = state.moved_to(plan.ensemble)
    undone = "" if old is None or source is None else _undone(old, head)
    detach(name)
    if old is not None:
        destroy(old)
    if not genesis.propose_plan(plan)[1]:
        raise ConfigurationError(f"Somebody else has just started an ensemble called {name!r}. Look at it first.")
    build(plan, until_s, {}, seed)
    attachment_to(name, plan.ensemble).client.wait_until_open(max(1.0, until_s - time.monotonic()))
    logger.warning(
        "%r was recovered from %s, as it was at slot %d: whatever was acknowledged after that is lost%s.",
        name,
        origin,
        head.next_slot,
        undone,
    )
    return Ensemble(plan)


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


def _last_state(old: Plan | None, name: str, source: str | Path | None, timeout_s: float) -> tuple[bytes, str]:
    """A snapshot to begin again with, and where it is from."""
    if source is not None:
        return read_file(checked_source(source))[1], f"the backup {source}"
    if old is None:
        raise ConfigurationError(f"There is no ensemble called {name!r} to recover: give source=, a backup's file.")
    found = gather_status(old)
    if found.has_diverged:
        said = next(replica.fault for replica in found.replicas if replica.alive and replica.fault is not None)
        raise ConfigurationError(
            f"The replicas of {name!r} have diverged, so no state that is left is known to be right: give source=, a "
            f"backup's file. What they say: {said}"
        )
    if found.is_healthy:
        raise ConfigurationError(f"The ensemble {name!r} has a majority and a leader: there is nothing to recover.")
    furthest = max((r for r in found.replicas if r.alive), key=lambda r: r.applied_slot or 0, default=None)
    reached = 0 if furthest is None else furthest.applied_slot or 0
    for replica in found.replicas:
        if replica.fault is not None and not replica.alive:
            with contextlib.suppress(ray.exceptions.RayError):  # It has not come as far, or it cannot answer any more.
                data = actors.snapshot_of(old, replica.index, reached, min(timeout_s, _FAULTY_ANSWERS_S))
                return data, f"replica {replica.index}, which has left"
    if furthest is None or not furthest.applied_slot:
        raise ConfigurationError(f"No replica of {name!r} lives and knows anything: give source=, a backup's file.")
    data = actors.snapshot_of(old, furthest.index, furthest.applied_slot, timeout_s)
    return data, f"replica {furthest.index}"

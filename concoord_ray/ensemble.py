"""Ensembles: started, looked at, stopped. Those that have lost too much to go on are for ``recovery``.

Starting is idempotent and may be done by several processes at once: the plan is decided by ``genesis``, actors are
created if they do not exist, and the first view is decided by one put-if-absent, so that whoever helps, and whoever
dies half-way, one ensemble comes of it. Whoever has started any of it stops all of it if it is given up meanwhile.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
import uuid
from pathlib import Path
from typing import Any

import ray

from concoord_ray import genesis
from concoord_ray.attach import ask, attachment_to, detach
from concoord_ray.building import build, destroy
from concoord_ray.config import Config
from concoord_ray.errors import ConfigurationError
from concoord_ray.genesis import Holder, Plan
from concoord_ray.handle import Handle
from concoord_ray.resizing import resize
from concoord_ray.restart import find_data, prepare
from concoord_ray.rsm.command import Delete, ListObjects, Lookup, ObjectInfo
from concoord_ray.status import EnsembleStatus, gather_status

logger = logging.getLogger(__name__)

DEFAULT_ENSEMBLE = "default"
_LOOK_AGAIN_S = 0.1
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

    Raises ConfigurationError if the settings cannot work, or if within ``timeout_s`` the members cannot be placed, too
    few of the nodes with its data are there, or a recovery of it has not ended. Safe to call again, from anywhere.
    """
    config = config_of(
        replicas=replicas,
        acceptors=acceptors,
        registries=registries,
        placement=placement,
        storage=storage,
        session_ttl_s=session_ttl_s,
        **settings,
    )
    check_name(name)
    if not ray.is_initialized():
        ray.init()
    until_s = time.monotonic() + timeout_s
    plan, is_ours = _begun(name, config, until_s)
    if not genesis.is_running(plan):
        try:
            build(plan, until_s)
        except BaseException:
            if is_ours and genesis.give_up(plan):  # Unless others have finished it.
                destroy(plan)
            raise
    attachment_to(name, plan.ensemble, plan.life).client.wait_until_open(max(1.0, until_s - time.monotonic()))
    return Ensemble(plan)


def _begun(name: str, config: Config, until_s: float) -> tuple[Plan, bool]:
    """The plan that holds the name: somebody else's; or one from data, or else a new one, that is proposed here."""
    while True:
        held = _await_end(name, until_s)
        if held.plan is not None:
            return held.plan, False
        found = find_data(config.storage, name, until_s) if config.storage else None
        if found is not None:
            prepare(found)
        plan = Plan(name, uuid.uuid4().hex, secrets.token_bytes(32), config) if found is None else found.plan
        if genesis.propose_plan(plan, held):
            return plan, True
        genesis.forget_start(plan)  # Somebody was faster, and the data may have changed since they were looked at.


def _await_end(name: str, until_s: float) -> Holder:
    """What holds the name, once nobody is just stopping it."""
    while (held := genesis.find_holder(name)).is_ending:
        if time.monotonic() > until_s:
            rescued = None if held.plan is None else held.plan.rescued
            if rescued is not None:
                raise ConfigurationError(
                    f"The ensemble {name!r} is being stopped for a recovery, which has not ended. Its state is in "
                    f"{rescued}. If whoever recovers it has died, call concoord.recover({name!r}) there; or "
                    f"concoord.shutdown({name!r}), if that state is not needed."
                )
            raise ConfigurationError(
                f"The ensemble {name!r} is being stopped, and is not gone yet. If whoever stops it has died, call "
                f"concoord.shutdown({name!r}) again."
            )
        time.sleep(_LOOK_AGAIN_S)
    return held


def shutdown(name: str = DEFAULT_ENSEMBLE) -> None:
    """Stop the ensemble. No effect if there is none.

    Everything in it is gone, unless it has ``storage``: there its data stay, and ``init`` starts it again from them.
    Delete the directory ``<storage>/<name>`` on every node to be rid of it.
    """
    if not ray.is_initialized():
        return
    detach(name)
    plan = genesis.find_plan(name)
    if plan is None:
        return
    destroy(plan)
    if plan.rescued is not None:
        text = "a recovery of %r had not ended: its state stays in %s, and recover() takes that file as source="
        logger.warning(text, name, plan.rescued)


def status(name: str = DEFAULT_ENSEMBLE) -> EnsembleStatus:
    """Who is in the ensemble and how each member does. Works while members are dead; takes about a second then."""
    plan = genesis.find_plan(name) if ray.is_initialized() else None
    if plan is None:
        attachment_to(name)  # Says why there is none.
        raise ConfigurationError(f"There is no ensemble called {name!r}.")
    return gather_status(plan)


def get(name: str, *, ensemble: str = DEFAULT_ENSEMBLE) -> Handle[Any]:
    """The handle of the object called ``name``. Raises NoSuchObject if there is none. Linearizable, safe to retry."""
    checked_object_name(name)
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
    handle = target if isinstance(target, Handle) else get(target, ensemble=ensemble)
    handle.concoord_attachment().client.call(Delete(handle.concoord_reference()[1]))


def check_name(name: Any) -> None:
    """Raises ConfigurationError unless an ensemble may be called so."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"name={name!r}: use 1 to 64 letters, digits, dots, dashes and underscores.")


def checked_object_name(name: Any) -> str:
    """The name. Raises ConfigurationError if no object may be called so."""
    if not name or not isinstance(name, str):
        raise ConfigurationError(f"name={name!r}: an object's name is a string with at least one character.")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"name={name!r}: there is no such text: {error}.") from error
    return name


def _directory(storage: Any) -> str:
    if storage in (None, ""):
        return ""
    if not isinstance(storage, (str, Path)):
        raise ConfigurationError(f"storage={storage!r}: give the path of a directory, or None to keep all in memory.")
    storage = str(storage)
    if "://" in storage:
        raise ConfigurationError(f"storage={storage!r}: give a directory on the disk of every node, not an address.")
    return str(Path(storage).expanduser().absolute())


def config_of(**settings: Any) -> Config:
    """The settings as they were given to ``init``, the rest as it is by default. Raises ConfigurationError."""
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

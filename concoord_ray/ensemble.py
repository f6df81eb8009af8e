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
from typing import Any

import ray

from concoord_ray import actors, genesis
from concoord_ray.attach import attachment_to, detach
from concoord_ray.config import Config
from concoord_ray.directory import MemberReport
from concoord_ray.errors import ConfigurationError
from concoord_ray.genesis import NAMESPACE, Plan
from concoord_ray.handle import Handle
from concoord_ray.paxos.view import Role, View
from concoord_ray.rsm.command import Delete, ListObjects, Lookup, ObjectInfo
from concoord_ray.status import EnsembleStatus, gather_status

logger = logging.getLogger(__name__)

DEFAULT_ENSEMBLE = "default"
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

    def shutdown(self) -> None:
        """See ``concoord.shutdown``."""
        shutdown(self.name)


def init(
    name: str = DEFAULT_ENSEMBLE,
    *,
    replicas: int = 3,
    acceptors: int = 3,
    registries: int = 1,
    storage: str | None = None,
    placement: str = "SPREAD",
    session_ttl_s: float = 10.0,
    timeout_s: float = 120.0,
    **settings: Any,
) -> Ensemble:
    """Start the ensemble called ``name``, or attach to it if it runs already (its own settings hold then).

    ``acceptors`` remember, and any minority of them may die; ``replicas`` execute, and all but one may die.
    ``placement`` is the placement group's strategy: ``SPREAD`` works on one machine, ``STRICT_SPREAD`` insists on a
    node for each. A process that is silent for ``session_ttl_s`` loses what it holds. ``settings`` are fields of
    ``concoord_ray.config.Config``. Starts Ray, if this process has not, as Ray's own calls do.

    Raises ConfigurationError if the settings cannot work or the members cannot be placed within ``timeout_s``. Safe to
    call again, from anywhere.
    """
    if storage is not None:
        raise ConfigurationError(
            f"storage={storage!r}: this version keeps ensembles in memory only. Leave storage out; a majority of the "
            f"acceptors and one replica must then stay alive."
        )
    config = _config(
        replicas=replicas,
        acceptors=acceptors,
        registries=registries,
        placement=placement,
        session_ttl_s=session_ttl_s,
        **settings,
    )
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"name={name!r}: use 1 to 64 letters, digits, dots, dashes and underscores.")
    if not ray.is_initialized():
        ray.init()
    proposed = Plan(name, uuid.uuid4().hex, secrets.token_bytes(32), config)
    plan, is_ours = genesis.propose_plan(proposed)
    until_s = time.monotonic() + timeout_s
    try:
        if genesis.find_view(plan) is None:
            _build(plan, until_s)
    except BaseException:
        if is_ours and genesis.find_view(plan) is None:
            _destroy(plan)
        raise
    attachment_to(name).client.wait_until_open(max(1.0, until_s - time.monotonic()))
    return Ensemble(plan)


def shutdown(name: str = DEFAULT_ENSEMBLE) -> None:
    """Stop the ensemble and forget everything in it. No effect if there is none."""
    if not ray.is_initialized():
        return
    detach(name)
    plan = genesis.find_plan(name)
    if plan is not None:
        _destroy(plan)


def status(name: str = DEFAULT_ENSEMBLE) -> EnsembleStatus:
    """Who is in the ensemble and how each member does. Works while members are dead; takes about a second then."""
    plan = genesis.find_plan(name) if ray.is_initialized() else None
    if plan is None:
        attachment_to(name)  # Says why there is none.
        raise ConfigurationError(f"There is no ensemble called {name!r}.")
    return gather_status(plan)


def get(name: str, *, ensemble: str = DEFAULT_ENSEMBLE) -> Handle[Any]:
    """The handle of the object called ``name``. Raises NoSuchObject if there is none. Linearizable, safe to retry."""
    attachment = attachment_to(ensemble)
    info: ObjectInfo = attachment.client.call(Lookup(name), readonly=True)
    return Handle(ensemble, attachment.plan.ensemble, info)


def list_objects(*, ensemble: str = DEFAULT_ENSEMBLE) -> list[str]:
    """The names of all named objects, in order of creation. Linearizable, safe to retry."""
    found: list[ObjectInfo] = attachment_to(ensemble).client.call(ListObjects(), readonly=True)
    return [info.name for info in found if info.name is not None]


def delete(target: str | Handle[Any], *, ensemble: str = DEFAULT_ENSEMBLE) -> None:
    """Delete an object, by name or handle. Calls that wait in it fail with NoSuchObject, as every later one.

    Raises NoSuchObject if there is none.
    """
    handle = get(target, ensemble=ensemble) if isinstance(target, str) else target
    handle.concoord_attachment().client.call(Delete(handle.concoord_reference()[1]))


def _config(**settings: Any) -> Config:
    unknown = sorted(settings.keys() - set(Config.__struct_fields__))
    if unknown:
        raise ConfigurationError(
            f"init() has no setting {', '.join(unknown)}. The settings are: {', '.join(Config.__struct_fields__)}."
        )
    for field, value in settings.items():
        default = getattr(Config(), field)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            settings[field] = float(value)
        elif type(value) is not type(default):
            raise ConfigurationError(f"{field}={value!r}: give a value of type {type(default).__name__}.")
    return Config(**settings)


def _build(plan: Plan, until_s: float) -> None:
    """Start every actor that is missing, and decide the first view."""
    group = actors.create_group(plan)
    if not group.wait(max(0.1, until_s - time.monotonic())):
        raise ConfigurationError(
            f"Ray could not place the ensemble {plan.name!r} with placement={plan.config.placement} and "
            f"{group.bundle_count} bundles: STRICT_SPREAD needs that many nodes alive. Add nodes, or use "
            f"placement='SPREAD'."
        )
    members = actors.members_of(plan)
    for role, index in members:
        actors.create_role(plan, role, index, group)
    reports: dict[actors.Key, MemberReport] = {}
    while len(reports) < len(members):
        if time.monotonic() > until_s:
            missing = ", ".join(f"{role}{index}" for role, index in members if (role, index) not in reports)
            raise ConfigurationError(
                f"The members {missing} of ensemble {plan.name!r} did not start in time. Ray's log of the actors "
                f"(ray logs actor) says why; is concoord_ray installed on every node?"
            )
        reports = actors.describe(plan, members)

    def incarnations(role: Role) -> tuple[Any, ...]:
        return tuple(reports[key].member for key in members if key[0] is role)

    genesis.propose_view(plan, View(0, incarnations(Role.ACCEPTOR), incarnations(Role.REPLICA)))


def _destroy(plan: Plan) -> None:
    """Kill every actor for good, then remove the group: the other way round they would be restarted for ever."""
    for actor_name in actors.actor_names(plan):
        with contextlib.suppress(ValueError):  # It is gone.
            ray.kill(ray.get_actor(actor_name, namespace=NAMESPACE), no_restart=True)
    with contextlib.suppress(ValueError):  # It was never created.
        ray.util.remove_placement_group(ray.util.get_placement_group(plan.group_name))
    genesis.erase(plan)

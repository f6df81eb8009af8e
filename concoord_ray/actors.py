"""The roles as Ray actors: named, detached, restarted by Ray.

An actor's class is thin on purpose. What it needs to start again anywhere is its inline constructor argument; it loads
the installed package by reference, so that whichever job created it does not decide its code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Union

import msgspec
import ray
from ray.util.placement_group import PlacementGroup
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from concoord_ray import genesis
from concoord_ray.directory import MemberReport
from concoord_ray.errors import ConfigurationError, StorageError
from concoord_ray.genesis import NAMESPACE, Plan
from concoord_ray.net.backoff import Backoff
from concoord_ray.net.identity import Address
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Role, View
from concoord_ray.placement import ROLE_MEMORY_BYTES
from concoord_ray.roles.acceptor import AcceptorRole
from concoord_ray.roles.boot import Boot, Whereabouts
from concoord_ray.roles.gateway import GatewayRole, Parcel
from concoord_ray.roles.node import exit_broken
from concoord_ray.roles.registry import RegistryRole
from concoord_ray.roles.replica import ReplicaRole

#: A member as Ray knows it: by index, gateways by the id of their node.
Key = tuple[Role, Union[int, str]]

_decode_described = msgspec.msgpack.Decoder(Union[MemberReport, str]).decode
decode_parcel = msgspec.msgpack.Decoder(Parcel).decode

AnyRole = Union[AcceptorRole, ReplicaRole, RegistryRole, GatewayRole]
_ROLES: dict[Role, type[AcceptorRole] | type[ReplicaRole] | type[RegistryRole] | type[GatewayRole]] = {
    Role.ACCEPTOR: AcceptorRole,
    Role.REPLICA: ReplicaRole,
    Role.REGISTRY: RegistryRole,
    Role.GATEWAY: GatewayRole,
}
logger = logging.getLogger(__name__)

#: Ray's name for the loop that answers ``describe``.
_STATUS = "status"

#: How long one member may take to say where it is before it is taken for absent.
DESCRIBE_TIMEOUT_S = 1.0

#: Who has left is killed within so many ``close_timeout_s``, by ``stop``, unless that was interrupted.
_KILLED_WITHIN = 5


class RayDiscovery:
    """Implements ``roles.boot.Discovery`` with GCS and named actors, off the role's loop."""

    def __init__(self, boot: Boot) -> None:
        self._plan = Plan(boot.name, boot.ensemble, boot.secret, boot.config, boot.generation, boot.life)

    async def view(self) -> View:
        """See ``Discovery``."""
        config = self._plan.config
        while True:
            try:
                view = await asyncio.to_thread(genesis.find_valid_view, self._plan)
            except Exception as error:  # Whatever Ray raises while its GCS is away.
                logger.warning("cannot ask Ray for the first view (%s); trying again", error)
                await asyncio.sleep(config.report_interval_s)
                continue
            if view is not None:
                return view
            await asyncio.sleep(config.view_poll_interval_s)

    async def registries(self) -> dict[int, tuple[Address, int]]:
        """See ``Discovery``."""
        reports = await asyncio.gather(*map(self._describe, range(self._plan.config.registries)))
        return {r.member.index: (r.address, r.member.incarnation) for r in reports if r is not None}

    async def _describe(self, index: int) -> MemberReport | None:
        try:
            actor = await asyncio.to_thread(
                ray.get_actor, self._plan.actor_name(Role.REGISTRY, index), namespace=NAMESPACE
            )
            encoded = await asyncio.wait_for(actor.describe.remote(), DESCRIBE_TIMEOUT_S)
        except (ValueError, asyncio.TimeoutError, ray.exceptions.RayError):  # Not created yet, or restarting.
            return None
        said = _decode_described(encoded)
        return said if isinstance(said, MemberReport) else None


class Described(NamedTuple):
    """What members say of themselves."""

    reports: dict[Key, MemberReport]
    #: Of those that live and cannot serve, why.
    faults: dict[Key, str]


def describe(plan: Plan, members: Sequence[Key], timeout_s: float = DESCRIBE_TIMEOUT_S) -> Described:
    """Ask members through Ray who and where they are; those that do not answer in time are left out."""
    refs: dict[Any, Key] = {}
    for role, index in members:
        try:
            actor = ray.get_actor(plan.actor_name(role, index), namespace=NAMESPACE)
        except ValueError:  # No such actor: not created yet, or gone for good.
            continue
        refs[actor.describe.remote()] = (role, index)
    described = Described({}, {})
    if not refs:
        return described
    ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=timeout_s)
    for ref in ready:
        try:
            said = _decode_described(ray.get(ref))
        except ray.exceptions.RayActorError:  # It died while it was asked.
            continue
        except ray.exceptions.RayTaskError as error:
            said = str(error.cause)
        if isinstance(said, MemberReport):
            described.reports[refs[ref]] = said
        else:
            described.faults[refs[ref]] = said
    return described


class RoleActor:
    """The Ray actor around one role.

    Ray never again starts an actor whose constructor has raised. So a role that cannot start, for want of a disk above
    all, is started again by its actor, until the machine is mended; meanwhile the actor says what is wrong with it.
    """

    async def __init__(self, boot: bytes) -> None:  # type: ignore[misc]  # Ray awaits it, on the actor's loop.
        level = os.environ.get("CONCOORD_LOG_LEVEL", "WARNING")
        logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        decoded = msgspec.msgpack.decode(boot, type=Boot)
        context = ray.get_runtime_context()
        with warnings.catch_warnings():  # Of what Ray itself uses to answer the last of these.
            warnings.simplefilter("ignore", DeprecationWarning)
            place = Whereabouts(
                str(ray.util.get_node_ip_address()),  # type: ignore[no-untyped-call]
                context.get_node_id(),
                os.getpid(),
                await asyncio.to_thread(lambda: bool(context.was_current_actor_reconstructed)),
            )
        self._role: AnyRole | None = None
        self._has_started = asyncio.Event()
        self._fault = ""
        if not await self._start(decoded, place):
            self._starting = asyncio.get_running_loop().create_task(self._keep_starting(decoded, place))

    async def _start(self, boot: Boot, place: Whereabouts) -> bool:
        try:
            role = _ROLES[boot.role](boot, place, RayDiscovery(boot))
            await role.start()
        except Exception as error:
            is_known = str(error) == self._fault
            self._fault = str(error)
            level = logging.INFO if is_known else logging.CRITICAL
            logger.log(level, "%s %d cannot start, and tries again: %s", boot.role, boot.index, error)
            if not isinstance(error, (StorageError, OSError)):
                logger.log(level, "which is no fault of a disk", exc_info=error)
            return False
        self._role = role
        self._has_started.set()
        return True

    async def _keep_starting(self, boot: Boot, place: Whereabouts) -> None:
        backoff = Backoff(boot.config.disk_retry_s / 8, boot.config.disk_retry_s)
        is_started = False
        while not is_started:
            await asyncio.sleep(backoff.next_s())
            is_started = await self._start(boot, place)
        logger.critical("%s %d has started after all", boot.role, boot.index)

    @ray.method(concurrency_group=_STATUS)
    async def describe(self) -> bytes:
        """Who and where this member is, as an encoded ``MemberReport``, or why it cannot serve, as an encoded text.

        Answered on a loop of its own: user code that holds up the role's loop does not hold up the news of it. Not by
        an exception: of one that nobody waits for any more Ray prints the traceback where everybody sees it.
        """
        if self._role is None:
            return msgspec.msgpack.encode(self._fault)
        if self._role.node.fault is not None:
            return msgspec.msgpack.encode(str(self._role.node.fault))
        return msgspec.msgpack.encode(self._role.node.own_report())

    async def stop(self) -> None:
        """Leave for good: nobody hears of this member any more, though its process takes a while to end.

        Whoever asks for this kills the actor next. If he does not, since he is interrupted or dies, the process ends by
        itself, and Ray starts it again, as a member like any other: one that has left hears nobody, yet has its name.
        """
        if self._role is None:
            return
        node = self._role.node
        late_s = _KILLED_WITHIN * node.boot.config.close_timeout_s
        asyncio.get_running_loop().call_later(
            late_s, exit_broken, node.me, RuntimeError("it has left, and was not killed")
        )
        await self._role.stop()


class ReplicaActor(RoleActor):
    """The Ray actor around a replica."""

    async def snapshot(self, applied_slot: int) -> bytes:
        """See ``ReplicaRole.snapshot``."""
        return await (await self._replica()).snapshot(applied_slot)

    async def seed(self, snapshot: bytes) -> None:
        """See ``ReplicaRole.seed``."""
        await (await self._replica()).seed(snapshot)

    async def _replica(self) -> ReplicaRole:
        await self._has_started.wait()
        if not isinstance(self._role, ReplicaRole):
            raise TypeError("only a replica has a state")
        return self._role


class GatewayActor(RoleActor):
    """The Ray actor that ``.remote()`` runs on."""

    async def call(self, parcel: bytes, *values: Any) -> Any:
        """See ``GatewayRole.call``; ``parcel`` is an encoded ``Parcel``."""
        await self._has_started.wait()
        return await self._gateway().call(decode_parcel(parcel), values)

    async def leave(self) -> None:
        """See ``GatewayRole.leave``."""
        await self._has_started.wait()
        await self._gateway().leave()

    async def alone(self) -> None:
        """See ``GatewayRole.alone``."""
        await self._gateway().alone()

    def _gateway(self) -> GatewayRole:
        if not isinstance(self._role, GatewayRole):
            raise TypeError("only a gateway carries calls")
        return self._role


# Starting and finding them.


def members_of(plan: Plan, size: Size) -> list[tuple[Role, int]]:
    """Every member that has a place in a group."""
    counts = ((Role.ACCEPTOR, size.acceptors), (Role.REPLICA, size.replicas), (Role.REGISTRY, plan.config.registries))
    return [(role, index) for role, count in counts for index in range(count)]


def create_role(plan: Plan, role: Role, index: int, group: PlacementGroup, bundle: int) -> None:
    """Start the actor of a role in a bundle, unless it exists."""
    options = {
        **_options(plan.actor_name(role, index)),
        "scheduling_strategy": PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle),
    }
    actor = _replica_actor if role is Role.REPLICA else _role_actor
    with _without_advice():
        actor.options(**options).remote(msgspec.msgpack.encode(plan.boot(role, index)))


def kill(actor_name: str) -> None:
    """Stop an actor for good."""
    with contextlib.suppress(ValueError):  # It is gone.
        ray.kill(ray.get_actor(actor_name, namespace=NAMESPACE), no_restart=True)


def stop(plan: Plan, members: Sequence[Key]) -> None:
    """Stop members for good, while the others go on.

    They leave before they are killed: a process that is just ending still answers, and who is taken into a view then
    is missing from it at once.
    """
    names = [plan.actor_name(role, index) for role, index in members]
    leaving = []
    for name in names:
        with contextlib.suppress(ValueError):  # It is gone.
            leaving.append(ray.get_actor(name, namespace=NAMESPACE).stop.remote())
    if leaving:
        ray.wait(leaving, num_returns=len(leaving), timeout=plan.config.close_timeout_s)
    for name in names:
        kill(name)


def snapshot_of(plan: Plan, index: int, applied_slot: int, timeout_s: float) -> bytes:
    """A snapshot of a replica that has the effects of every slot below this one. Raises ``RayError`` if it has none in
    time, ConfigurationError if there is no such replica.
    """
    try:
        actor = ray.get_actor(plan.actor_name(Role.REPLICA, index), namespace=NAMESPACE)
    except ValueError as error:
        raise ConfigurationError(f"Replica {index} of the ensemble {plan.name!r} is gone.") from error
    data: bytes = ray.get(actor.snapshot.remote(applied_slot), timeout=timeout_s)
    return data


def seed(plan: Plan, size: Size, snapshot: bytes, timeout_s: float) -> None:
    """Let every replica start from this state; before the first view is decided. Raises ConfigurationError."""
    held = ray.put(snapshot)
    names = [plan.actor_name(Role.REPLICA, index) for index in range(size.replicas)]
    try:
        ray.get([ray.get_actor(name, namespace=NAMESPACE).seed.remote(held) for name in names], timeout=timeout_s)
    except (ValueError, ray.exceptions.RayError) as error:  # One that is gone, dies, takes too long, or has no room.
        raise ConfigurationError(
            f"Not every replica of {plan.name!r} has taken the state to begin with, within {timeout_s:.0f} s: {error}"
        ) from error


def gateway_on(plan: Plan, node_id: str) -> Any:
    """The gateway of a node: the handle of its actor, which is started if there is none."""
    options = {
        **_options(plan.actor_name(Role.GATEWAY, node_id)),
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
        "max_task_retries": -1,
        # Above what it lets in, of both kinds: it refuses calls that Ray would hold back without a word.
        "max_concurrency": 4 * plan.config.max_calls_per_gateway,
    }
    boot = plan.boot(Role.GATEWAY, gateway_index(node_id))
    return _gateway_actor.options(**options).remote(msgspec.msgpack.encode(boot))


def gateway_index(node_id: str) -> int:
    """The index of a node's gateway: some number that is the node's own."""
    return int(node_id[:12], 16)


def gateways_of(plan: Plan) -> list[Key]:
    """The gateways that there are."""
    prefix = plan.actor_name(Role.GATEWAY, "")
    return [(Role.GATEWAY, name.removeprefix(prefix)) for name in actor_names(plan) if name.startswith(prefix)]


def actor_names(plan: Plan) -> list[str]:
    """The names of all actors of the ensemble that Ray knows, gateways too."""
    return [actor_name for actor_name in all_names(plan.name) if plan.has_actor(actor_name)]


def all_names(name: str) -> list[str]:
    """The same for every life of every ensemble that is, or was, called so."""
    found = ray.util.list_named_actors(all_namespaces=True)
    return [a["name"] for a in found if a["namespace"] == NAMESPACE and a["name"].startswith(f"{name}:")]


@contextlib.contextmanager
def _without_advice() -> Iterator[None]:
    """Ray advises against restartable actors in a group that may be removed; ``shutdown`` kills them first."""
    ray_logger = logging.getLogger("ray.actor")
    level = ray_logger.level
    ray_logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray_logger.setLevel(level)


def _options(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": NAMESPACE,
        "get_if_exists": True,
        "lifetime": "detached",
        "max_restarts": -1,
        "num_cpus": 0,
        "memory": ROLE_MEMORY_BYTES,
    }


_remote: Any = ray.remote  # Its types do not know concurrency groups.
_role_actor = _remote(concurrency_groups={_STATUS: 1})(RoleActor)
_replica_actor = _remote(concurrency_groups={_STATUS: 1})(ReplicaActor)
_gateway_actor = _remote(concurrency_groups={_STATUS: 1})(GatewayActor)

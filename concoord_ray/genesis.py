"""The birth certificate of an ensemble, in Ray's own key-value store (GCS).

Two records per ensemble, each written by put-if-absent, which decides between concurrent ``init`` calls: the **plan**
(identity, secret, settings), and the **view** of epoch 0, which names the incarnations that take part. Neither is ever
changed. A third, the **size**, only says which actors there are, and follows every resizing. A fourth, the **places**,
is there while an ensemble is being started again from its data, and says where they are; these three are written before
the plan then, so that whoever finds the plan can go on with the start. A fifth, the **ending**, is there while it is
being stopped, so that nobody begins with it any more, and whoever stops it can be followed by another who goes on.
Every call here is synchronous and goes to GCS: never make one on a role's event loop.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from ray.experimental import internal_kv

from concoord_ray.config import Config
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Role, View
from concoord_ray.roles.boot import Boot

#: Ray's namespace for every actor and record of every ensemble of a cluster.
NAMESPACE = "concoord"
_KV = NAMESPACE.encode()


class Plan(msgspec.Struct, frozen=True):
    """What is decided before the first actor starts."""

    name: str
    ensemble: str
    secret: bytes
    config: Config
    #: When it was recovered, in seconds of wall time; 0 if it was not. Fencing tokens of a later one are all higher.
    generation: int = 0

    def boot(self, role: Role, index: int) -> Boot:
        """What the role at an index is told."""
        return Boot(self.name, self.ensemble, self.secret, self.config, role, index, NAMESPACE, self.generation)

    def actor_name(self, role: Role, index: int | str) -> str:
        """The name of the role's actor in Ray."""
        return f"{self.name}:{self.ensemble}:{role}:{index}"

    @property
    def group_name(self) -> str:
        """The name of the placement group in Ray."""
        return f"concoord:{self.name}:{self.ensemble}"


def find_plan(name: str) -> Plan | None:
    """The plan of the ensemble called ``name``, if there is one."""
    found: bytes | None = internal_kv._internal_kv_get(_plan_key(name), namespace=_KV)
    return None if found is None else msgspec.msgpack.decode(found, type=Plan)


def propose_plan(plan: Plan) -> tuple[Plan, bool]:
    """The plan that holds, and whether it is the proposed one: whoever comes first decides."""
    key, proposed = _plan_key(plan.name), msgspec.msgpack.encode(plan)
    existed = internal_kv._internal_kv_put(key, proposed, overwrite=False, namespace=_KV)
    if not existed:
        return plan, True
    return find_plan(plan.name) or plan, False


def find_view(plan: Plan) -> View | None:
    """The view of epoch 0, once it is decided."""
    found: bytes | None = internal_kv._internal_kv_get(_view_key(plan.ensemble), namespace=_KV)
    return None if found is None else msgspec.msgpack.decode(found, type=View)


def propose_view(plan: Plan, view: View) -> None:
    """Decide the view of epoch 0, unless it is decided."""
    internal_kv._internal_kv_put(_view_key(plan.ensemble), msgspec.msgpack.encode(view), overwrite=False, namespace=_KV)


def find_size(plan: Plan) -> Size:
    """How many acceptors and replicas have actors."""
    found: bytes | None = internal_kv._internal_kv_get(_size_key(plan.ensemble), namespace=_KV)
    first = Size(plan.config.acceptors, plan.config.replicas)
    return first if found is None else msgspec.msgpack.decode(found, type=Size)


def put_size(plan: Plan, size: Size) -> None:
    """Say which actors there are from now on."""
    internal_kv._internal_kv_put(_size_key(plan.ensemble), msgspec.msgpack.encode(size), overwrite=True, namespace=_KV)


def put_places(plan: Plan, nodes: Mapping[int, str]) -> None:
    """Say on which nodes the data of each index are."""
    encoded = msgspec.msgpack.encode(nodes)
    internal_kv._internal_kv_put(_places_key(plan.ensemble), encoded, overwrite=True, namespace=_KV)


def find_places(plan: Plan) -> dict[int, str] | None:
    """On which nodes the data of each index are, None unless the ensemble is being started again."""
    found: bytes | None = internal_kv._internal_kv_get(_places_key(plan.ensemble), namespace=_KV)
    return None if found is None else msgspec.msgpack.decode(found, type=dict[int, str])


def erase_places(plan: Plan) -> None:
    """Everything of the ensemble has started."""
    internal_kv._internal_kv_del(_places_key(plan.ensemble), namespace=_KV)


def mark_ending(plan: Plan) -> None:
    """From now on the ensemble is being stopped."""
    internal_kv._internal_kv_put(_ending_key(plan.ensemble), b"", overwrite=True, namespace=_KV)


def is_ending(plan: Plan) -> bool:
    """Whether the ensemble is being stopped."""
    return bool(internal_kv._internal_kv_exists(_ending_key(plan.ensemble), namespace=_KV))


def erase_ending(plan: Plan) -> None:
    """The ensemble is not being stopped: nothing of it runs, or it is to begin."""
    internal_kv._internal_kv_del(_ending_key(plan.ensemble), namespace=_KV)


def plan_names() -> list[str]:
    """The names of all ensembles of the cluster."""
    prefix = _plan_key("")
    return sorted(key[len(prefix) :].decode() for key in internal_kv._internal_kv_list(prefix, namespace=_KV))


def erase(plan: Plan) -> None:
    """Forget an ensemble; not another that has its name by now, since several may stop it at once."""
    erase_places(plan)
    internal_kv._internal_kv_del(_size_key(plan.ensemble), namespace=_KV)
    internal_kv._internal_kv_del(_view_key(plan.ensemble), namespace=_KV)
    erase_ending(plan)  # With its data it may be back one day.
    found = find_plan(plan.name)
    if found is not None and found.ensemble == plan.ensemble:
        internal_kv._internal_kv_del(_plan_key(plan.name), namespace=_KV)


def _plan_key(name: str) -> bytes:
    return f"plan:{name}".encode()


def _size_key(ensemble: str) -> bytes:
    return f"size:{ensemble}".encode()


def _places_key(ensemble: str) -> bytes:
    return f"places:{ensemble}".encode()


def _ending_key(ensemble: str) -> bytes:
    return f"ending:{ensemble}".encode()


def _view_key(ensemble: str) -> bytes:
    return f"view:{ensemble}".encode()

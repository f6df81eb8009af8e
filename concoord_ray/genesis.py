"""What Ray's own key-value store (GCS) knows of ensembles: which holds each name, and how each life of one began.

A **life** of an ensemble is from one start of it to its end. An ensemble with storage may have many, and every start
gives another token to its life. All records and actors of a life have the token in their names, and no token comes
twice: so whoever is late, to stop what has long been stopped or to help with what was given up, touches only what is
dead.

Which life holds a name is a register with compare-and-set, though GCS has only put-if-absent. It is a row of numbered
records, of which the last is what holds. A change is to put the next number, if nobody has; whoever was first then
deletes those before it. No number is ever used again, so a change that was decided on by an older record fails, however
much has happened since. What a record says goes this way and no other::

    nothing ──▶ STARTING ──▶ RUNNING ──▶ ENDING ──▶ nothing, or the STARTING of what takes its place
                    └──────── given up ────▲

So of those who give a start up, and those who finish it, one side wins; between an ensemble and the one that was
recovered from it nobody can begin another; and a last record, that there is nothing, stays of every name.

Three more records belong to a life, and go with it. The **view** of epoch 0, which names the incarnations that take
part, is decided by put-if-absent. The **size** says which actors there are, and follows every resizing. The **places**,
where the data are, are there if the life was started from data. With these the view and the size are written before the
life is proposed, so that whoever finds it can go on with the start. A life that a recovery begins (``generation``) and
that has no view has no state yet, either: only who has the state may decide the view.

Every call here is synchronous and goes to GCS: never make one on a role's event loop.
"""

from __future__ import annotations

import enum
import secrets
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
from ray.experimental import internal_kv

from concoord_ray.config import Config
from concoord_ray.paxos.membership import Size
from concoord_ray.paxos.view import Role, View
from concoord_ray.roles.boot import Boot

#: Ray's namespace for every actor and record of every ensemble of a cluster.
NAMESPACE = "concoord"
_KV = NAMESPACE.encode()
_TOKEN_BYTES = 8


def new_life() -> str:
    """A token that no life has had."""
    return secrets.token_hex(_TOKEN_BYTES)


class Rescued(msgspec.Struct, frozen=True):
    """A state in a file of one machine, that may be nowhere else."""

    host: str
    path: str

    def __str__(self) -> str:
        return f"{self.path} on {self.host}"


class Plan(msgspec.Struct, frozen=True):
    """What is decided of a life before the first actor starts."""

    name: str
    ensemble: str
    secret: bytes
    config: Config
    #: When it was recovered, in seconds of wall time; 0 if it was not. Fencing tokens of a later one are all higher.
    generation: int = 0
    life: str = msgspec.field(default_factory=new_life)
    #: Where its state is while it is nowhere else: it is being recovered, or stopped for a recovery.
    rescued: Rescued | None = None

    def boot(self, role: Role, index: int) -> Boot:
        """What the role at an index is told."""
        return Boot(
            self.name, self.ensemble, self.secret, self.config, role, index, NAMESPACE, self.generation, self.life
        )

    def actor_name(self, role: Role, index: int | str) -> str:
        """The name of the role's actor in Ray."""
        return f"{self.name}:{self.ensemble}:{self.life}:{role}:{index}"

    @property
    def group_name(self) -> str:
        """The name of the placement group in Ray."""
        return f"concoord:{self.name}:{self.ensemble}:{self.life}"

    def has_actor(self, actor_name: str) -> bool:
        """Whether an actor of that name is of this life."""
        return actor_name.startswith(f"{self.name}:{self.ensemble}:{self.life}:")

    def has_group(self, group_name: str) -> bool:
        """Whether a placement group of that name is of this life: the first one, or one for an index."""
        return f"{group_name}:".startswith(f"{self.group_name}:")


class Phase(str, enum.Enum):
    """How far a life has come."""

    STARTING = "starting"
    RUNNING = "running"
    ENDING = "ending"


class _Record(msgspec.Struct, frozen=True, array_like=True):
    plan: Plan
    phase: Phase


class Holder(NamedTuple):
    """What holds a name, at one moment."""

    name: str
    #: Of the record that says so; the next change has the next.
    number: int
    plan: Plan | None = None
    phase: Phase | None = None

    @property
    def is_ending(self) -> bool:
        """Whether it is being stopped."""
        return self.phase is Phase.ENDING


def find_holder(name: str) -> Holder:
    """What holds the name now."""
    while True:
        number = max(_numbers(name), default=0)
        if number == 0:
            return Holder(name, 0)
        found: bytes | None = internal_kv._internal_kv_get(_holder_key(name, number), namespace=_KV)
        if found is None:  # There is a later one by now.
            continue
        record = msgspec.msgpack.decode(found, type=_Record | None)
        return Holder(name, number) if record is None else Holder(name, number, record.plan, record.phase)


def _change(held: Holder, record: _Record | None) -> bool:
    """Put the next record of a name; False if ``held`` is not what holds it any more."""
    number = held.number + 1
    encoded = msgspec.msgpack.encode(record)
    key = _holder_key(held.name, number)
    existed = internal_kv._internal_kv_put(key, encoded, overwrite=False, namespace=_KV)
    # Ray asks again when an answer is lost, and then finds what it has put itself.
    if existed and internal_kv._internal_kv_get(key, namespace=_KV) != encoded:
        return False
    numbers = _numbers(held.name)
    last = max(numbers, default=0)
    for passed in numbers:
        if passed < last:
            internal_kv._internal_kv_del(_holder_key(held.name, passed), namespace=_KV)
    return last == number  # Else there is a later one: this one is passed, or had been before.


def find_plan(name: str) -> Plan | None:
    """The plan of the ensemble called ``name``, if there is one; it may be starting, or ending."""
    return find_holder(name).plan


def propose_plan(plan: Plan, held: Holder) -> bool:
    """Begin a life; False if it is not true any more that nothing holds its name, as ``held`` has it.

    Whoever is slow may have begun it, and see only what others have come to with it since.
    """
    if held.plan is not None:
        return False
    if _change(held, _Record(plan, Phase.STARTING)):
        return True
    now = find_plan(plan.name)
    return now is not None and now.life == plan.life


def _advance(plan: Plan, after: Phase, to: Phase) -> bool:
    """Whether this life has come from one phase to the next, by this or another hand."""
    while True:
        held = find_holder(plan.name)
        if held.plan is None or held.plan.life != plan.life or held.phase is None:
            return False
        if held.phase is not after:
            return held.phase is to
        if _change(held, _Record(plan, to)):
            return True


def mark_running(plan: Plan) -> bool:
    """All of it has started. False if that was too late: somebody has begun to stop it, or has stopped it."""
    return _advance(msgspec.structs.replace(plan, rescued=None), Phase.STARTING, Phase.RUNNING)


def give_up(plan: Plan) -> bool:
    """It will not be started, and is to be stopped. False if it was too late: it runs."""
    return _advance(plan, Phase.STARTING, Phase.ENDING)


def mark_ending(plan: Plan) -> bool:
    """From now on it is being stopped, so that nobody begins with it. False if it has been stopped before."""
    return give_up(plan) or _advance(plan, Phase.RUNNING, Phase.ENDING)


def is_running(plan: Plan) -> bool:
    """Whether all of it has started, and it is to stay."""
    held = find_holder(plan.name)
    return held.plan is not None and held.plan.life == plan.life and held.phase is Phase.RUNNING


def is_held_by(plan: Plan) -> bool:
    """Whether this life holds its name, and is to stay."""
    held = find_holder(plan.name)
    return held.plan is not None and held.plan.life == plan.life and not held.is_ending


def erase(plan: Plan, following: Plan | None = None) -> None:
    """Forget a life that nothing is left of; ``following`` begins in its place, unless somebody else was faster."""
    while True:
        held = find_holder(plan.name)
        if held.plan is None or held.plan.life != plan.life:
            break
        if _change(held, None if following is None else _Record(following, Phase.STARTING)):
            break
    forget_start(plan)


def forget_start(plan: Plan) -> None:
    """Forget how a life was to begin that is over, or that never began."""
    for key in (_places_key, _size_key, _view_key):
        internal_kv._internal_kv_del(key(plan), namespace=_KV)


def find_view(plan: Plan) -> View | None:
    """The view of epoch 0, once it is decided."""
    found: bytes | None = internal_kv._internal_kv_get(_view_key(plan), namespace=_KV)
    return None if found is None else msgspec.msgpack.decode(found, type=View)


def find_valid_view(plan: Plan) -> View | None:
    """The view of epoch 0 for those who are to take part: None also if the life is over, or ending.

    Who helps with a start may come to the view when the start was given up and its records are gone, and then decides
    another. In this order nobody acts on that: a life that still holds its name has the view that it always had.
    """
    view = find_view(plan)
    return view if view is not None and is_held_by(plan) else None


def propose_view(plan: Plan, view: View) -> View:
    """Decide the view of epoch 0, unless it is decided; gives what is."""
    internal_kv._internal_kv_put(_view_key(plan), msgspec.msgpack.encode(view), overwrite=False, namespace=_KV)
    return find_view(plan) or view


def find_size(plan: Plan) -> Size:
    """How many acceptors and replicas have actors."""
    found: bytes | None = internal_kv._internal_kv_get(_size_key(plan), namespace=_KV)
    first = Size(plan.config.acceptors, plan.config.replicas)
    return first if found is None else msgspec.msgpack.decode(found, type=Size)


def put_size(plan: Plan, size: Size) -> None:
    """Say which actors there are from now on."""
    internal_kv._internal_kv_put(_size_key(plan), msgspec.msgpack.encode(size), overwrite=True, namespace=_KV)


def put_places(plan: Plan, nodes: Mapping[int, str]) -> None:
    """Say on which nodes the data of each index are."""
    internal_kv._internal_kv_put(_places_key(plan), msgspec.msgpack.encode(nodes), overwrite=True, namespace=_KV)


def find_places(plan: Plan) -> dict[int, str] | None:
    """On which nodes the data of each index are, None unless the life is started from data."""
    found: bytes | None = internal_kv._internal_kv_get(_places_key(plan), namespace=_KV)
    return None if found is None else msgspec.msgpack.decode(found, type=dict[int, str])


def plan_names() -> list[str]:
    """The names of all ensembles of the cluster."""
    keys: list[bytes] = internal_kv._internal_kv_list(b"plan:", namespace=_KV)
    names = {key.decode().split(":")[1] for key in keys}
    return sorted(name for name in names if find_plan(name) is not None)


def _numbers(name: str) -> list[int]:
    keys: list[bytes] = internal_kv._internal_kv_list(f"plan:{name}:".encode(), namespace=_KV)
    return [int(key.decode().split(":")[2]) for key in keys]


def _holder_key(name: str, number: int) -> bytes:
    return f"plan:{name}:{number}".encode()


def _view_key(plan: Plan) -> bytes:
    return f"view:{plan.ensemble}:{plan.life}".encode()


def _size_key(plan: Plan) -> bytes:
    return f"size:{plan.ensemble}:{plan.life}".encode()


def _places_key(plan: Plan) -> bytes:
    return f"places:{plan.ensemble}:{plan.life}".encode()

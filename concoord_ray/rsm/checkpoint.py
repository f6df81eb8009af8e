"""The divergence alarm: replicas compare what they answered, and what they are, at the same slots.

A **checkpoint** is a replica's digest of both at one slot: of the replies since the checkpoint before it, by class and
method; of the objects, each by itself; and of the rest (sessions, tokens, time). Replicas that executed the same log
have equal checkpoints. Where they differ, ``compare`` says who is wrong, and names what to look at: methods whose
replies differ; and objects whose state does.

A wrong replica is one that differs from a strict majority of **all** replicas, not of those that reported: as long as
the others could still outvote it, nobody is wrong. Without such a majority nobody can say what the state should be.

What ``ReplyDigests`` has gathered since the last checkpoint is part of the replicated state: a replica that is restored
from a snapshot between two checkpoints has to go on from there.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from concoord_ray.rsm.anatomy import type_name
from concoord_ray.rsm.command import Outcome
from concoord_ray.rsm.digest import digest
from concoord_ray.rsm.sampling import spread

#: How much of a result that is no plain value, or of an exception's arguments, is looked at.
REPLY_NODES = 64

M = TypeVar("M", bound=Hashable)
_T = TypeVar("_T")
#: So many names are listed in a text, at most.
_NAMED = 8
#: Reads what is there, whatever a class of users puts in its place.
_ARGS: Any = vars(BaseException)["args"]
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")


class ReplyDigest(msgspec.Struct, frozen=True, array_like=True):
    """All replies of one method, in order. Both names are empty for those that are one kind too many."""

    class_name: str
    method: str
    digest: int


class ObjectDigest(msgspec.Struct, frozen=True, array_like=True):
    """The state of one object."""

    object_id: int
    class_name: str
    digest: bytes


class Checkpoint(msgspec.Struct, frozen=True, array_like=True, tag=15, tag_field="type"):
    """One replica at one slot, as it tells the leader.

    Every slot below ``slot`` is applied; the last checkpoint was at ``since``.
    """

    slot: int
    since: int
    objects: tuple[ObjectDigest, ...]
    replies: tuple[ReplyDigest, ...]
    #: Of everything else: sessions, tokens, time.
    rest: bytes


class ReplyDigests:
    """A running digest of the replies of each method, of ``limit`` methods; those of all others count as one."""

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._running: dict[tuple[str, str], int] = {}

    def add(self, class_name: str, method: str, reply: bytes | int) -> None:
        """One more reply: what ``reply_digest`` gives, or a number below 2**64 that was made of it."""
        running = self._running
        kind = class_name, method
        if kind not in running and len(running) >= self._limit:
            kind = "", ""
        if isinstance(reply, int):
            reply = reply.to_bytes(8, "big")
        running[kind] = zlib.crc32(reply, running.get(kind, 0))

    def take(self) -> tuple[ReplyDigest, ...]:
        """What has been gathered, in the order of names; gathering begins anew."""
        running, self._running = self._running, {}
        return tuple(ReplyDigest(*kind, running[kind]) for kind in sorted(running))


def reply_digest(outcome: Outcome, payload: bytes, result: Any, *, seed: int) -> bytes:
    """What is compared of a reply: never the bytes of a pickle, which differ where values do not.

    ``result`` is what a method returned (``Outcome.VALUE``) or raised (``Outcome.RAISED``), and is not looked at
    otherwise. ``seed`` chooses what is looked at in a large one. Addresses in the text of an exception do not count:
    they come from somebody's default ``repr``, and tell nothing of the state.
    """
    if outcome is Outcome.PLAIN or outcome is Outcome.REFUSED:
        return payload
    if outcome is Outcome.RAISED and issubclass(type(result), BaseException):
        args = [_ADDRESS.sub("0x", arg) if type(arg) is str else arg for arg in _ARGS.__get__(result)]
        result = [type_name(type(result)), args]
    return digest(result, budget=REPLY_NODES, seed=seed)


def in_turn(objects: Sequence[_T], seed: int, limit: int) -> list[_T]:
    """At most ``limit`` objects, others for each seed, so that it is everybody's turn before long."""
    if len(objects) <= limit:
        return list(objects)
    start = spread(seed, 0, len(objects))
    return [*objects[start : start + limit], *objects[: max(0, start + limit - len(objects))]]


@dataclass(frozen=True, slots=True)
class Verdict(Generic[M]):
    """Replicas differ. ``minority`` are those that a majority of all replicas contradicts."""

    minority: tuple[M, ...]
    #: No checkpoint is that of a majority of all replicas.
    no_majority: bool
    #: ``no_majority`` stands, whatever those who have not reported yet will say.
    is_final: bool
    #: Methods, as Class.method, that may be to blame.
    suspects: tuple[str, ...]
    #: What differs, for people.
    text: str


def compare(checkpoints: Mapping[M, Checkpoint], total: int) -> Verdict[M] | None:
    """Who differs, and in what; None while all that have reported agree.

    ``checkpoints`` are of one slot, by replica; ``total`` is how many replicas the ensemble has. Raises ValueError if
    they are of different slots.
    """
    slots = {checkpoint.slot for checkpoint in checkpoints.values()}
    if len(slots) > 1:
        raise ValueError(f"checkpoints of different slots cannot be compared: {sorted(slots)}")
    camps: dict[Checkpoint, list[M]] = {}
    for member, checkpoint in checkpoints.items():
        camps.setdefault(checkpoint, []).append(member)
    if len(camps) < 2:
        return None
    largest = max(camps, key=lambda each: len(camps[each]))
    size = len(camps.pop(largest))
    has_majority = 2 * size > total
    differing = tuple(member for camp in camps.values() for member in camp)
    found = _Difference.among([largest, *camps])
    if has_majority:
        who = f"{_listed(differing)} differs from a majority of the replicas"
    else:
        who = f"The replicas {_listed(checkpoints)} disagree, and no majority of the {total} agrees,"
    return Verdict(
        minority=differing if has_majority else (),
        no_majority=not has_majority,
        is_final=has_majority or 2 * (size + total - len(checkpoints)) <= total,
        suspects=found.suspects(largest),
        text=f"{who} at slot {largest.slot}: {found.told(largest)}",
    )


@dataclass(frozen=True, slots=True)
class _Difference:
    """In what checkpoints differ."""

    methods: tuple[str, ...]
    #: (id, class), whose state differs, or which some have and some have not.
    objects: tuple[tuple[int, str], ...]
    in_rest: bool

    @classmethod
    def among(cls, checkpoints: Collection[Checkpoint]) -> _Difference:
        """What they do not all have."""
        replies = _not_in_all([each.replies for each in checkpoints])
        objects = _not_in_all([each.objects for each in checkpoints])
        return cls(
            methods=tuple(sorted({_method(each) for each in replies})),
            objects=tuple(sorted({(each.object_id, each.class_name) for each in objects})),
            in_rest=len({each.rest for each in checkpoints}) > 1,
        )

    def suspects(self, checkpoint: Checkpoint) -> tuple[str, ...]:
        """Who answered differently; or else who was called on what differs."""
        if self.methods:
            return self.methods
        classes = {class_name for _, class_name in self.objects}
        return tuple(_method(each) for each in checkpoint.replies if each.class_name in classes)

    def told(self, checkpoint: Checkpoint) -> str:
        """In words."""
        since = f"in slots {checkpoint.since} to {checkpoint.slot - 1}"
        parts = []
        if self.methods:
            parts.append(f"replies of {_listed(self.methods)} {since}")
        if self.objects:
            parts.append("the state of " + _listed(f"object {number} ({name})" for number, name in self.objects))
        if self.in_rest:
            parts.append("sessions, tokens or time")
        told = f"{'; '.join(parts)}. "
        if self.objects and not self.methods:
            called = _listed(self.suspects(checkpoint)) or "a method of that class"
            told += f"All replies agree, so one of the methods called {since} is to blame: {called}. "
        return told + (
            "Methods must do the same on every replica: take time from concoord.now(), chance from concoord.random(), "
            "sort what comes out of a set, and pass everything else as arguments."
        )


def _not_in_all(groups: Iterable[tuple[_T, ...]]) -> set[_T]:
    first, *others = map(set, groups)
    return first.union(*others) - first.intersection(*others)


def _method(reply: ReplyDigest) -> str:
    return f"{reply.class_name}.{reply.method}" if reply.method else "one of many methods"


def _listed(names: Iterable[Any]) -> str:
    """The first of them, separated by commas."""
    texts = [str(name) for name in names]
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")

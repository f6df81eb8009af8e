"""Members and views: who takes part, for which range of slots.

A **member** is one life of one role: an acceptor that comes back without its promises is another member (a new
incarnation at the same index), because to Paxos it *is* somebody else. A **view** is the membership for an epoch. Only
the view in the log counts; every other account of who is where (registries, Ray's actor table) is a hint.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

from concoord_ray.errors import ProtocolViolation


class Role(str, Enum):
    """What a process does in an ensemble."""

    ACCEPTOR = "acceptor"
    REPLICA = "replica"
    REGISTRY = "registry"
    GATEWAY = "gateway"
    CLIENT = "client"

    def __str__(self) -> str:
        return self.value


class Member(NamedTuple):
    """One life of one role. ``incarnation`` is random 64-bit; a client's is its session."""

    role: Role
    index: int  # type: ignore[assignment]  # Shadows tuple.index, which nobody calls on a member.
    incarnation: int

    def __str__(self) -> str:
        return f"{self.role.value}{self.index}#{self.incarnation & 0xFFFF:04x}"


class View(msgspec.Struct, frozen=True, array_like=True):
    """The membership of one epoch, which begins at ``first_slot`` and ends with its stop-sign.

    Acceptors are named by incarnation, since they vote with their memory. Replicas are named by index alone: they vote
    on nothing, and whatever life of theirs has caught up with the log is as good as another.
    """

    epoch: int
    acceptors: tuple[Member, ...]
    replicas: tuple[int, ...]
    first_slot: int = 0

    @property
    def quorum(self) -> int:
        """How many distinct acceptors make a majority."""
        return len(self.acceptors) // 2 + 1


#: What a stop-sign begins with: the one byte that MessagePack, and with it any batch of commands, never begins with.
_STOP_SIGN = b"\xc1"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(View).decode


def stop_sign(following: View) -> bytes:
    """The value that ends an epoch: nothing of it is executed above its slot, and ``following`` holds from there on."""
    return _STOP_SIGN + _encode(following)


def is_stop_sign(value: bytes) -> bool:
    """Whether a slot's value is a stop-sign."""
    return value.startswith(_STOP_SIGN)


def following_view(value: bytes) -> View | None:
    """The view that follows a slot with this value, None if the value is no stop-sign."""
    if not is_stop_sign(value):
        return None
    try:
        return _decode(value[1:])
    except msgspec.MsgspecError as error:
        raise ProtocolViolation(f"a stop-sign of {len(value)} bytes cannot be decoded: {error}") from error

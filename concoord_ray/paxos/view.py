"""Members and views: who takes part, for which range of slots.

A **member** is one life of one role: an acceptor that comes back without its promises is another member (a new
incarnation at the same index), because to Paxos it *is* somebody else. A **view** is the membership for an epoch. Only
the view in the log counts; every other account of who is where (registries, Ray's actor table) is a hint.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec


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
    """The membership of one epoch. Epoch e ends at the slot whose decided value is e's stop-sign."""

    epoch: int
    acceptors: tuple[Member, ...]
    replicas: tuple[Member, ...]

    @property
    def quorum(self) -> int:
        """How many distinct acceptors make a majority."""
        return len(self.acceptors) // 2 + 1

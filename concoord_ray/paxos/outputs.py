"""What a step asks its role to do, and in which order.

A core is stepped with one event after another and only appends here. Its role then takes the outputs and performs
them: **everything in ``persist`` is durable before anything in ``send`` of the same or a later step leaves**. Within
one step there is no await between stepping and taking, so outputs leave in the order in which they were made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, Union

import msgspec

from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.messages import Message, PValue
from concoord_ray.paxos.view import Member, View


class Joined(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=1):
    """Durable record: this acceptor takes part in the view."""

    view: View


class Promised(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=2):
    """Durable record: no ballot below ``ballot`` will be answered in this epoch."""

    epoch: int
    ballot: Ballot


class Accepted(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=3):
    """Durable record: the p-value was accepted in this epoch (which promises its ballot too)."""

    epoch: int
    pvalue: PValue


class Truncated(msgspec.Struct, frozen=True, array_like=True, tag_field="type", tag=4):
    """Durable record: slots below ``below`` are dropped in every epoch, and epochs before ``first_epoch`` entirely."""

    below: int
    first_epoch: int


Record = Union[Joined, Promised, Accepted, Truncated]


class Send(NamedTuple):
    """One message (``paxos.messages``, or of a layer above) for one or several members; encoded once."""

    to: tuple[Member, ...]
    message: Message


class Decided(NamedTuple):
    """The value of a slot, to be executed."""

    slot: int
    value: bytes


@dataclass(slots=True)
class Outputs:
    """Everything that steps have asked for since the last ``take``."""

    persist: list[Record] = field(default_factory=list)
    send: list[Send] = field(default_factory=list)
    #: In slot order, without gaps, each slot once.
    decisions: list[Decided] = field(default_factory=list)

    def take(self) -> Outputs:
        """Hand over what has gathered, and start empty."""
        taken = Outputs(self.persist, self.send, self.decisions)
        self.persist, self.send, self.decisions = [], [], []
        return taken

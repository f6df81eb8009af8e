"""What a role is told when its process starts, and the messages that it speaks."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, Union

import msgspec

from concoord_ray.config import Config
from concoord_ray.directory import Directory, Report
from concoord_ray.net.identity import Address
from concoord_ray.paxos.messages import (
    Behind,
    CatchUp,
    Decisions,
    Following,
    Heartbeat,
    NewerView,
    P1a,
    P1b,
    P2a,
    P2b,
    Ping,
    Pong,
    Progress,
    SnapshotChunk,
    SnapshotComing,
    SnapshotPull,
)
from concoord_ray.paxos.view import Role, View
from concoord_ray.roles.watch import LeaseOver, Watch
from concoord_ray.rsm.checkpoint import Checkpoint
from concoord_ray.rsm.command import Busy, KeepAlive, Kept, Leading, NotLeader, Read, Reply, Request
from concoord_ray.rsm.divergence import Halt, Reinstall
from concoord_ray.storage.birth import Birth, directory_of


class Boot(msgspec.Struct, frozen=True):
    """The start of a role: small enough to be an inline constructor argument, so that Ray can always restart it."""

    name: str
    ensemble: str
    secret: bytes
    config: Config
    role: Role
    index: int
    namespace: str
    generation: int = 0
    #: From one start of the ensemble to its end, see ``genesis``.
    life: str = ""

    def data_directory(self) -> Path:
        """Where this member keeps its data on its node's disk."""
        return directory_of(self.config.storage, self.name, self.ensemble) / f"{self.role}-{self.index}"

    def birth(self, view: View) -> Birth:
        """What has to be known to start the ensemble again; ``view`` is that of epoch 0."""
        return Birth(self.name, self.ensemble, self.secret, self.config, self.generation, view)


class Whereabouts(msgspec.Struct, frozen=True):
    """What the role's host knows of its place."""

    host: str
    node_id: str
    pid: int
    #: Ray has started the role's actor before.
    is_restarted: bool = False


class Discovery(Protocol):
    """How a role finds what it cannot find over connections. Implemented over Ray by ``actors``."""

    async def view(self) -> View:
        """The view of epoch 0, written once; waits until it is."""

    async def registries(self) -> dict[int, tuple[Address, int]]:
        """Where the registries listen now, with their incarnations, by index; those that answer."""


WireMessage = Union[
    P1a, P1b, P2a, P2b, Ping, Pong, Decisions, Heartbeat, Progress, CatchUp, Behind, Following,
    NewerView, SnapshotPull, SnapshotChunk, SnapshotComing, Checkpoint, Reinstall, Halt,
    Request, Read, KeepAlive, Kept, Reply, NotLeader, Leading, Busy,
    Report, Directory, Watch, LeaseOver,
]  # fmt: skip

#: What says that its sender lives, or asks and answers for the sake of all. It overtakes large values on their way.
URGENT = frozenset((P1a, P2b, Ping, Pong, Heartbeat, Progress, CatchUp, Following, NewerView, KeepAlive, Kept))

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(WireMessage).decode

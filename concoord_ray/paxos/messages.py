"""What acceptors and replicas say to each other.

Names follow *Paxos Made Moderately Complex* (p1a, p1b, p2a, p2b, decision). Every message carries its epoch; the
connection that it came over has proved the sender's ensemble and incarnation (``net.handshake``), so those are the
envelope's, not the message's. Messages may be lost, duplicated, reordered and late: each is safe to receive any number
of times, at any time.

A slot's ``value`` is an encoded ``rsm.command.Batch`` or a stop-sign (``view.stop_sign``) as the leader made it, kept
as bytes: nothing between the leader and the executor decodes a batch.
"""

from __future__ import annotations

from typing import Union

import msgspec

from concoord_ray.paxos.ballot import Ballot
from concoord_ray.paxos.view import View


class PValue(msgspec.Struct, frozen=True, array_like=True):
    """A value accepted for a slot in a ballot."""

    ballot: Ballot
    slot: int
    value: bytes


class _Message(msgspec.Struct, frozen=True, array_like=True, tag_field="type"):
    """Base of all messages between acceptors and replicas."""


class P1a(_Message, frozen=True, array_like=True, tag=1):
    """Scout to acceptor: promise ``ballot``, and tell what you accepted from ``from_slot`` on.

    Carries the view, so that an acceptor keeps state only for an epoch whose view names its incarnation.
    """

    view: View
    ballot: Ballot
    from_slot: int


class P1b(_Message, frozen=True, array_like=True, tag=2):
    """Acceptor to scout of ``ballot``: I have promised ``promised``; if they are the same, one page of what I accepted,
    in slot order from ``from_slot``. If they are not, it is a preemption and carries no values.

    ``next_slot`` is where the next page starts, None when this was the last. The scout's ballot is named because the
    refusal of an earlier, late p1a of the same replica would otherwise look like a promise with nothing accepted. Slots
    below ``truncated_below`` are not shown, though something was accepted for them.
    """

    epoch: int
    ballot: Ballot
    promised: Ballot
    from_slot: int
    accepted: tuple[PValue, ...]
    next_slot: int | None
    truncated_below: int


class P2a(_Message, frozen=True, array_like=True, tag=3):
    """Commander to acceptor: accept ``value`` for ``slot`` in ``ballot``."""

    epoch: int
    ballot: Ballot
    slot: int
    value: bytes


class P2b(_Message, frozen=True, array_like=True, tag=4):
    """Acceptor to commander of ``ballot``: I have promised ``promised``; if they are the same, I accepted ``slot``.

    The commander's ballot is named because the refusal of an earlier, late p2a would otherwise look like an acceptance.
    """

    epoch: int
    ballot: Ballot
    promised: Ballot
    slot: int


class Ping(_Message, frozen=True, array_like=True, tag=5):
    """Replica to acceptor: are you there, and what have you promised? ``nonce`` comes back in the pong.

    One message serves three needs: a candidate's check that it reaches a majority before it raises the ballot, a
    leader's check that it still does, and the confirmation round of linearizable reads. It also carries how far the log
    may be truncated: slots below ``truncate_below`` are applied wherever they have to be.
    """

    epoch: int
    nonce: int
    truncate_below: int


class Pong(_Message, frozen=True, array_like=True, tag=6):
    """Acceptor to replica: the answer to a ping. What was accepted for slots below ``truncated_below`` is gone here."""

    epoch: int
    promised: Ballot
    nonce: int
    truncated_below: int


class Decisions(_Message, frozen=True, array_like=True, tag=7):
    """Replica to replica: these values were chosen, for ``first_slot`` and the slots that follow it.

    The sender has handed on every slot below them, so they are final in whatever epoch they were decided. It knows what
    was decided for every slot below ``decided``, of which a page may show only a part.
    """

    epoch: int
    first_slot: int
    values: tuple[bytes, ...]
    decided: int


class Heartbeat(_Message, frozen=True, array_like=True, tag=8):
    """Leader to replica: I lead with ``ballot``; every slot below ``decided`` is decided.

    The log may be truncated below ``truncate_below``.
    """

    epoch: int
    ballot: Ballot
    decided: int
    truncate_below: int


class Progress(_Message, frozen=True, array_like=True, tag=11):
    """Replica to leader, in answer to a heartbeat: how far it has come in ``epoch``.

    It has executed the slots below ``applied_slot``; those below ``durable_slot`` are in a snapshot on its disk.
    """

    epoch: int
    applied_slot: int
    durable_slot: int


class Behind(_Message, frozen=True, array_like=True, tag=12):
    """Replica to replica, in answer to a CatchUp from ``from_slot``: my log begins above it, only a snapshot helps."""

    epoch: int
    from_slot: int


class Following(_Message, frozen=True, array_like=True, tag=18):
    """Replica to replica, in answer to a CatchUp: I heard just now from whoever leads with ``ballot`` in this epoch."""

    epoch: int
    ballot: Ballot


class CatchUp(_Message, frozen=True, array_like=True, tag=9):
    """Replica to replica: send me the decisions from ``from_slot`` on."""

    epoch: int
    from_slot: int


class SnapshotPull(_Message, frozen=True, array_like=True, tag=13):
    """Replica to replica: send me a chunk of your snapshot ``number`` from ``offset`` on.

    With ``number`` -1: of any that holds the effects of slots up to ``above`` and beyond.
    """

    above: int
    number: int
    offset: int


class SnapshotChunk(_Message, frozen=True, array_like=True, tag=14):
    """Replica to replica: bytes from ``offset`` on of a snapshot of ``size_bytes``, taken when ``slot`` was next.

    Its maker's ``number`` tells it from any other, also from one of the same slot: their bytes may differ.
    """

    slot: int
    number: int
    offset: int
    size_bytes: int
    data: bytes


class SnapshotComing(_Message, frozen=True, array_like=True, tag=19):
    """Replica to replica, in answer to a SnapshotPull: it takes a while to make one. The question as it was asked."""

    above: int


class NewerView(_Message, frozen=True, array_like=True, tag=10):
    """To the sender of a message of an epoch that is over: the newest view that I know."""

    view: View


AcceptorRequest = Union[P1a, P2a, Ping]
ReplicaMessage = Union[
    P1b, P2b, Pong, Decisions, Heartbeat, Progress, CatchUp, Behind, Following, NewerView,
    SnapshotPull, SnapshotChunk, SnapshotComing,
]  # fmt: skip
Message = Union[AcceptorRequest, ReplicaMessage]

"""What the log holds, and what clients and replicas say about it.

A client's request is an ``Entry``: one command of one session, numbered by the client. The leader gathers the entries
that wait when its loop turns into one ``Batch``, stamps it, and proposes it as one slot's value; ``Entry.command``
stays bytes from the client to the executor.

Time enters only through a batch's stamp: ``stamp_ns`` is ensemble time (leases, deadlines), which advances at the
leader's monotonic rate from the last applied stamp; ``wall_ns`` is wall time, for ``concoord.now()`` alone.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Union

import msgspec


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One command of one session. ``acks`` are ranges [first, last] of seqs whose replies the client has.

    Session 0 is the ensemble itself: openings, and what the leader proposes.
    """

    session: int
    seq: int
    acks: tuple[tuple[int, int], ...]
    command: bytes


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """The value of one slot."""

    stamp_ns: int
    wall_ns: int
    entries: tuple[Entry, ...]
    #: The slot's value if it is a stop-sign, which has nothing else in it.
    stop_sign: bytes = b""
    #: Sessions that have too many results waiting for them: their calls in this slot are refused. The leader says so,
    #: for the size of a result is not the same on every replica: pickles of equal values differ.
    crowded: tuple[int, ...] = ()


class MethodFlag(IntFlag):
    """What a handle must know of a method before it calls it."""

    PLAIN = 0
    #: Never enters the log; still linearizable.
    READONLY = 1
    #: Takes ``_concoord_command``.
    TAKES_COMMAND = 2
    #: May park its caller.
    PARKS = 4
    #: Waits for the loss of a grant: answered True by the caller's own side too, when it cannot keep its lease.
    AWAITS_LOSS = 8
    #: Runs in the caller's process, in terms of the others.
    IN_CALLER = 16
    #: Waits until its guard holds.
    GUARDED = 32


class _Command(msgspec.Struct, frozen=True, array_like=True, tag_field="type"):
    """Base of all commands."""


class OpenSession(_Command, frozen=True, array_like=True, tag=1):
    """Begin a session with the lease ``ttl_ns``; the result is its number, which is never given twice.

    Its entry is of session 0, and its seq a nonce that the client draws: re-sent, it finds the session that it opened.
    """

    ttl_ns: int
    description: str


class CloseSession(_Command, frozen=True, array_like=True, tag=2):
    """End the entry's own session: a clean exit."""


#: ``ExpireSession.seen_slot`` of those who saw the process die.
NO_SLOT_AFTER = 2**62


class ExpireSession(_Command, frozen=True, array_like=True, tag=3):
    """The leader saw nothing of ``session`` for its lease. Void if the session logged anything after ``seen_slot``.

    Also proposed by a gateway that saw the process die, without a bound. Its entry is of session 0; if it has a seq, a
    reply is wanted.
    """

    session: int
    seen_slot: int


class Create(_Command, frozen=True, array_like=True, tag=4):
    """Create an object. ``cls`` is the pickled class (by value), ``args`` the encoded (args, kwargs)."""

    name: str | None
    get_if_exists: bool
    class_id: bytes
    class_name: str
    cls: bytes
    methods: dict[str, int]
    args: bytes
    owner: str
    #: "module.Class", which must be that of an object of the name if there is one; empty is any.
    origin: str = ""


class Delete(_Command, frozen=True, array_like=True, tag=5):
    """Delete an object; whoever is parked in it is told ``NoSuchObject``."""

    object_id: int


class Call(_Command, frozen=True, array_like=True, tag=6):
    """Call a method. ``owner`` tells the session's threads and tasks apart; ``args`` is the encoded (args, kwargs).

    ``values`` are the encoded values for ``codec.Placeholder`` arguments, which were ObjectRefs in the caller.
    """

    object_id: int
    method: str
    owner: str
    args: bytes
    values: tuple[bytes, ...] = ()


class Cancel(_Command, frozen=True, array_like=True, tag=7):
    """Withdraw the call ``seq`` of the entry's own session: leave the queue, or give that grant back."""

    seq: int
    #: Withdrawn because the caller's own ``timeout`` was over: the call ends with CallTimeout, not CallCancelled. Its
    #: caller still waits for the one or the other, so a grant that came first stands: its reply may be there already.
    timed_out: bool = False


class Acknowledge(_Command, frozen=True, array_like=True, tag=8):
    """Carries nothing but the entry's acks; its own reply needs none."""


class Lookup(_Command, frozen=True, array_like=True, tag=9):
    """Read: what is the object called ``name``?"""

    name: str


class ListObjects(_Command, frozen=True, array_like=True, tag=10):
    """Read: every named object."""


class EndTask(_Command, frozen=True, array_like=True, tag=11):
    """A Ray task of the entry's own session has ended: what it held is released, and its waiting calls are over."""

    task: str


class Resize(_Command, frozen=True, array_like=True, tag=12):
    """From now on the ensemble is to have so many acceptors and replicas; whoever leads proposes the view for it.

    None leaves a number as it was to be. The result is the slot of this command, and how many acceptors and replicas
    there are to be now: views that begin above that slot are of this size, or of a later one.
    """

    acceptors: int | None
    replicas: int | None


Command = Union[
    OpenSession,
    CloseSession,
    ExpireSession,
    Create,
    Delete,
    Call,
    Cancel,
    Acknowledge,
    Lookup,
    ListObjects,
    EndTask,
    Resize,
]


class ObjectInfo(msgspec.Struct, frozen=True, array_like=True):
    """What a handle needs to know of an object."""

    object_id: int
    name: str | None
    class_name: str
    methods: dict[str, int]


class Outcome(IntEnum):
    """How a command ended."""

    #: ``payload`` is the pickled result.
    VALUE = 0
    #: ``payload`` is the result as MessagePack: a number, a text, bytes, a truth value or None. Needs no classes.
    PLAIN = 3
    #: The method raised; ``payload`` is the encoded exception.
    RAISED = 1
    #: The ensemble refused; ``payload`` is an encoded ``Refusal``.
    REFUSED = 2


class Refusal(msgspec.Struct, frozen=True, array_like=True):
    """A ``ConcoordError`` by the name of its class."""

    error: str
    message: str


class Withdrawal(IntEnum):
    """What a ``Cancel`` found."""

    #: The call had not run and never will, or it waited and waits no more.
    WITHDRAWN = 0
    #: The call had run, and what it granted was given back.
    GIVEN_BACK = 1
    #: The call had run; what it did stays done.
    APPLIED = 2


# Between clients (or gateways) and replicas.


class _ServiceMessage(msgspec.Struct, frozen=True, array_like=True, tag_field="type"):
    """Base of the messages between a client and a replica."""


class Request(_ServiceMessage, frozen=True, array_like=True, tag=20):
    """Client to leader: put this entry into the log. May be sent again, to any leader, any number of times."""

    entry: Entry


class Read(_ServiceMessage, frozen=True, array_like=True, tag=21):
    """Client to leader: answer from linearizable state, without the log. (session, seq) only names the answer."""

    entry: Entry


class KeepAlive(_ServiceMessage, frozen=True, array_like=True, tag=22):
    """Client to leader: the process of this session lives. ``sent_ns`` is by the client's own clock, and comes back.

    Of session 0, also from gateways: do you live? It is answered as any other.
    """

    session: int
    sent_ns: int


class Kept(_ServiceMessage, frozen=True, array_like=True, tag=27):
    """Leader to client: the lease of this session began again, after the moment when the client sent ``sent_ns``."""

    session: int
    sent_ns: int


class Reply(_ServiceMessage, frozen=True, array_like=True, tag=23):
    """Replica to client: how (session, seq) ended."""

    session: int
    seq: int
    outcome: Outcome
    payload: bytes


class NotLeader(_ServiceMessage, frozen=True, array_like=True, tag=24):
    """Replica to client: I do not serve; ``leader`` is the index of the replica that may. Sent on every change too.

    ``has_quorum`` is False when this replica reaches no majority of acceptors.
    """

    leader: int | None
    has_quorum: bool


class Leading(_ServiceMessage, frozen=True, array_like=True, tag=25):
    """Replica to client: I lead. Send me what is unanswered."""


class Busy(_ServiceMessage, frozen=True, array_like=True, tag=26):
    """Leader to client: too much is queued; (session, seq) was not taken. Send it again a little later."""

    session: int
    seq: int


ServiceMessage = Union[Request, Read, KeepAlive, Kept, Reply, NotLeader, Leading, Busy]

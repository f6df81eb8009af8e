"""Snapshots: the whole replicated state at one slot as bytes, and back.

A snapshot is a short header, which can be read alone, and one pickle of the executor's state.

**One graph.** What is shared stays shared: two conditions their lock, a grant and the object inside of which it was
given, a waiter, its queue and its session. Code that came by value is part of the graph as it is in memory, not as it
was once shipped. So a class is the one that methods construct and compare with, an enum's member is itself, a
``MISSING = object()`` beside the class is still what attributes hold; even a class attribute that methods change is
kept. (Code that is installed goes by name, and what it keeps in classes and modules is no part of the state.)

**Whole or not at all.** What could not be in a snapshot is found when an object is created (``unpicklable``). What a
method brings into the state later fails the snapshot, with the name of the object. And where code of users restores
itself (``rebuilding``), a snapshot is not given away before it was unpickled once: slots are forgotten in the belief
that it can be. What can be unpickled here may fail elsewhere, for want of a file or a module: then it is said of which
object it is, and which code raised.

**Out of order.** A pickle follows references by recursion, and gives an object its attributes after all that they
refer to. So a linked list of some hundred entries exceeds Python's stack, and two keys with a ``__hash__`` of their own
that are in one another's dicts are hashed before they have their names. Such a state is pickled again, several times
more slowly, with instances first and their attributes afterwards: as further pickles of (object, state), until None.

**Others go on meanwhile.** A replica takes and restores snapshots beside its loop, which must not wait for the
interpreter as long as that takes: see ``rope``. What cannot be divided is the pickler's memory of what it has seen. It
is enlarged, and dropped, in one go, which takes some 50 ns for each of the objects in the state.

Not kept, as in every pickle: the traceback, cause and context of an exception, and the order of a set. ``__getstate__``
must change nothing, since not every replica takes snapshots. Integrity is for whoever carries the bytes to check.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections import deque
from collections.abc import Callable
from types import FunctionType
from typing import Any

import msgspec

from concoord_ray.errors import ConcoordError, StorageError
from concoord_ray.rsm.codec import Types, Unpickler, said
from concoord_ray.rsm.command import ObjectInfo
from concoord_ray.rsm.rebuilding import raised_in, runs_to_restore
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.unpicklable import StatePickler, by_address, fault_of, is_too_deep, without_collections
from concoord_ray.rsm.wire import encode_message

_FORMAT = 2
_MAGIC = b"CCRS"
#: Magic, format, and how many bytes the header has.
_PREFIX = struct.Struct(">4sHI")
_ADVICE = (
    "Every replica that restores this state runs that code: put right on this node what it needs, and the replica goes "
    "on by itself when it tries again. If the object is at fault, change or delete it while other replicas serve, then "
    "move the data directory of this one away: it gets their state."
)


class SnapshotFailed(ConcoordError):
    """The state holds something that cannot be in a snapshot; nothing was lost, and the log must be kept meanwhile.

    ``object_id`` is None if no object is seen to hold it.
    """

    def __init__(self, text: str, object_id: int | None = None, class_name: str = "", path: str = "") -> None:
        super().__init__(text)
        self.object_id = object_id
        self.class_name = class_name
        #: From the object to what cannot be pickled, as in ``self.jobs[3].lock``.
        self.path = path


class Interrupted(Exception):
    """Raised by whoever takes a snapshot when it takes too long; nothing was changed."""


class SnapshotUnusable(StorageError):
    """The bytes are not a snapshot of this ensemble that this process could restore. Nothing was changed.

    ``object_id`` is None if it is no object that could not be restored.
    """

    def __init__(self, text: str, object_id: int | None = None, class_name: str = "") -> None:
        super().__init__(text)
        self.object_id = object_id
        self.class_name = class_name


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a snapshot without unpickling it."""

    ensemble: str
    #: It has the effects of every slot below.
    next_slot: int
    #: Whatever the replica wants to find with it.
    extra: bytes = b""
    #: The minor version of Python that took it; no other can restore it.
    python: tuple[int, int] = sys.version_info[:2]


_decode_header = msgspec.msgpack.Decoder(Header).decode


class _Draft(Rope):
    """What is being written, and read to see whether it can be; asks before each piece whether to go on."""

    __slots__ = ("_go_on",)

    def __init__(self, go_on: Callable[[], None]) -> None:
        super().__init__()
        self._go_on = go_on

    def write(self, data: bytes | bytearray | memoryview) -> int:
        self._go_on()
        return super().write(data)

    def cut(self, begin: int, size: int) -> bytes:
        self._go_on()
        return super().cut(begin, size)


def _always() -> None:
    """Go on."""


@without_collections()
def write(
    head: Header,
    state: Any,
    holder: object,
    objects: list[tuple[ObjectInfo, Any]],
    go_on: Callable[[], None] = _always,
) -> Rope:
    """A snapshot. In the state, ``holder`` stands for whatever will hold the state when it is restored.

    ``go_on`` is called again and again, and may raise Interrupted. Raises SnapshotFailed, which names one of
    ``objects`` (and their instances) if it can.
    """
    encoded = encode_message(head)
    prefix = _PREFIX.pack(_MAGIC, _FORMAT, len(encoded)) + encoded
    try:
        try:
            draft = _written(_Draft(go_on), prefix, _InOrder, state, holder, head.ensemble)
        except (pickle.PicklingError, SnapshotUnusable) as error:
            if not (is_too_deep(error) or isinstance(error, SnapshotUnusable)):
                raise
            draft = _written(_Draft(go_on), prefix, _OutOfOrder, state, holder, head.ensemble)
        return Rope(draft.pieces)
    except (Interrupted, MemoryError):
        raise
    except BaseException as error:  # Whatever a user's type raises when it is pickled.
        raise _failure(error, objects) from error


def _written(draft: _Draft, prefix: bytes, way: type[_InOrder], state: Any, holder: object, ensemble: str) -> _Draft:
    draft.write(prefix)
    pickler = way(draft, holder)
    pickler.dump(state)
    pickler.dump(None)
    restores_itself = pickler.restores_itself
    del pickler  # And with it references to everything, which take more memory than the snapshot.
    if restores_itself:
        read(draft, ensemble, holder)
    return draft


def header(data: bytes | Rope) -> Header:
    """The header of a snapshot. Raises SnapshotUnusable."""
    return _split(Rope.of(data))[0]


@without_collections()
def read(data: bytes | Rope, ensemble: str, holder: object) -> tuple[Any, Types]:
    """The state, now of ``holder``, and the types in it. Raises SnapshotUnusable."""
    rope = Rope.of(data)
    head, body = _split(rope)
    if head.ensemble != ensemble:
        raise SnapshotUnusable(f"This is a snapshot of the ensemble {head.ensemble}, not of {ensemble}.")
    if head.python != sys.version_info[:2]:
        theirs, ours = (f"{major}.{minor}" for major, minor in (head.python, sys.version_info[:2]))
        raise SnapshotUnusable(f"Python {theirs} took this snapshot and Python {ours} cannot restore it. Use the same.")
    types, turn = Types(), _Turn()
    makers = {(__name__, _holder.__name__): lambda: holder, (ObjectInfo.__module__, ObjectInfo.__name__): turn.begin}
    unpickler = Unpickler(rope.reader(body), {**types.makers, **makers})
    try:
        state = unpickler.load()
        turn.end()
        while (filling := unpickler.load()) is not None:
            _fill(*filling)
    except (Interrupted, MemoryError):
        raise
    except BaseException as error:  # Whatever damaged bytes, or a user's type, make of it.
        raise turn.failure(head.next_slot, error) from error
    return state, types


class _Turn:
    """Whose turn it is while a state is unpickled: an object's description comes before the object."""

    def __init__(self) -> None:
        self._info: ObjectInfo | None = None
        self._is_in_order = True

    def begin(self, *fields: Any) -> ObjectInfo:
        """Make the description of an object, whose turn it is then."""
        info = ObjectInfo(*fields)
        if self._is_in_order:
            self._info = info
        return info

    def end(self) -> None:
        """What comes now is out of order, and may be any object's."""
        self._info, self._is_in_order = None, False

    def failure(self, slot: int, error: BaseException) -> SnapshotUnusable:
        """Who could not be restored, and why."""
        text = f"The snapshot of slot {slot} cannot be restored"
        told = f"{type(error).__name__}: {said(error)}{raised_in(error)}. {_ADVICE}"
        if self._info is None:
            return SnapshotUnusable(f"{text}: {told}")
        whose = f"because of {_named(self._info)}, or what it refers to"
        return SnapshotUnusable(f"{text} {whose}: {told}", self._info.object_id, self._info.class_name)


def _named(info: ObjectInfo) -> str:
    return f"{info.class_name}, object {info.object_id}" + (f" called {info.name!r}" if info.name else "")


def _split(rope: Rope) -> tuple[Header, int]:
    """The header, and where the pickle begins."""
    prefix = rope.cut(0, _PREFIX.size)
    if len(prefix) < _PREFIX.size or not prefix.startswith(_MAGIC):
        raise SnapshotUnusable("These bytes are not a snapshot.")
    _, version, size = _PREFIX.unpack(prefix)
    if version != _FORMAT:
        raise SnapshotUnusable(f"The snapshot has format {version}, and only format {_FORMAT} can be restored here.")
    body = _PREFIX.size + size
    try:
        return _decode_header(rope.cut(_PREFIX.size, size)), body
    except msgspec.MsgspecError as error:
        raise SnapshotUnusable(f"The header of the snapshot is damaged: {error}") from error


class _InOrder(StatePickler):
    """Lets pickle do it, and notices whether users' code has a part in restoring it."""

    def __init__(self, file: Rope, holder: object) -> None:
        super().__init__(file)
        self.restores_itself = False
        self._holder = holder

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in self._ordinary:
            return NotImplemented
        if obj is self._holder:
            return _holder, ()
        self.restores_itself = self.restores_itself or runs_to_restore(obj)
        return super().reducer_override(obj)


def _holder() -> Any:
    raise pickle.UnpicklingError("who holds the state is known to ``read`` alone")


class _OutOfOrder(_InOrder):
    """Gives instances their attributes afterwards, unless they restore themselves.

    Those with a hash of their own get at once what the hash may need: what can be hashed itself.
    """

    def __init__(self, file: Rope, holder: object) -> None:
        super().__init__(file, holder)
        self._later: deque[tuple[Any, Any]] = deque()

    def dump(self, obj: Any) -> None:
        super().dump(obj)
        while self._later:
            super().dump(self._later.popleft())

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        kind: Any = type(obj)
        if reduced is not NotImplemented or not self._can_wait(kind):
            return reduced
        make, args, state, *contents = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if state is None:
            return reduced
        self._later.append((obj, state))
        now = None if kind.__hash__ in (object.__hash__, None) else _hashable(state)
        return make, args, now, *contents

    def _can_wait(self, kind: Any) -> bool:
        if issubclass(kind, (type, FunctionType)) or kind in self.dispatch_table or hasattr(kind, "__setstate__"):
            return False
        return (kind.__reduce__, kind.__reduce_ex__) == (object.__reduce__, object.__reduce_ex__)


def _halves(state: Any) -> tuple[Any, Any]:
    """Attributes and slots of a state, None for either if there are none."""
    return state if isinstance(state, tuple) else (state, None)


def _hashable(state: Any) -> Any:
    """Of a state that part which can be hashed."""
    attributes, slots = (
        {name: value for name, value in (half or {}).items() if type(value).__hash__ is not None}
        for half in _halves(state)
    )
    return attributes or None, slots


def _fill(obj: Any, state: Any) -> None:
    """As pickle gives an object its state."""
    attributes, slots = _halves(state)
    if attributes:
        vars(obj).update(attributes)
    for name, value in (slots or {}).items():
        setattr(obj, name, value)


def _failure(error: BaseException, objects: list[tuple[ObjectInfo, Any]]) -> SnapshotFailed:
    where = raised_in(error.__cause__ or error if isinstance(error, SnapshotUnusable) else error)
    others = by_address(instance for _, instance in objects)
    for info, instance in objects:
        fault = fault_of(instance, others)
        if fault is not None:
            text = f"No snapshot because of {_named(info)}: {fault.text}{where}."
            return SnapshotFailed(text, info.object_id, info.class_name, fault.path)
    return SnapshotFailed(f"No snapshot: {type(error).__name__}: {said(error)}{where}")

"""Snapshots: the whole replicated state at one slot as bytes, and back.

A snapshot is a short header, which can be read alone, and one pickle of the executor's state.

**One graph.** What is shared stays shared: two conditions their lock, a grant and the object inside of which it was
given, a waiter, its queue and its session. Code that came by value is part of the graph as it is in memory, not as it
was once shipped. So a class is the one that methods construct and compare with, an enum's member is itself, a
``MISSING = object()`` beside the class is still what attributes hold; even a class attribute that methods change is
kept. (Code that is installed goes by name, and what it keeps in classes and modules is no part of the state.)

**What cannot be pickled** is found when an object is created (``check``): it does not come to exist. What a method
brings into the state later fails the snapshot as a whole, with the name of the object and the attribute.

**Deep graphs** exceed Python's recursion limit: a linked list of some hundred entries does. Those are pickled flat,
which is several times slower: instances that are compared by identity come first and get their attributes afterwards,
as further pickles of (object, state); None ends them. Containers that are nested too deeply by themselves fail.

Not kept, as in every pickle: the traceback, cause and context of an exception, and the order of a set. ``__getstate__``
must change nothing, since not every replica takes snapshots. Integrity is for whoever carries the bytes to check.
"""

from __future__ import annotations

import contextlib
import gc
import io
import pickle
import re
import struct
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any

import msgspec

from concoord_ray.errors import ConcoordError
from concoord_ray.rsm.anatomy import type_name
from concoord_ray.rsm.codec import PLAIN_TYPES, CodePickler, Types, Unpickler, came_by_value, said
from concoord_ray.rsm.command import ObjectInfo
from concoord_ray.rsm.wire import encode_message

_FORMAT = 1
_MAGIC = b"CCRS"
#: Magic, format, and how many bytes the header has.
_PREFIX = struct.Struct(">4sHI")
_OURS = __name__.partition(".")[0] + "."
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_address = id  # Tells objects apart during one search.


class SnapshotFailed(ConcoordError):
    """The state holds something that cannot be pickled; nothing was lost, and the log must be kept meanwhile.

    ``object_id`` is None if no object is seen to hold it.
    """

    def __init__(self, text: str, object_id: int | None, class_name: str, path: str) -> None:
        super().__init__(text)
        self.object_id = object_id
        self.class_name = class_name
        #: From the object to what cannot be pickled, as in ``self.jobs[3].lock``.
        self.path = path


class SnapshotUnusable(ConcoordError):
    """The bytes are not a snapshot of this ensemble that this process could restore. Nothing was changed."""


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


def write(head: Header, state: Any, holder: object, objects: Iterable[tuple[ObjectInfo, Any]]) -> bytes:
    """A snapshot. In the state, ``holder`` stands for whatever will hold the state when it is restored.

    Raises SnapshotFailed, which names one of ``objects`` (and their instances) if it can.
    """
    file = io.BytesIO()
    encoded = encode_message(head)
    file.write(_PREFIX.pack(_MAGIC, _FORMAT, len(encoded)) + encoded)
    body = file.tell()
    pickler = _StatePickler(file, holder)
    try:
        try:
            pickler.dump(state)
        except pickle.PicklingError as error:
            if not _is_too_deep(error):
                raise
            file.seek(body)
            file.truncate()
            pickler = _FlatPickler(file, holder)
            pickler.dump(state)
        pickler.dump(None)
    except MemoryError:
        raise
    except BaseException as error:  # Whatever a user's type raises when it is pickled.
        raise _failure(error, pickler.last, objects) from error
    return file.getvalue()


def header(data: bytes) -> Header:
    """The header of a snapshot. Raises SnapshotUnusable."""
    return _split(data)[0]


def read(data: bytes, ensemble: str, holder: object) -> tuple[Any, Types]:
    """The state, now of ``holder``, and the types in it. Raises SnapshotUnusable."""
    head, body = _split(data)
    if head.ensemble != ensemble:
        raise SnapshotUnusable(f"This is a snapshot of the ensemble {head.ensemble}, not of {ensemble}.")
    if head.python != sys.version_info[:2]:
        theirs, ours = (f"{major}.{minor}" for major, minor in (head.python, sys.version_info[:2]))
        raise SnapshotUnusable(f"Python {theirs} took this snapshot and Python {ours} cannot restore it. Use the same.")
    file = io.BytesIO(data)
    file.seek(body)
    types = Types()
    unpickler = Unpickler(file, {**types.makers, (__name__, _holder.__name__): lambda: holder})
    try:
        with _without_collections():
            state = unpickler.load()
            while (filling := unpickler.load()) is not None:
                _fill(*filling)
    except MemoryError:
        raise
    except BaseException as error:  # Whatever damaged bytes, or a user's type, make of it.
        text = (
            f"The snapshot cannot be unpickled: {type(error).__name__}: {said(error)}. Take one from another replica."
        )
        raise SnapshotUnusable(text) from error
    return state, types


def check(instance: Any, given: Iterable[Any]) -> None:
    """Raise TypeError if a new object could not be in a snapshot. ``given`` are the objects that it was given.

    It is pickled and unpickled by itself: without other objects, and without what is of this package.
    """
    file = io.BytesIO()
    pickler = _Excerpt(file, given)
    try:
        pickler.dump(instance)
    except MemoryError:
        raise
    except BaseException as error:
        if _is_too_deep(error):
            return  # How deep is too deep here depends on who called us: no reason that all replicas share.
        text = (
            f"{_path(instance, pickler.last)} ({type_name(type(pickler.last))}) cannot be pickled: {_told(error)}. The "
            f"attributes of a replicated object must be, for its snapshots; a __getstate__ can leave some out. "
            f"Calls run one at a time and need no lock."
        )
        raise TypeError(text) from None
    file.seek(0)
    try:
        Unpickler(file, {**Types().makers, (__name__, _cut.__name__): pickler.cut.__getitem__}).load()
    except MemoryError:
        raise
    except BaseException as error:
        text = (
            f"the new {type(instance).__name__} can be pickled, but not unpickled: {_told(error)}. Its snapshots could "
            f"not be restored. Look at its __getattr__, __reduce__ and __setstate__, and those of its attributes."
        )
        raise TypeError(text) from None


class _StatePickler(CodePickler):
    """Knows what it was at when it failed."""

    def __init__(self, file: io.BytesIO, holder: object) -> None:
        super().__init__(file)
        self.last: Any = None
        self._holder = holder

    def reducer_override(self, obj: Any) -> Any:
        self.last = obj
        if type(obj) in self._ordinary:
            return NotImplemented
        return (_holder, ()) if obj is self._holder else super().reducer_override(obj)


def _holder() -> Any:
    raise pickle.UnpicklingError("who holds the state is known to ``read`` alone")


class _FlatPickler(_StatePickler):
    """Gives instances their attributes later, so that following references takes no recursion.

    Not those with a hash of their own, which may be needed before, nor those that restore themselves.
    """

    def __init__(self, file: io.BytesIO, holder: object) -> None:
        super().__init__(file, holder)
        self._later: deque[tuple[Any, Any]] = deque()

    def dump(self, obj: Any) -> None:
        super().dump(obj)
        while self._later:
            super().dump(self._later.popleft())

    def reducer_override(self, obj: Any) -> Any:
        reduced = super().reducer_override(obj)
        if reduced is not NotImplemented or not self._waits(type(obj)):
            return reduced
        make, args, state, *contents = obj.__reduce_ex__(pickle.HIGHEST_PROTOCOL)
        if state is not None:
            self._later.append((obj, state))
        return make, args, None, *contents

    def _waits(self, kind: Any) -> bool:
        if issubclass(kind, (type, FunctionType)) or kind in self.dispatch_table or hasattr(kind, "__setstate__"):
            return False
        is_plain = (kind.__reduce__, kind.__reduce_ex__) == (object.__reduce__, object.__reduce_ex__)
        return is_plain and kind.__hash__ in (object.__hash__, None)


class _Excerpt(_StatePickler):
    """Pickles one object without what it shares with others: ``cut`` has what was left out.

    What is of this package can be pickled, as far as it does not hold what users put there; and so can classes that
    were pickled before.
    """

    def __init__(self, file: io.BytesIO, given: Iterable[Any]) -> None:
        super().__init__(file, holder=None)
        self.cut = list(given)
        self._given = range(len(self.cut))

    def reducer_override(self, obj: Any) -> Any:
        for place in self._given:
            if self.cut[place] is obj:
                return _cut, (place,)
        kind = type(obj)
        if came_by_value(obj) if issubclass(kind, type) else type_name(kind).startswith(_OURS):
            self.cut.append(obj)
            return _cut, (len(self.cut) - 1,)
        return super().reducer_override(obj)


def _cut(place: int) -> Any:
    raise pickle.UnpicklingError(f"part {place} was cut out, and only the process that did it has it")


def _split(data: bytes) -> tuple[Header, int]:
    """The header, and where the pickle begins."""
    if len(data) < _PREFIX.size or not data.startswith(_MAGIC):
        raise SnapshotUnusable("These bytes are not a snapshot.")
    _, version, size = _PREFIX.unpack_from(data)
    if version != _FORMAT:
        raise SnapshotUnusable(f"The snapshot has format {version}, and only format {_FORMAT} can be restored here.")
    body = _PREFIX.size + size
    try:
        return _decode_header(data[_PREFIX.size : body]), body
    except msgspec.MsgspecError as error:
        raise SnapshotUnusable(f"The header of the snapshot is damaged: {error}") from error


def _fill(obj: Any, state: Any) -> None:
    """As pickle gives an object its state."""
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        vars(obj).update(attributes)
    for name, value in (slots or {}).items():
        setattr(obj, name, value)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Nothing of a growing graph is garbage: to look for some takes most of the time of a million small objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


# What went wrong, and where.


def _failure(error: BaseException, culprit: Any, objects: Iterable[tuple[ObjectInfo, Any]]) -> SnapshotFailed:
    why = "it is nested too deeply" if _is_too_deep(error) else _told(error)
    for info, instance in objects:
        path = _find(instance, culprit)
        if path is not None:
            whose = f"{info.class_name}, object {info.object_id}" + (f" called {info.name!r}" if info.name else "")
            text = f"No snapshot: {path} ({type_name(type(culprit))}) of {whose} cannot be pickled: {why}."
            return SnapshotFailed(text, info.object_id, info.class_name, path)
    return SnapshotFailed(f"No snapshot: {type_name(type(culprit))} cannot be pickled: {why}.", None, "", "")


def _told(error: BaseException) -> str:
    """The same on every replica, so that its answers are."""
    return _ADDRESS.sub("", f"{type(error).__name__}: {said(error)}")


def _is_too_deep(error: BaseException) -> bool:
    return isinstance(error, pickle.PicklingError) and isinstance(error.__cause__, RecursionError)


def _path(instance: Any, culprit: Any) -> str:
    return _find(instance, culprit) or "self"


def _find(instance: Any, culprit: Any) -> str | None:
    """The shortest way from an object to something in it, as code would say it."""
    if instance is culprit:
        return "self"
    seen = {_address(instance)}
    todo = deque([("self", instance), ("type(self)", type(instance))])
    while todo:
        way, holder = todo.popleft()
        for step, part in _parts(holder):
            if part is culprit:
                return way + step
            if _address(part) not in seen:
                seen.add(_address(part))
                todo.append((way + step, part))
    return None


def _parts(holder: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, and how to get there from it."""
    kind = type(holder)
    if isinstance(holder, dict):
        for key, value in dict.items(holder):
            yield (f"[{key!r}]" if type(key) in PLAIN_TYPES else f"[<{type_name(type(key))}>]"), value
        yield from ((".keys()", key) for key in dict.keys(holder))
    elif isinstance(holder, (list, tuple, deque)):
        yield from ((f"[{index}]", value) for index, value in enumerate(holder))
    elif isinstance(holder, (set, frozenset)):
        yield from (("{...}", value) for value in holder)
    elif kind is FunctionType:
        for name, cell in zip(holder.__code__.co_freevars, holder.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # An empty cell.
                yield f".<{name}>", cell.cell_contents
    if came_by_value(holder) if issubclass(kind, type) else kind is not ModuleType:
        yield from ((f".{name}", value) for name, value in getattr(holder, "__dict__", {}).items())
    for base in kind.__mro__:
        for name, member in vars(base).items() if "__slots__" in vars(base) else ():
            if isinstance(member, MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # An empty slot.
                    yield f".{name}", member.__get__(holder)

"""How objects of each type are taken apart for a digest, wholly or in a sample.

Past whatever a subclass of a builtin type overrides: no ``__iter__``, ``__eq__``, ``__hash__`` or ``__repr__`` of users
runs here. What is asked of users' objects is what a snapshot asks them, and any answer will do. Types are told apart by
their addresses, since a metaclass may have a hash of its own.
"""

from __future__ import annotations

import collections
import copyreg
import enum
import functools
import itertools
import types
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

from concoord_ray.rsm.codec import PLAIN_TYPES
from concoord_ray.rsm.memory import is_out_of_memory
from concoord_ray.rsm.sampling import Parts, Sampler
from concoord_ray.rsm.wire import encode_plain

#: C code alone hashes a set of plain values, at so much less than the cost of other nodes.
SET_FACTOR = 16
address = id  # Tells objects apart during one walk. No address enters a digest.
PLAIN = frozenset(map(address, PLAIN_TYPES))
#: Begins each token that is not MessagePack, which never uses this byte.
MARK = b"\xc1"
_UNSET = object()
_WHOLE = slice(None)


class _Kind(NamedTuple):
    """How objects of one type are taken apart."""

    name: bytes
    #: What they are beyond their attributes.
    take: Callable[[Sampler, Any, int], Parts] | None
    has_dict: bool
    slots: tuple[tuple[str, Callable[[Any], Any]], ...]
    #: Attributes that are derived from others.
    derived: frozenset[str]
    #: It has a ``__getstate__`` of its own.
    says_state: bool


class _Heap(list[Any]):
    """Parts whose order does not count."""

    __slots__ = ()


class Anatomist:
    """Takes objects apart, for one walk."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        #: By the address of the type. Users' types may be gone after the walk.
        self._kinds = _BUILTIN.copy()

    def take(self, value: Any, room: int) -> tuple[bytes, Parts]:
        """An object's type and size as the beginning of a token, and its parts."""
        at = address(type(value))
        kind = self._kinds.get(at)
        if kind is None:
            kind = self._kinds[at] = _kind_of(type(value))
        contents = _contents(self._sampler, kind, value, room)
        return kind.name + encode_plain(contents.size) + contents.names, contents


def _contents(sampler: Sampler, kind: _Kind, value: Any, room: int) -> Parts:
    if kind.take is None:
        return _attributes(sampler, kind, value, room)
    if not (kind.has_dict or kind.slots or kind.says_state):
        return kind.take(sampler, value, room)
    attributes = _attributes(sampler, kind, value, room // 2 if sampler.sampling else room)
    contents = kind.take(sampler, value, room - len(attributes.parts))
    parts = sampler.keep(contents.parts if contents.is_ordered else _Heap(contents.parts))
    return Parts(contents.size, [*attributes.parts, parts], True, contents.cost, attributes.names)


def _attributes(sampler: Sampler, kind: _Kind, value: Any, room: int) -> Parts:
    """Names and values, in the order of the names; or what the object says of its state."""
    if kind.says_state and (said := _asked(_state, value)) is not _UNSET:
        return Parts(1, [sampler.keep(said)])
    try:
        state = object.__getattribute__(value, "__dict__") if kind.has_dict else {}
    except AttributeError:  # Some types of C have room for one, and none.
        state = {}
    if kind.slots or kind.derived:
        state = {name: found for name, found in state.items() if name not in kind.derived}
        for name, slot in kind.slots:
            try:
                state[name] = slot(value)
            except AttributeError:  # Not set.
                continue
    try:
        names = sorted(state)
        spelled = encode_plain(names)
    except (TypeError, UnicodeEncodeError):  # Not all are texts.
        return sampler.entries(state.keys(), state.values(), room)
    values = [state[name] for name in names]
    if sampler.fits(len(values), room):
        return Parts(len(values), values, names=spelled)
    return sampler.entries(names, values, room)


def type_name(kind: type) -> str:
    """Module and qualified name, whatever the metaclass says; of builtins the name alone."""
    module, name = vars(type)["__module__"].__get__(kind), vars(type)["__qualname__"].__get__(kind)
    return name if module == "builtins" else f"{module if isinstance(module, str) else '?'}.{name}"


def plain(value: Any) -> bytes:
    """A value of one of ``PLAIN_TYPES`` as a token."""
    try:
        return encode_plain(value)
    except OverflowError:  # An int of more than 64 bits.
        return MARK + b"i" + encode_plain(value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    except UnicodeEncodeError:
        return MARK + b"s" + encode_plain(value.encode("utf-8", "surrogatepass"))


_Take = Callable[[Sampler, Any, int], Parts]


# How objects are taken apart: past whatever a subclass of the builtin type overrides.


def _list(sampler: Sampler, value: Any, room: int) -> Parts:
    size = list.__len__(value)
    if sampler.fits(size, room):
        return Parts(size, list.__getitem__(value, _WHOLE))
    return Parts(size, sampler.cut(size, room, lambda a, b: list.__getitem__(value, slice(a, b))))


def _tuple(sampler: Sampler, value: Any, room: int) -> Parts:
    size = tuple.__len__(value)
    if sampler.fits(size, room):
        return Parts(size, tuple.__getitem__(value, _WHOLE))
    return Parts(size, sampler.cut(size, room, lambda a, b: tuple.__getitem__(value, slice(a, b))))


def _deque(sampler: Sampler, value: Any, room: int) -> Parts:
    size = collections.deque.__len__(value)
    parts = sampler.cut(size, room - 1, lambda a, b: itertools.islice(collections.deque.__iter__(value), a, b))
    return Parts(size, [_MAXLEN(value), *parts])


def _default_dict(sampler: Sampler, value: Any, room: int) -> Parts:
    contents = _dict(sampler, value, room - 1)
    return contents._replace(parts=[_FACTORY(value), *contents.parts])


def _dict(sampler: Sampler, value: Any, room: int) -> Parts:
    return sampler.entries(dict.keys(value), dict.values(value), room)


def _ordered_dict(sampler: Sampler, value: Any, room: int) -> Parts:
    """It iterates by looking keys up, which runs the code of users' types: entries with such keys lose their order."""
    size = len(dict.keys(value))
    if size > SET_FACTOR * room:
        return Parts(size, sampler.nothing(size))
    kinds = set(map(address, map(type, dict.keys(value))))
    if kinds == {address(tuple)}:
        kinds = set(map(address, map(type, itertools.chain.from_iterable(dict.keys(value)))))
    if not kinds <= PLAIN:
        is_small = 3 * size <= room
        entries = sampler.keep(list(dict.items(value))) if is_small else sampler.nothing(size)
        return Parts(size, entries, is_ordered=False)
    return sampler.entries(collections.OrderedDict.keys(value), collections.OrderedDict.values(value), room)


def _set_of(base: Any) -> _Take:
    def take(sampler: Sampler, value: Any, room: int) -> Parts:
        size = base.__len__(value)
        if size <= room:
            return Parts(size, list(base.__iter__(value)), False)
        none = sampler.nothing(size)
        if size > SET_FACTOR * room or not set(map(address, map(type, base.__iter__(value)))) <= PLAIN:
            return Parts(size, none)
        return Parts(size, [sum(map(zlib.crc32, map(plain, base.__iter__(value))))], cost=size // SET_FACTOR)

    return take


def _heap(_: Sampler, value: Any, __: int) -> Parts:
    return Parts(len(value), value, False)


def _bytearray(sampler: Sampler, value: Any, room: int) -> Parts:
    with memoryview(value) as view:
        return Parts(len(view), list(map(bytes, sampler.text(view, room - 3)[0])))


def _exactly(exact: Callable[[Any], Any]) -> _Take:
    """Of subclasses of numbers and texts: what they are to the builtin type."""
    return lambda sampler, value, room: Parts(1, [exact(value)])


def _enum(_: Sampler, value: Any, __: int) -> Parts:
    state = object.__getattribute__(value, "__dict__")
    return Parts(1, [state.get("_name_") or state.get("_value_")])


def _type(_: Sampler, value: Any, __: int) -> Parts:
    return Parts(1, [type_name(value)])


def _function(_: Sampler, value: Any, __: int) -> Parts:
    owner = getattr(value, "__self__", None)
    parts = [value.__module__, value.__qualname__]
    return Parts(1, parts if isinstance(owner, types.ModuleType) else [*parts, owner])


def _method(_: Sampler, value: Any, __: int) -> Parts:
    return Parts(1, [value.__func__, value.__self__])


def _module(_: Sampler, value: Any, __: int) -> Parts:
    return Parts(1, [types.ModuleType.__getattribute__(value, "__dict__").get("__name__")])


def _exception(_: Sampler, value: Any, __: int) -> Parts:
    return Parts(1, [_ARGS(value)])


def _array_of(base: Any) -> _Take:
    """Arrays of NumPy, by type, shape and bytes; of objects, as a list."""

    def take(sampler: Sampler, value: Any, room: int) -> Parts:
        array = base.view(value, base)
        shape, dtype = array.shape, str(array.dtype)
        if array.dtype.hasobject:
            return Parts(1, sampler.keep([shape, dtype, array.tolist()]))
        pieces, _ = sampler.text(array.ravel().view("u1"), room - 5)
        return Parts(1, sampler.keep([shape, dtype, *(piece.tobytes() for piece in pieces)]))

    return take


def _reduced_or(raw: _Kind) -> _Take:
    """What an object says of itself; its attributes, as ``raw`` has them, if it cannot say."""

    def take(sampler: Sampler, value: Any, room: int) -> Parts:
        said = _asked(_reduce, value)
        return _attributes(sampler, raw, value, room) if said is _UNSET else Parts(1, [sampler.keep(said)])

    return take


def _asked(ask: Callable[[Any], Any], value: Any) -> Any:
    try:
        return ask(value)
    except BaseException as error:  # Code of users, which may raise anything: then it has not said.
        if is_out_of_memory(error):
            raise
        return _UNSET


def _state(value: Any) -> Any:
    return value.__getstate__()


def _reduce(value: Any) -> Any:
    """A name, or [function, arguments, state, items, entries]."""
    known = [reduce for kind, reduce in copyreg.dispatch_table.items() if kind is type(value)]
    said = known[0](value) if known else value.__reduce_ex__(4)
    return said if isinstance(said, str) else [*said[:3], *(part and list(part) for part in said[3:5]), *said[5:]]


_MAXLEN: Callable[[Any], int | None] = vars(collections.deque)["maxlen"].__get__
_FACTORY: Callable[[Any], Any] = vars(collections.defaultdict)["default_factory"].__get__
_ARGS: Callable[[Any], tuple[Any, ...]] = vars(BaseException)["args"].__get__

#: By the address of the type, since a metaclass may have a hash of its own.
_TAKES: dict[int, _Take] = {
    address(kind): take
    for kind, take in {
        list: _list,
        tuple: _tuple,
        dict: _dict,
        collections.defaultdict: _default_dict,
        collections.OrderedDict: _ordered_dict,
        collections.deque: _deque,
        set: _set_of(set),
        frozenset: _set_of(frozenset),
        bytearray: _bytearray,
        _Heap: _heap,
        int: _exactly(int.__index__),
        float: _exactly(float.__float__),
        str: _exactly(str.__str__),
        bytes: _exactly(lambda value: bytes.__getitem__(value, slice(None))),
        BaseException: _exception,
        enum.Enum: _enum,
        type: _type,
        types.FunctionType: _function,
        types.BuiltinFunctionType: _function,
        types.MethodType: _method,
        types.ModuleType: _module,
    }.items()
}
#: Their attributes are not state.
_BY_NAME = frozenset({_enum, _type, _function, _method, _module})
#: Py_TPFLAGS_HEAPTYPE: not a static type of C.
_HEAP_TYPE = 1 << 9


def _kind_of(kind: type) -> _Kind:
    mro = kind.__mro__
    name = MARK + encode_plain(type_name(kind))
    takes = [_TAKES[address(base)] for base in mro if address(base) in _TAKES]
    if _enum in takes:
        takes = [_enum]
    elif arrays := [base for base in mro if type_name(base) == "numpy.ndarray"]:
        takes = [_array_of(arrays[0])]
    if takes and takes[0] in _BY_NAME:
        return _Kind(name, takes[0], False, (), frozenset(), False)
    own = {n: (base, member) for base in reversed(mro) if base is not object for n, member in vars(base).items()}
    slots = tuple(
        (n, member.__get__)
        for n, (base, member) in own.items()
        if type(member) is types.MemberDescriptorType and base.__flags__ & _HEAP_TYPE
    )
    derived = frozenset(n for n, (_, member) in own.items() if issubclass(type(member), functools.cached_property))
    says_state = "__getstate__" in own
    raw = _Kind(name, takes[0] if takes else None, bool(kind.__dictoffset__), slots, derived, says_state)
    if takes:
        return raw
    if "__reduce__" in own or "__reduce_ex__" in own or (not says_state and _is_hidden(mro)):
        return _Kind(name, _reduced_or(raw), False, (), frozenset(), False)
    return raw


def _is_hidden(mro: tuple[type, ...]) -> bool:
    """Whether code in C keeps a state in such objects that no attribute shows."""
    of_c = (base for base in mro if not base.__flags__ & _HEAP_TYPE or _maker(base) is base)
    return next(of_c).__basicsize__ > object.__basicsize__


def _maker(base: type) -> Any:
    return getattr(vars(base).get("__new__"), "__self__", None)


_BUILTIN = {address(kind): _kind_of(kind) for kind in (list, tuple, dict, set, frozenset, _Heap)}

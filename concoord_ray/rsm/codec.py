"""Values and classes as bytes.

One cloudpickle throughout (pip's own; Ray's vendored one keeps other class identities), with these additions:

- code that is **not installed** (anything outside of site-packages and the standard library) goes by value, with its
  whole top-level package: an ensemble outlives its drivers and cannot import what only they have;
- a **handle** is encoded as the id of the object that it stands for (a pickle persistent id), and decoded inside the
  executor as that object itself: so two conditions can share one lock;
- an **exception** is rebuilt without calling its ``__init__``, because those with a custom one do not survive pickling
  (see ``exceptions`` for those that are raised);
- the reader's **own** class is preferred to a shipped one of the same name, so that ``except MyError`` works;
- an **executor** has types of its own (``Types``), whatever else of the same origin lives in its process.
"""

from __future__ import annotations

import io
import pickle
import sys
import sysconfig
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import PurePath
from types import FunctionType
from typing import Any, NamedTuple, TypeVar
from weakref import WeakSet, WeakValueDictionary

import cloudpickle
from cloudpickle import cloudpickle as _internals

from concoord_ray.rsm.memory import is_out_of_memory
from concoord_ray.rsm.rope import Rope, RopeReader

_PROTOCOL = 5
PLAIN_TYPES = frozenset({int, float, bool, str, bytes, type(None)})
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
#: Where packages are installed, in whichever of a machine's Pythons and users' homes.
_SITES = frozenset({"site-packages", "dist-packages"})
_OURS = __name__.split(".", maxsplit=1)[0]
_by_value: dict[str, bool] = {"__main__": True, _OURS: False}


class Reference:
    """Base of whatever stands for a replicated object; it is encoded as the object's id."""

    __slots__ = ()

    def concoord_reference(self) -> tuple[str, int]:
        """(ensemble id, object id)."""
        raise TypeError(f"{type(self).__name__} does not say which object it stands for")


class Placeholder(NamedTuple):
    """A top-level argument whose value comes separately: it was an ObjectRef in the caller."""

    place: int


class CodePickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    """Pickles code that is not installed by value, and exceptions so that they can be made again."""

    def __init__(self, file: io.BytesIO | Rope) -> None:
        super().__init__(file, _PROTOCOL)
        #: Types of which instances were seen that need nothing special.
        self._ordinary: set[type] = set()

    def reducer_override(self, obj: Any) -> Any:
        """See ``pickle.Pickler``. Called for everything but the plainest values."""
        kind = type(obj)
        if kind in self._ordinary:
            return NotImplemented
        if issubclass(kind, (type, FunctionType, TypeVar)):
            return self._reduce_code(obj)
        if issubclass(kind, BaseException) and _needs_rebuilding(kind):
            cls, args, *state = obj.__reduce_ex__(_PROTOCOL)
            return rebuild_error, (cls, args), *state
        if kind.__name__ == "ObjectRef" and kind.__module__.split(".")[0] == "ray":
            raise TypeError(
                "An ObjectRef inside of another argument cannot be replicated, since the object behind it dies with "
                "its owner. Pass it as an argument of its own, which gives the method its value, or ray.get it first."
            )
        self._ordinary.add(kind)
        return NotImplemented

    def _reduce_code(self, obj: Any) -> Any:
        module = getattr(obj, "__module__", None)
        if isinstance(module, str):
            _ship_by_value(module.split(".", maxsplit=1)[0])
        reduced = super().reducer_override(obj)
        if isinstance(reduced, tuple) and reduced[0] is _internals._make_skeleton_class:
            namespace = reduced[1][3]
            namespace["__qualname__"] = obj.__qualname__  # Or a nested class would pass for one at the top.
            if vars(obj).get("__slots__"):  # Or its instances would have no slots, and not fit into the reader's class.
                namespace["__slots__"] = obj.__slots__
        return reduced


class _Pickler(CodePickler):
    def persistent_id(self, obj: Any) -> tuple[str, int] | None:
        return obj.concoord_reference() if isinstance(obj, Reference) else None


def _ship_by_value(package: str) -> None:
    """From now on pickle the package by value, unless it is installed."""
    if package in _by_value:
        return
    module = sys.modules.get(package)
    file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    _by_value[package] = file is not None and not _is_installed(file)
    if _by_value[package]:
        cloudpickle.register_pickle_by_value(module)


def _is_installed(file: str) -> bool:
    path = PurePath(file)
    return not _SITES.isdisjoint(path.parts) or any(path.is_relative_to(place) for place in _INSTALLED)


#: What makes a thing while it is unpickled, instead of the function of this module and name.
Makers = Mapping[tuple[str, str], Callable[..., Any]]


class Unpickler(pickle.Unpickler):
    """Decodes handles through ``resolve``, and makes things with ``makers``."""

    def __init__(
        self, file: io.BytesIO | RopeReader, makers: Makers, resolve: Callable[[str, int], Any] | None = None
    ) -> None:
        super().__init__(file)
        self._makers = makers
        self._resolve = resolve

    def persistent_load(self, pid: Any) -> Any:
        """See ``pickle.Unpickler``."""
        if self._resolve is None:
            raise pickle.UnpicklingError("a handle where none can be")
        ensemble, object_id = pid
        return self._resolve(ensemble, object_id)

    def find_class(self, module: str, name: str) -> Any:
        """See ``pickle.Unpickler``."""
        return self._makers.get((module, name)) or super().find_class(module, name)


#: cloudpickle's functions that make what is known by an id, and the place of the id among their arguments.
_TRACKED = {"_make_skeleton_class": 4, "_make_skeleton_enum": 5, "_make_typevar": 5}


class Types:
    """The types that one executor got by value, by the ids that cloudpickle gave them where they come from.

    Whoever pickles a type again passes its id on. What comes with the id of a type that the executor has is that type,
    and leaves it as it is: its class attributes may be state by now, and reads, which only one replica executes, bring
    types too.

    cloudpickle itself has one such register for a process, and defines anew what comes again. But then a class would be
    shared by all executors of a process, and by the process's own code, and by the state before and after a restore:
    what one does to it would happen to the others.

    How long a type is known of which the state has nothing any more differs between executors: until Python collects
    it, and not beyond a restore. So what methods set on a class is no state. Decoration warns of those that do.
    """

    def __init__(self) -> None:
        self._by_id: WeakValueDictionary[str, Any] = WeakValueDictionary()
        #: Made, and still without their attributes.
        self._empty: WeakSet[type] = WeakSet()
        #: For an ``Unpickler`` whose types these are.
        self.makers: Makers = {
            (_internals.__name__, "_class_setstate"): self._fill,
            **{
                (_internals.__name__, name): partial(self._make, getattr(_internals, name), place)
                for name, place in _TRACKED.items()
            },
        }

    def __reduce__(self) -> Any:
        """See ``object``. Types come along with what is of them, and are then those of whoever unpickles them."""
        return Types, ()

    def _make(self, make: Callable[..., Any], place: int, *args: Any) -> Any:
        tracker = args[place]
        known = self._by_id.get(tracker)
        if known is None:
            known = make(*args[:place], None, *args[place + 1 :])
            self._by_id[tracker] = known
            self._empty.add(known)
            with _internals._DYNAMIC_CLASS_TRACKER_LOCK:
                _internals._DYNAMIC_CLASS_TRACKER_BY_CLASS[known] = tracker
        return known

    def _fill(self, cls: type, state: Any) -> type:
        if cls in self._empty:
            self._empty.discard(cls)
            _internals._class_setstate(cls, state)
        return cls


def came_by_value(cls: type) -> bool:
    """Whether this class was pickled by value before."""
    return cls in _internals._DYNAMIC_CLASS_TRACKER_BY_CLASS


def _own_class(module: object, qualname: str) -> type | None:
    own: Any = sys.modules.get(module) if isinstance(module, str) else None
    for name in qualname.split("."):
        own = getattr(own, name, None)
        own = getattr(own, "__wrapped__", own)  # A decorated class stands for the class that it was made from.
    return own if isinstance(own, type) and own.__module__ == module else None


def _make_class(constructor: Any, name: str, bases: Any, kwargs: dict[str, Any], tracker: Any, extra: Any) -> type:
    own = _own_class(kwargs.get("__module__"), kwargs.get("__qualname__", name))
    made: type = own or _internals._make_skeleton_class(constructor, name, bases, kwargs, tracker, extra)
    return made


def _make_enum(bases: Any, name: str, qualname: str, members: Any, module: str, tracker: Any, extra: Any) -> type:
    own = _own_class(module, qualname)
    made: type = own or _internals._make_skeleton_enum(bases, name, qualname, members, module, tracker, extra)
    return made


def _fill_class(cls: type, state: Any) -> type:
    if _own_class(cls.__module__, cls.__qualname__) is cls:
        return cls
    filled: type = _internals._class_setstate(cls, state)
    return filled


#: Prefers classes that this process already has to the same classes shipped by value.
_OWN_FIRST: Makers = {
    (_internals.__name__, "_make_skeleton_class"): _make_class,
    (_internals.__name__, "_make_skeleton_enum"): _make_enum,
    (_internals.__name__, "_class_setstate"): _fill_class,
}


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in PLAIN_TYPES or (kind is tuple and all(type(item) in PLAIN_TYPES for item in value))


def encode(value: Any) -> bytes:
    """Pickle a value. Raises whatever its pickling raises."""
    if _is_plain(value):
        return pickle.dumps(value, _PROTOCOL)
    buffer = io.BytesIO()
    _Pickler(buffer).dump(value)
    return buffer.getvalue()


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Pickle a call's arguments: nothing as no bytes, positional ones as a tuple, all others as [args, kwargs]."""
    if not kwargs:
        return encode(args) if args else b""
    return encode([args, kwargs])


def decode_arguments(
    data: bytes, resolve: Callable[[str, int], Any], types: Types, values: tuple[bytes, ...] = ()
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inverse of ``encode_arguments``, where handles become what ``resolve`` says, and placeholders values."""
    if not data:
        return (), {}
    decoded = Unpickler(io.BytesIO(data), types.makers, resolve).load()
    args, kwargs = decoded if isinstance(decoded, list) else (decoded, {})
    if values:

        def fill(argument: Any) -> Any:
            if not isinstance(argument, Placeholder):
                return argument
            return Unpickler(io.BytesIO(values[argument.place]), types.makers, resolve).load()

        return tuple(map(fill, args)), {name: fill(argument) for name, argument in kwargs.items()}
    return args, kwargs


def decode_class(data: bytes, types: Types) -> type:
    """A class that was shipped to the ensemble."""
    cls: type = Unpickler(io.BytesIO(data), types.makers).load()
    return cls


def decode(data: bytes, resolve: Callable[[str, int], Any]) -> Any:
    """A result, in the process of the caller."""
    return Unpickler(io.BytesIO(data), _OWN_FIRST, resolve).load()


def said(error: BaseException) -> str:
    """What an exception says, if it can be asked: its ``__str__`` is user code."""
    try:
        return str(error)
    except BaseException as another:
        if is_out_of_memory(another):
            raise
        return f"<__str__ raised {type(another).__name__}>"


def builtin_base(cls: type[BaseException]) -> Any:
    """The first of Python's own classes that an exception's class is made from."""
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _needs_rebuilding(cls: type[BaseException]) -> bool:
    """Whether pickle would call an ``__init__`` of users with the arguments of ``Exception``."""
    builtin = builtin_base(cls)
    return builtin is not cls and (cls.__reduce__, cls.__reduce_ex__) == (builtin.__reduce__, builtin.__reduce_ex__)


def rebuild_error(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An exception without a call of its class's own ``__init__``."""
    builtin = builtin_base(cls)
    try:
        error: BaseException = builtin.__new__(cls, *args)
        builtin.__init__(error, *args)
    except TypeError:  # A base such as UnicodeDecodeError that insists on its own arguments.
        error = Exception.__new__(cls)
        error.args = args
    return error

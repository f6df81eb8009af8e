"""Values, classes and exceptions as bytes.

One cloudpickle throughout (pip's own; Ray's vendored one keeps other class identities), with these additions:

- code that is **not installed** (anything outside of site-packages and the standard library) goes by value, with its
  whole top-level package: an ensemble outlives its drivers and cannot import what only they have;
- a **handle** is encoded as the id of the object that it stands for (a pickle persistent id), and decoded inside the
  executor as that object itself: so two conditions can share one lock;
- an **exception** travels as type, arguments and attributes, because exceptions with a custom ``__init__`` do not
  survive pickling. It is rebuilt without calling that ``__init__``;
- the reader's **own** class is preferred to a shipped one of the same name, so that ``except MyError`` works.
"""

from __future__ import annotations

import contextlib
import io
import pickle
import sys
import sysconfig
import traceback
from collections.abc import Callable
from pathlib import PurePath
from types import MemberDescriptorType
from typing import Any, NamedTuple

import cloudpickle
import msgspec
from cloudpickle import cloudpickle as _internals

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


class RemoteTraceback(Exception):
    """Where, on the replica, an exception was raised. It is the ``__cause__`` of the exception in the caller."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # cloudpickle has no types
    def persistent_id(self, obj: Any) -> tuple[str, int] | None:
        return obj.concoord_reference() if isinstance(obj, Reference) else None

    def reducer_override(self, obj: Any) -> Any:
        module = getattr(obj, "__module__", None)
        if type(obj).__name__ == "ObjectRef" and type(obj).__module__.split(".")[0] == "ray":
            raise TypeError(
                "An ObjectRef inside of another argument cannot be replicated, since the object behind it dies with "
                "its owner. Pass it as an argument of its own, which gives the method its value, or ray.get it first."
            )
        if isinstance(module, str):
            _ship_by_value(module.split(".", maxsplit=1)[0])
        reduced = super().reducer_override(obj)
        if isinstance(reduced, tuple) and reduced[0] is _internals._make_skeleton_class:
            reduced[1][3]["__qualname__"] = obj.__qualname__  # Or a nested class would pass for one at the top.
        return reduced


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


class _Unpickler(pickle.Unpickler):
    """Decodes handles through ``resolve``."""

    def __init__(self, data: bytes, resolve: Callable[[str, int], Any]) -> None:
        super().__init__(io.BytesIO(data))
        self._resolve = resolve

    def persistent_load(self, pid: Any) -> Any:
        ensemble, object_id = pid
        return self._resolve(ensemble, object_id)


class _OwnClasses(_Unpickler):
    """Prefers classes that this process already has to the same classes shipped by value."""

    def find_class(self, module: str, name: str) -> Any:
        if module == _internals.__name__ and name in _OWN_FIRST:
            return _OWN_FIRST[name]
        return super().find_class(module, name)


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


_OWN_FIRST = {"_make_skeleton_class": _make_class, "_make_skeleton_enum": _make_enum, "_class_setstate": _fill_class}


def _is_plain(value: Any) -> bool:
    kind = type(value)
    return kind in PLAIN_TYPES or (kind is tuple and all(type(item) in PLAIN_TYPES for item in value))


def encode(value: Any) -> bytes:
    """Pickle a value. Raises whatever its pickling raises."""
    if _is_plain(value):
        return pickle.dumps(value, _PROTOCOL)
    buffer = io.BytesIO()
    _Pickler(buffer, _PROTOCOL).dump(value)
    return buffer.getvalue()


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """Pickle a call's arguments: nothing as no bytes, positional ones as a tuple, all others as [args, kwargs]."""
    if not kwargs:
        return encode(args) if args else b""
    return encode([args, kwargs])


def decode_arguments(
    data: bytes, resolve: Callable[[str, int], Any], values: tuple[bytes, ...] = ()
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inverse of ``encode_arguments``, where handles become what ``resolve`` says, and placeholders values."""
    if not data:
        return (), {}
    decoded = _Unpickler(data, resolve).load()
    args, kwargs = decoded if isinstance(decoded, list) else (decoded, {})
    if values:

        def fill(argument: Any) -> Any:
            if not isinstance(argument, Placeholder):
                return argument
            return _Unpickler(values[argument.place], resolve).load()

        return tuple(map(fill, args)), {name: fill(argument) for name, argument in kwargs.items()}
    return args, kwargs


def decode_class(data: bytes) -> type:
    """A class that was shipped to the ensemble."""
    cls: type = pickle.loads(data)
    return cls


def decode(data: bytes, resolve: Callable[[str, int], Any]) -> Any:
    """A result, in the process of the caller."""
    return _OwnClasses(data, resolve).load()


def encode_exception(error: BaseException) -> bytes:
    """An exception as type, arguments and attributes, made picklable by force if need be, with its traceback text."""
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    cls, args, state = type(error), error.args, {**_builtin_state(error), **vars(error)}
    attempts: tuple[Callable[[], tuple[Any, Any, Any]], ...] = (
        lambda: (cls, args, state),
        lambda: (cls, tuple(_or_repr(a) for a in args), {k: _or_repr(v) for k, v in state.items()}),
        lambda: (RuntimeError, (f"{cls.__qualname__}: {said(error)}",), {}),
    )
    for attempt in attempts[:-1]:
        try:
            return _pack_error(encode(attempt()), text)
        except MemoryError:  # Says something of this process, not of the exception.
            raise
        except BaseException:  # Whatever a user's __reduce__ raises: the next attempt carries less.
            continue
    return _pack_error(encode(attempts[-1]()), text)


def said(error: BaseException) -> str:
    """What an exception says, if it can be asked: its ``__str__`` is user code."""
    try:
        return str(error)
    except MemoryError:
        raise
    except BaseException as another:
        return f"<__str__ raised {type(another).__name__}>"


def _builtin_state(error: BaseException) -> dict[str, Any]:
    """What Python itself keeps outside of ``args`` and ``__dict__``, such as an OSError's file name."""
    state = {}
    for base in type(error).__mro__:
        for name, member in vars(base).items() if base.__module__ == "builtins" else ():
            if isinstance(member, MemberDescriptorType) and name != "obj":  # An AttributeError's object stays here.
                state[name] = getattr(error, name, None)
    return {name: value for name, value in state.items() if value is not None}


def error_text(data: bytes) -> str:
    """The traceback text of an encoded exception, for readers that do not have its class."""
    return msgspec.msgpack.decode(data, type=tuple[bytes, str])[1]


def _pack_error(encoded: bytes, text: str) -> bytes:
    printable = text.encode("utf-8", "backslashreplace").decode()  # A message may hold a lone surrogate.
    return msgspec.msgpack.encode((encoded, printable))


def _or_repr(value: Any) -> Any:
    try:
        encode(value)
    except MemoryError:
        raise
    except BaseException:  # As above: what cannot be pickled is told by its repr, or else by its type.
        try:
            return repr(value)
        except MemoryError:
            raise
        except BaseException:
            return f"<{type(value).__qualname__}>"
    return value


def decode_exception(data: bytes, resolve: Callable[[str, int], Any]) -> BaseException:
    """An exception of the caller's own type, with its message and attributes, whatever its ``__init__`` takes."""
    encoded, text = msgspec.msgpack.decode(data, type=tuple[bytes, str])
    cls, args, state = _OwnClasses(encoded, resolve).load()
    builtin = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    try:
        error: BaseException = builtin.__new__(cls, *args)
        builtin.__init__(error, *args)
    except TypeError:  # A base such as UnicodeDecodeError that insists on its own arguments.
        error = Exception.__new__(cls)
    error.args = args
    for name, kept in state.items():
        if isinstance(getattr(builtin, name, None), MemberDescriptorType):
            with contextlib.suppress(AttributeError, TypeError):  # A constant that ``args`` brought already.
                setattr(error, name, kept)
        else:
            error.__dict__[name] = kept
    error.__cause__ = RemoteTraceback(text)
    return error

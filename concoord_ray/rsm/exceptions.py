"""What a method raised, as bytes: type, arguments and attributes, and the text of the traceback.

Nothing that an exception's class does when it is looked at, printed, pickled or made again can stop the log: its
``__init__`` is not called, its ``args`` and ``__dict__`` are read past whatever overrides them, and where that does not
help it arrives as less: with the ``repr`` of what cannot be pickled, or as a RuntimeError that says what it said. The
bytes name no address in memory, so that every replica answers the same.
"""

from __future__ import annotations

import contextlib
import re
import traceback
from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any

import msgspec

from concoord_ray.rsm.codec import builtin_base, decode, encode, rebuild_error, said
from concoord_ray.rsm.memory import is_out_of_memory

#: What ``repr`` says of where an object is in memory: another place on every replica.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
#: These read, and set, what is there, whatever a class of users puts in their place.
_ARGS: Any = vars(BaseException)["args"]
_DICT: Any = vars(BaseException)["__dict__"]
_CAUSE: Any = vars(BaseException)["__cause__"]
_QUALNAME: Any = vars(type)["__qualname__"]
#: An AttributeError's object stays here. The other is set by the ``__cause__`` that every exception gets in the caller;
#: and Python, which uses each MemoryError again, leaves in it that of the one before.
_NOT_TOLD = frozenset({"obj", "__suppress_context__"})


class RemoteTraceback(Exception):
    """Where, on the replica, an exception was raised. It is the ``__cause__`` of the exception in the caller."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def encode_exception(error: BaseException) -> bytes:
    """An exception with its traceback's text, made picklable by force if need be."""
    text = _traceback_of(error)
    for attempt in (_whole, _shown, _said):
        try:
            return _pack(encode(attempt(error)), text)
        except BaseException as another:  # Whatever a class of users raises: the next attempt asks less of it.
            if is_out_of_memory(another):
                raise
    raise AssertionError("a text can be pickled")


def decode_exception(data: bytes, resolve: Callable[[str, int], Any]) -> BaseException:
    """An exception of the caller's own type, with its message and attributes, whatever its ``__init__`` takes.

    One whose class cannot be had or made here is a RuntimeError that says what it said.
    """
    encoded, text = msgspec.msgpack.decode(data, type=tuple[bytes, str])
    try:
        error = _made_again(*decode(encoded, resolve))
    except (Exception, SystemExit, GeneratorExit) as another:
        last = text.rstrip().rpartition("\n")[2]
        error = RuntimeError(f"{last} (its class does not work here: {type(another).__name__}: {said(another)})")
    _CAUSE.__set__(error, RemoteTraceback(text))
    return error


def error_text(data: bytes) -> str:
    """The traceback text of an encoded exception, for readers that do not have its class."""
    return msgspec.msgpack.decode(data, type=tuple[bytes, str])[1]


# How much of it is told.


def _whole(error: BaseException) -> tuple[Any, Any, Any]:
    return type(error), _ARGS.__get__(error), {**_builtin_state(error), **_DICT.__get__(error)}


def _shown(error: BaseException) -> tuple[Any, Any, Any]:
    cls, args, state = _whole(error)
    return cls, tuple(map(_or_repr, args)), {name: _or_repr(value) for name, value in state.items()}


def _said(error: BaseException) -> tuple[Any, Any, Any]:
    return RuntimeError, (f"{_QUALNAME.__get__(type(error))}: {said(error)}",), {}


def _builtin_state(error: BaseException) -> dict[str, Any]:
    """What Python itself keeps outside of ``args`` and ``__dict__``, such as an OSError's file name."""
    state = {}
    for base in type(error).__mro__:
        for name, member in vars(base).items() if base.__module__ == "builtins" else ():
            if isinstance(member, MemberDescriptorType) and name not in _NOT_TOLD:
                state[name] = member.__get__(error)
    return {name: value for name, value in state.items() if value is not None}


def _traceback_of(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except BaseException as another:  # ``traceback`` believes what a class of users says of itself.
        if is_out_of_memory(another):
            raise
        text = f"{_QUALNAME.__get__(type(error))}: <no traceback: {type(another).__name__}>"
    return _ADDRESS.sub("", text)


def _or_repr(value: Any) -> Any:
    try:
        encode(value)
    except BaseException as error:  # As above: what cannot be pickled is told by its repr, or else by its type.
        if is_out_of_memory(error):
            raise
        try:
            return _ADDRESS.sub("", repr(value))
        except BaseException as another:
            if is_out_of_memory(another):
                raise
            return f"<{_QUALNAME.__get__(type(value))}>"
    return value


def _pack(encoded: bytes, text: str) -> bytes:
    printable = text.encode("utf-8", "backslashreplace").decode()  # A message may hold a lone surrogate.
    return msgspec.msgpack.encode((encoded, printable))


def _made_again(cls: Any, args: Any, state: dict[str, Any]) -> BaseException:
    builtin = builtin_base(cls)
    error = rebuild_error(cls, args)
    _ARGS.__set__(error, args)
    for name, kept in state.items():
        member = getattr(builtin, name, None)
        if isinstance(member, MemberDescriptorType):
            with contextlib.suppress(AttributeError, TypeError):  # A constant that ``args`` brought already.
                member.__set__(error, kept)
        else:
            _DICT.__get__(error)[name] = kept
    return error

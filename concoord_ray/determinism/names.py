"""What names stand for: dotted names of objects, and attributes of classes as they are, without running descriptors."""

from __future__ import annotations

import builtins
import collections
import functools
import inspect
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from concoord_ray.determinism.rules import real_name
from concoord_ray.determinism.values import NOTHING, UNKNOWN, Kind, Value
from concoord_ray.rsm.codec import _is_installed

#: The generator behind random.random and the others.
_RANDOM = random._inst
_OURS = str(Path(__file__).resolve().parents[1])
#: What a module or a class may hold, and a method change.
MUTABLE = frozenset(
    {
        list, dict, bytearray, collections.deque, collections.defaultdict, collections.OrderedDict, collections.Counter,
    }
)  # fmt: skip


def path_of(obj: Any) -> str:
    """The dotted name by which users know a module, class or function; empty for what has none."""
    kind = type(obj)
    if issubclass(kind, ModuleType):
        return real_name(obj.__name__)
    if kind in (BuiltinFunctionType, MethodType):
        owner, name = obj.__self__, obj.__name__
        if getattr(builtins, name, None) is obj:  # open is of the module io.
            return str(name)
        if owner is _RANDOM:
            return f"random.{name}"
        if owner is not None and owner is getattr(sys.modules.get("numpy.random.mtrand"), "_rand", None):
            return f"numpy.random.{name}"
        if issubclass(type(owner), type):
            return _path_of_attribute(owner, name)
        if owner is not None and not issubclass(type(owner), ModuleType):
            return _path_of_attribute(type(owner), name)
    elif kind is functools.partial:
        return path_of(obj.func)
    elif not _is_code(kind):
        return ""
    module, name = obj.__module__, obj.__qualname__
    return name if module == "builtins" else real_name(f"{module}.{name}")


def _is_code(kind: type) -> bool:
    """Whether it is a type of classes or functions; Cython, which NumPy is made with, has its own."""
    return issubclass(kind, (type, FunctionType, BuiltinFunctionType, MethodType)) or kind.__name__ == _CYTHON


_CYTHON = "cython_function_or_method"


def _path_of_attribute(cls: type, name: str) -> str:
    base, _ = static(cls.__mro__, name)
    return f"{path_of(base or cls)}.{name}"


def static(mro: tuple[type, ...], name: str) -> tuple[type | None, Any]:
    """An attribute as it is in the first class that has it; NOTHING if none has."""
    for base in mro:
        members = vars(base)
        if name in members:
            return base, members[name]
    return None, NOTHING


def is_descriptor(kind: type, name: str) -> bool:
    """Whether a type has that method of descriptors, written in Python."""
    return isinstance(static(kind.__mro__, name)[1], FunctionType)


def functions(obj: Any) -> Iterator[FunctionType]:
    """The functions of Python inside of a method, property, wrapper or partial; what is wrapped comes first."""
    for _ in range(_WRAPPERS):
        if isinstance(obj, (staticmethod, classmethod, MethodType)):
            obj = obj.__func__
        elif isinstance(obj, property):
            obj = obj.fget
        elif isinstance(obj, (functools.partial, functools.partialmethod, functools.cached_property)):
            obj = obj.func
        elif type(obj) is not FunctionType and hasattr(obj, "__wrapped__"):
            obj = obj.__wrapped__
        else:
            break
    if isinstance(obj, FunctionType):
        wrapped = vars(obj).get("__wrapped__")
        if wrapped is not None and wrapped is not obj:
            yield from functions(wrapped)
        yield obj


_WRAPPERS = 8


def is_users(function: FunctionType, package: str) -> bool:
    """Whether to look into a function: it is not installed, or belongs to the package of the replicated class."""
    name = function.__globals__.get("__name__")
    if isinstance(name, str) and name.partition(".")[0] == package:
        return True
    return _is_users_file(function.__code__.co_filename)


@functools.lru_cache(maxsize=1024)
def _is_users_file(file: str) -> bool:
    return not (file.startswith(("<frozen", _OURS)) or _is_installed(file))


def value_of(obj: Any, name: str) -> Value:
    """A global, a constant of a class, or a variable of an enclosing function."""
    kind = type(obj)
    if _is_code(kind) or issubclass(kind, ModuleType) or (kind is functools.partial and _is_code(type(obj.func))):
        return Value(Kind.KNOWN, obj, path_of(obj))
    if kind in (set, frozenset):
        return Value(Kind.SET, obj, name)
    if kind in (str, bytes):
        return Value(Kind.TEXT, obj)
    if kind in MUTABLE:
        return Value(Kind.KNOWN, obj, name)
    return Value(Kind.INSTANCE, kind, name)


def module_of(name: str, level: int, package: str | None) -> Value:
    """An imported module; one that is not loaded yet by its name alone."""
    if level:
        base = (package or "").rsplit(".", level - 1)[0]
        name = f"{base}.{name}" if name else base
    module = sys.modules.get(name)
    return Value(Kind.KNOWN, NOTHING if module is None else module, real_name(name))


def in_module(module: Any, path: str, name: str) -> Value:
    """An attribute of a module."""
    found = NOTHING if module is NOTHING else vars(module).get(name, NOTHING)
    if found is NOTHING:
        found = sys.modules.get(f"{path}.{name}", NOTHING)
    if found is NOTHING:
        return Value(Kind.KNOWN, NOTHING, f"{path}.{name}")
    value = value_of(found, f"{path}.{name}")
    if value.kind is Kind.KNOWN and not issubclass(type(found), ModuleType):
        value.path = f"{path}.{name}"
    return value


def of_default(obj: Any, name: str) -> Value | None:
    """What a parameter is known to be if it is not given; None if a value that is given is as likely."""
    kind = type(obj)
    if kind in MUTABLE or kind is set:
        return Value(Kind.KNOWN, obj, f"default of {name}", of=UNKNOWN)
    if _is_code(kind) or issubclass(kind, (ModuleType, functools.partial, random.Random)):
        return value_of(obj, f"default of {name}")
    return None


def mentions(functions: Iterator[FunctionType], name: str) -> bool:
    """Whether any of these functions, or what is defined in it, has an attribute or global of that name."""
    codes = [function.__code__ for function in functions]
    for code in codes:  # It grows on the way.
        if name in code.co_names:
            return True
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return False


def is_coroutine(function: FunctionType) -> bool:
    """Whether it was made by ``async def``."""
    return bool(function.__code__.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR))


def is_generator(function: FunctionType) -> bool:
    """Whether what it returns is a generator."""
    return bool(function.__code__.co_flags & inspect.CO_GENERATOR)

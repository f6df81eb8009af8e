"""Reads the methods of a class, and whatever code of users they call, for what would make replicas differ.

Begins at the constructor, the guards and the methods that go through the log, and follows calls of functions, classes
and modules that are not installed, to a bounded depth. A method that is only called by @readonly ones is not looked at:
those run on one replica, and no other has to agree. What cannot be resolved is passed over.
"""

from __future__ import annotations

import builtins
import collections
import logging
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

from concoord_ray.determinism import rules
from concoord_ray.determinism.machine import Machine
from concoord_ray.determinism.names import (
    MUTABLE,
    functions,
    in_module,
    is_coroutine,
    is_users,
    module_of,
    path_of,
    static,
    value_of,
)
from concoord_ray.determinism.rules import Rule
from concoord_ray.determinism.values import NOTHING, UNKNOWN, Kind, Value
from concoord_ray.rsm.command import MethodFlag
from concoord_ray.rsm.methods import guard_of

_log = logging.getLogger(__name__)

#: How deep calls are followed, and into how many functions in all.
_DEPTH = 8
_FUNCTIONS = 300


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that would make replicas differ, or might."""

    #: Class.method.
    method: str
    file: str
    line: int
    #: Such as ``time.time()``.
    what: str
    rule: Rule
    is_sure: bool

    def __str__(self) -> str:
        instead = self.rule.instead[0].upper() + self.rule.instead[1:]
        return f"{self.method} {self.rule.why}: {self.what} at {self.file}:{self.line}. {instead}."


class Scan:
    """One look at one class. Implements ``values.Reader``."""

    def __init__(self, cls: type, methods: Mapping[str, int]) -> None:
        self._cls = cls
        self._methods = methods
        module = getattr(cls, "__module__", None)
        self._package = module.partition(".")[0] if isinstance(module, str) else ""
        self._found: dict[tuple[str, int, str], Finding] = {}
        self._root = ""
        self._depth = 0
        self._seen: dict[int, CodeType] = {}
        #: What attributes of objects are, by the address of the class.
        self._attributes: dict[int, dict[str, Value]] = {}

    def findings(self) -> list[Finding]:
        """What was found, in the order of the methods."""
        this = Value(Kind.INSTANCE, self._cls)
        for name, base, found in self._roots():
            self._root = f"{self._cls.__name__}.{name}"
            for function in functions(found):
                if base is self._cls or is_users(function, self._package):
                    self._read(function, Value(Kind.KNOWN, self._cls) if isinstance(found, classmethod) else this)
        return list(self._found.values())

    def _roots(self) -> Iterator[tuple[str, type | None, Any]]:
        for name in ("__new__", "__init__"):
            yield name, *static(self._cls, name)
        for name, flags in self._methods.items():
            if not flags & (MethodFlag.READONLY | MethodFlag.IN_CALLER):
                if flags & MethodFlag.GUARDED:
                    yield name, self._cls, guard_of(getattr(self._cls, name))
                yield name, *static(self._cls, name)

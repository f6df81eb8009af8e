"""Reads functions: what is known of the objects, names and attributes in them, and what they change.

Calls of functions, classes and modules that are not installed are followed, to a bounded depth. What cannot be resolved
is passed over, and so is a function that is odder than the machine thinks.
"""

from __future__ import annotations

import collections
import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Any

from concoord_ray.determinism import rules
from concoord_ray.determinism.machine import Machine
from concoord_ray.determinism.names import (
    MUTABLE,
    functions,
    in_module,
    is_descriptor,
    is_users,
    module_of,
    of_default,
    path_of,
    static,
    value_of,
)
from concoord_ray.determinism.rules import Rule
from concoord_ray.determinism.texts import has_own_address, speaker
from concoord_ray.determinism.values import NOTHING, UNKNOWN, Kind, Value, has_order_of_set

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


class Reading(ABC):
    """What was read and found so far. Implements ``values.Reader`` but for calls."""

    def __init__(self, package: str) -> None:
        self.package = package
        #: The method that is read, as Class.method.
        self.root = ""
        self.found: dict[tuple[str, int, str], Finding] = {}
        self._depth = 0
        self._seen: dict[int, CodeType] = {}
        #: What attributes of objects are, by the address of the class.
        self._attributes: dict[int, dict[str, Value]] = {}

    @abstractmethod
    def called(self, machine: Machine, callee: Value, args: list[Value] | None) -> Value:
        """See ``Reader``."""

    def read(self, function: FunctionType, receiver: Value | None) -> None:
        """Run a function, unless it was before, with what is known of its first parameter."""
        code = function.__code__
        if id(code) in self._seen or self._depth >= _DEPTH or len(self._seen) >= _FUNCTIONS:
            return
        self._seen[id(code)] = code
        names = code.co_varnames[: code.co_argcount]
        defaults = function.__defaults__ or ()
        given = {**dict(zip(reversed(names), reversed(defaults), strict=False)), **(function.__kwdefaults__ or {})}
        parameters = {name: value for name in given if (value := of_default(given[name], name)) is not None}
        if receiver is not None and names:
            parameters[names[0]] = receiver
        self._run(code, function.__globals__, _cells(function), parameters)

    def enter(self, callee: Any, receiver: Value | None) -> None:
        """Read what users wrote of something that is called."""
        for function in functions(callee):
            if is_users(function, self.package):
                self.read(function, receiver)

    def _run(
        self, code: CodeType, names: Mapping[str, Any], cells: Mapping[str, Value], parameters: Mapping[str, Value]
    ) -> None:
        self._depth += 1
        try:
            Machine(self, code, names, cells, parameters).run()
        except Exception:  # Some object on the way is odder than we thought. What is not understood is passed over.
            _log.debug("%s of %s could not be read to its end", code.co_name, self.root, exc_info=True)
        finally:
            self._depth -= 1

    def report(self, file: str, line: int, what: str, rule: Rule, *, is_sure: bool | None = None) -> None:
        """Something was found."""
        if is_sure is None:
            is_sure = rule not in rules.UNCERTAIN
        self.found.setdefault((file, line, what), Finding(self.root, file, line, what, rule, is_sure))

    def note(self, machine: Machine, what: str, rule: Rule, *, is_sure: bool | None = None) -> None:
        """Something was found where the machine is."""
        self.report(machine.code.co_filename, machine.line, what, rule, is_sure=is_sure)

    # values.Reader

    def resolve(self, machine: Machine, obj: Any, name: str) -> Value:
        """See ``Reader``."""
        return self._seen_at(machine, value_of(obj, name), name)

    def _seen_at(self, machine: Machine, value: Value, shown: str) -> Value:
        """Note what is wrong without a call."""
        if value.kind is not Kind.KNOWN or not isinstance(value.obj, type):
            of_class = path_of(value.obj) if value.kind is Kind.INSTANCE else ""
            rule = rules.ON_SIGHT.get(value.path) or rules.ON_SIGHT.get(of_class)
            if rule is not None:
                self.note(machine, shown, rule)
        return value

    def imported(self, machine: Machine, name: str, level: int, has_names: bool) -> Value:
        """See ``Reader``."""
        return module_of(name if has_names else name.partition(".")[0], level, machine.names.get("__package__"))

    def attribute(self, machine: Machine, of: Value, name: str) -> Value:
        """See ``Reader``."""
        if of.kind is Kind.KNOWN:
            if of.obj is NOTHING or issubclass(type(of.obj), ModuleType):
                value = in_module(of.obj, of.path, name)
                if name == "__dict__" and of.path in rules.HOLDERS:
                    self.note(machine, f"{of.path}.__dict__", rules.HIDDEN)
                return self._seen_at(machine, value, value.path)
            if issubclass(type(of.obj), type):
                return self._in_class(of.obj, of.obj.__mro__, name, of)
        elif of.kind is Kind.INSTANCE:
            known = None if of.path else self._attributes.get(id(of.obj), {}).get(name)
            if known is not None:
                return known
            if name == "__class__":
                return value_of(of.obj, name)
            return self._in_class(of.obj, of.obj.__mro__, name, of)
        elif of.kind is Kind.SUPER and of.of is not None:
            cls: type = of.of.obj
            mro = cls.__mro__
            after = mro[mro.index(of.obj) + 1 :] if of.obj in mro else ()
            return self._in_class(cls, after, name, of.of)
        return Value(Kind.METHOD, path=name, of=of)

    def _in_class(self, cls: type, mro: tuple[type, ...], name: str, of: Value) -> Value:
        base, raw = static(mro, name)
        if base is None:
            return Value(Kind.METHOD, path=name, of=of)
        kind = type(raw)
        if kind in MUTABLE:
            return Value(Kind.KNOWN, raw, f"{cls.__name__}.{name}", of)
        if kind in (set, frozenset):
            return Value(Kind.SET, raw, f"{cls.__name__}.{name}", of)
        if isinstance(raw, (property, functools.cached_property)):
            if of.kind is Kind.INSTANCE:
                self.enter(raw, of)
            return UNKNOWN
        if isinstance(raw, staticmethod):
            return value_of(raw.__func__, name)
        if is_descriptor(kind, "__get__"):
            self.enter(static(kind.__mro__, "__get__")[1], Value(Kind.INSTANCE, kind))
        if hasattr(kind, "__get__") or callable(raw):
            return Value(Kind.METHOD, raw, f"{path_of(base)}.{name}", of)
        return value_of(raw, name)

    def made(self, machine: Machine, code: CodeType) -> None:
        """See ``Reader``. What is made is taken to be called."""
        if self._depth < _DEPTH:
            self._run(code, machine.names, collections.ChainMap(machine.variables, dict(machine.cells)), {})

    def changed(self, machine: Machine, target: Value, name: str | None, value: Value) -> None:
        """See ``Reader``."""
        if value.kind is Kind.UNORDERED:
            self.ordered(machine)
        if target.kind is Kind.INSTANCE and not target.path:
            if name is not None and not self._set_by_code(target, name):
                attributes = self._attributes.setdefault(id(target.obj), {})
                known = attributes.setdefault(name, value)
                if known.kind is not value.kind or known.obj is not value.obj:
                    attributes[name] = UNKNOWN
            return
        shown = f"{target.path}[...]" if name is None else f"{target.path}.{name}"
        if target.kind is Kind.INSTANCE or (target.kind is Kind.KNOWN and issubclass(type(target.obj), ModuleType)):
            self.note(machine, f"{shown} = ...", rules.GLOBAL)
        elif target.kind is Kind.KNOWN and issubclass(type(target.obj), type):
            self.note(machine, f"{shown} = ...", rules.SHARED)
        elif target.kind is Kind.KNOWN and type(target.obj) in MUTABLE:
            self.note(machine, f"{shown} = ...", rules.GLOBAL if target.of is None else rules.SHARED)

    def _set_by_code(self, target: Value, name: str) -> bool:
        """Whether setting an attribute runs code, and keeps no value by that name."""
        raw = static(target.obj.__mro__, name)[1]
        if isinstance(raw, property):
            self.enter(raw.fset, target)
            return True
        if is_descriptor(type(raw), "__set__"):
            self.enter(static(type(raw).__mro__, "__set__")[1], Value(Kind.INSTANCE, type(raw)))
            return True
        return False

    def shown(self, machine: Machine, value: Value, how: str) -> Value:
        """See ``Reader``."""
        what, is_sure = "", True
        if value.kind is Kind.TEXT:
            return value
        if has_order_of_set(value):
            self.ordered(machine)
        if value.kind is Kind.TUPLE:
            return next((text for each in value.obj if (text := self.shown(machine, each, "__repr__")).obj), _TEXT)
        if value.kind is Kind.METHOD and isinstance(value.obj, FunctionType) and value.of is not None:
            if value.of.kind is Kind.INSTANCE:  # A bound method shows its object.
                return self.shown(machine, value.of, "__repr__")
        elif value.kind is Kind.INSTANCE:
            speaks = speaker(value.obj, how)
            self.enter(speaks, value)
            if speaks is None and has_own_address(value.obj):
                what = f"the text of an object of {value.obj.__qualname__}"
                # Another method may set the attribute to something else.
                is_sure = not any(value is each for known in self._attributes.values() for each in known.values())
        elif isinstance(value.obj, FunctionType) or (value.kind is Kind.MADE and value.obj.co_name == "<lambda>"):
            what = "the text of a function"
        if not what:
            return _TEXT
        self.note(machine, what, rules.SHOWN, is_sure=is_sure)
        return Value(Kind.TEXT, (machine.code.co_filename, machine.line, what))

    def written(self, args: list[Value]) -> None:
        """Texts go to a log or a terminal, where an address does no harm."""
        for arg in args:
            if arg.kind is Kind.TEXT and isinstance(arg.obj, tuple):
                self.found.pop(arg.obj, None)

    def changed_global(self, machine: Machine, name: str) -> None:
        """See ``Reader``."""
        self.note(machine, f"global {name}", rules.GLOBAL)

    def ordered(self, machine: Machine) -> None:
        """See ``Reader``."""
        self.note(machine, "items of a set one by one", rules.ORDER)


#: A text of which nothing else is known.
_TEXT = Value(Kind.TEXT)


def _cells(function: FunctionType) -> dict[str, Value]:
    """The variables of enclosing functions."""
    cells = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            cells[name] = value_of(cell.cell_contents, name)
        except ValueError:  # Not assigned yet.
            continue
    return cells

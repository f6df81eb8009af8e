"""One look at one class: where to begin, and what the calls in it mean.

It begins at the constructor, the guards, and the methods that go through the log. What only @readonly methods call is
not looked at: those run on one replica, and no other has to agree with it. Methods that run in the caller's process are
as free as any other code there.
"""

from __future__ import annotations

import builtins
import logging
import random
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

from concoord_ray.determinism import rules
from concoord_ray.determinism.machine import Machine
from concoord_ray.determinism.names import MUTABLE, functions, is_users, path_of, static
from concoord_ray.determinism.reading import Finding, Reading
from concoord_ray.determinism.values import NOTHING, UNKNOWN, Kind, Value, has_order_of_set
from concoord_ray.rsm.command import MethodFlag
from concoord_ray.rsm.methods import guard_of

_log = logging.getLogger(__name__)


class Scan(Reading):
    """One look at one class."""

    def __init__(self, cls: type, methods: Mapping[str, int]) -> None:
        module = getattr(cls, "__module__", None)
        super().__init__(module.partition(".")[0] if isinstance(module, str) else "")
        self._cls = cls
        self._methods = methods

    def findings(self) -> list[Finding]:
        """What was found, in the order of the methods."""
        for name, found in self._roots():
            self.root = f"{self._cls.__name__}.{name}"
            try:
                self._begin(name, found)
            except Exception:  # As odd as an attribute can be. It is passed over.
                _log.debug("%s could not be read", self.root, exc_info=True)
        return list(self.found.values())

    def _begin(self, name: str, found: Any) -> None:
        receiver: Value | None = Value(Kind.INSTANCE, self._cls)
        if name == "__new__" or isinstance(found, classmethod):
            receiver = Value(Kind.KNOWN, self._cls)
        elif isinstance(found, staticmethod):
            receiver = None
        for function in functions(found):
            if is_users(function, self.package):
                self.read(function, receiver)

    def _roots(self) -> Iterator[tuple[str, Any]]:
        mro = self._cls.__mro__
        for name in ("__new__", "__init__"):
            yield name, static(mro, name)[1]
        for name, flags in self._methods.items():
            if not flags & (MethodFlag.READONLY | MethodFlag.IN_CALLER):
                if flags & MethodFlag.GUARDED:
                    yield name, guard_of(getattr(self._cls, name))
                yield name, static(mro, name)[1]

    def called(self, machine: Machine, callee: Value, args: list[Value] | None) -> Value:
        """See ``Reader``."""
        given = args or []
        for arg in given:
            if arg.kind is Kind.METHOD or (arg.kind is Kind.KNOWN and isinstance(arg.obj, FunctionType)):
                self.enter(arg.obj, arg.of)  # Whoever gets it calls it.
        if callee.kind is Kind.KNOWN:
            return self._called_known(machine, callee, args)
        if callee.kind is Kind.METHOD and callee.of is not None:
            return self._called_method(machine, callee, callee.of, args)
        if callee.kind is Kind.MADE:
            return _of_comprehension(callee.obj, given)
        if callee.kind is Kind.INSTANCE:
            self.enter(static(callee.obj.__mro__, "__call__")[1], callee)
        self._note_order(machine, given)
        return UNKNOWN

    def _judge(self, machine: Machine, callee: Value, shown: str, args: list[Value] | None) -> None:
        """Note a call that is forbidden by the name of what is called. (A lock that is there already does no harm.)"""
        if isinstance(callee.obj, type) and issubclass(callee.obj, BaseException):
            return
        count = None if args is None else sum(not (arg.kind is Kind.KNOWN and arg.obj is None) for arg in args)
        for path in (callee.path, path_of(callee.obj)):
            is_known, rule = rules.rule_of(path, count)
            if rule is not None:
                is_harmless = rule is rules.THREADS and callee.of is not None
                self.note(machine, f"{shown}()", rule, is_sure=False if is_harmless else None)
            if is_known:
                return

    def _note_order(self, machine: Machine, args: list[Value], *, sets_too: bool = False) -> None:
        if any(arg.kind is Kind.UNORDERED or (sets_too and arg.kind is Kind.SET) for arg in args):
            self.ordered(machine)

    def _called_known(self, machine: Machine, callee: Value, args: list[Value] | None) -> Value:
        self._judge(machine, callee, callee.path, args)
        obj, given = callee.obj, args or []
        if obj is super:
            return _super(machine, given)
        if getattr(builtins, callee.path or " ", NOTHING) is obj:
            return self._called_builtin(machine, callee.path, given)
        self._note_order(machine, given)
        if isinstance(obj, FunctionType):
            self.enter(obj, None)
        elif isinstance(obj, type):
            made = Value(Kind.INSTANCE, obj)
            for name in ("__new__", "__init__"):
                self.enter(static(obj.__mro__, name)[1], made if name == "__init__" else callee)
            return made
        return UNKNOWN

    def _called_builtin(self, machine: Machine, name: str, args: list[Value]) -> Value:
        if name in ("set", "frozenset"):
            return Value(Kind.SET)
        if name == "type" and len(args) == 1 and args[0].kind is Kind.INSTANCE:
            return Value(Kind.KNOWN, args[0].obj, path_of(args[0].obj))
        if name == "hash" and args:
            self._called_hash(machine, args[0])
        if any(map(has_order_of_set, args)):
            if name in rules.ORDERED:
                return Value(Kind.UNORDERED)
            self._note_order(machine, [] if name in rules.NEUTRAL else args, sets_too=name in ("next", "str", "repr"))
        return Value(Kind.TEXT) if name in ("str", "repr", "format", "ascii", "chr", "bytes") else UNKNOWN

    def _called_hash(self, machine: Machine, of: Value) -> None:
        """Of numbers it is the same everywhere; what a ``__hash__`` says is for sets and dicts."""
        if of.kind is Kind.TEXT:
            self.note(machine, "hash() of a text", rules.HASH, is_sure=True)
        elif machine.code.co_name != "__hash__" and not isinstance(of.obj, (int, float)):
            self.note(machine, "hash()", rules.HASH)

    def _called_method(self, machine: Machine, callee: Value, of: Value, args: list[Value] | None) -> Value:
        name, given = callee.path.rpartition(".")[2], args or []
        if callee.obj is not None:
            if of.path:
                self._judge(machine, callee, f"{of.path}.{name}", args)
            elif of.kind is not Kind.INSTANCE or rules.rule_of(path_of(of.obj), None)[1] is None:
                self._judge(machine, callee, callee.path, args)  # Or making the object was noted.
            is_bound = of.kind is not Kind.KNOWN or isinstance(callee.obj, classmethod)
            self.enter(callee.obj, of if is_bound else given[0] if given else None)
        if name == "remote":
            self._called_remote(machine, callee, of)
        elif of.kind is Kind.INSTANCE and of.path:
            if issubclass(of.obj, random.Random):
                self.note(machine, f"{of.path}.{name}()", rules.GLOBAL)
        elif name in rules.MUTATORS and (type(of.obj) in MUTABLE or type(of.obj) is set) and of.path:
            self.note(machine, f"{of.path}.{name}()", rules.GLOBAL if of.of is None else rules.SHARED)
        if callee.path in rules.ORDERED and any(map(has_order_of_set, given)):
            return Value(Kind.UNORDERED)
        return self._order_of_method(machine, name, of, given)

    def _called_remote(self, machine: Machine, callee: Value, of: Value) -> None:
        if of.kind is Kind.INSTANCE:
            if of.obj.__module__.partition(".")[0] in ("ray", "concoord_ray"):
                self.note(machine, f"{of.path}.remote()", rules.RAY)
        elif of.kind in (Kind.UNKNOWN, Kind.METHOD) and callee.obj is None:
            self.note(machine, ".remote()", rules.RAY, is_sure=False)

    def _order_of_method(self, machine: Machine, name: str, of: Value, args: list[Value]) -> Value:
        if of.kind is Kind.SET:
            if name == "pop":
                self.note(machine, "pop() of a set", rules.ORDER)
            return Value(Kind.SET) if name in rules.SET_METHODS else UNKNOWN
        if of.kind is Kind.UNORDERED and name == "sort":
            machine.forget(of)
        elif name not in rules.MUTATORS or name.startswith(("append", "extend", "insert")):
            self._note_order(machine, args, sets_too=name in ("join", "extend", "extendleft"))
        is_text = of.kind is Kind.TEXT and name not in ("split", "splitlines", "find", "count", "index")
        return Value(Kind.TEXT) if is_text else UNKNOWN


def _of_comprehension(code: CodeType, args: list[Value]) -> Value:
    if code.co_name == "<setcomp>":
        return Value(Kind.SET)
    if code.co_name in ("<genexpr>", "<listcomp>", "<dictcomp>") and any(map(has_order_of_set, args)):
        return Value(Kind.UNORDERED)
    return UNKNOWN


def _super(machine: Machine, args: list[Value]) -> Value:
    """``super()``, with or without arguments."""
    after = args[0] if args else machine.cells.get("__class__", UNKNOWN)
    this = args[1] if len(args) > 1 else machine.variables.get((*machine.code.co_varnames, "")[0], UNKNOWN)
    if after.kind is not Kind.KNOWN or this.kind not in (Kind.INSTANCE, Kind.KNOWN):
        return UNKNOWN
    return Value(Kind.SUPER, after.obj, of=this)

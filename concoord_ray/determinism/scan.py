"""One look at one class: where to begin, and what the calls in it mean.

It begins at the constructor, the guards, and the methods that go through the log. What only @readonly methods call is
not looked at: those run on one replica, and no other has to agree with it. They too must have a result, though.
Methods that run in the caller's process are as free as any other code there.
"""

from __future__ import annotations

import builtins
import functools
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

from concoord_ray.determinism import rules
from concoord_ray.determinism.machine import Machine
from concoord_ray.determinism.names import (
    MUTABLE,
    functions,
    is_coroutine,
    is_generator,
    is_users,
    mentions,
    path_of,
    static,
)
from concoord_ray.determinism.reading import Finding, Reading
from concoord_ray.determinism.texts import HOW, asked_by_format, has_own_address
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
        for look, name, found in self._roots():
            self.root = f"{self._cls.__name__}.{name}"
            try:
                look(name, found)
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

    def _judge_result(self, name: str, found: Any) -> None:
        """Note a method whose result nothing runs, whether or not it goes through the log."""
        chain = list(functions(found))
        users = [function for function in chain if is_users(function, self.package)]
        if not users:
            return
        code = users[0].__code__
        if any(map(is_coroutine, chain)):
            self.report(code.co_filename, code.co_firstlineno, f"async def {code.co_name}", rules.COROUTINE)
        # The outermost: a context manager has a generator inside. One that other methods use has its use.
        elif is_generator(chain[-1]) and not mentions(self._functions(but=code), name):
            self.report(code.co_filename, code.co_firstlineno, f"yield in {code.co_name}", rules.GENERATOR)

    def _functions(self, *, but: CodeType) -> Iterator[FunctionType]:
        """What users wrote of the class, its bases and its guards."""
        guards = [guard_of(getattr(self._cls, name)) for name, f in self._methods.items() if f & MethodFlag.GUARDED]
        for member in (*guards, *(member for base in self._cls.__mro__ for member in vars(base).values())):
            for function in functions(member):
                if function.__code__ is not but and is_users(function, self.package):
                    yield function

    def _roots(self) -> Iterator[tuple[Callable[[str, Any], None], str, Any]]:
        mro = self._cls.__mro__
        for name in ("__new__", "__init__"):
            yield self._judge_result, name, static(mro, name)[1]
            yield self._begin, name, static(mro, name)[1]
        for name, flags in self._methods.items():
            if flags & MethodFlag.IN_CALLER:
                continue
            found = static(mro, name)[1]
            yield self._judge_result, name, found
            if not flags & MethodFlag.READONLY:
                if flags & MethodFlag.GUARDED:
                    guard = guard_of(getattr(self._cls, name))
                    yield self._judge_result, name, guard
                    yield self._begin, name, guard
                yield self._begin, name, found

    def called(self, machine: Machine, callee: Value, args: list[Value] | None) -> Value:
        """See ``Reader``."""
        given = args or []
        for arg in given:
            if arg.kind is Kind.METHOD or (arg.kind is Kind.KNOWN and isinstance(arg.obj, FunctionType)):
                self.enter(arg.obj, arg.of)  # Whoever gets it calls it.
            elif arg.kind is Kind.KNOWN and isinstance(arg.obj, BuiltinFunctionType):
                self._judge_given(machine, arg)
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

    def _judge_given(self, machine: Machine, arg: Value) -> None:
        """Note a function that another may call, such as the key of a sort."""
        rule = rules.rule_of(arg.path, None)[1] or rules.rule_of(path_of(arg.obj), None)[1]
        if rule is not None and rule not in rules.UNCERTAIN:
            self.note(machine, f"{arg.path} as an argument", rule, is_sure=False)

    def _judge(self, machine: Machine, callee: Value, shown: str, args: list[Value] | None) -> None:
        """Note a call that is forbidden by the name of what is called. (A lock that is there already does no harm.)"""
        if isinstance(callee.obj, type) and issubclass(callee.obj, BaseException):
            return
        count = None
        if args is not None and not isinstance(callee.obj, functools.partial):
            count = sum(not (arg.kind is Kind.KNOWN and arg.obj is None) for arg in args)
        for path in (callee.path, path_of(callee.obj)):
            is_known, rule = rules.rule_of(path, count)
            if rule is rules.REPEATED:
                self.written(args or [])
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
        if path_of(obj) in rules.ORDERED_TOO and any(map(has_order_of_set, given)):
            return Value(Kind.UNORDERED)
        self._note_order(machine, given)
        if path_of(obj) == "importlib.import_module" and given:
            return self._imported_by_name(machine, callee, given[0])
        if isinstance(obj, (FunctionType, functools.partial)):
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
        if name in HOW and args:
            return self.shown(machine, args[0], HOW[name])
        if name == "object":
            return Value(Kind.INSTANCE, object)
        if name in ("getattr", "vars", "__import__") and args:
            return self._called_by_name(machine, name, args)
        return Value(Kind.TEXT) if name in ("str", "format", "chr", "bytes") else UNKNOWN

    def _called_by_name(self, machine: Machine, name: str, args: list[Value]) -> Value:
        """What is named by a constant is as if it were written out."""
        if name == "__import__":
            return self._imported_by_name(machine, Value(Kind.KNOWN, path=name), args[0])
        attribute = args[1].obj if len(args) > 1 and args[1].kind is Kind.TEXT else None
        if isinstance(attribute, str):
            return self.attribute(machine, args[0], attribute)
        if args[0].kind is Kind.KNOWN and args[0].path in rules.HOLDERS:
            self.note(machine, f"{name}() of {args[0].path}", rules.HIDDEN)
        return UNKNOWN

    def _imported_by_name(self, machine: Machine, callee: Value, of: Value) -> Value:
        if of.kind is Kind.TEXT and isinstance(of.obj, str):
            is_whole = callee.path != "__import__"
            return UNKNOWN if of.obj.startswith(".") else self.imported(machine, of.obj, 0, is_whole)
        self.note(machine, f"{callee.path}()", rules.HIDDEN)
        return UNKNOWN

    def _called_hash(self, machine: Machine, of: Value) -> None:
        """Of numbers it is the same everywhere; what a ``__hash__`` says is for sets and dicts."""
        if of.kind is Kind.TEXT:
            self.note(machine, "hash() of a text", rules.HASH, is_sure=True)
        elif of.kind is Kind.INSTANCE and static(of.obj.__mro__, "__hash__")[0] is object and has_own_address(of.obj):
            self.note(machine, f"hash() of an object of {of.obj.__qualname__}", rules.ADDRESS)
        elif machine.code.co_name != "__hash__" and not isinstance(of.obj, (int, float)):
            self.note(machine, "hash()", rules.HASH)

    def _called_method(self, machine: Machine, callee: Value, of: Value, args: list[Value] | None) -> Value:
        name, given = callee.path.rpartition(".")[2], args or []
        if callee.obj is not None:
            if of.path:
                self._judge(machine, callee, f"{of.path}.{name}", args)
            elif of.kind is not Kind.INSTANCE or rules.rule_of(path_of(of.obj), None)[1] is None:
                self._judge(machine, callee, callee.path, args)  # Or making the object was noted.
            self.enter(callee.obj, _receiver(callee.obj, of, given))
        if name in rules.WRITERS:
            self.written(given)
        if name == "__hash__" and callee.obj is None:
            self._called_hash(machine, of)
        if callee.path in ("object.__str__", "object.__format__"):
            return self.shown(machine, of, "__repr__" if name == "__str__" else "__str__")
        if of.kind is Kind.TEXT and name == "format" and isinstance(of.obj, str):
            return self._formatted(machine, of.obj, given)
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

    def _formatted(self, machine: Machine, template: str, args: list[Value]) -> Value:
        shown = [self.shown(machine, args[i], how) for i, how in asked_by_format(template) if i < len(args)]
        return next((text for text in shown if text.obj), Value(Kind.TEXT))

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
        elif of.kind is Kind.UNORDERED and name in rules.TAKERS:
            self.ordered(machine)
        elif name not in rules.MUTATORS or name.startswith(("append", "extend", "insert")):
            self._note_order(machine, args, sets_too=name in ("join", "extend", "extendleft"))
        is_text = of.kind is Kind.TEXT and name not in ("split", "splitlines", "find", "count", "index")
        return Value(Kind.TEXT) if is_text else UNKNOWN


def _receiver(method: Any, of: Value, args: list[Value]) -> Value | None:
    """The first argument of a method of an object or class."""
    if isinstance(method, classmethod):
        return Value(Kind.KNOWN, of.obj, path_of(of.obj)) if of.kind is Kind.INSTANCE else of
    if of.kind is Kind.KNOWN:
        return args[0] if args else None
    return of


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

"""What the instructions of CPython 3.10 to 3.13 do to the stack, and what they say to the reader."""

from __future__ import annotations

import dis
import sys
from collections.abc import Callable
from types import CodeType
from typing import TYPE_CHECKING

from concoord_ray.determinism.texts import CONVERSIONS, asked_by_percent
from concoord_ray.determinism.values import NOTHING, NULL, UNKNOWN, Kind, Value, has_order_of_set

if TYPE_CHECKING:
    from concoord_ray.determinism.machine import Machine

VERSION = sys.version_info[:2]
#: Instructions are followed by caches, and cells are numbered with the other variables.
HAS_CACHES = VERSION >= (3, 11)

#: Each is a function of its own, at least in some versions. It hands an order on to whoever called it.
COMPREHENSIONS = frozenset({"<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>"})

Handler = Callable[["Machine", int], None]
_KIND_OF_CONSTANT: dict[type, Kind] = {frozenset: Kind.SET, str: Kind.TEXT, bytes: Kind.TEXT}


# Loads and stores.


def _load_const(machine: Machine, arg: int) -> None:
    constant = machine.code.co_consts[arg]
    kind = _KIND_OF_CONSTANT.get(type(constant), Kind.KNOWN)
    machine.push(Value(kind, constant))


def _load_fast(machine: Machine, arg: int) -> None:
    machine.push(machine.variables.get(machine.fast[arg], UNKNOWN))


def _load_fast_load_fast(machine: Machine, arg: int) -> None:
    _load_fast(machine, arg >> 4)
    _load_fast(machine, arg & 15)


def _store_fast(machine: Machine, arg: int) -> None:
    (machine.variables[machine.fast[arg]],) = machine.pop()


def _store_fast_store_fast(machine: Machine, arg: int) -> None:
    _store_fast(machine, arg >> 4)
    _store_fast(machine, arg & 15)


def _store_fast_load_fast(machine: Machine, arg: int) -> None:
    _store_fast(machine, arg >> 4)
    _load_fast(machine, arg & 15)


def _load_deref(machine: Machine, arg: int) -> None:
    name = machine.deref[arg]
    machine.push(machine.variables.get(name) or machine.cells.get(name, UNKNOWN))


def _load_from_dict_or_deref(machine: Machine, arg: int) -> None:
    machine.pop()
    _load_deref(machine, arg)


def _store_deref(machine: Machine, arg: int) -> None:
    (machine.variables[machine.deref[arg]],) = machine.pop()


def _load_global(machine: Machine, arg: int) -> None:
    name = machine.code.co_names[arg >> 1 if HAS_CACHES else arg]
    if HAS_CACHES and arg & 1:
        machine.push(NULL)
    found = machine.names.get(name, NOTHING)
    if found is not NOTHING:
        machine.push(machine.reader.resolve(machine, found, name))
        return
    builtins = machine.names.get("__builtins__", {})
    found = (builtins if isinstance(builtins, dict) else vars(builtins)).get(name, NOTHING)
    # By its name, whoever has put something else in its place: ``ray.init`` does so with ``print``.
    machine.push(UNKNOWN if found is NOTHING else Value(Kind.KNOWN, found, name))


def _store_global(machine: Machine, arg: int) -> None:
    machine.pop()
    machine.reader.changed_global(machine, machine.code.co_names[arg])


def _delete_global(machine: Machine, arg: int) -> None:
    machine.reader.changed_global(machine, machine.code.co_names[arg])


def _load_attr(machine: Machine, arg: int) -> None:
    is_method = VERSION >= (3, 12) and arg & 1
    name = machine.code.co_names[arg >> 1 if VERSION >= (3, 12) else arg]
    (of,) = machine.pop()
    machine.push(machine.reader.attribute(machine, of, name))
    if is_method:
        machine.push(NULL)


def _load_method(machine: Machine, arg: int) -> None:
    (of,) = machine.pop()
    machine.stack += [machine.reader.attribute(machine, of, machine.code.co_names[arg]), NULL]


def _load_super_attr(machine: Machine, arg: int) -> None:
    callee, *args = machine.pop(3)
    machine.push(machine.reader.called(machine, callee, args))
    _load_attr(machine, (arg >> 2 << 1) | (arg & 1))


def _store_attr(machine: Machine, arg: int) -> None:
    value, target = machine.pop(2)
    machine.reader.changed(machine, target, machine.code.co_names[arg], value)


def _delete_attr(machine: Machine, arg: int) -> None:
    (target,) = machine.pop()
    machine.reader.changed(machine, target, machine.code.co_names[arg], UNKNOWN)


def _store_subscr(machine: Machine, _: int) -> None:
    value, target, _index = machine.pop(3)
    machine.reader.changed(machine, target, None, value)


def _delete_subscr(machine: Machine, _: int) -> None:
    target, _index = machine.pop(2)
    machine.reader.changed(machine, target, None, UNKNOWN)


def _import_name(machine: Machine, arg: int) -> None:
    level, names = machine.pop(2)
    depth = level.obj if isinstance(level.obj, int) else 0
    machine.push(machine.reader.imported(machine, machine.code.co_names[arg], depth, bool(names.obj)))


def _import_from(machine: Machine, arg: int) -> None:
    of = machine.stack[-1] if machine.stack else UNKNOWN
    machine.push(machine.reader.attribute(machine, of, machine.code.co_names[arg]))


# The order of values.


def _push_null(machine: Machine, _: int) -> None:
    machine.push(NULL)


def _copy(machine: Machine, arg: int) -> None:
    values = machine.pop(arg)
    machine.stack += [*values, values[0]]


def _dup_top(machine: Machine, _: int) -> None:
    _copy(machine, 1)


def _swap(machine: Machine, arg: int) -> None:
    first, *middle, last = machine.pop(arg)
    machine.stack += [last, *middle, first]


def _rotate(machine: Machine, count: int) -> None:
    *others, top = machine.pop(count)
    machine.stack += [top, *others]


# Sets, loops, results.


def _build_set(machine: Machine, arg: int) -> None:
    machine.pop(arg)
    machine.push(Value(Kind.SET))


def _build_fresh(machine: Machine, arg: int) -> None:
    machine.pop(arg)
    machine.push(UNKNOWN if arg else Value(Kind.FRESH))


def _list_extend(machine: Machine, arg: int) -> None:
    (of,) = machine.pop()
    if has_order_of_set(of) and arg <= len(machine.stack):
        machine.stack[-arg] = Value(Kind.UNORDERED)


def _build_tuple(machine: Machine, arg: int) -> None:
    machine.push(Value(Kind.TUPLE, machine.pop(arg)))


def _build_string(machine: Machine, arg: int) -> None:
    machine.push(_text_of(machine.pop(arg)))


def _text_of(parts: list[Value]) -> Value:
    """The text of several; the first that shows an address is what is known of it."""
    marks = [part.obj for part in parts if part.kind is Kind.TEXT and isinstance(part.obj, tuple)]
    return Value(Kind.TEXT, marks[0] if marks else None)


def _convert_value(machine: Machine, arg: int) -> None:
    (value,) = machine.pop()
    machine.push(machine.reader.shown(machine, value, CONVERSIONS[arg & 3]))


def _format_value(machine: Machine, arg: int) -> None:
    value = machine.pop(2 if arg & 4 else 1)[0]
    machine.push(machine.reader.shown(machine, value, CONVERSIONS[arg & 3]))


def _binary(machine: Machine, arg: int) -> None:
    left, right = machine.pop(2)
    if left.kind is Kind.TEXT:
        shown = _shown_by_percent(machine, left, right) if arg in _REMAINDERS else []
        machine.push(_text_of([left, right, *shown]))
    elif arg == _INPLACE_ADD and has_order_of_set(right) and left.kind is not Kind.INSTANCE:
        machine.push(Value(Kind.UNORDERED))  # A list: others would refuse a set.
    else:
        machine.push(Value(Kind.SET) if left.kind is Kind.SET else UNKNOWN)


def _modulo(machine: Machine, _: int) -> None:
    _binary(machine, _REMAINDERS[0])


#: Of BINARY_OP. Before it, each operator had an instruction of its own, whose argument is 0.
_REMAINDERS = (6, 19)
_INPLACE_ADD = 13


def _shown_by_percent(machine: Machine, template: Value, right: Value) -> list[Value]:
    if not isinstance(template.obj, str):
        return []
    values = right.obj if right.kind is Kind.TUPLE else [right]
    asked = zip(values, asked_by_percent(template.obj), strict=False)
    return [machine.reader.shown(machine, value, how) for value, how in asked if how is not None]


def _subscript(machine: Machine, _: int) -> None:
    of, _index = machine.pop(2)
    _note_order(machine, of)
    machine.push(UNKNOWN)


def _unpack(machine: Machine, arg: int) -> None:
    (of,) = machine.pop()
    if has_order_of_set(of):
        machine.reader.ordered(machine)
    machine.stack += [UNKNOWN] * arg


def _get_iter(machine: Machine, _: int) -> None:
    (of,) = machine.pop()
    machine.push(Value(Kind.UNORDERED) if has_order_of_set(of) else UNKNOWN)


def _for_iter(machine: Machine, _: int) -> None:
    if machine.stack and machine.stack[-1].kind is Kind.UNORDERED:
        into = machine.stack[-2] if len(machine.stack) > 1 else UNKNOWN
        if into.kind is Kind.FRESH:  # A list or dict comprehension, inside of the function.
            into.kind = Kind.UNORDERED
        elif into.kind is not Kind.SET and machine.code.co_name not in COMPREHENSIONS:
            machine.reader.ordered(machine)
    machine.push(UNKNOWN)


def _result(machine: Machine, _: int) -> None:
    (value,) = machine.pop()
    _note_order(machine, value)


def _note_order(machine: Machine, value: Value) -> None:
    if value.kind is Kind.UNORDERED:
        machine.reader.ordered(machine)


# Functions and calls.


def _make_function(machine: Machine, arg: int) -> None:
    code = machine.pop(1 if HAS_CACHES else 2)[0].obj
    if VERSION < (3, 13):
        machine.pop(arg.bit_count())
    if isinstance(code, CodeType):
        machine.reader.made(machine, code)
    machine.push(Value(Kind.MADE, code))


def _set_function_attribute(machine: Machine, _: int) -> None:
    _attribute, function = machine.pop(2)
    machine.push(function)


def _call(machine: Machine, count: int, *, beside: int = 2) -> None:
    args = machine.pop(count)
    *receiver, callee = machine.pop(beside)
    if receiver and receiver[0] is not NULL:
        if callee is not NULL:
            args.insert(0, callee)
        callee = receiver[0]
    machine.push(machine.reader.called(machine, callee, args))


def _call_function(machine: Machine, arg: int) -> None:
    _call(machine, arg, beside=1)


def _call_kw(machine: Machine, arg: int) -> None:
    machine.pop()
    _call(machine, arg, beside=2 if HAS_CACHES else 1)


def _call_function_ex(machine: Machine, arg: int) -> None:
    machine.pop(1 + (arg & 1))
    *receiver, callee = machine.pop(2 if HAS_CACHES else 1)
    if receiver and receiver[0] is not NULL:
        callee = receiver[0]
    machine.push(machine.reader.called(machine, callee, None))


def _operators() -> dict[str, Handler]:
    return {
        name: _modulo if name.endswith("_MODULO") else _binary
        for name in dis.opmap
        if name.startswith(("BINARY_", "INPLACE_")) and name != "BINARY_SLICE"
    } | {"INPLACE_ADD": lambda machine, _: _binary(machine, _INPLACE_ADD)}


def _handlers() -> list[Handler | None]:
    by_name: dict[str, Handler] = {
        **_operators(),
        "LOAD_CONST": _load_const,
        "LOAD_FAST": _load_fast,
        "LOAD_FAST_CHECK": _load_fast,
        "LOAD_FAST_AND_CLEAR": _load_fast,
        "LOAD_FAST_LOAD_FAST": _load_fast_load_fast,
        "STORE_FAST": _store_fast,
        "STORE_FAST_STORE_FAST": _store_fast_store_fast,
        "STORE_FAST_LOAD_FAST": _store_fast_load_fast,
        "LOAD_DEREF": _load_deref,
        "LOAD_CLASSDEREF": _load_deref,
        "LOAD_FROM_DICT_OR_DEREF": _load_from_dict_or_deref,
        "STORE_DEREF": _store_deref,
        "LOAD_GLOBAL": _load_global,
        "STORE_GLOBAL": _store_global,
        "DELETE_GLOBAL": _delete_global,
        "LOAD_ATTR": _load_attr,
        "LOAD_METHOD": _load_method,
        "LOAD_SUPER_ATTR": _load_super_attr,
        "STORE_ATTR": _store_attr,
        "DELETE_ATTR": _delete_attr,
        "STORE_SUBSCR": _store_subscr,
        "DELETE_SUBSCR": _delete_subscr,
        "IMPORT_NAME": _import_name,
        "IMPORT_FROM": _import_from,
        "PUSH_NULL": _push_null,
        "COPY": _copy,
        "DUP_TOP": _dup_top,
        "SWAP": _swap,
        "ROT_TWO": lambda machine, _: _rotate(machine, 2),
        "ROT_THREE": lambda machine, _: _rotate(machine, 3),
        "ROT_FOUR": lambda machine, _: _rotate(machine, 4),
        "BUILD_SET": _build_set,
        "BUILD_LIST": _build_fresh,
        "BUILD_MAP": lambda machine, arg: _build_fresh(machine, 2 * arg),
        "LIST_EXTEND": _list_extend,
        "UNPACK_SEQUENCE": _unpack,
        "UNPACK_EX": lambda machine, arg: _unpack(machine, (arg & 255) + 1 + (arg >> 8)),
        "BUILD_TUPLE": _build_tuple,
        "BUILD_STRING": _build_string,
        "CONVERT_VALUE": _convert_value,
        "FORMAT_SIMPLE": lambda machine, _: _format_value(machine, 0),
        "FORMAT_WITH_SPEC": lambda machine, _: _format_value(machine, 4),
        "FORMAT_VALUE": _format_value,
        "BINARY_SUBSCR": _subscript,
        "GET_ITER": _get_iter,
        "FOR_ITER": _for_iter,
        "RETURN_VALUE": _result,
        "MAKE_FUNCTION": _make_function,
        "SET_FUNCTION_ATTRIBUTE": _set_function_attribute,
        "CALL": _call,
        "CALL_METHOD": _call,
        "CALL_FUNCTION": _call_function,
        "CALL_KW": _call_kw,
        "CALL_FUNCTION_KW": _call_kw,
        "CALL_FUNCTION_EX": _call_function_ex,
    }
    return [by_name.get(name) for name in dis.opname]


HANDLERS = _handlers()

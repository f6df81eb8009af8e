"""An abstract run of one function: what its bytecode loads, calls, iterates over and changes, without running it.

Straight through the code of CPython 3.10 to 3.13, once: at a jump forward the stack is kept for its target, jumps back
are not followed. What is only jumped to has the variables of a jump to it, not those of a branch that ended before it.
What an instruction does to the stack is known for those few that matter here; for all others ``dis.stack_effect`` says
how many values come or go, and what comes is unknown. So a mistake about an instruction makes values unknown, about
which nothing is said. What values mean is for the ``Reader``.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any, NamedTuple

from concoord_ray.determinism.opcodes import HANDLERS, HAS_CACHES
from concoord_ray.determinism.values import UNKNOWN, Reader, Value


class _Instruction(NamedTuple):
    offset: int
    op: int
    arg: int
    #: Where the next one begins.
    after: int


def instructions(code: CodeType) -> Iterator[_Instruction]:
    """The instructions of a code, some ten times faster than ``dis`` gives them."""
    data, at, high = code.co_code, 0, 0
    begin = 0
    while at < len(data):
        op, arg = data[at], data[at + 1] | high
        at += 2
        if op == dis.EXTENDED_ARG:
            high = arg << 8
            continue
        while HAS_CACHES and at < len(data) and data[at] == 0:
            at += 2
        yield _Instruction(begin, op, arg, at)
        begin, high = at, 0


_ENDS = frozenset(
    {
        "JUMP_ABSOLUTE", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_FORWARD", "RAISE_VARARGS", "RERAISE",
        "RETURN_CONST", "RETURN_VALUE",
    }
)  # fmt: skip
_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
#: These leave what is on top as it is.
_QUIET = ("POP_", "STORE_", "DELETE_", "END_", "JUMP", "SETUP_", "LIST_", "SET_ADD", "SET_UPDATE", "MAP_", "DICT_")
_NO_EFFECT = ("NOP", "RESUME", "CACHE", "PRECALL", "KW_NAMES", "COPY_FREE_VARS", "MAKE_CELL", "TO_BOOL", "GEN_START")


class Machine:
    """The abstract run of one code."""

    def __init__(
        self, reader: Reader, code: CodeType, names: Mapping[str, Any], cells: Mapping[str, Value],
        parameters: Mapping[str, Value],
    ) -> None:  # fmt: skip
        self.reader = reader
        self.code = code
        self.names = names
        #: Variables of enclosing functions; then the function's own.
        self.cells = cells
        self.variables = dict(parameters)
        self.stack: list[Value] = []
        self._offset = 0
        self._saved: dict[int, tuple[list[Value], dict[str, Value]]] = {}
        cellvars = [name for name in code.co_cellvars if not HAS_CACHES or name not in code.co_varnames]
        self.fast = (*code.co_varnames, *cellvars, *code.co_freevars) if HAS_CACHES else code.co_varnames
        self.deref = self.fast if HAS_CACHES else (*cellvars, *code.co_freevars)

    @property
    def line(self) -> int:
        """Where the run is, in the file of the code."""
        lines = [line for first, last, line in self.code.co_lines() if first <= self._offset < last and line]
        return lines[0] if lines else self.code.co_firstlineno

    def run(self) -> None:
        """Run to the end."""
        is_dead = False
        for offset, op, arg, after in instructions(self.code):
            saved = self._saved.pop(offset, None)
            if saved is not None:
                self.stack = saved[0] if is_dead else _merged(self.stack, saved[0])
                self.variables = saved[1] if is_dead else self.variables
            elif is_dead:
                self.stack = []  # Without a jump to it, it handles exceptions.
            self._offset = offset
            if op in _JUMPS:
                self._jump(op, arg, after)
            handler = HANDLERS[op]
            if handler is None:
                self._effect(op, arg)
            else:
                handler(self, arg)
            is_dead = dis.opname[op] in _ENDS

    def forget(self, value: Value) -> None:
        """From now on nothing is known of a value."""
        self.variables = {name: UNKNOWN if each is value else each for name, each in self.variables.items()}
        self.stack = [UNKNOWN if each is value else each for each in self.stack]

    # The stack.

    def push(self, value: Value) -> None:
        """Put a value on top."""
        self.stack.append(value)

    def pop(self, count: int = 1) -> list[Value]:
        """The upper values, lowest first; below the bottom, which is that of an exception handler, all is unknown."""
        missing = count - len(self.stack)
        if missing > 0:
            self.stack[:0] = [UNKNOWN] * missing
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def _jump(self, op: int, arg: int, after: int) -> None:
        target = arg * 2 if op in dis.hasjabs else after + arg * 2
        if target <= self._offset or "BACKWARD" in dis.opname[op]:
            return
        stack = list(self.stack)
        effect = dis.stack_effect(op, arg, jump=True)
        stack = stack[: max(0, len(stack) + effect)] if effect < 0 else [*stack, *[UNKNOWN] * effect]
        known = self._saved.get(target)
        self._saved[target] = stack if known is None else _merged(known[0], stack), dict(self.variables)

    def _effect(self, op: int, arg: int) -> None:
        effect = dis.stack_effect(op, arg if op >= dis.HAVE_ARGUMENT else None, jump=False)
        name = dis.opname[op]
        if name.startswith(_NO_EFFECT):
            return
        if effect < 0:
            self.pop(-effect)
        if not name.startswith(("LOAD_", *_QUIET)) and self.stack:
            self.stack[-1] = UNKNOWN
        self.stack += [UNKNOWN] * effect


def _merged(one: list[Value], other: list[Value]) -> list[Value]:
    """The stack where two ways meet."""
    if len(one) != len(other):
        return max(one, other, key=len)
    return [a if a is b else UNKNOWN for a, b in zip(one, other, strict=True)]

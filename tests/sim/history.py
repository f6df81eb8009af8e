"""Histories: which calls were made, when, and what they answered. Free of the simulator: Ray runs are recorded too."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any


class Unknown(Enum):
    """The result of a call that was never answered."""

    UNKNOWN = "?"

    def __repr__(self) -> str:
        return "?"


UNKNOWN = Unknown.UNKNOWN


@dataclass(frozen=True, slots=True)
class Raised:
    """The result of a call that took effect by raising. ``error`` is the exception type's name."""

    error: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One call. ``returned_ns`` is None for ever if no answer came: it may have happened, may yet, or never will."""

    process: int | str
    object: str
    op: str
    args: tuple[Any, ...]
    invoked_ns: int
    returned_ns: int | None = None
    result: Any = UNKNOWN

    @property
    def is_open(self) -> bool:
        return self.returned_ns is None

    def __str__(self) -> str:
        call = f"{self.object}.{self.op}({', '.join(map(repr, self.args))})"
        until = "open" if self.returned_ns is None else str(self.returned_ns)
        return f"[{self.invoked_ns} .. {until}] process {self.process}: {call} -> {self.result!r}"

    def reopened(self) -> Operation:
        """The same call, not answered yet."""
        return replace(self, returned_ns=None, result=UNKNOWN)


class History:
    """Records the calls of one observer, in the order in which it saw them.

    Times of one recorder strictly increase, even where its clock stands still: what it saw one after the other is never
    taken for concurrent. Times of different recorders that tie are taken for concurrent, which can only make the
    judgement milder.
    """

    def __init__(self) -> None:
        self._operations: dict[int, Operation] = {}
        self._next_call = 0
        self._last_ns = -1

    def __len__(self) -> int:
        return len(self._operations)

    def invoke(self, process: int | str, name: str, op: str, args: Iterable[Any], at_ns: int) -> int:
        """A call on the object ``name`` begins; the number stands for it in ``returned`` or ``dropped``."""
        self._next_call += 1
        self._operations[self._next_call] = Operation(process, name, op, tuple(args), self._tick(at_ns))
        return self._next_call

    def returned(self, call: int, result: Any, at_ns: int) -> None:
        """It was answered. Errors that are results of the method go in as ``Raised``."""
        operation = self._operations[call]
        if not operation.is_open:
            raise ValueError(f"answered twice: {operation}, now {result!r}")
        self._operations[call] = replace(operation, returned_ns=self._tick(at_ns), result=result)

    def dropped(self, call: int) -> None:
        """It certainly never took effect and never will. A call of which this is not certain is simply left open."""
        if not self._operations[call].is_open:
            raise ValueError(f"answered, so it cannot be dropped: {self._operations[call]}")
        del self._operations[call]

    def operations(self) -> tuple[Operation, ...]:
        """All calls, in order of invocation."""
        return tuple(self._operations.values())

    def _tick(self, at_ns: int) -> int:
        self._last_ns = max(self._last_ns + 1, at_ns)
        return self._last_ns

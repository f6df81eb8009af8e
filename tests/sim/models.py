"""What the shipped objects do when only one caller exists: the specifications that histories are judged by.

A model steps a hashable state by one operation, and says None where the operation could not have had that result. A
result that is ``UNKNOWN`` (the call was never answered) fits whatever the operation would have answered.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tests.sim.history import UNKNOWN, Operation, Raised

State = Hashable
Hopeless = Callable[[Any, Operation], bool]


def never_hopeless(state: State, operation: Operation) -> bool:
    """For models without such knowledge."""
    return False


class Model(Protocol):
    """A sequential specification. ``by_process`` says whether it matters who calls."""

    @property
    def by_process(self) -> bool: ...

    def initial(self) -> State: ...

    def step(self, state: Any, operation: Operation) -> State | None:
        """The state after the operation, None if it could not have had its result there. Never None as a state."""

    def only_reads(self, operation: Operation) -> bool:
        """Whether the operation, with the result that it had, leaves every state as it is."""

    def hopeless(self, operations: Sequence[Operation]) -> Hopeless:
        """A test, valid for these operations, whether from a state no sequence of them leads to where an operation can
        have its result. Only a help to the search: ``never_hopeless`` is always right.
        """


class UnknownOperation(Exception):
    """The history has an operation that the model does not know: a mistake in the test."""


def _fits(operation: Operation, expected: object) -> bool:
    return operation.result is UNKNOWN or bool(operation.result == expected)


@dataclass(frozen=True, slots=True)
class Register:
    """``write(v)`` -> None, ``read()`` -> v, ``cas(expected, new)`` -> whether it was swapped."""

    value: Hashable = None
    by_process: bool = False

    def initial(self) -> State:
        return (self.value,)

    def step(self, state: tuple[Hashable], operation: Operation) -> State | None:
        if operation.op == "write":
            return (operation.args[0],) if _fits(operation, None) else None
        if operation.op == "read":
            return state if _fits(operation, state[0]) else None
        if operation.op == "cas":
            expected, new = operation.args
            swaps = state[0] == expected
            if not _fits(operation, swaps):
                return None
            return (new,) if swaps else state
        raise UnknownOperation(f"{operation.op!r} on a register")

    def only_reads(self, operation: Operation) -> bool:
        return operation.op == "read" or (operation.op == "cas" and operation.result is False)

    def hopeless(self, operations: Sequence[Operation]) -> Hopeless:
        """Nobody reads what nobody wrote."""
        written = {self.value, *(each.args[-1] for each in operations if each.op in ("write", "cas"))}
        return lambda state, operation: (
            operation.op == "read" and operation.result is not UNKNOWN and operation.result not in written
        )


@dataclass(frozen=True, slots=True)
class Counter:
    """``increment(by=1)`` and ``decrement(by=1)`` -> the new value, ``get()`` or ``getvalue()`` -> the value.

    With ``answers=False`` increments and decrements answer None, as ConCoord's own counter does.
    """

    value: int = 0
    answers: bool = True
    by_process: bool = False

    def initial(self) -> State:
        return self.value

    def step(self, state: int, operation: Operation) -> State | None:
        if operation.op in ("get", "getvalue"):
            return state if _fits(operation, state) else None
        if operation.op not in ("increment", "decrement"):
            raise UnknownOperation(f"{operation.op!r} on a counter")
        after = state + self._change(operation)
        return after if _fits(operation, after if self.answers else None) else None

    def only_reads(self, operation: Operation) -> bool:
        return self._change(operation) == 0

    def hopeless(self, operations: Sequence[Operation]) -> Hopeless:
        """A counter that never falls does not come back to a value that it has passed."""
        if any(self._change(operation) < 0 for operation in operations):
            return never_hopeless
        return self._is_past

    def _change(self, operation: Operation) -> int:
        by: int = operation.args[0] if operation.args else 1
        return {"increment": by, "decrement": -by}.get(operation.op, 0)

    def _is_past(self, state: int, operation: Operation) -> bool:
        if not isinstance(operation.result, int):
            return False
        return state + self._change(operation) > operation.result


@dataclass(frozen=True, slots=True)
class Mutex:
    """``acquire()`` -> anything but False, ``release()``; held by one process, not re-entrant.

    ``acquire`` that answers False found it held. ``release`` by another than the holder must have raised. With
    ``tokens``, what ``acquire`` answers is a fencing token, greater than every one before.
    """

    tokens: bool = False
    by_process: bool = True

    def initial(self) -> State:
        return (None, None)

    def step(self, state: tuple[int | str | None, int | None], operation: Operation) -> State | None:
        holder, token = state
        if operation.op == "acquire":
            if operation.result is False:
                return state if holder is not None else None
            if holder is not None or isinstance(operation.result, Raised):
                return None
            if not self.tokens or operation.result is UNKNOWN:
                return (operation.process, token)
            if token is not None and operation.result <= token:
                return None
            return (operation.process, operation.result)
        if operation.op == "release":
            mine = holder == operation.process
            if operation.result is not UNKNOWN and isinstance(operation.result, Raised) == mine:
                return None
            return (None, token) if mine else state
        raise UnknownOperation(f"{operation.op!r} on a mutex")

    def only_reads(self, operation: Operation) -> bool:
        return operation.result is False or isinstance(operation.result, Raised)

    def hopeless(self, operations: Sequence[Operation]) -> Hopeless:
        """A token that is not above the last one never will be."""
        return self._is_past if self.tokens else never_hopeless

    def _is_past(self, state: tuple[int | str | None, int | None], operation: Operation) -> bool:
        token = state[1]
        if operation.op != "acquire" or token is None or isinstance(operation.result, (bool, Raised)):
            return False
        return operation.result is not UNKNOWN and operation.result <= token


@dataclass(frozen=True, slots=True)
class Semaphore:
    """``acquire()`` -> anything but False, or False if there was no permit; ``release()``.

    A ``bounded`` one raises on a release above its first number of permits.
    """

    permits: int = 1
    bounded: bool = False
    by_process: bool = False

    def initial(self) -> State:
        return self.permits

    def step(self, state: int, operation: Operation) -> State | None:
        if operation.op == "acquire":
            if operation.result is False:
                return state if state == 0 else None
            return state - 1 if state > 0 and not isinstance(operation.result, Raised) else None
        if operation.op == "release":
            full = self.bounded and state >= self.permits
            if operation.result is not UNKNOWN and isinstance(operation.result, Raised) != full:
                return None
            return state if full else state + 1
        raise UnknownOperation(f"{operation.op!r} on a semaphore")

    def only_reads(self, operation: Operation) -> bool:
        return operation.result is False or isinstance(operation.result, Raised)

    def hopeless(self, operations: Sequence[Operation]) -> Hopeless:
        return never_hopeless


@dataclass(frozen=True, slots=True)
class Name:
    """What one name stands for: ``create(get_if_exists)`` -> object id, ``lookup()`` -> id, ``delete(id)`` -> None.

    Ids are never given twice. An unanswered ``create`` makes an object of an id that shows only later.
    """

    by_process: bool = False

    def initial(self) -> State:
        return (None, 0)

    def step(self, state: tuple[int | str | None, int], operation: Operation) -> State | None:
        current, highest = state
        if operation.op == "create":
            return self._create(current, highest, operation)
        if operation.op == "lookup":
            return self._lookup(current, highest, operation.result)
        if operation.op == "delete":
            (object_id,) = operation.args
            if current == object_id or (current == "?" and object_id > highest):
                return (None, max(highest, object_id)) if _fits(operation, None) else None
            return state if _fits(operation, Raised("NoSuchObject")) else None
        raise UnknownOperation(f"{operation.op!r} on a name")

    def only_reads(self, operation: Operation) -> bool:
        return False

    def hopeless(self, operations: Sequence[Operation]) -> Hopeless:
        return never_hopeless

    def _create(self, current: int | str | None, highest: int, operation: Operation) -> State | None:
        (get_if_exists,) = operation.args
        if current is not None and not get_if_exists:
            return (current, highest) if _fits(operation, Raised("ObjectExists")) else None
        if current is not None:
            return self._lookup(current, highest, operation.result)
        if operation.result is UNKNOWN:
            return ("?", highest)
        is_new = isinstance(operation.result, int) and operation.result > highest
        return (operation.result, operation.result) if is_new else None

    def _lookup(self, current: int | str | None, highest: int, result: Any) -> State | None:
        if result is UNKNOWN:
            return (current, highest)
        if current == "?":
            return (result, result) if isinstance(result, int) and result > highest else None
        expected = Raised("NoSuchObject") if current is None else current
        return (current, highest) if result == expected else None


@dataclass(frozen=True, slots=True)
class Event:
    """``set()``, ``clear()``, ``wait()`` -> whether it is set (False when its time was over)."""

    by_process: bool = False

    def initial(self) -> State:
        return False

    def step(self, state: bool, operation: Operation) -> State | None:
        if operation.op in ("set", "clear"):
            return operation.op == "set" if _fits(operation, None) else None
        if operation.op == "wait":
            return state if _fits(operation, state) else None
        raise UnknownOperation(f"{operation.op!r} on an event")

    def only_reads(self, operation: Operation) -> bool:
        return operation.op == "wait"

    def hopeless(self, operations: Sequence[Operation]) -> Hopeless:
        return never_hopeless


@dataclass(frozen=True, slots=True)
class Buffer:
    """``put(item)`` -> None, never above its capacity; ``take()`` -> the item that was put first."""

    capacity: int
    by_process: bool = False

    def initial(self) -> State:
        return ()

    def step(self, state: tuple[Hashable, ...], operation: Operation) -> State | None:
        if operation.op == "put":
            fits = len(state) < self.capacity and _fits(operation, None)
            return (*state, operation.args[0]) if fits else None
        if operation.op == "take":
            return state[1:] if state and _fits(operation, state[0]) else None
        raise UnknownOperation(f"{operation.op!r} on a buffer")

    def only_reads(self, operation: Operation) -> bool:
        return False

    def hopeless(self, operations: Sequence[Operation]) -> Hopeless:
        return never_hopeless

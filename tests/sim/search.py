"""Wing and Gong's search for a linearization, with Lowe's memoised configurations.

After G. Lowe, *Testing for linearizability* (2017) and Porcupine: calls and returns form a doubly linked list; an
operation whose call stands before the first return may go next; linearizing it lifts it out of the list, and a
configuration (what is linearized, the state) is never visited twice. Ours differs where calls were never answered:
after a storm of crashes these are many, and each would double the search.

- An unanswered call has no return. It may be linearized at any point after its call, or never.
- Unanswered calls that do the same are used in order of invocation: any other order only swaps their names.
- Unanswered calls are used only right before an answered one, the fewest first. A configuration is not visited if one
  with the same answered calls, the same state and a *subset* of the unanswered ones was: what it could still use, that
  one could use too.
- An operation that only reads goes next as soon as it may, without an alternative: whatever follows is as possible
  after it as before it. (A write of the same value does not: it may be needed later.) An unanswered operation is never
  used where it leaves the state as it is.
- A model may know that a state can never lead to a certain answer again (a counter that only grows is past it).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.sim.history import Operation
from tests.sim.models import Model, State

_END = -1


class Undecided(Exception):
    """The search visited more configurations than it was allowed. The history may be linearizable or not."""


@dataclass(frozen=True, slots=True)
class Linearization:
    """A valid order of the answered and of some unanswered operations, and the state after it."""

    order: tuple[Operation, ...]
    state: State


@dataclass(frozen=True, slots=True)
class _Move:
    """Some unanswered operations, then the answered one whose call is at ``node``; what they lead to."""

    unanswered: tuple[Operation, ...]
    node: int
    state: State
    used: int


@dataclass(frozen=True, slots=True)
class _Run:
    """Some unanswered operations in a row, and what they lead to."""

    operations: tuple[Operation, ...]
    state: State
    used: int


@dataclass(frozen=True, slots=True)
class _Kind:
    """Unanswered operations that do the same, in order of invocation; they own the bits from ``offset`` on."""

    operations: tuple[Operation, ...]
    offset: int

    def next_unused(self, used: int) -> int:
        return ((used >> self.offset) & ((1 << len(self.operations)) - 1)).bit_length()


def _return_time(operation: Operation) -> int:
    assert operation.returned_ns is not None
    return operation.returned_ns


class Search:
    """One depth-first search over one object's operations, without recursion: histories are long."""

    def __init__(self, operations: Sequence[Operation], model: Model, max_configurations: int) -> None:
        for each in operations:
            if each.returned_ns is not None and each.returned_ns < each.invoked_ns:
                raise ValueError(f"answered before it was called: {each}")
        self._model = model
        self._is_hopeless = model.hopeless(operations)
        self._limit = max_configurations
        by_call = sorted(operations, key=lambda each: each.invoked_ns)
        self._answered = [each for each in by_call if each.returned_ns is not None]
        self._kinds = self._kinds_of(each for each in by_call if each.returned_ns is None)
        self._seen: dict[tuple[int, int, State], list[int]] = {}
        self._visited = 0
        self._mask = 0
        self._lay_out()

    def run(self) -> Linearization | None:
        """A linearization, or None if there is none. Raises Undecided at the bound."""
        state = self._model.initial()
        if any(self._is_hopeless(state, operation) for operation in self._answered):
            return None
        path: list[_Move] = []
        choices = [self._moves(state, 0)]
        while len(path) < len(self._answered):
            move = next(choices[-1], None)
            if move is None:
                choices.pop()
                if not path:
                    return None
                self._unlift(path.pop().node)
                continue
            self._lift(move.node)
            if self._is_new(move):
                path.append(move)
                choices.append(self._moves(move.state, move.used))
                state = move.state
            else:
                self._unlift(move.node)
        order = [each for move in path for each in (*move.unanswered, self._answered[move.node // 2])]
        return Linearization(tuple(order), state)

    def _kinds_of(self, unanswered: Iterable[Operation]) -> list[_Kind]:
        kinds: dict[Hashable, list[Operation]] = {}
        for operation in unanswered:
            who = operation.process if self._model.by_process else None
            kinds.setdefault((operation.op, repr(operation.args), who), []).append(operation)
        result, offset = [], 0
        for same in kinds.values():
            result.append(_Kind(tuple(same), offset))
            offset += len(same)
        return result

    def _lay_out(self) -> None:
        """Nodes 2i and 2i + 1 are the call and the return of answered operation i, linked in time order."""
        self._head = 2 * len(self._answered)
        nodes = sorted(range(self._head), key=self._when)
        self._next = [_END] * (self._head + 1)
        self._previous = [_END] * (self._head + 1)
        for before, after in pairwise([self._head, *nodes]):
            self._next[before] = after
            self._previous[after] = before

    def _when(self, node: int) -> tuple[int, int]:
        # At a tie the call comes first: the two are taken for concurrent.
        operation = self._answered[node // 2]
        return (_return_time(operation), 1) if node % 2 else (operation.invoked_ns, 0)

    def _window(self) -> list[int]:
        """The calls before the first return."""
        window = []
        node = self._next[self._head]
        while node != _END and node % 2 == 0:
            window.append(node)
            node = self._next[node]
        return window

    def _moves(self, state: State, used: int) -> Iterator[_Move]:
        """What may go next: answered operations, then these after one unanswered, after two, and so on.

        The list may change while this is suspended, if it is as it was when this goes on.
        """
        window = self._window()
        runs = [_Run((), state, used)]
        # Per state, the fewest unanswered operations that lead there from here.
        known = {state: [used]}
        while runs and window:
            extensible = []
            for run in runs:
                moves, is_only_choice = self._answered_moves(window, run)
                yield from moves
                if is_only_choice and not run.operations:
                    return
                if not is_only_choice:
                    extensible.append(run)
            runs = [longer for run in extensible for longer in self._extended(run, window, known)]

    def _answered_moves(self, window: list[int], run: _Run) -> tuple[list[_Move], bool]:
        """The answered operations possible after ``run``; a single one if it need have no alternative."""
        moves = []
        for node in window:
            operation = self._answered[node // 2]
            after = self._model.step(run.state, operation)
            if after is not None:
                move = _Move(run.operations, node, after, run.used)
                if self._model.only_reads(operation):
                    return [move], True
                moves.append(move)
        return moves, False

    def _extended(self, run: _Run, window: list[int], known: dict[State, list[int]]) -> Iterator[_Run]:
        """``run`` and one more unanswered operation, where that leads to something new."""
        first_return_ns = min(_return_time(self._answered[node // 2]) for node in window)
        for kind in self._kinds:
            number = kind.next_unused(run.used)
            if number == len(kind.operations) or kind.operations[number].invoked_ns > first_return_ns:
                continue
            operation = kind.operations[number]
            after = self._model.step(run.state, operation)
            used = run.used | 1 << (kind.offset + number)
            if after is None or after == run.state or self._hopeless(after, window):
                continue
            if _enter(known.setdefault(after, []), used):
                self._count()
                yield _Run((*run.operations, operation), after, used)

    def _hopeless(self, state: State, window: list[int]) -> bool:
        return any(self._is_hopeless(state, self._answered[node // 2]) for node in window)

    def _is_new(self, move: _Move) -> bool:
        """Whether the configuration after ``move`` (lifted already) is better than those visited, and has hope."""
        self._count()
        # Everything before the first call in the list is linearized: the rest of the mask is short.
        node = self._next[self._head]
        base = len(self._answered) if node == _END else node // 2
        seen = self._seen.setdefault((base, self._mask >> base, move.state), [])
        return _enter(seen, move.used) and not self._hopeless(move.state, self._window())

    def _count(self) -> None:
        self._visited += 1
        if self._visited > self._limit:
            raise Undecided(
                f"gave up after {self._limit} configurations: {len(self._answered)} answered and "
                f"{sum(len(kind.operations) for kind in self._kinds)} unanswered operations"
            )

    def _lift(self, call: int) -> None:
        self._mask |= 1 << (call // 2)
        for node in (call, call + 1):
            before, after = self._previous[node], self._next[node]
            self._next[before] = after
            if after != _END:
                self._previous[after] = before

    def _unlift(self, call: int) -> None:
        self._mask &= ~(1 << (call // 2))
        for node in (call + 1, call):
            before, after = self._previous[node], self._next[node]
            self._next[before] = node
            if after != _END:
                self._previous[after] = node


def _enter(smallest: list[int], used: int) -> bool:
    """Add a set of bits to those of which none contains another. False if it contains one of them."""
    if any(each & ~used == 0 for each in smallest):
        return False
    smallest[:] = [each for each in smallest if used & ~each != 0]
    smallest.append(used)
    return True

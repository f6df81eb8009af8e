"""Is a history linearizable? One object at a time, with a report of the shortest beginning that is not.

An operation without an answer stays open for ever: it may have taken effect at any time after its call, or never.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.sim.history import Operation
from tests.sim.models import Model
from tests.sim.search import Linearization, Search, Undecided


@dataclass(frozen=True, slots=True)
class Violation:
    """The shortest beginning of an object's history that is not linearizable.

    It ends with the answer of ``culprit``; ``before`` is a valid order of everything up to there with that call still
    open; ``concurrent`` were under way, answered or not.
    """

    object: str
    culprit: Operation
    concurrent: tuple[Operation, ...]
    before: Linearization
    prefix_operations: int

    def __str__(self) -> str:
        shown = self.before.order[-12:]
        lines = [
            f"{self.object!r} is not linearizable: of its first {self.prefix_operations} operations no order explains",
            f"    {self.culprit}",
            f"A valid order of all answers before that one, the last {len(shown)} of {len(self.before.order)}:",
            *(f"    {operation}" for operation in shown),
            f"  and then the state would be {self.before.state!r}.",
            f"Under way when it was answered: {len(self.concurrent)}",
            *(f"    {operation}" for operation in self.concurrent[-20:]),
        ]
        return "\n".join(lines)


def check(
    operations: Iterable[Operation],
    model: Model | Callable[[str], Model],
    max_configurations: int = 2_000_000,
) -> tuple[Violation, ...]:
    """Judge every object of a history by its model (one for all, or by name). Empty if all are linearizable.

    Raises Undecided if an object needs more than ``max_configurations``.
    """
    by_object: dict[str, list[Operation]] = {}
    for operation in operations:
        by_object.setdefault(operation.object, []).append(operation)
    violations = []
    for name, own in by_object.items():
        own_model = model(name) if callable(model) else model
        try:
            if linearize(own, own_model, max_configurations) is None:
                violations.append(_explain(name, own, own_model, max_configurations))
        except Undecided as undecided:
            raise Undecided(f"{name!r}: {undecided}") from undecided
    return tuple(violations)


def assert_linearizable(
    operations: Iterable[Operation], model: Model | Callable[[str], Model], max_configurations: int = 2_000_000
) -> None:
    """Raise AssertionError with a readable report for every object that is not linearizable."""
    violations = check(operations, model, max_configurations)
    if violations:
        raise AssertionError("\n\n".join(map(str, violations)))


def linearize(
    operations: Sequence[Operation], model: Model, max_configurations: int = 2_000_000
) -> Linearization | None:
    """A linearization of one object's operations; None if there is none."""
    return Search(operations, model, max_configurations).run()


def _explain(name: str, operations: Sequence[Operation], model: Model, max_configurations: int) -> Violation:
    """Linearizability is closed under prefixes, so the shortest bad one is found by bisection over the returns."""
    answered = sorted((each for each in operations if each.returned_ns is not None), key=_return_time)
    good, bad = 0, len(answered)
    witness = Linearization((), model.initial())
    while bad - good > 1:
        middle = (good + bad) // 2
        found = linearize(_prefix(operations, answered[middle - 1]), model, max_configurations)
        if found is None:
            bad = middle
        else:
            good, witness = middle, found
    culprit = answered[bad - 1]
    prefix = _prefix(operations, culprit)
    began_ns = culprit.invoked_ns
    concurrent = [each for each in prefix if each.is_open or (_return_time(each) >= began_ns and each is not culprit)]
    return Violation(name, culprit, tuple(concurrent), witness, len(prefix))


def _return_time(operation: Operation) -> int:
    assert operation.returned_ns is not None
    return operation.returned_ns


def _prefix(operations: Sequence[Operation], last: Operation) -> list[Operation]:
    """The history as it was when ``last`` had just been answered."""
    until_ns = _return_time(last)
    return [
        each if each.returned_ns is not None and each.returned_ns <= until_ns else each.reopened()
        for each in operations
        if each.invoked_ns <= until_ns
    ]

"""The checker itself: histories whose verdict is known, an independent brute-force judge, and mutated histories."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import pytest

from tests.sim.history import UNKNOWN, Operation, Raised
from tests.sim.linearizability import assert_linearizable, check, linearize
from tests.sim.models import Counter, Model, Mutex, Register, Semaphore, State, UnknownOperation
from tests.sim.search import Undecided


def call(
    process: int, op: str, *args: object, at: tuple[int, int | None], result: Any = UNKNOWN, on: str = "x"
) -> Operation:
    return Operation(process, on, op, args, at[0], at[1], result)


LINEARIZABLE: dict[str, tuple[Model, list[Operation]]] = {
    "nothing happened": (Register(), []),
    "read sees a concurrent write": (
        Register(0),
        [call(1, "write", 1, at=(0, 10), result=None), call(2, "read", at=(5, 6), result=1)],
    ),
    "read misses a concurrent write": (
        Register(0),
        [call(1, "write", 1, at=(0, 10), result=None), call(2, "read", at=(5, 6), result=0)],
    ),
    "an open write did take effect, much later": (
        Register(0),
        [
            call(1, "write", 1, at=(0, None)),
            call(2, "read", at=(10, 11), result=0),
            call(2, "read", at=(100, 101), result=1),
        ],
    ),
    "an open write never took effect": (
        Register(0),
        [call(1, "write", 1, at=(0, None)), call(2, "read", at=(10, 11), result=0)],
    ),
    "only the second of two open writes took effect": (
        Register(0),
        [
            call(1, "write", 1, at=(0, None)),
            call(2, "write", 2, at=(0, None)),
            call(3, "read", at=(10, 11), result=2),
        ],
    ),
    "two concurrent cas, one wins": (
        Register(0),
        [call(1, "cas", 0, 1, at=(0, 9), result=True), call(2, "cas", 0, 2, at=(0, 9), result=False)],
    ),
    "concurrent increments in either order": (
        Counter(10),
        [call(1, "increment", at=(0, 9), result=12), call(2, "increment", at=(1, 8), result=11)],
    ),
    "an open increment explains a jump": (
        Counter(),
        [call(1, "increment", 5, at=(0, None)), call(2, "increment", at=(1, 2), result=6)],
    ),
    "a lock is passed on": (
        Mutex(tokens=True),
        [
            call(1, "acquire", at=(0, 1), result=7),
            call(2, "acquire", at=(2, 9), result=8),
            call(1, "release", at=(3, 4), result=None),
        ],
    ),
    "an open release lets the next one in": (
        Mutex(),
        [
            call(1, "acquire", at=(0, 1), result=True),
            call(1, "release", at=(2, None)),
            call(2, "acquire", at=(5, 6), result=True),
        ],
    ),
    "a stranger's release raises": (
        Mutex(),
        [
            call(1, "acquire", at=(0, 1), result=True),
            call(2, "release", at=(2, 3), result=Raised("RuntimeError")),
            call(3, "acquire", at=(4, 5), result=False),
        ],
    ),
    "two permits, two holders": (
        Semaphore(2),
        [
            call(1, "acquire", at=(0, 1), result=True),
            call(2, "acquire", at=(2, 3), result=True),
            call(3, "acquire", at=(4, 5), result=False),
            call(3, "acquire", at=(6, None)),
        ],
    ),
    "a bounded semaphore refuses to grow": (
        Semaphore(1, bounded=True),
        [call(1, "release", at=(0, 1), result=Raised("ValueError"))],
    ),
}

NOT_LINEARIZABLE: dict[str, tuple[Model, list[Operation]]] = {
    "stale read": (
        Register(0),
        [call(1, "write", 1, at=(0, 1), result=None), call(2, "read", at=(2, 3), result=0)],
    ),
    "reads go back in time": (
        Register(0),
        [
            call(1, "write", 1, at=(0, 99), result=None),
            call(2, "read", at=(2, 3), result=1),
            call(3, "read", at=(4, 5), result=0),
        ],
    ),
    "an open write is seen before it was called": (
        Register(0),
        [call(2, "read", at=(0, 1), result=1), call(1, "write", 1, at=(5, None))],
    ),
    "an open write is seen, and then unseen": (
        Register(0),
        [
            call(1, "write", 1, at=(0, None)),
            call(2, "read", at=(10, 11), result=1),
            call(2, "read", at=(12, 13), result=0),
        ],
    ),
    "lost update": (
        Counter(),
        [call(1, "increment", at=(0, 9), result=1), call(2, "increment", at=(1, 8), result=1)],
    ),
    "duplicate apply": (
        Counter(),
        [call(1, "increment", at=(0, 1), result=1), call(2, "get", at=(2, 3), result=2)],
    ),
    "an open increment applied twice": (
        Counter(),
        [call(1, "increment", at=(0, None)), call(2, "get", at=(2, 3), result=2)],
    ),
    "two holders of a lock": (
        Mutex(),
        [call(1, "acquire", at=(0, 1), result=True), call(2, "acquire", at=(2, 3), result=True)],
    ),
    "a token that does not grow": (
        Mutex(tokens=True),
        [
            call(1, "acquire", at=(0, 1), result=7),
            call(1, "release", at=(2, 3), result=None),
            call(2, "acquire", at=(4, 5), result=7),
        ],
    ),
    "a stranger releases": (
        Mutex(),
        [call(1, "acquire", at=(0, 1), result=True), call(2, "release", at=(2, 3), result=None)],
    ),
    "somebody else's open release does not free the lock": (
        Mutex(),
        [
            call(1, "acquire", at=(0, 1), result=True),
            call(3, "release", at=(2, None)),
            call(2, "acquire", at=(5, 6), result=True),
        ],
    ),
    "three holders of two permits": (
        Semaphore(2),
        [call(process, "acquire", at=(process * 2, process * 2 + 1), result=True) for process in range(3)],
    ),
}


@pytest.mark.parametrize("name", LINEARIZABLE)
def test_known_linearizable(name: str) -> None:
    model, operations = LINEARIZABLE[name]
    assert check(operations, model) == ()


@pytest.mark.parametrize("name", NOT_LINEARIZABLE)
def test_known_not_linearizable(name: str) -> None:
    model, operations = NOT_LINEARIZABLE[name]
    assert [violation.object for violation in check(operations, model)] == ["x"]


def test_objects_are_judged_apart_and_each_by_its_own_model() -> None:
    operations = [
        call(1, "write", 1, at=(0, 1), result=None, on="register"),
        call(1, "increment", at=(2, 3), result=1, on="counter"),
        call(2, "read", at=(4, 5), result=None, on="register"),
    ]
    models: dict[str, Model] = {"register": Register(), "counter": Counter()}
    assert [violation.object for violation in check(operations, models.__getitem__)] == ["register"]


def test_the_report_names_the_shortest_bad_beginning() -> None:
    good = [call(1, "increment", at=(10 * n, 10 * n + 5), result=n + 1) for n in range(100)]
    culprit = call(2, "get", at=(502, 507), result=7)
    with pytest.raises(AssertionError) as failure:
        assert_linearizable([*good, culprit], Counter())
    (violation,) = check([*good, culprit], Counter())
    assert violation.culprit == culprit
    assert violation.prefix_operations == 52  # Increments 0 to 50, the last of them concurrent, and itself.
    assert violation.before.state == 51
    assert "process 2: x.get() -> 7" in str(failure.value)
    assert "'x' is not linearizable" in str(failure.value)


def test_an_answer_before_its_call_is_refused() -> None:
    with pytest.raises(ValueError, match="answered before it was called"):
        check([call(1, "read", at=(5, 4), result=None)], Register())


def test_an_operation_unknown_to_the_model_is_a_mistake() -> None:
    with pytest.raises(UnknownOperation, match="'push' on a register"):
        check([call(1, "push", at=(0, 1))], Register())


def test_the_search_is_bounded() -> None:
    writes = [call(n, "write", n, at=(0, 100), result=None) for n in range(30)]
    reads = [call(99, "read", at=(200 + 2 * n, 201 + 2 * n), result=n) for n in range(2)]
    with pytest.raises(Undecided, match="'x': gave up after 500 configurations"):
        check([*writes, *reads], Register(), max_configurations=500)


# A judge of another kind: try every order of every choice of open calls.


def brute_force(operations: Sequence[Operation], model: Model) -> bool:
    answered = [each for each in operations if not each.is_open]
    unanswered = [each for each in operations if each.is_open]
    chosen = (part for size in range(len(unanswered) + 1) for part in combinations(unanswered, size))
    return any(_is_valid(order, model) for part in chosen for order in permutations([*answered, *part]))


def _is_valid(order: Sequence[Operation], model: Model) -> bool:
    latest_call_ns = -1
    state: State | None = model.initial()
    for operation in order:
        # Whatever comes earlier in the order must not have been called only after this one was answered.
        if operation.returned_ns is not None and operation.returned_ns < latest_call_ns:
            return False
        latest_call_ns = max(latest_call_ns, operation.invoked_ns)
        state = model.step(state, operation)
        if state is None:
            return False
    return True


def random_small_history(rng: random.Random, model: Model) -> list[Operation]:
    operations = []
    for _ in range(rng.randint(1, 5)):
        invoked_ns = rng.randint(0, 12)
        is_open = rng.random() < 0.25
        op, args, result = random_call(rng, model)
        returned_ns = None if is_open else invoked_ns + rng.randint(0, 6)
        operations.append(
            Operation(rng.randint(1, 3), "x", op, args, invoked_ns, returned_ns, UNKNOWN if is_open else result)
        )
    return operations


def random_call(rng: random.Random, model: Model) -> tuple[str, tuple[int, ...], object]:
    value = rng.randint(0, 2)
    if isinstance(model, Register):
        cas = ("cas", (value, rng.randint(0, 2)), rng.random() < 0.5)
        return rng.choice([("read", (), value), ("write", (value,), None), cas])
    if isinstance(model, Counter):
        return rng.choice([("get", (), value), ("increment", (rng.randint(1, 2),), rng.randint(0, 4))])
    if isinstance(model, Mutex) and model.tokens:
        return rng.choice([("acquire", (), rng.randint(1, 4)), ("acquire", (), False), ("release", (), None)])
    return rng.choice(
        [("acquire", (), True), ("acquire", (), False), ("release", (), None), ("release", (), Raised("E"))]
    )


@pytest.mark.parametrize(
    "model",
    [Register(0), Counter(), Mutex(), Mutex(tokens=True), Semaphore(1), Semaphore(2, bounded=True)],
    ids=str,
)
def test_agrees_with_brute_force_on_thousands_of_small_histories(model: Model) -> None:
    rng = random.Random(20170717)
    verdicts = {True: 0, False: 0}
    for number in range(1500):
        operations = random_small_history(rng, model)
        expected = brute_force(operations, model)
        found = linearize(operations, model)
        assert (found is not None) == expected, f"history {number}:\n" + "\n".join(map(str, operations))
        if found is not None:
            assert _is_valid(found.order, model)
        verdicts[expected] += 1
    assert min(verdicts.values()) > 100, f"one-sided sample: {verdicts}"


# Large histories that are linearizable by construction, and the same with one answer changed.


def generated(rng: random.Random, model: Model, processes: int, count: int, lost: float) -> list[Operation]:
    """Concurrent calls against a true object: each takes effect at some instant between its call and its answer."""
    state = model.initial()
    now_ns = 0
    idle = list(range(processes))
    called: dict[int, Operation] = {}
    effective: dict[int, Operation] = {}
    done: list[Operation] = []
    next_process = processes
    while len(done) < count:
        now_ns += 1
        choice = rng.random()
        if choice < 0.35 and idle:
            process = idle.pop(rng.randrange(len(idle)))
            called[process] = Operation(process, "x", *intent(rng, model), now_ns)
        elif choice < 0.7 and called:
            process = rng.choice(list(called))
            operation = called.pop(process)
            if rng.random() >= lost / 2:
                state, operation = take_effect(model, state, operation)
            effective[process] = operation
        elif effective:
            process = rng.choice(list(effective))
            operation = effective.pop(process)
            if operation.result is UNKNOWN or rng.random() < lost / 2:
                done.append(operation.reopened())
                idle.append(next_process)
                next_process += 1
            else:
                done.append(
                    Operation(
                        process, "x", operation.op, operation.args, operation.invoked_ns, now_ns, operation.result
                    )
                )
                idle.append(process)
    return [*done, *(each.reopened() for each in [*called.values(), *effective.values()])]


def intent(rng: random.Random, model: Model) -> tuple[str, tuple[int, ...]]:
    if isinstance(model, Counter):
        return rng.choice([("increment", (rng.randint(1, 3),)), ("increment", (1,)), ("get", ())])
    value = rng.randint(0, 9)
    return rng.choice([("write", (value,)), ("read", ()), ("cas", (value, rng.randint(0, 9)))])


def take_effect(model: Model, state: Any, operation: Operation) -> tuple[State, Operation]:
    after = model.step(state, operation)
    assert after is not None
    if operation.op in ("read", "get"):
        result: object = state if isinstance(model, Counter) else state[0]
    elif operation.op == "cas":
        result = state[0] == operation.args[0]
    else:
        result = after if operation.op == "increment" else None
    return after, Operation(
        operation.process, "x", operation.op, operation.args, operation.invoked_ns, operation.invoked_ns, result
    )


def mutations(rng: random.Random, operations: Sequence[Operation], count: int) -> Iterator[list[Operation]]:
    """The history with one answer changed to what an earlier call had got, long before."""
    answered = [each for each in operations if not each.is_open]
    for each in rng.sample(answered[len(answered) // 2 :], count):
        old = rng.choice(answered[: len(answered) // 4])
        yield [replace(each, result=old.result) if other is each else other for other in operations]


@pytest.mark.parametrize("lost", [0.0, 0.02])
def test_large_valid_counter_histories_pass_and_fail_when_one_answer_is_changed(lost: float) -> None:
    rng = random.Random(42)
    operations = generated(rng, Counter(), processes=10, count=3000, lost=lost)
    assert len(operations) >= 3000
    assert sum(each.is_open for each in operations) >= 3000 * lost / 2
    assert_linearizable(operations, Counter())
    for mutated in mutations(rng, operations, 3):
        assert len(check(mutated, Counter())) == 1


@pytest.mark.parametrize("lost", [0.0, 0.02])
def test_large_valid_register_histories_pass(lost: float) -> None:
    for seed in range(3):
        assert_linearizable(generated(random.Random(seed), Register(0), 10, 3000, lost), Register(0))


def test_a_plausible_wrong_answer_is_found_too() -> None:
    rng = random.Random(7)
    operations = generated(rng, Counter(), processes=10, count=1000, lost=0.0)
    increments = [n for n, each in enumerate(operations) if not each.is_open and each.op == "increment"]
    first, second = increments[300], increments[301]
    # A lost update: both were told the same value.
    wrong = list(operations)
    each = operations[second]
    wrong[second] = Operation(
        each.process, "x", each.op, each.args, each.invoked_ns, each.returned_ns, operations[first].result
    )
    assert len(check(wrong, Counter())) == 1


def test_a_stale_read_in_a_busy_register_is_found() -> None:
    operations = generated(random.Random(11), Register(0), processes=6, count=400, lost=0.0)
    last_ns = max(each.returned_ns for each in operations if each.returned_ns is not None)
    write = call(100, "write", 5, at=(last_ns + 1, last_ns + 2), result=None)
    stale = call(101, "read", at=(last_ns + 3, last_ns + 4), result=6)
    answered = [each for each in operations if not each.is_open]
    assert len(check([*answered, write, stale], Register(0))) == 1


def test_many_unanswered_calls_do_not_explode_the_search() -> None:
    opens = [call(n, "write", n, at=(n, None)) for n in range(100)]
    reads = [call(1000, "read", at=(1000 + 2 * n, 1001 + 2 * n), result=n) for n in range(100)]
    assert check([*opens, *reads], Register()) == ()
    # No write is left to explain the return of an old value, and finding that out must not try their 2^100 subsets.
    impossible = call(1000, "read", at=(5000, 5001), result=3)
    assert len(check([*opens, *reads, impossible], Register(), max_configurations=200_000)) == 1

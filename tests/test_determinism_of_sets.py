"""What has the order of a set is warned of; what becomes of a set without its order is not."""

# The code in here is wrong on purpose.
# ruff: noqa: C416, PERF402, PLC0208, RUF015, UP031

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.test_determinism import found

ALLOWED = frozenset({"a", "b"})


def iterates(self: Any) -> list[int]:
    total = []
    for item in {1, 2, 3}:
        total.append(item)
    return total


def iterates_local(self: Any, items: Any) -> None:
    seen = set(items)
    seen |= {1}
    for item in seen:
        self.add(item)


def pops_local(self: Any, items: Any) -> Any:
    seen = set(items)
    return seen.pop()


def adds_set(self: Any, x: Any) -> Any:
    x += {1, 2}
    return x


UNCERTAIN: list[tuple[Callable[..., Any], str]] = [
    (iterates, "items of a set one by one"),
    (iterates_local, "items of a set one by one"),
    (pops_local, "pop() of a set"),
    (lambda self, x: list(set(x)), "items of a set one by one"),
    (lambda self, x: tuple({*x}), "items of a set one by one"),
    (lambda self, x: [*set(x)], "items of a set one by one"),
    (lambda self, x: [y for y in set(x)], "items of a set one by one"),
    (lambda self, x: next(iter(set(x))), "items of a set one by one"),
    (lambda self, x: list(set(x).union(x))[0], "items of a set one by one"),
    (lambda self, x: ", ".join({str(y) for y in x}), "items of a set one by one"),
    (lambda self, x: dict.fromkeys(set(x)), "items of a set one by one"),
    (lambda self: [a for a in ALLOWED], "items of a set one by one"),
    (lambda self, x: str(set(x)), "items of a set one by one"),
    (lambda self, x: x.extend({1, 2}), "items of a set one by one"),
    (adds_set, "items of a set one by one"),
    (lambda self, x: f"{set(x)}", "items of a set one by one"),
    (lambda self, x: "%s of %s" % (1, set(x)), "items of a set one by one"),
    (lambda self, x: list(itertools.chain(set(x), [1])), "items of a set one by one"),
    (lambda self, x: [y for y in itertools.islice(set(x), 3)], "items of a set one by one"),
    (lambda self, x: collections.deque({*x}), "items of a set one by one"),
    (lambda self, x: collections.deque(y for y in {*x}).popleft(), "items of a set one by one"),
    (lambda self, x: collections.Counter(set(x)).most_common(1), "items of a set one by one"),
    (lambda self, x: list(set(x)).pop(), "items of a set one by one"),
]


@pytest.mark.parametrize(("method", "what"), UNCERTAIN)
def test_the_order_of_a_set_is_warned_of(method: Callable[..., Any], what: str) -> None:
    assert found(method) == [(what, False)]


def adds_set_and_sorts(self: Any, x: Any) -> Any:
    listed = [1]
    listed += set(x)
    listed.sort()
    return listed


FINE: list[Callable[..., Any]] = [
    adds_set_and_sorts,
    lambda self, x: sorted(set(x)),
    lambda self, x: sorted(y for y in set(x) if y),
    lambda self, x: sorted([y for y in set(x)]),
    lambda self, x: {y for y in set(x)},
    lambda self, x: (sum(set(x)), len(set(x)), max(set(x)), any(y for y in set(x)), 1 in set(x)),
    lambda self, x: frozenset(set(x) - {1}) | {2},
    lambda self, x: sorted(itertools.chain(set(x), iter(x))),
    lambda self, x: set(itertools.chain(set(x), set(x))),
    lambda self, x: collections.deque(sorted({*x})),
    lambda self, x: f"{len(set(x))} {sorted(set(x))} {1 in set(x)}",
    lambda self, x: [y for y in sorted({*x})],
]


@pytest.mark.parametrize("method", FINE)
def test_a_set_without_its_order_is_not(method: Callable[..., Any]) -> None:
    assert found(method) == []

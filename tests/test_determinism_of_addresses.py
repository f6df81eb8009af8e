"""A text that shows where an object is in memory, or a hash made of it, is refused; other texts are nobody's business.

It stays the same for as long as there is one replica, and differs as soon as there are two.
"""

# The code in here is wrong on purpose.
# ruff: noqa: F521, G001, G004, LOG015, PLW0108, T201, UP030, UP031, UP032

from __future__ import annotations

import dataclasses
import enum
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

import concoord_ray as concoord
from concoord_ray.determinism.reading import Finding
from concoord_ray.determinism.scan import Scan
from concoord_ray.rsm.methods import method_flags

log = logging.getLogger(__name__)


def findings(cls: type) -> list[Finding]:
    return Scan(cls, method_flags(cls)).findings()


def found(method: Callable[..., Any], **members: Any) -> list[tuple[str, bool]]:
    """What is found in a class with this one method, and whether it is certain."""
    cls = type("Ledger", (), {"__module__": __name__, "act": method, **members})
    return [(finding.what, finding.is_sure) for finding in findings(cls)]


class Plain:
    """Says nothing of its own."""

    name = "plain"


PLAIN = Plain()


def helper() -> int:
    return 1


OF_SELF: list[Callable[..., Any]] = [
    lambda self: str(self),
    lambda self: repr(self),
    lambda self: ascii(self),
    lambda self: format(self),
    lambda self: format(self, ""),
    lambda self: f"{self}",
    lambda self: f"a {self} b",
    lambda self: f"{self!r}",
    lambda self: f"{self!s:>40}",
    lambda self: "%s" % self,
    lambda self, x: "%d%% of %r" % (x, self),
    lambda self, x: "%5s %-7.2f %s" % (x, x, self),
    lambda self: "{}".format(self),
    lambda self, x: "{} {!r:>9}".format(x, self),
    lambda self, x: "{1} {0.name} {x}".format(x, self, x=x),
    lambda self: f"{self.act}",
    lambda self: str((1, self)),
    lambda self: self.__str__(),
    lambda self: "a" + str(self),
    lambda self, x: x.append(repr(self)),
    lambda self: self.raised(ValueError(f"{self} is closed")),
]


@pytest.mark.parametrize("method", OF_SELF)
def test_a_text_of_an_object_that_says_nothing_of_its_own_shows_its_address(method: Callable[..., Any]) -> None:
    assert found(method) == [("the text of an object of Ledger", True)]


OTHERS: list[tuple[Callable[..., Any], str]] = [
    (lambda self: str(object()), "the text of an object of object"),
    (lambda self: repr(Plain()), "the text of an object of Plain"),
    (lambda self: f"{PLAIN}", "the text of an object of Plain"),
    (lambda self: str(helper), "the text of a function"),
    (lambda self: str(lambda: 1), "the text of a function"),
    (lambda self: self.__repr__(), "object.__repr__()"),
    (lambda self: object.__repr__(self), "object.__repr__()"),
    (lambda self: hash(self), "hash() of an object of Ledger"),
    (lambda self: hash(Plain()), "hash() of an object of Plain"),
    (lambda self: self.__hash__(), "object.__hash__()"),
]


@pytest.mark.parametrize(("method", "what"), OTHERS)
def test_other_texts_and_hashes_of_addresses_are_found(method: Callable[..., Any], what: str) -> None:
    assert found(method) == [(what, True)]


@dataclasses.dataclass
class Entry:
    key: str = ""
    made: int = 0


class Pair(NamedTuple):
    a: int
    b: int


class Colour(enum.Enum):
    RED = 1


class Told:
    def __str__(self) -> str:
        return "told"


class Singleton:
    def __new__(cls) -> Any:
        return "another"


def ends_a_branch(self: Any, x: Any) -> str:
    if x is None:
        x = Plain()
        return str(x.name)
    return f"{x}"


def raises_in_a_branch(self: Any, x: Any) -> str:
    entry: Any = self.entries[x]
    if entry is None:
        entry = Plain()
        raise KeyError(entry.name)
    return f"{entry}"


FINE: list[Callable[..., Any]] = [
    ends_a_branch,
    raises_in_a_branch,
    lambda self, x: f"{x} {self.name} {self.count + 1:>5} {type(self).__name__}",
    lambda self, x: f"{Entry()} {Pair(1, 2)} {Colour.RED} {Told()} {ValueError('x')} {Plain}",
    lambda self, x: f"{PLAIN.name} {Plain().name} {Singleton()} {log} {None}",
    lambda self, x: "%s %d %r" % (x, 1, self.name),
    lambda self, x: "%(name)s" % self,
    lambda self, x: "%s" % x,
    lambda self, x: "{0.name} {1[0]} {2}".format(self, self, x),
    lambda self, x: "{.name} {}".format(self, x),
    lambda self, x: "{} {".format(self),  # type: ignore[str-format]
    lambda self, x: x % self,
    lambda self, x: x.format(self),
    lambda self, x: (str(x), str(b"x", "utf-8"), repr([1]), str(1.5), str({}), f"{object}"),
    lambda self, x: self == x and self in x,
]


@pytest.mark.parametrize("method", FINE)
def test_nothing_is_found_in_other_texts(method: Callable[..., Any]) -> None:
    assert found(method) == []


@pytest.mark.parametrize("name", ["__str__", "__repr__", "__format__"])
def test_an_object_may_speak_for_itself(name: str) -> None:
    def says(self: Any, spec: str = "") -> str:
        return f"<{self.name} {spec}>"

    members = {name: says}
    assert found(lambda self: f"{self}", **members) == []
    sure = [] if name == "__repr__" else [("the text of an object of Ledger", True)]
    assert found(lambda self: f"{self!r}", **members) == sure


def test_what_an_object_says_of_itself_is_read_where_it_is_asked() -> None:
    class Numbered:
        def __repr__(self) -> str:
            return f"<{id(self):x}>"

        def quiet(self) -> int:
            return 1

    class Inheriting(Numbered):
        def __str__(self) -> str:
            return super().__repr__()

        def act(self) -> str:
            return f"{self}"

    class Further:
        def __str__(self) -> str:
            return super().__repr__()

        def act(self) -> str:
            return f"{self}"

    assert findings(Numbered) == []
    assert [(each.method, each.what) for each in findings(Inheriting)] == [("Inheriting.act", "id()")]
    assert [(each.method, each.what) for each in findings(Further)] == [("Further.act", "object.__repr__()")]


def test_a_class_is_no_object_of_itself() -> None:
    class Ledger:
        @classmethod
        def make(cls) -> str:
            return f"{cls}"

        def act(self) -> str:
            return self.make()

    assert findings(Ledger) == []


WRITTEN: list[tuple[Callable[..., Any], str]] = [
    (lambda self: print(f"{self} is open"), "print()"),
    (lambda self: print("of " + str(self)), "print()"),
    (lambda self: print("%s" % self), "print()"),
    (lambda self: log.info(f"{self}"), "log.info()"),
    (lambda self: logging.info("{}".format(self)), "logging.info()"),
]


@pytest.mark.parametrize(("method", "what"), WRITTEN)
def test_an_address_in_a_log_is_no_more_than_a_log(method: Callable[..., Any], what: str) -> None:
    assert found(method) == [(what, False)]
    assert found(lambda self: self.log.debug(f"{self}")) == []


def test_what_an_attribute_holds_may_be_replaced() -> None:
    class Ledger:
        def __init__(self) -> None:
            self.none: Any = object()

        def show(self) -> str:
            return f"{self.none}"

    assert [(each.what, each.is_sure) for each in findings(Ledger)] == [("the text of an object of object", False)]


def test_the_refusal_says_what_to_do() -> None:
    class Ledger:
        def show(self) -> str:
            return f"{self}"

    with pytest.raises(concoord.NotDeterministic) as caught:
        concoord.replicated(Ledger)
    assert str(caught.value).startswith(
        "Ledger.show shows an address, which differs between replicas: the text of an object of "
        f"{Ledger.__qualname__} at {__file__}:"
    )
    assert "Show a name or attributes, or give its class a __repr__." in str(caught.value)

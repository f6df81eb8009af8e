"""What a user's module may hold: a replicated class, and all that its methods compare and construct.

Tests ship it by value to processes that cannot import it.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from concoord_ray.rsm.context import now, random
from concoord_ray.rsm.methods import when
from concoord_ray.threadingobject.dlock import DLock

MISSING = object()
ORDERS_SEEN: list[str] = []
T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"

    def other(self) -> Colour:
        return Colour.GREEN if self is Colour.RED else Colour.RED


class Right(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class OutOfStock(Exception):
    """Does not survive a pickle by itself."""

    def __init__(self, item: str, *, wanted: int) -> None:
        super().__init__(f"{wanted} of {item}")
        self.wanted = wanted


class Place(NamedTuple):
    row: int
    name: str


@dataclass(frozen=True)
class Key:
    place: Place
    colour: Colour


@dataclass
class Item:
    name: str
    colour: Colour = Colour.RED
    tags: set[str] = field(default_factory=set)
    price: Any = MISSING


class Box(Generic[T]):
    __slots__ = ("content",)

    def __init__(self, content: T) -> None:
        self.content = content

    def __repr__(self) -> str:
        return f"Box({self.content!r})"


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> int: ...


class Square(Shape):
    def __init__(self, side: int) -> None:
        self.side = side

    def area(self) -> int:
        return self.side**2


def cheapest(items: list[Item]) -> Item:
    return min(items, key=lambda item: 0 if item.price is MISSING else item.price)


class Shop:
    """Its answers say whether what was restored is what methods construct."""

    opened = 0

    class Clerk:
        def __init__(self, name: str) -> None:
            self.name = name

    def __init__(self, other: Shop | None = None) -> None:
        Shop.opened += 1
        self.other = other
        self.lock: DLock = DLock() if other is None else other.lock
        self.items: list[Item] = [] if other is None else other.items
        self.by_key: dict[Key, Item] = {} if other is None else other.by_key
        self.rights = Right.READ | Right.WRITE
        self.clerk = Shop.Clerk("Ann")
        self.box: Box[Shape] = Box(Square(3))
        self.last_error: Exception | None = None
        self.pick = cheapest
        self.rank: Callable[[Item], Any] = lambda item: (item.name, self.clerk.name)
        self.step: Any = self.stock
        self.dice = random()

    def stock(self, name: str, colour: Any = Colour.RED) -> int:
        item = Item(name, colour)
        self.items.append(item)
        self.by_key[Key(Place(len(self.items), name), colour)] = item
        ORDERS_SEEN.append(name)
        return len(self.items)

    def is_item(self, item: Any) -> bool:
        """Whether something that comes with a call is of the class that methods know."""
        return type(item) is Item and type(self.items[0]) is Item

    @when(lambda self: len(self.items) >= 3)
    def sell(self) -> str:
        return f"{self.items.pop(0).name} {self.dice.random()}"

    def fail(self) -> None:
        self.last_error = OutOfStock("nails", wanted=7)
        raise self.last_error

    def fail_again(self) -> None:
        assert isinstance(self.last_error, OutOfStock)
        raise self.last_error

    def judge(self) -> str:
        first = self.items[0]
        place = next(key.place for key, item in self.by_key.items() if item is first)
        verdict: dict[str, Any] = {
            "item": type(first) is Item,
            "equal": Item("a") == Item("a"),
            "missing": first.price is MISSING,
            "colour": first.colour is {"red": Colour.RED, "green": Colour.GREEN}[first.colour.value],
            "rights": self.rights is Right.READ | Right.WRITE,
            "key": self.by_key[Key(Place(*place), first.colour)] is first,
            "clerk": type(self.clerk) is Shop.Clerk,
            "shape": isinstance(self.box.content, Shape),
            "area": self.box.content.area(),
            "self": type(self) is Shop,
            "pick": self.pick is cheapest and self.pick(self.items).name,
            "rank": self.rank(first),
            "step": self.step.__self__ is self,
            "other": self.other is None or (self.other.lock is self.lock and self.other.items is self.items),
            "same class": self.other is None or type(self.other) is type(self),
            "error": self.last_error is None or isinstance(self.last_error, OutOfStock),
            "opened": Shop.opened,
            "orders": list(ORDERS_SEEN),
            "seen": sorted(key.place.name for key in self.by_key),
            "now": now(),
        }
        return repr(verdict)

    def take(self) -> Any:
        return self.lock.acquire()

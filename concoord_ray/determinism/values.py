"""What is known of values while a function is read, and who is told."""

from __future__ import annotations

from enum import Enum, auto
from types import CodeType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from concoord_ray.determinism.machine import Machine


class Kind(Enum):
    """What is known of a value."""

    UNKNOWN = auto()
    #: The empty place beside what is called.
    NULL = auto()
    #: ``obj`` is the value itself.
    KNOWN = auto()
    #: An object of the class ``obj``; or what ``super()`` is in a method of a class after ``obj``.
    INSTANCE = auto()
    SUPER = auto()
    #: The attribute ``path`` of ``of``; ``obj`` if it is a known function.
    METHOD = auto()
    #: A function that is made here, of the code ``obj``.
    MADE = auto()
    SET = auto()
    #: In the order of a set.
    UNORDERED = auto()
    #: ``obj`` is the text itself if it is a constant, or the key of the finding that it shows an address.
    TEXT = auto()
    #: A tuple of the values in the list ``obj``.
    TUPLE = auto()
    #: A list or dict that was begun just now.
    FRESH = auto()


class Value:
    """A value on the way. Two of them are the same only if they are one."""

    __slots__ = ("kind", "obj", "of", "path")

    def __init__(self, kind: Kind, obj: Any = None, path: str = "", of: Value | None = None) -> None:
        self.kind = kind
        self.obj = obj
        #: Its dotted name, if it has one.
        self.path = path
        self.of = of


UNKNOWN = Value(Kind.UNKNOWN)
NULL = Value(Kind.NULL)
NOTHING = object()  # A known value that is not there to be looked at.


def has_order_of_set(value: Value) -> bool:
    """Whether what iterates over it gets the order of a set."""
    return value.kind is Kind.SET or value.kind is Kind.UNORDERED


class Reader(Protocol):
    """What a machine asks and tells while it runs."""

    def resolve(self, machine: Machine, obj: Any, name: str) -> Value:
        """What a global or a variable of an enclosing function is."""

    def imported(self, machine: Machine, name: str, level: int, has_names: bool) -> Value:
        """A module."""

    def attribute(self, machine: Machine, of: Value, name: str) -> Value:
        """An attribute is read."""

    def called(self, machine: Machine, callee: Value, args: list[Value] | None) -> Value:
        """A call; ``args`` is None if they are not known one by one."""

    def shown(self, machine: Machine, value: Value, how: str) -> Value:
        """A value becomes a text, by its method ``how``: ``__str__``, ``__repr__`` or ``__format__``."""

    def made(self, machine: Machine, code: CodeType) -> None:
        """A function, lambda, class or comprehension is made."""

    def changed(self, machine: Machine, target: Value, name: str | None, value: Value) -> None:
        """An attribute (``name``) or an item of ``target`` is set or deleted."""

    def changed_global(self, machine: Machine, name: str) -> None:
        """A global is set or deleted."""

    def ordered(self, machine: Machine) -> None:
        """Something in the order of a set becomes a result, an attribute, or the steps of a loop."""

"""What becomes of values in texts: which method of an object speaks for it, and what a template asks of its values.

An object whose class says nothing of its own is shown by ``object.__repr__``, with its address in memory. That differs
between replicas, and is the same for as long as there is but one: the commonest way of all to diverge.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Any

from concoord_ray.determinism.names import static

#: Which method is asked first, by the builtin and by the letter of a conversion.
HOW = {
    "str": "__str__", "repr": "__repr__", "ascii": "__repr__", "format": "__format__",
    "s": "__str__", "r": "__repr__", "a": "__repr__",
}  # fmt: skip
#: In the order in which each of ``object``'s asks the next.
_SPEAKERS = ("__format__", "__str__", "__repr__")
#: Of an f-string, by the two lowest bits of its instruction.
CONVERSIONS = ("__format__", "__str__", "__repr__", "__repr__")

_PERCENT = re.compile(r"%(\([^)]*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?[hlL]?(.)", re.DOTALL)


def speaker(cls: type, how: str) -> Any:
    """The method that speaks for objects of a class; None if what they say is their address."""
    for name in _SPEAKERS[_SPEAKERS.index(how) :]:
        base, method = static(cls.__mro__, name)
        if base is not object:
            return method
    return None


def has_own_address(cls: type) -> bool:
    """Whether a call of the class is known to make an object of it, which its address tells from others."""
    meta: type = type(cls)
    maker, new = static(meta.__mro__, "__call__")[1], static(cls.__mro__, "__new__")[1]
    return maker is vars(type)["__call__"] and new is vars(object)["__new__"]


def asked_by_percent(template: str) -> Iterator[str | None]:
    """What ``template % values`` asks of each of them; None is nothing that matters. Ends where that is not known."""
    for name, width, precision, letter in _PERCENT.findall(template):
        if name or "*" in (width, precision):
            return
        if letter != "%":
            yield HOW.get(letter)


def asked_by_format(template: str) -> list[tuple[int, str]]:
    """What ``template.format(...)`` asks of positional arguments themselves, not of their attributes."""
    asked = []
    count = 0
    try:
        for _, field, _, conversion in string.Formatter().parse(template):
            if field is None:
                continue
            number = field
            if not field or field[0] in ".[":  # Numbered by its place.
                number = f"{count}{field}"
                count += 1
            if number.isdecimal():
                asked.append((int(number), HOW[conversion or "format"]))
    except (KeyError, ValueError):  # No template: the call will say so.
        return []
    return asked

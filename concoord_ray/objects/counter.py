"""Counter: an integer that many processes count on."""

from __future__ import annotations

from concoord_ray.rsm.methods import readonly


class Counter:
    """An integer. Every call is applied exactly once, however often it was retried."""

    def __init__(self, value: int = 0) -> None:
        self._value = value

    def __repr__(self) -> str:
        return f"<Counter value={self._value}>"

    def increment(self, by: int = 1) -> int:
        """Add ``by``; the new value."""
        self._value += by
        return self._value

    def decrement(self, by: int = 1) -> int:
        """Subtract ``by``; the new value."""
        self._value -= by
        return self._value

    @readonly
    def getvalue(self) -> int:
        """The value."""
        return self._value

"""A user's own replicated class, as the simulated clients create it."""

from __future__ import annotations

from typing import Any

from concoord_ray.rsm.methods import readonly


class Register:
    """One value."""

    def __init__(self) -> None:
        self._value: Any = None

    def write(self, value: Any) -> None:
        self._value = value

    def cas(self, expected: Any, new: Any) -> bool:
        if self._value != expected:
            return False
        self._value = new
        return True

    @readonly
    def read(self) -> Any:
        return self._value

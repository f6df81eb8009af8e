"""Replicated classes as users write them, shared by several tests.

They are not decorated, since mypy does not know that a class decorator may return something else than the class.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import ray

import concoord_ray as concoord
from concoord_ray import Method


class TallyState:
    """The counter of the README."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def increment(self, by: int = 1) -> int:
        self.value += by
        return self.value

    @concoord.readonly
    def get(self) -> int:
        return self.value


Tally = concoord.replicated(TallyState)


class JournalState:
    """Remembers what it was told, in order."""

    def __init__(self, *first: Any) -> None:
        self.entries: list[Any] = list(first)

    def add(self, entry: Any) -> int:
        self.entries.append(entry)
        return len(self.entries)

    def echo(self, *args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, kwargs

    @concoord.readonly
    def all(self) -> list[Any]:
        return self.entries


Journal = concoord.replicated(JournalState)


Call = Callable[..., Any]


def by_remote(method: Method[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Through Ray, waited for with ``ray.get``."""
    return ray.get(method.remote(*args, **kwargs), timeout=60)


def by_direct(method: Method[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Over this process's own connection, blocking."""
    return method(*args, **kwargs)


def by_aio(method: Method[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Over this process's own connection, awaited."""
    return asyncio.run(method.aio(*args, **kwargs))


PATHS: tuple[Call, ...] = (by_remote, by_direct, by_aio)

#: Parametrizes a test with the three ways to call.
every_path = pytest.mark.parametrize("call", PATHS, ids=["remote", "direct", "aio"])

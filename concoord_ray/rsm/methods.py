"""What the methods of a replicated class are: readonly, blocking, taking ``_concoord_command``."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

from concoord_ray.rsm.command import MethodFlag

_F = TypeVar("_F", bound=Callable[..., Any])
_READONLY = "__concoord_readonly__"
_BLOCKING = "__concoord_blocking__"
_GUARD = "__concoord_guard__"
_AWAITS_LOSS = "__concoord_awaits_loss__"
_IN_CALLER = "__concoord_in_caller__"


def readonly(method: _F) -> _F:
    """Mark a method that changes nothing: it never enters the log, and is still linearizable.

    It runs on the leader alone, after a majority of acceptors has confirmed that it still leads. Safe to retry.
    """
    if hasattr(method, _GUARD):
        raise TypeError(f"{method.__name__} is guarded by @when, and what never enters the log cannot wait there")
    setattr(method, _READONLY, True)
    return method


def blocking(method: _F) -> _F:
    """Mark a method that may park its caller without taking ``_concoord_command``.

    The mark lets the caller's process notice ``ray.cancel`` of such a call, and withdraw it from the queue.
    """
    setattr(method, _BLOCKING, True)
    return method


def awaits_loss(method: _F) -> _F:
    """Mark a blocking method that is true when its caller has lost something.

    A caller that cannot keep its lease is told so by its own side, since the ensemble cannot tell it any more.
    """
    setattr(method, _AWAITS_LOSS, True)
    return blocking(method)


def in_caller(method: _F) -> _F:
    """Mark a method that handles run in the process that calls it, in terms of the others."""
    setattr(method, _IN_CALLER, True)
    return method


def when(guard: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """Mark a method whose calls wait until ``guard(self)`` is true, as a protected entry of Ada.

    ``guard`` is a pure function of the object. A call that finds it false is parked; it runs, in order of arrival, when
    the guard holds after some other call. If the guard raises, so does the call. Bound the waiting with
    ``handle.method.options(timeout=...)``.
    """
    if not callable(guard):
        raise TypeError(f"@when takes a function of the object, such as lambda self: self.items; not {guard!r}")

    def mark(method: _F) -> _F:
        if getattr(method, _READONLY, False):
            raise TypeError(f"{method.__name__} is @readonly, and what never enters the log cannot wait there")
        setattr(method, _GUARD, guard)
        return method

    return mark


def guard_of(method: Callable[..., Any]) -> Callable[[Any], Any]:
    """The guard of a method with MethodFlag.GUARDED."""
    guard: Callable[[Any], Any] = getattr(method, _GUARD)
    return guard


def method_flags(cls: type) -> dict[str, int]:
    """The public methods of a class, and what each is."""
    methods: dict[str, int] = {}
    for name, attribute in inspect.getmembers(cls):
        if name.startswith("_") or not callable(attribute) or inspect.isclass(attribute):
            continue
        flags = MethodFlag.PLAIN
        if getattr(attribute, _READONLY, False):
            flags |= MethodFlag.READONLY
        if _takes_command(attribute):
            flags |= MethodFlag.TAKES_COMMAND | MethodFlag.PARKS
        if hasattr(attribute, _GUARD):
            flags |= MethodFlag.GUARDED | MethodFlag.PARKS
        if getattr(attribute, _BLOCKING, False):
            flags |= MethodFlag.PARKS
        if getattr(attribute, _AWAITS_LOSS, False):
            flags |= MethodFlag.AWAITS_LOSS
        if getattr(attribute, _IN_CALLER, False):
            flags |= MethodFlag.IN_CALLER
        methods[name] = int(flags)
    return methods


def _takes_command(method: Callable[..., Any]) -> bool:
    try:
        return "_concoord_command" in inspect.signature(method).parameters
    except (TypeError, ValueError):  # A builtin without a signature.
        return False

"""What users import has the faces of ``threading``, and handles know what each method is."""

from __future__ import annotations

import inspect
import threading
from typing import Any

import pytest

from concoord_ray.objects.counter import Counter
from concoord_ray.objects.lock import Lock
from concoord_ray.objects.semaphore import Semaphore
from concoord_ray.rsm.command import MethodFlag
from concoord_ray.rsm.methods import method_flags


@pytest.mark.parametrize(
    ("cls", "methods"),
    [
        (Counter, {"increment": MethodFlag.PLAIN, "decrement": MethodFlag.PLAIN, "getvalue": MethodFlag.READONLY}),
        (
            Semaphore,
            {
                "acquire": MethodFlag.PARKS,
                "release": MethodFlag.PLAIN,
                "describe": MethodFlag.READONLY,
                "inspect": MethodFlag.READONLY,
            },
        ),
        (
            Lock,
            {
                "acquire": MethodFlag.PARKS,
                "acquire_fenced": MethodFlag.PARKS,
                "release": MethodFlag.PLAIN,
                "locked": MethodFlag.READONLY,
                "lost": MethodFlag.PARKS | MethodFlag.AWAITS_LOSS,
                "force_release": MethodFlag.PLAIN,
                "inspect": MethodFlag.READONLY,
            },
        ),
    ],
)
def test_methods_are_what_they_say(cls: type, methods: dict[str, MethodFlag]) -> None:
    assert method_flags(cls) == methods


@pytest.mark.parametrize(("ours", "theirs"), [(Semaphore.acquire, threading.Semaphore.acquire)])
def test_arguments_are_named_as_in_threading(ours: Any, theirs: Any) -> None:
    def names(function: Any) -> list[tuple[str, Any]]:
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    assert names(ours) == names(theirs)


def test_a_primitive_outside_of_the_ensemble_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"@concoord\.replicated"):
        Lock().acquire()
    with pytest.raises(RuntimeError, match=r"@concoord\.replicated"):
        Semaphore().acquire()

"""A builtin counts by its name, whoever has put something else in its place: ``ray.init`` does so with ``print``."""

from __future__ import annotations

import builtins

import pytest

from concoord_ray.determinism import NondeterminismWarning, check


def test_print_is_warned_of_and_not_refused_whoever_has_replaced_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Talker:
        def talk(self) -> None:
            print("hello")  # noqa: T201

    monkeypatch.setattr(builtins, "print", pytest.fail)
    with pytest.warns(NondeterminismWarning, match="print"):
        check(Talker, {"talk": 0}, "refuse")

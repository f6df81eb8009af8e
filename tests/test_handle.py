"""A handle is no copy of its object: it has its methods and nothing to be set."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import concoord_ray as concoord
from concoord_ray.handle import Handle
from concoord_ray.objects import Counter
from concoord_ray.rsm.command import ObjectInfo
from concoord_ray.rsm.methods import method_flags


def a_handle() -> Handle[Any]:
    return Handle("default", "an id", ObjectInfo(7, "hits", "Counter", method_flags(Counter)))


@pytest.mark.parametrize("name", ["value", "increment", "name", "_value"])
def test_nothing_can_be_set_on_it(name: str) -> None:
    handle = a_handle()
    with pytest.raises(AttributeError, match=rf"cannot set '{name}' of .*'hits'.* only through its methods"):
        setattr(handle, name, 3)
    assert pickle.loads(pickle.dumps(handle)) == handle


def test_its_methods_are_listed() -> None:
    listed = dir(a_handle())
    assert {"increment", "decrement", "getvalue", "name"} <= set(listed)
    assert listed == sorted(set(listed))


@pytest.mark.parametrize("name", ["", 5])
def test_a_name_of_an_object_that_cannot_be_is_refused_when_it_is_given(name: Any) -> None:
    told = f"name={name!r}: an object's name is a string with at least one character"
    with pytest.raises(concoord.ConfigurationError, match=told):
        concoord.replicated(name=name)(type("Account", (), {}))
    with pytest.raises(concoord.ConfigurationError, match=told):
        concoord.Lock.options(name=name)


@pytest.mark.parametrize("name", ["name", "concoord_reference", "concoord_attachment"])
def test_a_method_that_no_handle_could_call_is_refused_when_its_class_is_decorated(name: str) -> None:
    """Also an inherited one. It would be shadowed by what the handle has of its own."""
    base = type("Base", (), {name: lambda self: 1})
    with pytest.raises(concoord.ConfigurationError, match=rf"Account\.{name} .*'{name}' of a handle is its own"):
        concoord.replicated(type("Account", (base,), {"__qualname__": "Account"}))
    concoord.replicated(type("Account", (), {name: 1, "names": lambda self: 1}))


def test_a_name_of_another_type_is_refused_like_any_that_cannot_be() -> None:
    """Before Ray is started for it."""
    with pytest.raises(concoord.ConfigurationError, match="name=5: use 1 to 64 letters"):
        concoord.init(5)  # type: ignore[arg-type]

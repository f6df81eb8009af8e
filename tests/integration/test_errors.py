"""What a method raises reaches the caller: same type, same message, same attributes, on every path."""

from __future__ import annotations

from typing import Any

import pytest
import ray

import concoord_ray as concoord
from tests.integration.samples import Call, by_remote, every_path

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ensemble")]


class Overdrawn(Exception):
    """Its constructor takes other arguments than those that it passes on."""

    def __init__(self, account: str, *, missing: int) -> None:
        super().__init__(f"{account} lacks {missing}")
        self.account = account
        self.missing = missing


class Peculiar(ValueError):
    """Says something else than its arguments."""

    def __str__(self) -> str:
        return f"peculiar: {self.args[0] * 2}"


class FaultyState:
    def __init__(self, begins_well: bool = True) -> None:
        if not begins_well:
            raise Overdrawn("at birth", missing=1)
        self.steps: list[str] = []

    def overdraw(self, missing: int) -> None:
        raise Overdrawn("Alice", missing=missing)

    @concoord.readonly
    def look(self) -> None:
        raise Overdrawn("Bob", missing=2)

    def be_peculiar(self) -> None:
        raise Peculiar(21)

    def lookup(self) -> None:
        raise KeyError("a key")

    def decode(self) -> None:
        b"\xff".decode("utf-8")

    def chain(self) -> None:
        try:
            self.lookup()
        except KeyError as error:
            raise LookupError("no such thing") from error

    def half(self) -> None:
        self.steps.append("first half")
        raise RuntimeError("between the halves")

    def raise_this(self, error: BaseException) -> None:
        raise error

    def raise_unpicklable(self) -> None:
        error = ValueError("with luggage")
        error.luggage = (n for n in range(3))  # type: ignore[attr-defined]
        raise error

    def unpicklable(self) -> object:
        self.steps.append("returned")
        return (n for n in range(3))

    def done(self) -> list[str]:
        return self.steps


Faulty = concoord.replicated(FaultyState)


@every_path
def test_a_custom_constructor_does_not_lose_the_type(call: Call) -> None:
    with pytest.raises(Overdrawn) as caught:
        call(Faulty.remote().overdraw, 30)
    assert type(caught.value) is Overdrawn or call is by_remote
    assert "Alice lacks 30" in str(caught.value)
    assert (caught.value.account, caught.value.missing) == ("Alice", 30)


@every_path
def test_so_it_is_for_reads(call: Call) -> None:
    with pytest.raises(Overdrawn, match="Bob lacks 2") as caught:
        call(Faulty.remote().look)
    assert caught.value.missing == 2


def test_on_ray_get_it_is_a_ray_task_error_too() -> None:
    with pytest.raises(Overdrawn) as caught:
        ray.get(Faulty.remote().overdraw.remote(3))
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert type(caught.value.cause) is Overdrawn
    assert caught.value.cause.args == ("Alice lacks 3",)


@every_path
def test_a_custom_str_is_kept(call: Call) -> None:
    with pytest.raises(Peculiar, match="peculiar: 42"):
        call(Faulty.remote().be_peculiar)


@every_path
def test_builtin_errors_keep_their_type(call: Call) -> None:
    faulty = Faulty.remote()
    with pytest.raises(KeyError, match="a key"):
        call(faulty.lookup)
    with pytest.raises(UnicodeDecodeError, match="invalid start byte"):
        call(faulty.decode)
    with pytest.raises(ZeroDivisionError, match="by hand"):
        call(faulty.raise_this, ZeroDivisionError("by hand"))


@every_path
def test_the_wrong_arguments_are_a_type_error(call: Call) -> None:
    with pytest.raises(TypeError, match="overdraw"):
        call(Faulty.remote().overdraw, 1, 2, 3)


@every_path
def test_the_place_on_the_replica_is_shown(call: Call) -> None:
    with pytest.raises(LookupError) as caught:
        call(Faulty.remote().chain)
    shown = "".join(map(str, (caught.value, caught.value.__cause__)))
    assert "in chain" in shown
    assert "KeyError: 'a key'" in shown


@every_path
def test_what_was_changed_before_raising_stays_changed(call: Call) -> None:
    faulty = Faulty.remote()
    with pytest.raises(RuntimeError, match="between the halves"):
        call(faulty.half)
    assert call(faulty.done) == ["first half"]


@every_path
def test_a_class_that_only_the_caller_has_comes_back_as_itself(call: Call) -> None:
    class Local(Exception):
        def __init__(self, code: int) -> None:
            super().__init__(f"code {code}")
            self.code = code

    with pytest.raises(Local, match="code 7") as caught:
        call(Faulty.remote().raise_this, Local(7))
    assert caught.value.code == 7


@every_path
@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()], ids=repr)
def test_what_would_end_a_process_ends_neither_the_replica_nor_the_caller(call: Call, error: BaseException) -> None:
    faulty = Faulty.remote()
    before = [replica.incarnation for replica in concoord.status().replicas]
    with pytest.raises(RuntimeError, match=type(error).__name__):
        call(faulty.raise_this, error)
    assert call(faulty.done) == []
    assert [replica.incarnation for replica in concoord.status().replicas] == before


@every_path
def test_an_error_with_unpicklable_attributes_still_arrives(call: Call) -> None:
    with pytest.raises(ValueError, match="with luggage") as caught:
        call(Faulty.remote().raise_unpicklable)
    assert "generator" in str(caught.value.luggage)  # type: ignore[attr-defined]


@every_path
def test_an_unpicklable_result_is_an_error_for_its_caller_only(call: Call) -> None:
    faulty = Faulty.remote()
    with pytest.raises(TypeError, match=r"result cannot be pickled.*generator"):
        call(faulty.unpicklable)
    assert call(faulty.done) == ["returned"]


@every_path
def test_an_unpicklable_argument_is_refused_before_it_is_sent(call: Call) -> None:
    faulty = Faulty.remote()
    with pytest.raises(TypeError, match="pickle"):
        call(faulty.raise_this, (n for n in range(3)))
    assert call(faulty.done) == []


def test_an_argument_that_cannot_be_decoded_is_an_error_for_its_caller_only() -> None:
    faulty = Faulty.remote()
    with pytest.raises(RuntimeError, match="not here"):
        faulty.raise_this(Undecodable())
    assert faulty.done() == []


def test_what_the_constructor_raised_is_raised_here_and_nothing_exists() -> None:
    with pytest.raises(Overdrawn) as caught:
        Faulty.options(name="stillborn").remote(begins_well=False)
    assert type(caught.value) is Overdrawn
    assert caught.value.account == "at birth"
    assert "stillborn" not in concoord.list_objects()
    assert Faulty.options(name="stillborn").remote().done() == []


class Undecodable:
    """Pickles well, and unpickles nowhere."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _raise_not_here, ()


def _raise_not_here() -> None:
    raise RuntimeError("not here")

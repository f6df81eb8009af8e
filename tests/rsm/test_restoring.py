"""State that cannot be made again: if it can be known it is no snapshot, else it is said whose it is and why."""

from __future__ import annotations

import builtins
import sys
import traceback
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from concoord_ray.errors import StorageError
from concoord_ray.rsm.executor import Executor
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.snapshot import Interrupted, SnapshotFailed, SnapshotUnusable
from tests.rsm.log import Client, calling
from tests.rsm.restored import RestoredLog
from tests.rsm.samples import Register

#: Where code that was shipped to executors, and knows nothing of this module, sees what this machine is like.
_SWITCH = "concoord_test_is_out_of_order"


@pytest.fixture
def out_of_order() -> Iterator[None]:
    """A machine on which some user's code does not work; ``break_down`` makes it so."""
    yield
    if hasattr(builtins, _SWITCH):
        delattr(builtins, _SWITCH)


def break_down() -> None:
    setattr(builtins, _SWITCH, True)


class Holder:
    """What a method brings into it was no part of it when it was created, and looked at."""

    def __init__(self) -> None:
        self.held: Any = None

    def hold(self, what: Any) -> None:
        self.held = what

    def make(self, kind: type, *args: Any) -> None:
        self.held = kind(*args) if kind.__name__ != "Bag" else kind(*args, colour="red")
        if isinstance(self.held, dict):
            self.held["a"] = 1
        elif isinstance(self.held, set):
            self.held.add(1)
        else:
            self.held.append(1)

    def count(self) -> int:
        return len(self.held)


# Built on Python's own types, which are pickled without a word of their subclasses.


class Noting(dict[str, int]):
    def __init__(self) -> None:
        super().__init__()
        self.noted: list[str] = []

    def __setitem__(self, key: str, value: int) -> None:
        self.noted.append(key)
        super().__setitem__(key, value)


class Counting(list[int]):
    def __init__(self) -> None:
        super().__init__()
        self.count_of_all = 0

    def append(self, item: int) -> None:
        self.count_of_all += 1
        super().append(item)

    def extend(self, items: Any) -> None:
        for item in items:
            self.append(item)


class Bag(set[int]):
    def __init__(self, size: int, *, colour: str) -> None:
        super().__init__()
        self.size = size


class Window(deque[int]):
    def __init__(self, size: int, colour: str) -> None:
        super().__init__()
        self.size = size


class Votes(Counter[str]):
    def __init__(self, first: dict[str, int], colour: str) -> None:
        super().__init__(first)


class Table(defaultdict[str, int]):
    def __init__(self) -> None:
        super().__init__(int)


class Sound(OrderedDict[str, int]):
    def __setitem__(self, key: str, value: int) -> None:
        super().__setitem__(key, value + 1)

    def __init__(self) -> None:
        super().__init__()


def held(log: RestoredLog, name: str = "held") -> tuple[Client, int]:
    """A holder among others."""
    client = log.open()
    client.create(Register, name="before")
    holder = client.create(Holder, name=name)
    client.create(Register, name="after")
    return client, holder


@pytest.mark.parametrize(
    ("kind", "args", "code"),
    [
        (Noting, (), r"raised in .*__setitem__ of"),
        (Counting, (), r"raised in .*append of"),
        (Bag, (3,), "__init__"),
        (Window, (3, "red"), "__init__"),
        (Votes, ({}, "red"), "__init__"),
        (Table, (), "__init__"),
    ],
)
def test_a_container_that_could_not_be_filled_again_is_in_no_snapshot(
    kind: type, args: tuple[Any, ...], code: str
) -> None:
    """It would be of no use to anybody, and the log would be forgotten for it."""
    log = RestoredLog()
    client, holder = held(log)
    client.call(holder, "make", kind, *args)
    with pytest.raises(SnapshotFailed, match=rf"Holder, object {holder} called 'held'.*{code}") as failed:
        log.executors[0].snapshot()
    assert failed.value.object_id == holder
    client.call(holder, "hold", [1])
    log.restore()
    assert client.call(holder, "count") == 1


def test_one_that_can_be_is_in_one() -> None:
    log = RestoredLog()
    client, holder = held(log)
    client.call(holder, "make", Sound)
    log.restore()
    assert client.call(holder, "count") == 1


_INSTALLED = """
class Bag(set):
    def __init__(self, size, *, colour):
        super().__init__()
        self.size = size
"""


def test_nor_is_one_of_code_that_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "site-packages"
    place.mkdir()
    (place / "concoord_test_bags.py").write_text(_INSTALLED)
    monkeypatch.syspath_prepend(place)
    import concoord_test_bags  # type: ignore[import-not-found]

    log = RestoredLog()
    client, holder = held(log)
    client.call(holder, "make", concoord_test_bags.Bag, 3)
    with pytest.raises(SnapshotFailed, match="called 'held'"):
        log.executors[0].snapshot()
    del sys.modules["concoord_test_bags"]


# What depends on where it runs.


class Kind(type):
    """Of classes that are not even hashed everywhere."""

    def __hash__(cls) -> int:
        return 1 // 0 if hasattr(builtins, "concoord_test_is_out_of_order") else 7

    def __eq__(cls, other: object) -> bool:
        return cls is other


class OfKind(metaclass=Kind):
    pass


class SaysItsState:
    def __getstate__(self) -> dict[str, Any]:
        return {"a": 1}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if hasattr(builtins, "concoord_test_is_out_of_order"):
            raise FileNotFoundError("/etc/of/this/machine")


def rebuilt() -> Any:
    if hasattr(builtins, "concoord_test_is_out_of_order"):
        raise FileNotFoundError("/etc/of/this/machine")
    return SaysHowItIsMade()


class SaysHowItIsMade:
    def __reduce__(self) -> Any:
        return rebuilt, ()


class Hashed:
    def __hash__(self) -> int:
        return 1 // 0 if hasattr(builtins, "concoord_test_is_out_of_order") else 7

    def __eq__(self, other: object) -> bool:
        return self is other


PARTS = pytest.mark.parametrize(
    ("part", "code"),
    [
        (OfKind(), "ZeroDivisionError.*Kind.__hash__"),
        (OfKind, "ZeroDivisionError.*Kind.__hash__"),
        (SaysItsState(), "FileNotFoundError: /etc/of/this/machine.*SaysItsState.__setstate__"),
        (SaysHowItIsMade(), "FileNotFoundError: /etc/of/this/machine.*rebuilt"),
        ({Hashed(): 1}, "ZeroDivisionError.*Hashed.__hash__"),
    ],
    ids=["metaclass", "class", "setstate", "reduce", "hash"],
)  # fmt: skip


@PARTS
@pytest.mark.usefixtures("out_of_order")
def test_what_cannot_be_restored_here_is_named_and_nothing_has_changed(part: Any, code: str) -> None:
    log = RestoredLog()
    client, holder = held(log)
    client.call(holder, "hold", [part])
    data = log.executors[0].snapshot()
    executor = Executor("here")
    break_down()
    for _ in range(2):
        named = rf"slot 5 cannot be restored because of Holder, object {holder} called 'held', or .*: {code} of .*\)"
        with pytest.raises(SnapshotUnusable, match=named) as failed:
            executor.restore(data)
        assert (failed.value.object_id, failed.value.class_name) == (holder, "Holder")
        assert "put right on this node" in str(failed.value)
        assert (executor.next_slot, executor._objects.instances()) == (0, [])
    delattr(builtins, _SWITCH)
    executor.restore(data)
    assert executor.next_slot == 5


@PARTS
@pytest.mark.usefixtures("out_of_order")
def test_what_cannot_be_taken_here_is_named_and_the_log_goes_on(part: Any, code: str) -> None:
    """Also by who looks for where it is: a type may raise whenever it is looked at."""
    log = RestoredLog()
    client, holder = held(log)
    client.call(holder, "hold", [part])
    break_down()
    with pytest.raises(SnapshotFailed, match=rf"No snapshot.*{code} of") as failed:
        log.executors[0].snapshot()
    assert failed.value.object_id == (None if part is OfKind else holder)  # A class may be anybody's.
    delattr(builtins, _SWITCH)
    client.call(holder, "hold", None)
    log.restore()
    assert client.ask(calling(holder, "hold", 1)).outcome is not None


@pytest.mark.parametrize("restores_itself", [False, True])
def test_a_snapshot_can_be_interrupted_also_while_it_is_tried_out(restores_itself: bool) -> None:
    """Whatever code restores it: who takes it may have to go on with something else."""
    log = RestoredLog()
    client, holder = held(log)
    client.call(holder, "hold", [SaysItsState() if restores_itself else None, "x" * 100_000])
    executor = log.executors[0]

    def take(patience: int) -> Rope:
        asked = iter(range(patience))

        def go_on() -> None:
            if next(asked, None) is None:
                raise Interrupted

        return executor.snapshot(go_on=go_on)

    whole, patience, is_read = executor.snapshot(), 0, False
    while True:
        try:
            assert take(patience) == whole
            break
        except Interrupted as interrupted:
            frames = traceback.extract_tb(interrupted.__traceback__)
            is_read = is_read or any(frame.name == "cut" for frame in frames)
            patience += 1
    assert patience > 2
    assert is_read == restores_itself


def test_a_state_that_is_of_no_use_is_a_fault_of_what_is_stored() -> None:
    """So a role leaves for a while, for everybody to see, and does not die as fast as it can be started."""
    assert issubclass(SnapshotUnusable, StorageError)

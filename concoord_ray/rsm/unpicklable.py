"""What about an object cannot be in a snapshot, and where it is.

Each object is looked at by itself: what it shares with others is left out, and so is code that came pickled, and what
is of this package, which can be pickled as far as it does not hold what users put there. So the creation of an object
costs the same, however much there is in those that it was given.
"""

from __future__ import annotations

import contextlib
import copyreg
import gc
import pickle
import re
from collections import deque
from collections.abc import Iterable, Iterator
from types import FunctionType, MemberDescriptorType, ModuleType
from typing import Any, NamedTuple

from concoord_ray.rsm.anatomy import type_name
from concoord_ray.rsm.codec import PLAIN_TYPES, CodePickler, Types, Unpickler, came_by_value, said
from concoord_ray.rsm.rope import Rope

_OURS = __name__.partition(".")[0] + "."
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_address = id  # Tells objects apart during one search.
#: So many steps of a path are shown at either end.
_SHOWN = 6


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Nothing of a growing graph is garbage: to look for some takes most of the time of a million small objects."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Fault(NamedTuple):
    """Why an object cannot be in a snapshot. The same on every replica, if it is not its depth."""

    text: str
    #: From the object to what cannot be pickled, as in ``self.jobs[3].lock``.
    path: str = "self"
    #: Nested deeper than Python's stack, of which others use more or less.
    is_depth: bool = False


def check(instance: Any, given: Iterable[Any]) -> None:
    """Raise TypeError if a new object could not be in a snapshot. ``given`` are the objects that it was given."""
    fault = fault_of(instance, by_address(given))
    if fault is not None and not fault.is_depth:
        text = (
            f"{fault.text}. The attributes of a replicated object must be picklable, for its snapshots; a __getstate__ "
            f"can leave some out. (Calls run one at a time and need no lock.)"
        )
        raise TypeError(text)


def by_address(instances: Iterable[Any]) -> dict[int, Any]:
    """As ``fault_of`` takes them."""
    return {_address(instance): instance for instance in instances}


@without_collections()
def fault_of(instance: Any, others: dict[int, Any]) -> Fault | None:
    """What is wrong with an object, apart from others that it refers to; None if it can be pickled and unpickled."""
    file = Rope()  # Others go on, however large it is.
    pickler = _Excerpt(file, instance, others)
    try:
        pickler.dump(instance)
    except MemoryError:
        raise
    except BaseException as error:  # Whatever a user's type raises when it is pickled.
        if is_too_deep(error):
            return Fault("self is nested too deeply", is_depth=True)
        path = _path(instance, pickler.last)
        return Fault(f"{path} ({type_name(type(pickler.last))}) cannot be pickled: {_told(error)}", path)
    try:
        Unpickler(file.reader(), {**Types().makers, (__name__, _cut.__name__): pickler.cut.__getitem__}).load()
    except MemoryError:
        raise
    except BaseException as error:  # As above.
        text = f"self ({type_name(type(instance))}) can be pickled, but not unpickled: {_told(error)}"
        return Fault(f"{text}; look at __getattr__, __hash__, __init__, __reduce__ and __setstate__ of its attributes")
    return None


def is_too_deep(error: BaseException | None) -> bool:
    """Whether pickling failed at Python's recursion limit."""
    return isinstance(error, pickle.PicklingError) and isinstance(error.__cause__, RecursionError)


class StatePickler(CodePickler):
    """Pickles what may be a million objects."""

    def __init__(self, file: Rope) -> None:
        # One dict, as far as C code looks; in the chain of cloudpickle, Python code is called for every object.
        self.dispatch_table = {**copyreg.dispatch_table, **self._dispatch_table}
        super().__init__(file)


class _Excerpt(StatePickler):
    """Pickles one object without the others: ``cut`` has what was left out, and ``last`` what it was at."""

    def __init__(self, file: Rope, instance: Any, others: dict[int, Any]) -> None:
        super().__init__(file)
        self.cut: list[Any] = []
        self.last: Any = None
        self._instance = instance
        self._others = others

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if _address(obj) in self._others:
            is_elsewhere = obj is not self._instance
        elif kind in self._ordinary:
            is_elsewhere = False
        elif issubclass(kind, type):
            is_elsewhere = came_by_value(obj)
        else:
            is_elsewhere = type_name(kind).startswith(_OURS)
        if is_elsewhere:
            self.cut.append(obj)
            return _cut, (len(self.cut) - 1,)
        self.last = obj
        return super().reducer_override(obj)


def _cut(place: int) -> Any:
    raise pickle.UnpicklingError(f"part {place} was cut out, and only who did it has it")


def _told(error: BaseException) -> str:
    return _ADDRESS.sub("", f"{type(error).__name__}: {said(error)}")


# Where it is.


class _Step(NamedTuple):
    """One step of a search, ``name`` away from the one that found it."""

    part: Any
    name: str
    before: _Step | None


def _path(instance: Any, culprit: Any) -> str:
    """The shortest way from an object to something in it, as code would say it; no way at all if none is found."""
    found: _Step | None = _search(instance, culprit)
    names: list[str] = []
    while found is not None:
        names.append(found.name)
        found = found.before
    names.reverse()
    if len(names) > 2 * _SHOWN:
        names[_SHOWN:-_SHOWN] = [" ... "]
    return "".join(names) or "self"


def _search(instance: Any, culprit: Any) -> _Step | None:
    seen = {_address(instance)}
    todo = deque([_Step(instance, "self", None), _Step(type(instance), "type(self)", None)])
    while todo:
        step = todo.popleft()
        if step.part is culprit:
            return step
        for name, part in _parts_that_show(step.part):
            if _address(part) not in seen:
                seen.add(_address(part))
                todo.append(_Step(part, name, step))
    return None


def _parts_that_show(holder: Any) -> Iterator[tuple[str, Any]]:
    """As many of its parts as can be seen: what raises when it is looked at hides the rest, and nothing else."""
    try:
        yield from _parts(holder)
    except (MemoryError, GeneratorExit):
        raise
    except BaseException:  # Whatever a user's type, or its metaclass, raises.
        return


def _parts(holder: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, and how to get there from it."""
    kind = type(holder)
    if isinstance(holder, dict):
        for key, value in dict.items(holder):
            yield (f"[{key!r}]" if type(key) in PLAIN_TYPES else f"[<{type_name(type(key))}>]"), value
        yield from ((".keys()", key) for key in dict.keys(holder))
    elif isinstance(holder, (list, tuple, deque)):
        yield from ((f"[{index}]", value) for index, value in enumerate(holder))
    elif isinstance(holder, (set, frozenset)):
        yield from (("{...}", value) for value in holder)
    elif kind is FunctionType:
        for name, cell in zip(holder.__code__.co_freevars, holder.__closure__ or (), strict=True):
            with contextlib.suppress(ValueError):  # An empty cell.
                yield f".<{name}>", cell.cell_contents
    if came_by_value(holder) if issubclass(kind, type) else kind is not ModuleType:
        yield from ((f".{name}", value) for name, value in getattr(holder, "__dict__", {}).items())
    for base in kind.__mro__:
        for name, member in vars(base).items() if "__slots__" in vars(base) else ():
            if isinstance(member, MemberDescriptorType):
                with contextlib.suppress(AttributeError):  # An empty slot.
                    yield f".{name}", member.__get__(holder)

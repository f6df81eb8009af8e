"""The replicated objects themselves: created, called and deleted by commands.

Invariants:

- an object's id is never used twice; its name is free again once it is deleted;
- whatever a method does (raise, return what cannot be pickled, take arguments that cannot be decoded), the outcome is
  an answer like any other, the same on every replica, and the log moves on. What the method changed before it raised
  stays changed, as with a local object;
- ``MemoryError`` is an answer only if the command asked for what no machine has: while there is memory left for what is
  ordinary. Else it says something about this process, not about the command, and this replica must stop;
- an object whose attributes could not be in a snapshot does not come to exist. What its methods bring into it later is
  found when a snapshot is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import CoroutineType
from typing import Any

from concoord_ray.errors import ConcoordError, NoSuchObject
from concoord_ray.rsm import codec
from concoord_ray.rsm.command import Call, Create, Entry, MethodFlag, ObjectInfo, Outcome, Refusal
from concoord_ray.rsm.context import CallContext, entered
from concoord_ray.rsm.exceptions import encode_exception
from concoord_ray.rsm.guards import GuardQueue
from concoord_ray.rsm.memory import is_out_of_memory
from concoord_ray.rsm.methods import guard_of
from concoord_ray.rsm.reads import ReadOnlyEffects
from concoord_ray.rsm.sessions import Answer
from concoord_ray.rsm.unpicklable import check
from concoord_ray.rsm.waiters import Effects, Waiter
from concoord_ray.rsm.wire import decode_command, encode_message, encode_plain


@dataclass(slots=True)
class _Object:
    info: ObjectInfo
    class_id: bytes
    instance: Any
    guards: GuardQueue = field(default_factory=GuardQueue)
    #: Of objects that were given to one another: a command on one may change any. 0 if it stands alone.
    group: int = 0


@dataclass(slots=True)
class _Class:
    cls: type
    objects: int = 0


#: User code as (class name, method name).
Kind = tuple[str, str]


class ObjectTable:
    """Objects by id and by name, and the classes that they were made from."""

    def __init__(self, ensemble: str, effects: Effects) -> None:
        #: Of everything that comes by value.
        self.types = codec.Types()
        self._ensemble = ensemble
        self._effects = effects
        #: Objects that guarded calls wait in.
        self._waiting: dict[int, None] = {}
        self._objects: dict[int, _Object] = {}
        #: The members of each group that there are still. Who holds what a deleted one gave it holds it still.
        self._groups: dict[int, dict[int, None]] = {}
        self._names: dict[str, int] = {}
        self._classes: dict[bytes, _Class] = {}
        self._next_id = 1

    def __len__(self) -> int:
        return len(self._objects)

    def find(self, name: str) -> ObjectInfo | None:
        """The object called ``name``."""
        object_id = self._names.get(name)
        return None if object_id is None else self._objects[object_id].info

    def other_origin(self, name: str, origin: str) -> str:
        """Where the class of the object called ``name`` is from, empty if it may be a version of the class asked for.

        What a program calls ``__main__`` is called by its file's name by others.
        """
        cls = self._classes[self._objects[self._names[name]].class_id].cls
        module, asked_module = str(cls.__module__), origin.removesuffix(f".{cls.__qualname__}")
        is_same = origin == f"{asked_module}.{cls.__qualname__}"
        if not origin or (is_same and (module == asked_module or "__main__" in (module, asked_module))):
            return ""
        return f"{module}.{cls.__qualname__}"

    def named(self) -> list[ObjectInfo]:
        """Every named object, in order of creation."""
        return [self._objects[object_id].info for object_id in self._names.values()]

    def instances(self) -> list[tuple[ObjectInfo, Any]]:
        """Every object, in order of creation."""
        return [(record.info, record.instance) for record in self._objects.values()]

    def class_name(self, object_id: int) -> str:
        """Which class an object is of, empty if it does not exist."""
        record = self._objects.get(object_id)
        return "" if record is None else record.info.class_name

    def create(self, context: CallContext, command: Create) -> Answer:
        """Run a constructor; the object exists only if it did not raise."""
        known = self._classes.get(command.class_id)
        object_id = self._next_id
        context.object_id = object_id
        self._next_id += 1

        def construct() -> ObjectInfo:
            entry = known or _Class(codec.decode_class(command.cls, self.types))
            given: list[int] = []
            args, kwargs = codec.decode_arguments(command.args, self._resolver(given), self.types)
            instance = entry.cls(*args, **kwargs)
            check(instance, [self._objects[other].instance for other in given])
            info = ObjectInfo(object_id, command.name, command.class_name, command.methods)
            self._classes[command.class_id] = entry
            entry.objects += 1
            self._objects[object_id] = _Object(info, command.class_id, instance)
            self._link(object_id, given)
            if command.name is not None:
                self._names[command.name] = object_id
            return info

        return value(info) if isinstance(info := run(context, construct), ObjectInfo) else info

    def delete(self, object_id: int) -> bool:
        """Forget an object; False if there is none. Its class goes with its last object."""
        record = self._objects.pop(object_id, None)
        if record is None:
            return False
        if record.info.name is not None:
            del self._names[record.info.name]
        self._waiting.pop(object_id, None)
        if record.group:
            members = self._groups[record.group]
            del members[object_id]
            if not members:
                del self._groups[record.group]
        entry = self._classes[record.class_id]
        entry.objects -= 1
        if entry.objects == 0:
            del self._classes[record.class_id]
        return True

    def call(self, context: CallContext, command: Call) -> Any:
        """Call a method; returns its bare result, or an ``Answer`` if there is none."""
        record = self._objects.get(command.object_id)
        if record is None:
            return refuse(NoSuchObject(f"The object with id {command.object_id} does not exist, or was deleted."))
        flags = record.info.methods.get(command.method, MethodFlag.PLAIN)
        if not flags & MethodFlag.GUARDED:
            return self._invoke(record, context, command)

        def enter() -> Any:
            if record.guards.waits(command.method) or not self._guard_holds(record, context, command.method):
                parked = record.guards.park(command)
                self._waiting[record.info.object_id] = None
                return parked
            return self._invoke(record, context, command)

        return run(context, enter)

    def _invoke(self, record: _Object, context: CallContext, command: Call) -> Any:
        method = command.method
        flags = record.info.methods.get(method)

        def invoke() -> Any:
            if flags is None or flags & MethodFlag.IN_CALLER:
                raise AttributeError(f"{record.info.class_name!r} object has no public method {method!r}")
            given: list[int] = []
            resolve = self._resolver(given)
            positional, keywords = codec.decode_arguments(command.args, resolve, self.types, command.values)
            if given and not flags & MethodFlag.READONLY:  # It keeps nothing, and a read is run by the leader alone.
                self._link(record.info.object_id, given)
            if flags & MethodFlag.TAKES_COMMAND:
                keywords["_concoord_command"] = context
            return getattr(record.instance, method)(*positional, **keywords)

        return run(context, invoke)

    # Guards.

    def may_be_ready(self, object_id: int | None) -> list[int]:
        """The objects whose guarded calls a command may have made ready: of one on an object, or (None) of any."""
        if not self._waiting or object_id is None:
            return list(self._waiting)
        record = self._objects.get(object_id)
        if record is None or not record.group:
            return [object_id] if object_id in self._waiting else []
        members = self._groups[record.group]
        return [each for each in self._waiting if each in members]

    def run_ready(self, object_id: int, context_of: Callable[[Waiter], CallContext]) -> tuple[Waiter, str, Any] | None:
        """Run the next waiting call of an object whose guard holds: (its waiter, its method, its result).

        ``context_of`` takes the call out of what its session has waiting, and gives the context to run it in.
        """
        record = self._objects.get(object_id)
        if record is None:
            return None
        ready = record.guards.take_ready(lambda method: self._guard_holds(record, None, method))
        if len(record.guards) == 0:
            self._waiting.pop(object_id, None)
        if ready is None:
            return None
        context = context_of(ready.waiter)
        result = raised(ready.error) if ready.error is not None else self._invoke(record, context, ready.call)
        return ready.waiter, ready.call.method, result

    def _guard_holds(self, record: _Object, context: CallContext | None, method: str) -> bool:
        """Evaluate a guard, which can change no primitive."""
        guard = guard_of(getattr(type(record.instance), method))
        effects = ReadOnlyEffects.like(self._effects if context is None else context.effects)
        with entered(CallContext(effects, 0, 0, "", record.info.object_id)):
            return bool(guard(record.instance))

    def _resolver(self, given: list[int]) -> Callable[[str, int], Any]:
        """Resolves handles among arguments, and notes of which objects."""

        def resolve(ensemble: str, object_id: int) -> Any:
            instance = self.instance(ensemble, object_id)
            given.append(object_id)
            return instance

        return resolve

    def _link(self, object_id: int, given: list[int]) -> None:
        record = self._objects[object_id]
        for other in given:
            if other != object_id:
                self._join(record, self._objects[other])

    def _join(self, one: _Object, other: _Object) -> None:
        """Make their groups one; the smaller joins the larger, so that no object changes its group often."""
        for each in (one, other):
            if not each.group:
                each.group = each.info.object_id  # No other group has this number: no id is used twice.
                self._groups[each.group] = {each.group: None}
        if one.group == other.group:
            return
        group, joining = one.group, other.group
        if len(self._groups[group]) < len(self._groups[joining]):
            group, joining = joining, group
        for member in self._groups.pop(joining):
            self._objects[member].group = group
            self._groups[group][member] = None

    def kinds_of(self, entries: Iterable[Entry]) -> frozenset[Kind]:
        """Which user code these entries would run. Commands that run none, or cannot be decoded, are not in it."""
        kinds = set()
        for entry in entries:
            try:
                command = decode_command(entry.command)
            except (ValueError, RecursionError):
                continue
            if isinstance(command, Call):
                record = self._objects.get(command.object_id)
                kinds.add(("" if record is None else record.info.class_name, command.method))
            elif isinstance(command, Create):
                kinds.add((command.class_name, "__init__"))
        return frozenset(kinds)

    def calls_in(self, entries: Iterable[Entry]) -> list[str]:
        """The same for people to read: each with its object."""
        told: dict[str, None] = {}
        for entry in entries:
            try:
                command = decode_command(entry.command)
            except (ValueError, RecursionError):
                continue
            if isinstance(command, Create):
                told[f"{command.class_name}.__init__ of a new object"] = None
            elif isinstance(command, Call):
                record = self._objects.get(command.object_id)
                name = None if record is None else record.info.name
                object_named = f"object {command.object_id}" + ("" if name is None else f" ({name!r})")
                told[f"{self.class_name(command.object_id)}.{command.method} of {object_named}"] = None
        return list(told)

    def is_readonly(self, object_id: int, method: str) -> bool:
        """Whether the method may be called without the log; also true for what is not there, which is told as such."""
        record = self._objects.get(object_id)
        return record is None or bool(record.info.methods.get(method, MethodFlag.READONLY) & MethodFlag.READONLY)

    def instance(self, ensemble: str, object_id: int) -> Any:
        """The object that a handle among a call's arguments stands for."""
        if ensemble != self._ensemble:
            raise ValueError("A handle of another ensemble was given as an argument; objects share only within one.")
        record = self._objects.get(object_id)
        if record is None:
            raise NoSuchObject(f"The handle given as an argument is of object {object_id}, which was deleted.")
        return record.instance


def run(context: CallContext, code: Callable[[], Any]) -> Any:
    """Run user code in a context; what it raises becomes an ``Answer``."""
    try:
        with entered(context):
            return code()
    except BaseException as error:  # A result like any other.
        if is_out_of_memory(error):
            raise
        return raised(error)


def value(result: Any) -> Answer:
    """A result as an answer; an error instead if it cannot be pickled."""
    plain = _plain(result)
    if plain is not None:
        return Answer(Outcome.PLAIN, plain)
    try:
        return Answer(Outcome.VALUE, codec.encode(result))
    except BaseException as error:  # Whatever a user's type raises when it is pickled.
        if is_out_of_memory(error):
            raise
        if type(result) is CoroutineType:
            result.close()  # Or Python complains that nobody awaited it.
            return raised(TypeError("a replicated method cannot be async: calls are executed one after another"))
        said = codec.said(error)
        return raised(TypeError(f"the method's result cannot be pickled: {type(error).__name__}: {said}"))


def _plain(result: Any) -> bytes | None:
    """The result as MessagePack, None if that has no such value."""
    if type(result) not in codec.PLAIN_TYPES:
        return None
    try:
        return encode_plain(result)
    except (OverflowError, UnicodeEncodeError):  # What MessagePack cannot say, pickle can.
        return None


def raised(error: BaseException) -> Answer:
    """An exception as an answer."""
    if not issubclass(type(error), Exception):  # SystemExit and the like must not end the caller.
        error = RuntimeError(f"a replicated method raised {type(error).__name__}({codec.said(error)})")
    return Answer(Outcome.RAISED, encode_exception(error))


def refuse(error: ConcoordError) -> Answer:
    """A refusal of the ensemble itself as an answer."""
    return Answer(Outcome.REFUSED, encode_message(Refusal(type(error).__name__, str(error))))

"""Handles: what stands for a replicated object in every process but the replicas.

Three ways to call a method, one meaning. ``h.m.remote(...)`` gives a Ray ``ObjectRef``; ``h.m(...)`` blocks, over this
process's own connection; ``await h.m.aio(...)`` is the same for asyncio. A handle pickles as names and ids, and calls
through whatever process it finds itself in.
"""

from __future__ import annotations

import numbers
import threading
from collections.abc import Coroutine, Generator, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, cast

import ray

from concoord_ray.attach import Attachment, attachment_to
from concoord_ray.client import Client
from concoord_ray.errors import NoSuchObject
from concoord_ray.owner import current_owner
from concoord_ray.refs import WATCHER
from concoord_ray.roles.gateway import Parcel
from concoord_ray.rsm.codec import Placeholder, Reference, encode_arguments
from concoord_ray.rsm.command import Call, MethodFlag, ObjectInfo
from concoord_ray.rsm.context import IN_TASK
from concoord_ray.rsm.wire import encode_message
from concoord_ray.waiting import WaitFor

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

#: What a handle itself consists of.
_OWN = frozenset({"_ensemble", "_ensemble_name", "_info", "_tokens"})


class Method(Generic[P, R]):
    """One method of one object. Calling it blocks until the reply is here.

    ``P`` and ``R`` are its parameters and its result, where they are known: for the objects that come with the package.
    """

    __slots__ = ("_flags", "_handle", "_name", "_owner", "_timeout_s")

    def __init__(
        self,
        handle: Handle[Any],
        name: str,
        flags: MethodFlag,
        timeout_s: float | None = None,
        owner: str | None = None,
    ) -> None:
        self._handle = handle
        self._name = name
        self._flags = flags
        self._timeout_s = timeout_s
        #: In whose name it is called; None is whoever calls.
        self._owner = owner

    def __repr__(self) -> str:
        return f"<method {self._name} of {self._handle!r}>"

    def __bool__(self) -> bool:
        """Refused: what is an attribute of a local object is a method here, and would always be true."""
        raise TypeError(f"{self!r} is a method: call it to know what it gives")

    def options(self, *, timeout: float | None = None) -> Method[P, R]:
        """This method with a limit, in seconds, on the time to the reply; past it the call is withdrawn.

        When that is confirmed, or the call was never sent, CallTimeout is raised: a retry is safe, unless the method
        did something before it began to wait. ``Condition.wait`` has given its lock up; its own ``timeout`` argument,
        ``wait(timeout=...)``, takes it again. When it is not confirmed within ``withdrawal_grace_s`` more, for want of
        a leader or since a slow method holds it up, OutcomeUnknown: it may have been applied, or may yet be. On every
        path: of ``.remote()``, the ref raises them. That is also bounded by ``ray.get(ref, timeout=...)`` and
        ``ray.cancel(ref)`` as every Ray call.

        Raises TypeError or ValueError if ``timeout`` is neither a positive number nor None, for no limit.
        """
        return Method(self._handle, self._name, self._flags, _checked(timeout), self._owner)

    def of_caller(self) -> Method[P, R]:
        """This method, in the name of whoever asks for it now, whichever thread or task calls it then."""
        return Method(self._handle, self._name, self._flags, self._timeout_s, current_owner())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call and wait for the result."""
        args, kwargs = resolved(args, kwargs)  # type: ignore[assignment]
        client = self._handle.concoord_attachment().client
        command = self._command(client, args, kwargs)
        result: R = client.call(command, readonly=self._is_readonly, timeout_s=self._timeout_s, flags=self._flags)
        return result

    def aio(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Call and await the result, on any event loop.

        The caller is the task that makes the call, also if another awaits it, as ``asyncio.wait_for`` does.
        """
        mine = self if self._owner is not None else self.of_caller()
        return mine._aio(args, kwargs)

    async def _aio(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        args, kwargs = await resolved_async(args, kwargs)
        client = self._handle.concoord_attachment().client
        await client.turn(self._flags)
        try:
            command = self._command(client, args, kwargs)
        except BaseException:  # An argument that cannot be pickled.
            client.pass_turn(self._flags)
            raise
        result: R = await client.call_async(
            command, readonly=self._is_readonly, timeout_s=self._timeout_s, flags=self._flags
        )
        return result

    def remote(self, *args: Any, **kwargs: Any) -> ray.ObjectRef[R]:
        """Call; the ObjectRef resolves when the reply is here, whatever died meanwhile."""
        values = list(dict.fromkeys(_refs(args, kwargs)))
        if values:
            args, kwargs = _filled({ref: Placeholder(place) for place, ref in enumerate(values)}, args, kwargs)
        attachment = self._handle.concoord_attachment()
        may_park = bool(self._flags & MethodFlag.PARKS)
        if not self._is_readonly:
            WATCHER.make_room(attachment.client, may_park=may_park)
        command = self._command(attachment.client, args, kwargs)
        task = "" if values else command.owner.partition(IN_TASK)[2]
        entry = attachment.client.number(command, self._is_readonly, task, self._timeout_s)
        order = None if values else next(attachment.orders)
        awaits_loss = bool(self._flags & MethodFlag.AWAITS_LOSS)
        parcel = encode_message(Parcel(entry, self._is_readonly, order, awaits_loss, may_park, self._timeout_s))
        ref: ray.ObjectRef[R] = attachment.gateway.call.remote(parcel, *values)
        if not self._is_readonly:
            WATCHER.watch(ref, attachment.client, entry, may_park=may_park, timeout_s=self._timeout_s)
        return ref

    @property
    def _is_readonly(self) -> bool:
        return bool(self._flags & MethodFlag.READONLY)

    def _command(self, client: Client, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        object_id = self._handle.concoord_reference()[1]
        owner = self._owner if self._owner is not None else current_owner()
        if IN_TASK in owner and not self._is_readonly:
            client.used_by_task(owner.partition(IN_TASK)[2])
        return Call(object_id, self._name, owner, encode_arguments(args, kwargs))


class Handle(Reference, Generic[T]):
    """A replicated object, from outside. Its attributes are the object's public methods."""

    def __init__(self, ensemble_name: str, ensemble: str, info: ObjectInfo) -> None:
        self._ensemble_name = ensemble_name
        self._ensemble = ensemble
        self._info = info
        #: Of the ``with`` blocks that are open, by owner.
        self._tokens: dict[str, list[Any]] = {}

    @property
    def name(self) -> str | None:
        """The name that ``concoord.get`` finds it by, None if it has none."""
        return self._info.name

    def __repr__(self) -> str:
        name = f"{self._info.name!r}" if self._info.name is not None else f"#{self._info.object_id}"
        return f"<concoord handle {self._info.class_name} {name} in {self._ensemble_name!r}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.concoord_reference() == self.concoord_reference()

    def __hash__(self) -> int:
        return hash(self.concoord_reference())

    def __reduce__(self) -> tuple[Any, ...]:
        return Handle, (self._ensemble_name, self._ensemble, self._info)

    def __getattr__(self, name: str) -> Method[..., Any]:
        info = self.__dict__.get("_info")
        flags = None if info is None else info.methods.get(name)
        if flags is None:
            kind = "handle" if info is None else info.class_name
            raise AttributeError(f"{kind!r} object has no public method {name!r}")
        if flags & MethodFlag.IN_CALLER:  # There is one such method.
            made: Any = WaitFor(self.wait.of_caller)
        else:
            made = Method(self, name, MethodFlag(flags))
        self.__dict__[name] = made
        return cast("Method[..., Any]", made)

    def __setattr__(self, name: str, value: object) -> None:
        """Refused: it would change this handle, in this process, and not the object."""
        if name not in _OWN:
            raise AttributeError(
                f"cannot set {name!r} of {self!r}: the state of a replicated object changes only through its methods"
            )
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._info.methods})

    # What has acquire and release is a context manager, as in ``threading``.

    def __enter__(self) -> Any:
        """Acquire; for locks the result is the grant's fencing token."""
        return self._entered(self._acquiring()())

    def __exit__(self, *_: object) -> None:
        """Release the grant that ``with`` began with, and no other: RuntimeError if it was taken away meanwhile."""
        self.release(**self._left())

    async def __aenter__(self) -> Any:
        """Acquire; for locks the result is the grant's fencing token."""
        return self._entered(await self._acquiring().aio())

    async def __aexit__(self, *_: object) -> None:
        """As ``__exit__``."""
        await self.release.aio(**self._left())

    def __await__(self) -> Generator[Any, None, Any]:
        raise TypeError(f"{self!r} is a handle; await one of its calls: await handle.method.aio(...)")

    def _acquiring(self) -> Method[..., Any]:
        methods = self._info.methods
        if "release" not in methods or "acquire" not in methods:
            raise TypeError(f"{self!r} has no acquire and release, so it is no context manager")
        return Method(self, "acquire_fenced" if self._is_fenced else "acquire", MethodFlag.PARKS)

    @property
    def _is_fenced(self) -> bool:
        return "acquire_fenced" in self._info.methods

    def _entered(self, result: Any) -> Any:
        """Remember the token that this thread or task entered with."""
        if self._is_fenced:
            self._tokens.setdefault(current_owner(), []).append(result)
        return result

    def _left(self) -> dict[str, Any]:
        """What to release with: a token, if this is a lock."""
        if not self._is_fenced:
            return {}
        owner = current_owner()
        if owner not in self._tokens:  # Left by another thread than entered, which a lock allows.
            if not self._tokens:
                raise RuntimeError(f"{self!r} is left, but was not entered")
            owner = next(reversed(self._tokens))
        tokens = self._tokens[owner]
        token = tokens.pop()
        if not tokens:
            del self._tokens[owner]
        return {"token": token}

    # For the package's own use.

    def concoord_reference(self) -> tuple[str, int]:
        """See ``Reference``."""
        return self._ensemble, self._info.object_id

    def concoord_attachment(self) -> Attachment:
        """This process's way to the object's ensemble."""
        attachment = attachment_to(self._ensemble_name, self._ensemble)
        if attachment.plan.ensemble != self._ensemble:
            raise NoSuchObject(
                f"{self!r} belongs to an ensemble that was shut down; the one called {self._ensemble_name!r} now is "
                f"another. Get the object again with concoord.get(...)."
            )
        return attachment


def _checked(timeout: Any) -> float | None:
    """A call's timeout, if it can be one."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real):
        raise TypeError(
            f"options(timeout={timeout!r}): give a positive number of seconds, or None for no limit; not a "
            f"{type(timeout).__name__}"
        )
    limit: Any = timeout
    if not 0 < limit <= threading.TIMEOUT_MAX:
        raise ValueError(
            f"options(timeout={timeout!r}): give a positive number of seconds, at most {threading.TIMEOUT_MAX:.0f}, or "
            f"None for no limit. Who does not want to wait for a lock calls acquire(blocking=False)."
        )
    return float(limit)


def resolved(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with the values of those that are ObjectRefs. Waits for them."""
    refs = _refs(args, kwargs)
    return _filled(dict(zip(refs, ray.get(refs), strict=True)), args, kwargs) if refs else (args, kwargs)


async def resolved_async(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """As ``resolved``, for asyncio."""
    refs = _refs(args, kwargs)
    return _filled({ref: await ref for ref in refs}, args, kwargs) if refs else (args, kwargs)


def _refs(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[ray.ObjectRef[Any]]:
    """The top-level arguments that are ObjectRefs."""
    return [a for a in (*args, *kwargs.values()) if isinstance(a, ray.ObjectRef)]


def _filled(
    values: Mapping[ray.ObjectRef[Any], Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments, with each ObjectRef replaced."""

    def fill(argument: Any) -> Any:
        return values[argument] if isinstance(argument, ray.ObjectRef) else argument

    return tuple(map(fill, args)), {name: fill(argument) for name, argument in kwargs.items()}

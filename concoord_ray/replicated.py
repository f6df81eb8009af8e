"""``@replicated``: a class becomes a kind of replicated object."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, cast, overload

from concoord_ray.attach import Attachment, attachment_to, find_attachment
from concoord_ray.determinism import Determinism, check
from concoord_ray.ensemble import DEFAULT_ENSEMBLE, checked_object_name, init
from concoord_ray.errors import ConfigurationError
from concoord_ray.handle import Handle, resolved, resolved_async
from concoord_ray.owner import current_owner
from concoord_ray.rsm.codec import encode, encode_arguments
from concoord_ray.rsm.command import Create, ObjectInfo
from concoord_ray.rsm.methods import method_flags

T = TypeVar("T")
P = ParamSpec("P")
#: What ``.remote()`` gives: ``Handle[T]``, or a subclass that knows the methods of ``T``.
H_co = TypeVar("H_co", bound=Handle[Any], covariant=True)


class ReplicatedClass(Generic[P, H_co]):
    """A decorated class. ``.remote(...)`` creates an object of it in an ensemble; ``.options(...)`` says how.

    Among the bases of another class it stands for the class that was decorated. The other one is decorated too, if it
    is to be replicated.
    """

    def __init__(
        self, cls: type[Any], *, name: str | None = None, ensemble: str = DEFAULT_ENSEMBLE, get_if_exists: bool = False
    ) -> None:
        self.__wrapped__ = cls
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__doc__ = cls.__doc__
        self.__module__ = cls.__module__
        self._name = None if name is None else checked_object_name(name)
        self._ensemble = ensemble
        self._get_if_exists = get_if_exists
        self._methods = method_flags(cls)

    def __repr__(self) -> str:
        return f"<replicated class {self.__module__}.{self.__qualname__}>"

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        return (self.__wrapped__,)

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refused, as for Ray's actor classes."""
        raise TypeError(
            f"{self.__name__} is replicated: create one with {self.__name__}.remote(...). For an ordinary local "
            f"object, call {self.__name__}.__wrapped__(...)."
        )

    def options(
        self, *, name: str | None = None, ensemble: str | None = None, get_if_exists: bool | None = None
    ) -> ReplicatedClass[P, H_co]:
        """The same class with other options, by Ray's convention.

        ``name``: by which ``concoord.get`` finds the object; none by default, and then it lives until it is deleted
        through its handle. ``get_if_exists``: share the object of that name if there is one; if that is of another
        class than some version of this one, ObjectExists is raised. ``ensemble``: where it lives.
        """
        if get_if_exists and name is None and self._name is None:
            raise ConfigurationError("get_if_exists=True needs a name: options(name=..., get_if_exists=True).")
        return ReplicatedClass(
            self.__wrapped__,
            name=self._name if name is None else name,
            ensemble=self._ensemble if ensemble is None else ensemble,
            get_if_exists=self._get_if_exists if get_if_exists is None else get_if_exists,
        )

    def remote(self, *args: P.args, **kwargs: P.kwargs) -> H_co:
        """Create an object; returns its handle when it exists.

        Raises what the constructor raised, and ``ObjectExists`` if the name is taken. Retried by itself across leader
        changes; created once.
        """
        attachment = attach_or_init(self._ensemble)
        info: ObjectInfo = attachment.client.call(self._creation(*resolved(args, kwargs)))
        return self._handle(attachment, info)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> H_co:
        """As ``remote``, for asyncio. The ensemble must have been started by ``concoord.init``."""
        attachment = attachment_to(self._ensemble)
        given = await resolved_async(args, kwargs)
        info: ObjectInfo = await attachment.client.call_async(self._creation(*given))
        return self._handle(attachment, info)

    def _handle(self, attachment: Attachment, info: ObjectInfo) -> H_co:
        return cast("H_co", Handle(self._ensemble, attachment.plan.ensemble, info))

    def _creation(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Create:
        shipped = encode(self.__wrapped__)
        return Create(
            name=self._name,
            get_if_exists=self._get_if_exists,
            class_id=hashlib.sha256(shipped).digest(),
            class_name=self.__name__,
            cls=shipped,
            methods=self._methods,
            args=encode_arguments(args, kwargs),
            owner=current_owner(),
            origin=f"{self.__wrapped__.__module__}.{self.__wrapped__.__qualname__}",
        )


@overload
def replicated(cls: Callable[P, T]) -> ReplicatedClass[P, Handle[T]]: ...


@overload
def replicated(
    cls: None = None, *, name: str | None = None, ensemble: str = DEFAULT_ENSEMBLE, determinism: Determinism = "refuse"
) -> Callable[[Callable[P, T]], ReplicatedClass[P, Handle[T]]]: ...


def replicated(
    cls: Callable[P, T] | None = None,
    *,
    name: str | None = None,
    ensemble: str = DEFAULT_ENSEMBLE,
    determinism: Determinism = "refuse",
) -> ReplicatedClass[P, Handle[T]] | Callable[[Callable[P, T]], ReplicatedClass[P, Handle[T]]]:
    """Make a class replicated: its objects live on every replica of an ensemble, and survive all but one of them.

    The class is an ordinary one, with these rules: its methods are deterministic (time and randomness come from
    ``concoord.now()`` and ``concoord.random()``), do no input or output, and its attributes, arguments and results can
    be pickled. Calls are executed one at a time, in one order everywhere.

    What is seen to be not deterministic is refused here (NotDeterministic), and what may be is warned of
    (NondeterminismWarning); see ``concoord_ray.determinism``. ``determinism="warn"`` refuses nothing, and
    ``determinism="ignore"`` does not look.
    """

    def decorate(decorated: Callable[P, T]) -> ReplicatedClass[P, Handle[T]]:
        if not isinstance(decorated, type):
            raise ConfigurationError(f"@replicated decorates a class, not {decorated!r}.")
        made: ReplicatedClass[P, Handle[T]] = ReplicatedClass(decorated, name=name, ensemble=ensemble)
        _check_method_names(decorated, made._methods)
        check(decorated, made._methods, determinism)
        return made

    return decorate if cls is None else decorate(cls)


def _check_method_names(cls: type, methods: Mapping[str, int]) -> None:
    """Refuse methods that no handle could call, since it has attributes of its own by these names."""
    for name in methods:
        if hasattr(Handle, name):
            raise ConfigurationError(
                f"{cls.__qualname__}.{name} could not be called: {name!r} of a handle is its own. Give the "
                f"method another name, or, if only other methods call it, one that begins with _."
            )


def attach_or_init(ensemble: str) -> Attachment:
    """The attachment to an ensemble; one that does not exist is started with the defaults."""
    found = find_attachment(ensemble)
    if found is None:
        init(ensemble)
        found = attachment_to(ensemble)
    return found

"""How a call ended, in the process of its caller: the value, or the error raised."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from concoord_ray import errors
from concoord_ray.errors import ConcoordError
from concoord_ray.rsm.codec import decode, said
from concoord_ray.rsm.command import Outcome, Reply
from concoord_ray.rsm.exceptions import decode_exception, error_text
from concoord_ray.rsm.wire import decode_plain, decode_refusal
from concoord_ray.session import Ending, Failed


def unpack(ending: Ending) -> Any:
    """The call's result. Raises what the method raised, or why the ensemble did not or cannot say what it did."""
    if isinstance(ending, Failed):
        raise ending.error
    if ending.outcome == Outcome.PLAIN:
        return decode_plain(ending.payload)
    if ending.outcome == Outcome.VALUE:
        return value_of(ending.payload)
    raise error_of(ending.outcome, ending.payload)


def value_of(payload: bytes) -> Any:
    """A result, decoded with this process's own classes."""
    try:
        return decode(payload, _no_objects)
    except (Exception, SystemExit, GeneratorExit) as error:  # Of a class of users. It must not end their process.
        raise ConcoordError(
            f"The call was executed, and what it did stays done, but its result cannot be unpickled in this process: "
            f"{type(error).__name__}: {said(error)}. Do not repeat the call for its result; let the method return what "
            f"can be unpickled here, or make its classes importable here."
        ) from error


def error_of(outcome: Outcome, payload: bytes) -> BaseException:
    """The exception that an answer carries."""
    if outcome == Outcome.RAISED:
        return decode_exception(payload, _no_objects)
    refusal = decode_refusal(payload)
    kind = getattr(errors, refusal.error, None)
    if not (isinstance(kind, type) and issubclass(kind, errors.ConcoordError)):
        kind = errors.ConcoordError
    return kind(refusal.message)


def text_of(outcome: Outcome, payload: bytes) -> str:
    """What an error says, without its classes."""
    return error_text(payload) if outcome == Outcome.RAISED else decode_refusal(payload).message


def is_refused_as(ending: Ending, error: type[errors.ConcoordError]) -> bool:
    """Whether the ensemble refused with that very error."""
    return (
        isinstance(ending, Reply)
        and ending.outcome == Outcome.REFUSED
        and decode_refusal(ending.payload).error == error.__name__
    )


class Encoded:
    """A result that is decoded where its ``ObjectRef`` is read: the gateway does not have its classes."""

    __slots__ = ("_payload",)

    def __init__(self, payload: bytes) -> None:
        self._payload = payload

    def __reduce__(self) -> tuple[Callable[[bytes], Any], tuple[bytes]]:
        return value_of, (self._payload,)


class EncodedError(Exception):
    """An exception that becomes the caller's own type where its ``ObjectRef`` is read."""

    def __init__(self, outcome: Outcome, payload: bytes) -> None:
        super().__init__(text_of(outcome, payload))
        self._outcome = outcome
        self._payload = payload

    def __reduce__(self) -> tuple[Callable[[int, bytes], BaseException], tuple[int, bytes]]:
        return _rebuild_error, (int(self._outcome), self._payload)


def _rebuild_error(outcome: int, payload: bytes) -> BaseException:
    return error_of(Outcome(outcome), payload)


def _no_objects(ensemble: str, object_id: int) -> NoReturn:
    raise errors.NoSuchObject(f"The result names object {object_id} of ensemble {ensemble}, which is no value.")

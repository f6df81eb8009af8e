"""The gateway: what ``.remote()`` runs on.

An ``ObjectRef`` is bound to the actor that runs its task. Bound to a replica it would die with it; so it is bound to
this actor, on the caller's own node, which keeps nothing that matters. When it dies, Ray runs its unfinished calls
again on its next life, with the same (session, seq), and the log executes each once.

Ray's async actors may start calls in another order than they were submitted. The calls of one session carry their
place in line, and are forwarded in it.

What Ray runs again may have been sent already: if it comes to nothing, its outcome is unknown. Ray does so on the same
life, if the answer was lost on its way to the caller: so the calls that came last are remembered. And on the next one,
where nothing tells such a call from a new one: in the first moments of a life that is not the first every call counts
as sent.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from concoord_ray.answers import Encoded, EncodedError
from concoord_ray.errors import ConcoordError
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import Boot, Discovery, Whereabouts, WireMessage
from concoord_ray.roles.follower import Follower, unconfirmed
from concoord_ray.roles.node import exit_broken
from concoord_ray.roles.sequence import Sequencer
from concoord_ray.roles.watch import LeaseOver, Watch, Watches
from concoord_ray.roles.window import Windows
from concoord_ray.rsm.codec import encode
from concoord_ray.rsm.command import NO_SLOT_AFTER, Call, Entry, ExpireSession, Outcome, Read, Reply, Request
from concoord_ray.rsm.wire import decode_command, decode_plain, encode_message, encode_plain
from concoord_ray.session import Ending, Failed

logger = logging.getLogger(__name__)


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """What travels from a caller to its gateway.

    ``order`` is the call's place among those of its session through this gateway, None if it has none. ``timeout_s`` is
    the call's own: when it is over the caller's process withdraws it, and here it ends, whatever comes of that.
    """

    entry: Entry
    readonly: bool
    order: int | None
    awaits_loss: bool = False
    may_park: bool = False
    timeout_s: float | None = None


class GatewayRole(Follower):
    """One node's gateway."""

    def __init__(self, boot: Boot, place: Whereabouts, discovery: Discovery) -> None:
        super().__init__(boot, place, discovery)
        self._calls: dict[tuple[int, int], list[asyncio.Future[Ending]]] = {}
        #: Of these calls, those that wait for the loss of a grant.
        self._awaiting_loss: set[tuple[int, int]] = set()
        self._watches = Watches(boot.config.max_watched_processes, self._client_died)
        #: Sessions of processes that have died, by the number of the entry that ends each.
        self._dying: dict[int, int] = {}
        config = boot.config
        self._sequencer: Sequencer[Request | Read | None] = Sequencer(
            self._submit, config.gateway_order_wait_s, config.gateway_sequences
        )
        self._windows = Windows(config.max_calls_per_gateway, config.max_bytes_per_gateway, "this node's gateway")
        #: What Ray runs again after our last life has ended was within these bounds, and may have been executed.
        self._refuses_from_s = time.monotonic() + config.session_ttl_s
        self._is_restarted = place.is_restarted
        #: The calls that came last, ended or not.
        self._came: OrderedDict[tuple[int, int], None] = OrderedDict()
        #: Of the calls, those that may have been sent before they came.
        self._repeated: set[tuple[int, int]] = set()
        #: The ensemble is no more.
        self._has_left = False

    async def call(self, parcel: Parcel, values: tuple[Any, ...]) -> Any:
        """Forward one call and wait for its end.

        ``values`` are the arguments that were ObjectRefs in the caller: they replace the placeholders among the
        entry's arguments.
        """
        entry, order = parcel.entry, parcel.order
        is_repeated = self._may_be_repeated(parcel)
        if self._has_left:
            raise self.farewell(may_have_run=is_repeated)
        if values:
            entry = _with_values(entry, values)
        window, size_bytes = self._windows.of(may_park=parcel.may_park), len(entry.command)
        if window.is_full and not is_repeated and time.monotonic() >= self._refuses_from_s:
            if order is not None:
                self._sequencer.submit(entry.session, order, None)  # Those behind it need not wait for it.
            raise self._windows.refusal(may_park=parcel.may_park)
        window.enter(size_bytes)
        try:
            ending = await self._ending(entry, parcel, is_repeated=is_repeated)
        finally:
            window.leave(size_bytes)
        if isinstance(ending, Failed):
            raise ending.error
        if ending.outcome == Outcome.PLAIN:
            return decode_plain(ending.payload)
        if ending.outcome == Outcome.VALUE:
            return Encoded(ending.payload)
        raise EncodedError(ending.outcome, ending.payload)

    async def _ending(self, entry: Entry, parcel: Parcel, *, is_repeated: bool) -> Ending:
        """Forward an entry, in its turn, and wait for its end."""
        future: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        key = (entry.session, entry.seq)
        waiting = self._calls.setdefault(key, [])
        waiting.append(future)
        if parcel.awaits_loss:
            self._awaiting_loss.add(key)
        if is_repeated:
            self._repeated.add(key)
        if not parcel.readonly:
            self._came[key] = None
            if len(self._came) > self.node.boot.config.gateway_remembered_calls:
                self._came.popitem(last=False)
        message = Read(entry) if parcel.readonly else Request(entry)
        if parcel.order is None:
            self._submit(message)
        else:
            self._sequencer.submit(entry.session, parcel.order, message)
        try:
            if parcel.timeout_s is not None:
                await self._timed(key, future, parcel)
            return await future
        except asyncio.CancelledError:
            # ray.cancel, or the end of this actor. The caller's process tells which, and withdraws what the user
            # cancelled; here only the waiting ends.
            waiting.remove(future)
            if not waiting:
                self._calls.pop(key, None)
                self._awaiting_loss.discard(key)
                self._repeated.discard(key)
                self.courier.forget(*key)
            raise

    async def _timed(self, key: tuple[int, int], future: asyncio.Future[Ending], parcel: Parcel) -> None:
        """Wait until the call has ended; past its timeout see that it does."""
        config = self.node.boot.config
        await asyncio.wait((future,), timeout=parcel.timeout_s)
        if future.done():
            return
        if parcel.readonly or self.courier.take_back(*key):
            error: ConcoordError = self.timed_out()
        else:  # Its withdrawal by the caller's process ends it. If not:
            await asyncio.wait((future,), timeout=config.withdrawal_grace_s)
            error = unconfirmed(config)
        if not future.done():
            self.courier.forget(*key)
            self.ended(Failed(*key, error))

    def ended(self, ending: Ending) -> None:
        """See ``Follower``."""
        if ending.session == 0:
            died = self._dying.pop(ending.seq, None)
            if died is not None and isinstance(ending, Failed):  # For want of a leader.
                self._client_died(died)
            return
        self._awaiting_loss.discard((ending.session, ending.seq))
        self._repeated.discard((ending.session, ending.seq))
        for future in self._calls.pop((ending.session, ending.seq), ()):
            if not future.done():
                future.set_result(ending)

    async def leave(self) -> None:
        """The ensemble is being ended, and this gateway with it: whoever waits is told what is known of its call.

        Bound to a gateway that is gone, a call would end with Ray's own error, which says nothing of that. Returns when
        all have been told; whoever comes later is told at once.
        """
        self._has_left = True
        self._tell_loss(None)  # Of whatever they held, nothing is left.
        for key in list(self._calls):
            may_have_run = key in self._repeated or self.courier.may_have_run(*key)
            self.courier.forget(*key)
            self.ended(Failed(*key, self.farewell(may_have_run=may_have_run)))
        windows = self._windows
        await self._once(lambda: windows.plain.is_empty and windows.parking.is_empty)

    async def alone(self) -> None:
        """Returns when no process is connected any more: when all of them know, none makes another call here."""
        await self._once(lambda: not any(member.role is Role.CLIENT for member in self.node.links.members()))

    async def _once(self, condition: Callable[[], bool]) -> None:
        """Wait for what happens once in a gateway's life. Whoever asks for it does not wait for ever."""
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(self.node.boot.config.tick_interval_s)

    async def stop(self) -> None:
        """Leave."""
        self._watches.close()
        await super().stop()

    def receive(self, source: Member, messages: list[WireMessage]) -> None:
        """See ``NodeOwner``."""
        if source.role is not Role.CLIENT:
            super().receive(source, messages)
            return
        for message in messages:
            if isinstance(message, Watch):
                self._watches.watch(message)
            elif isinstance(message, LeaseOver):
                self._tell_loss(message.session)
        self.perform()

    def tick(self, now_s: float) -> None:
        """See ``NodeOwner``."""
        if self._awaiting_loss and self.courier.leaderless_s(now_s) > self.node.boot.config.session_ttl_s:
            self._tell_loss(None)  # Whatever has become of the leases, no news of it can reach us.
        super().tick(now_s)

    def _tell_loss(self, session: int | None) -> None:
        """Answer the calls of a session, or of all, that wait for the loss of a grant."""
        for key in [key for key in self._awaiting_loss if session in (None, key[0])]:
            self.courier.forget(*key)
            self.ended(Reply(*key, Outcome.PLAIN, encode_plain(True)))

    def _client_died(self, session: int) -> None:
        nonce = secrets.randbits(62) + 1
        self._dying[nonce] = session
        self._submit(Request(Entry(0, nonce, (), encode_message(ExpireSession(session, NO_SLOT_AFTER)))))

    def broken(self, error: BaseException) -> None:
        """See ``NodeOwner``. Ray runs the unfinished calls again on the next life."""
        exit_broken(self.node.me, error)

    def _submit(self, message: Request | Read | None) -> None:
        if message is not None:  # Else it was refused.
            self.node.fail_stop.step(self._forward, message)

    def _forward(self, message: Request | Read) -> None:
        was_sent = (message.entry.session, message.entry.seq) in self._repeated
        self.courier.submit(message, time.monotonic(), was_sent=was_sent)
        self.perform()

    def _may_be_repeated(self, parcel: Parcel) -> bool:
        if parcel.readonly:
            return False
        key = (parcel.entry.session, parcel.entry.seq)
        may_be_of_last_life = self._is_restarted and time.monotonic() < self._refuses_from_s
        return may_be_of_last_life or key in self._came or key in self._calls


def _with_values(entry: Entry, values: tuple[Any, ...]) -> Entry:
    """Add the values of ObjectRefs, for the places that the caller left in the arguments."""
    command = decode_command(entry.command)
    if not isinstance(command, Call):
        raise TypeError(f"{type(command).__name__} takes no ObjectRefs")
    filled = msgspec.structs.replace(command, values=tuple(encode(value) for value in values))
    return msgspec.structs.replace(entry, command=encode_message(filled))

"""A process's own connection to one ensemble: its session, and the direct path of every call.

One thread with one event loop per ensemble does all of the talking. Calls from any thread, and from any event loop, are
handed to it and wake their caller when they end. No Ray is needed on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

from concoord_ray.directory import Directory
from concoord_ray.errors import CallTimeout, ConcoordError, NoSuchObject, Overloaded, QuorumLost, SessionExpired
from concoord_ray.net.loop import new_event_loop
from concoord_ray.roles.boot import Boot, Discovery
from concoord_ray.roles.caller import Caller
from concoord_ray.roles.calls import AwaitedCall, BlockingCall, Patience, PendingCall
from concoord_ray.roles.follower import cut_off, unconfirmed
from concoord_ray.roles.window import Windows
from concoord_ray.rsm.command import Call, Command, Entry, MethodFlag
from concoord_ray.session import Failed

logger = logging.getLogger(__name__)

#: How often a session is asked for again while somebody waits for it.
_ASK_AGAIN_S = 0.5
#: How long nobody must have led before it is asked whether the ensemble is still there. A failover is quicker.
_LEADERLESS_S = 0.2
#: How long our own loop may take for what it has at hand: the process may be busy.
_OWN_LOOP_S = 1.0
_SLOW = "Somebody leads it, and does not answer: concoord.status() says what the replicas execute. Retry later."


class Client:
    """Thread-safe. ``start`` it once; after ``close`` every call fails with SessionExpired."""

    def __init__(
        self,
        boot: Boot,
        discovery: Discovery,
        description: str,
        is_wanted: Callable[[], bool] = lambda: True,
        *,
        gateway: int | None = None,
        is_task_running: Callable[[str], bool] = lambda _: True,
        is_current: Callable[[], bool] = lambda: True,
    ) -> None:
        """It closes itself when ``is_wanted``, asked on its own thread now and then, says no.

        ``gateway`` is the index of this node's; ``is_task_running`` says whether this process runs a Ray task still.
        ``is_current`` says whether the ensemble is still the one of its name; it is asked on a thread that may wait,
        while nobody leads.
        """
        self.boot = boot
        self._is_wanted = is_wanted
        self._is_current = is_current
        self.is_closed = False
        self._is_ending = False
        #: Closed because the ensemble was shut down, or another has its name.
        self.is_gone = False
        self._is_asking = False
        #: Of its calls that are awaited, and of those that travel through the gateway.
        self.windows = self._new_windows()
        self.travelling = self._new_windows()
        self._loop = new_event_loop()
        self._caller = Caller(boot, discovery, description, gateway, is_task_running, self._stop)
        self._inbox: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._is_awake = False
        self._thread = threading.Thread(target=self._run, name=f"concoord-{boot.name}", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def close(self, timeout_s: float = 1.0) -> None:
        """End the session, which releases at once what it holds, and stop."""
        if self.is_closed:
            return
        self.is_closed = True
        done = threading.Event()
        self._hand_over(self._caller.close_session, done.set)
        done.wait(timeout_s)
        with contextlib.suppress(RuntimeError):  # The loop is closed already when the interpreter ends.
            self._loop.call_soon_threadsafe(self._stop)
        self._thread.join(timeout_s)

    def declare_gone(self) -> None:
        """The ensemble is not the one of its name any more."""
        self._hand_over(self._asked, False)

    @property
    def directory(self) -> Directory:
        """Who is where, as far as this process has heard."""
        return self._caller.node.directory

    def descriptors(self) -> list[int]:
        """The file descriptors of its connections, for a forked child to close."""
        return self._caller.node.links.descriptors()

    # Calls.

    def call(
        self,
        command: Command,
        *,
        readonly: bool = False,
        timeout_s: float | None = None,
        flags: MethodFlag = MethodFlag.PLAIN,
    ) -> Any:
        """Call and wait. On timeout, and when the waiting is interrupted (Ctrl-C), the call is withdrawn.

        Raises CallTimeout if that is confirmed, and OutcomeUnknown if it is not within ``withdrawal_grace_s``.
        A call that is refused because the ensemble is overloaded is made again for a while.
        """
        patience = Patience(self.boot.config, timeout_s)
        while True:
            call = BlockingCall(command, readonly, flags)
            try:
                self._begin(call)
                if not call.wait(patience.left_s()):
                    self._hand_over(self._caller.time_out, call)
                    call.wait(self.boot.config.withdrawal_grace_s + _OWN_LOOP_S)
                if not patience.is_for(call):
                    return self._result(call)
            except BaseException:
                self._leave(call)
                raise
            time.sleep(self.boot.config.retransmit_interval_s)

    async def call_async(
        self,
        command: Command,
        *,
        readonly: bool = False,
        timeout_s: float | None = None,
        flags: MethodFlag = MethodFlag.PLAIN,
    ) -> Any:
        """Call and await, on any event loop. A cancelled await withdraws the call."""
        patience = Patience(self.boot.config, timeout_s)
        size_bytes = len(command.args) if isinstance(command, Call) else 0
        window = self.windows.of(may_park=bool(flags and flags & MethodFlag.PARKS))
        window.enter(size_bytes)
        try:
            while True:
                call = AwaitedCall(command, readonly, flags)
                try:
                    self._begin(call)
                    if not await call.wait(patience.left_s()):
                        self._hand_over(self._caller.time_out, call)
                        await call.wait(self.boot.config.withdrawal_grace_s + _OWN_LOOP_S)
                    if not patience.is_for(call):
                        return self._result(call)
                except BaseException:
                    self._leave(call)
                    raise
                await asyncio.sleep(self.boot.config.retransmit_interval_s)
        finally:
            window.leave(size_bytes)

    async def turn(self, flags: MethodFlag) -> None:
        """Wait until another call may be awaited. Raises Overloaded if it may be one that others wait for.

        Whoever has no call to make after all has to ``pass_turn``.
        """
        if flags and flags & MethodFlag.PARKS:
            self.windows.check(may_park=True)
        else:
            await self.windows.plain.turn()

    def pass_turn(self, flags: MethodFlag) -> None:
        """Let the next one in."""
        self.windows.of(may_park=bool(flags & MethodFlag.PARKS)).pass_turn()

    def number(self, command: Command, readonly: bool, task: str = "", timeout_s: float | None = None) -> Entry:
        """Number a command that travels by another way, through a gateway. Waits for the session to be open.

        ``task`` is the Ray task that makes the call, unless the entry is not complete without the gateway.
        ``timeout_s`` is the call's own.
        """
        patience_s = self.boot.config.quorum_timeout_s
        while True:
            entry = self._caller.number(command, readonly, task)
            if entry is not None:
                return entry
            self._caller.check_told()
            try:
                self.wait_until_open(patience_s if timeout_s is None else min(timeout_s, patience_s))
            except QuorumLost as error:
                if timeout_s is None or timeout_s >= patience_s:
                    raise
                raise CallTimeout(f"The call's own timeout was over before it was sent. {error}") from error

    def wait_until_open(self, timeout_s: float) -> None:
        """Wait until the ensemble has opened a session for this process.

        It is asked for again and again: a request that finds no leader ends after ``quorum_timeout_s``, and an ensemble
        that has just started, or was recovered, may take longer than that.
        """
        until_s = time.monotonic() + timeout_s
        is_open = False
        while not is_open and time.monotonic() < until_s:
            self._check_open()
            self._hand_over(self._caller.open_session, None)
            is_open = self._caller.is_open.wait(min(_ASK_AGAIN_S, timeout_s))
        refusal = self._caller.not_open_for
        if not is_open and isinstance(refusal, Overloaded):
            raise refusal
        if not is_open:
            raise QuorumLost(
                f"Ensemble {self.boot.name!r} did not open a session for this process within {timeout_s:.1f} s; "
                f"nothing was sent. {self._why_not_open()}"
            )

    def _why_not_open(self) -> str:
        """What is known of the leader, and what to do."""
        known: Future[str] = Future()

        def look(_: None) -> None:
            courier = self._caller.courier
            known.set_result(str(courier.absence()) if courier.leader is None else _SLOW)

        self._hand_over(look, None)
        try:
            return known.result(_OWN_LOOP_S)
        except FutureTimeout:
            return _SLOW

    def acknowledge(self, entries: list[Entry]) -> None:
        """The process has the replies to these entries, which travelled another way."""
        self._hand_over(self._caller.acknowledge, entries)

    def cancel(self, entry: Entry) -> None:
        """Cancel an entry that travelled another way: it leaves its queue, or what it was granted is given back."""
        self._hand_over(self._caller.cancel_entry, entry)

    def time_out(self, entry: Entry, timeout_s: float) -> None:
        """Withdraw an entry that travelled another way if it is not acknowledged in time."""
        self._hand_over(self._caller.time_out_entry, (entry, timeout_s))

    def used_by_task(self, task: str) -> None:
        """A Ray task of this process may come to hold something: what it holds when it ends is released."""
        self._caller.used_by_task(task)

    # Inside.

    def _new_windows(self) -> Windows:
        config = self.boot.config
        return Windows(config.max_calls_per_process, config.max_bytes_per_process, "this process")

    def _begin(self, call: PendingCall) -> None:
        self._check_open()
        self._hand_over(self._caller.begin, call)

    def _check_open(self) -> None:
        if self.is_closed:
            raise self._closed()

    def _closed(self) -> ConcoordError:
        if self.is_gone:
            return NoSuchObject(
                f"The ensemble {self.boot.name!r} that this object is of was shut down or recovered; the call was not "
                f"made. Get the object again with concoord.get(...)."
            )
        return SessionExpired(
            f"The connection to ensemble {self.boot.name!r} was closed in this process. Get the handle again, by "
            f"concoord.get(...), to open another."
        )

    def _hand_over(self, step: Callable[[Any], None], argument: Any) -> None:
        """Run a step on the loop. Many that come at once wake it once."""
        self._inbox.append((step, argument))
        if not self._is_awake:
            self._is_awake = True
            try:
                self._loop.call_soon_threadsafe(self._drain)
            except RuntimeError:  # The loop has ended.
                self._end_unheard()

    def _drain(self) -> None:
        self._is_awake = False
        self._caller.node.fail_stop.step(self._take_steps)  # If one fails, all who wait are told.

    def _take_steps(self) -> None:
        inbox = self._inbox
        while inbox:
            step, argument = inbox.popleft()
            step(argument)
        self._caller.perform()

    def _end_unheard(self) -> None:
        """Whoever handed over a call when the loop had ended is told so.

        A hand-over that the loop took just before it was closed has woken nobody: those after it must try anew.
        """
        self._is_awake = False
        while True:
            try:
                _, argument = self._inbox.popleft()
            except IndexError:  # Other threads may take some of it.
                return
            if isinstance(argument, PendingCall) and argument.ending is None:
                argument.end(Failed(0, 0, self._closed()))

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        watch = self._caller.node.fail_stop.watch
        starting = watch(self._loop.create_task(self._caller.start()))
        leaving = watch(self._loop.create_task(self._leave_when_unwanted()))
        try:
            self._loop.run_forever()
        finally:
            self.is_closed = self._is_ending = True
            starting.cancel()
            leaving.cancel()
            self._abandon()
            self._loop.run_until_complete(self._caller.stop())
            self._abandon()  # What was handed over meanwhile.
            self._loop.close()
            self._end_unheard()

    def _stop(self) -> None:
        """End the loop, once: what ends it may come again in its last turn, or while its last steps run."""
        if not self._is_ending:
            self._is_ending = True
            self._loop.stop()

    def _abandon(self) -> None:
        self._drain()
        self._caller.abandon(self._closed(), cut_off(self.boot.name))

    async def _leave_when_unwanted(self) -> None:
        config = self.boot.config
        while self._is_wanted():  # Ray does not tell anyone that it is shut down, nor what has become of an ensemble.
            await asyncio.sleep(config.report_interval_s)
            if self._caller.courier.leaderless_s(time.monotonic()) > _LEADERLESS_S and not self._is_asking:
                self._is_asking = True
                threading.Thread(target=self._ask, name=f"concoord-{self.boot.name}-ask", daemon=True).start()
        self._caller.close_session(self._stop)
        self._caller.perform()
        await asyncio.sleep(config.close_timeout_s)
        self._stop()

    def _ask(self) -> None:
        """On a thread of its own, which may wait for as long as Ray's GCS is away."""
        try:
            is_current = self._is_current()
        except Exception as error:  # Whatever Ray raises then. It is asked again.
            logger.info("cannot ask Ray whether ensemble %r is still there: %s", self.boot.name, error)
            is_current = True
        with contextlib.suppress(RuntimeError):  # The loop has ended meanwhile.
            self._loop.call_soon_threadsafe(self._caller.node.fail_stop.step, self._asked, is_current)

    def _asked(self, is_current: bool) -> None:
        self._is_asking = False
        if not is_current:
            logger.info("ensemble %r (%s) is no more", self.boot.name, self.boot.ensemble)
            self.is_gone = self.is_closed = True
            self._caller.gone()
            self._stop()

    def _result(self, call: PendingCall) -> Any:
        """What came of the call."""
        if call.ending is None:  # Its time is over, and our own loop does not get to say so.
            raise unconfirmed(self.boot.config)
        return call.result()

    def _leave(self, call: PendingCall) -> None:
        """Its caller is cancelled, interrupted or destroyed: withdraw what it has not taken, also if it is answered."""
        if not call.is_settled:
            self._hand_over(self._caller.cancel, call)

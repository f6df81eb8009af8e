"""The caller as the ensemble knows it: one process, one session, followed through changes of leader.

Runs on the client's loop, but for ``number``, which any thread may call.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable

from concoord_ray.answers import is_refused_as, unpack
from concoord_ray.directory import Directory
from concoord_ray.errors import (
    CallCancelled,
    ConcoordError,
    ConfigurationError,
    OutcomeUnknown,
    SessionExpired,
)
from concoord_ray.paxos.view import Member, Role
from concoord_ray.roles.boot import Boot, Discovery
from concoord_ray.roles.calls import PendingCall, Withdrawal
from concoord_ray.roles.follower import Follower, unconfirmed
from concoord_ray.roles.watch import LeaseOver, Watch, start_time
from concoord_ray.roles.withdrawals import Withdrawals
from concoord_ray.rsm.command import (
    CloseSession,
    Command,
    EndTask,
    Entry,
    Kept,
    Outcome,
    Read,
    Reply,
    Request,
)
from concoord_ray.rsm.wire import encode_plain
from concoord_ray.session import Ending, Failed, Session

logger = logging.getLogger(__name__)

_EXPIRED = (
    "This process was silent for longer than the session TTL, and what it held was released. This call was not sent; "
    "the next one opens another session. Acquire again what you need before you go on."
)


class Caller(Follower):
    """The session of this process in one ensemble, and its calls that have not ended."""

    def __init__(
        self,
        boot: Boot,
        discovery: Discovery,
        description: str,
        gateway: int | None = None,
        is_task_running: Callable[[str], bool] = lambda _: True,
        ends: Callable[[], None] = lambda: None,
    ) -> None:
        """``gateway`` is the index of this node's; ``is_task_running`` says whether a Ray task runs in this process.

        ``ends`` is called when it cannot go on.
        """
        if boot.role is not Role.CLIENT:
            raise ValueError(f"a caller is a client, not a {boot.role}")
        super().__init__(boot, None, discovery)
        #: Set while there is a session.
        self.is_open = threading.Event()
        #: Why the last attempt to open one has failed.
        self.not_open_for: ConcoordError | None = None
        self._description = description
        self._lock = threading.Lock()  # Guards numbering and acknowledging, which any thread may do.
        self._session: Session | None = None
        self._calls: dict[tuple[int, int], PendingCall] = {}
        self._unnumbered: dict[PendingCall, None] = {}
        self._withdrawals = Withdrawals(self, self.node.fail_stop)
        #: Calls whose own timeout is over, and until when they may end by their withdrawal, the earliest first.
        self._timed_out: dict[PendingCall, float] = {}
        #: The session has ended without us, and no call has been told. The next one is, and does not run: it may rely
        #: on what the session held.
        self._is_untold = False
        self._gateway = gateway
        #: The link to this node's gateway, while there is one.
        self._watcher: Member | None = None
        self._is_task_running = is_task_running
        self._ends = ends
        #: Ray tasks that may hold something, and how often in a row they did not run when we looked.
        self._tasks: dict[str, int] = {}
        #: Their calls that travel through the gateway and are not acknowledged, with the task, by number.
        self._travelling: dict[tuple[int, int], tuple[str, Entry]] = {}
        self._has_told_loss = False

    # Steps, handed over from other threads.

    def begin(self, call: PendingCall) -> None:
        """Send a call, as soon as there is a session."""
        try:
            entry = self._number(call.command, call.readonly)
        except Exception as error:  # Whatever encoding raises. It is the matter of this call alone.
            call.end(Failed(0, 0, ConfigurationError(f"The call cannot be sent, since it cannot be encoded: {error}.")))
            return
        if entry is None and self.take_untold():
            call.end(Failed(0, 0, SessionExpired(_EXPIRED)))
            return
        if entry is None:
            self._unnumbered[call] = None
            self.open_session(None)
            return
        call.entry = entry
        self._calls[entry.session, entry.seq] = call
        self.courier.submit(Read(entry) if call.readonly else Request(entry), time.monotonic())

    def cancel(self, call: PendingCall) -> None:
        """Nobody waits for the call any more: see that it has no effect that nobody knows of."""
        call.is_settled = True
        if call.ending is not None:
            self._withdrawals.begin_untaken(call)
            return
        self._withdraw(call, CallCancelled("The call was cancelled before it was sent."), timed_out=False)

    def time_out(self, call: PendingCall) -> None:
        """The call's time is over: withdraw it. It ends with CallTimeout, unless its result comes first.

        If neither comes within ``withdrawal_grace_s`` it ends with OutcomeUnknown.
        """
        self._withdraw(call, self.timed_out(), timed_out=True)
        if call.ending is None:
            self._timed_out[call] = time.monotonic() + self.node.boot.config.withdrawal_grace_s

    def cancel_entry(self, entry: Entry) -> None:
        """Cancel an entry of this session that travelled another way; it is acknowledged when that is done."""
        self._withdrawals.seen(entry)
        self._withdrawals.begin(entry, timed_out=False)

    def time_out_entry(self, deadline: tuple[Entry, float]) -> None:
        """Withdraw an entry that travelled another way, unless it is acknowledged within so many seconds."""
        self._withdrawals.begin_after(*deadline)

    def _withdraw(self, call: PendingCall, unsent: ConcoordError, *, timed_out: bool) -> None:
        if call in self._unnumbered:
            del self._unnumbered[call]
            call.end(Failed(0, 0, unsent))
        elif call.entry is not None and call.ending is None:
            key = call.entry.session, call.entry.seq
            if call.readonly:  # Not in the log: there is nothing to withdraw.
                self.courier.forget(*key)
                self.ended(Failed(*key, unsent))
            elif self.courier.take_back(*key):
                self.ended(Failed(*key, unsent))
            else:
                self._withdrawals.begin(call.entry, timed_out=timed_out)

    def _give_up_timed_out(self, now_s: float) -> None:
        for call, until_s in list(self._timed_out.items()):
            if until_s > now_s:
                return
            del self._timed_out[call]
            if call.entry is not None and call.ending is None:
                key = call.entry.session, call.entry.seq
                self.courier.forget(*key)  # Not sent again: only its withdrawal is.
                self.ended(Failed(*key, unconfirmed(self.node.boot.config)))

    def is_of_session(self, entry: Entry) -> bool:
        """See ``WithdrawalsOwner``."""
        return self._session is not None and self._session.id == entry.session

    def acknowledge(self, entries: list[Entry]) -> None:
        """The process has the replies to these."""
        now_s = time.monotonic()
        with self._lock:
            for entry in entries:
                self._travelling.pop((entry.session, entry.seq), None)
                may_acknowledge = self._withdrawals.seen(entry)
                if (entry.session, entry.seq) in self._calls:  # Withdrawn, but to be answered still: its end does it.
                    may_acknowledge = False
                if may_acknowledge and self._session is not None and self._session.id == entry.session:
                    self._session.acknowledge(entry.seq, now_s)

    def open_session(self, _: None) -> None:
        """Ask for a session, unless there is one or it is asked for already."""
        if self._session is None:
            now_s = time.monotonic()
            self._session = Session(
                self.courier,
                self.node.boot.config,
                nonce=secrets.randbits(62) + 1,
                description=self._description,
                now_s=now_s,
            )
            self._session.open(now_s)

    def close_session(self, done: Callable[[], None]) -> None:
        """End the session; ``done`` is called when it has ended, or at once if there is none."""
        if self._session is None or self._session.id is None or self.courier.leader is None:
            done()
            return
        self.begin(Withdrawal(CloseSession(), lambda _: done()))

    def abandon(self, not_made: ConcoordError, unknown: ConcoordError) -> None:
        """Everybody who still waits is told that the call was not made; or, if some leader was sent it, ``unknown``."""
        for call in list(self._unnumbered):
            call.end(Failed(0, 0, not_made))
        for key, call in list(self._calls.items()):
            call.end(Failed(*key, unknown if self.courier.may_have_run(*key) else not_made))
        self._unnumbered.clear()
        self._calls.clear()

    def gone(self) -> None:
        """The ensemble is no more: everybody who still waits is told what is known of the call."""
        with self._lock:
            self._session = None
        for key, call in list(self._calls.items()):
            if call.awaits_loss:  # Of whatever it held, nothing is left.
                del self._calls[key]
                call.end(Reply(*key, Outcome.PLAIN, encode_plain(True)))
        self.abandon(self.farewell(may_have_run=False), self.farewell(may_have_run=True))

    # From any thread.

    def number(self, command: Command, readonly: bool, task: str = "") -> Entry | None:
        """Number a command that goes through the gateway, for a Ray task if there is one. None without a session."""
        return self._number(command, readonly, travels=True, task=task)

    def _number(self, command: Command, readonly: bool, *, travels: bool = False, task: str = "") -> Entry | None:
        with self._lock:
            session = self._session
            if session is None or session.id is None:
                return None
            entry = session.entry(command, readonly=readonly, travels=travels)
            if task and not readonly:
                self._travelling[entry.session, entry.seq] = (task, entry)
            return entry

    def used_by_task(self, task: str) -> None:
        """A Ray task of this process may come to hold something."""
        with self._lock:
            self._tasks[task] = 0

    def check_told(self) -> None:
        """Raise SessionExpired, once, if the last session ended without us and nobody was told."""
        if self.take_untold():
            raise SessionExpired(_EXPIRED)

    def take_untold(self) -> bool:
        """Whether the last session ended without us and nobody was told; whoever asks, tells."""
        with self._lock:
            is_untold, self._is_untold = self._is_untold, False
        return is_untold

    # Follower

    def ended(self, ending: Ending) -> None:
        """See ``Follower``."""
        session = self._session
        if session is not None and session.is_opening(ending):
            self._opened(session, ending)
            return
        call = self._calls.pop((ending.session, ending.seq), None)
        if session is not None and session.id == ending.session:
            if is_refused_as(ending, SessionExpired):
                self._lost(is_told=call is not None and not isinstance(call, Withdrawal))
            elif call is not None and call.entry is not None and not call.readonly:
                if isinstance(ending, Failed) and not isinstance(call, Withdrawal):
                    self._withdrawals.begin(call.entry, timed_out=False)  # What it was granted nobody knows of.
                elif call.may_be_granted(ending):
                    self._withdrawals.await_taker(call)
                else:
                    self.acknowledge([call.entry])
        if call is not None:
            call.end(ending)

    def tick(self, now_s: float) -> None:
        """See ``NodeOwner``."""
        self.acknowledge(self._withdrawals.taken())
        if self._session is not None:
            with self._lock:
                self._session.tick(now_s)
            self._look_at_lease(self._session, now_s)
        if self._tasks:
            self._look_at_tasks()
        self._give_up_timed_out(now_s)
        super().tick(now_s)

    def connected(self, member: Member) -> None:
        """See ``NodeOwner``."""
        super().connected(member)
        if member.role is Role.GATEWAY:
            self._watcher = member
            self._tell_watcher()

    def disconnected(self, member: Member) -> None:
        """See ``NodeOwner``."""
        super().disconnected(member)
        if member == self._watcher:
            self._watcher = None

    def directory_changed(self, directory: Directory) -> None:
        """See ``NodeOwner``."""
        super().directory_changed(directory)
        found = None if self._gateway is None else self.node.directory.find(Role.GATEWAY, self._gateway)
        if found is not None:
            self.node.aim(Role.GATEWAY, [found.member])

    def kept(self, message: Kept) -> None:
        """See ``Follower``."""
        if self._session is not None:
            self._session.kept(message)

    # What others are told of this process.

    def _tell_watcher(self) -> None:
        """Tell this node's gateway which session to end if this process dies."""
        started = start_time(os.getpid())
        if self._watcher is not None and started is not None and self._session is not None and self._session.id:
            self.node.send(self._watcher, Watch(self._session.id, os.getpid(), started))

    def _look_at_lease(self, session: Session, now_s: float) -> None:
        """When the lease cannot be kept, the ensemble cannot tell any more who has lost what: we do."""
        if not session.may_be_lost(now_s):
            self._has_told_loss = False
            return
        for key, call in list(self._calls.items()):
            if call.awaits_loss:
                self.courier.forget(*key)
                self.ended(Reply(*key, Outcome.PLAIN, encode_plain(True)))
        if not self._has_told_loss and session.id is not None and self._watcher is not None:
            self._has_told_loss = True
            self.node.send(self._watcher, LeaseOver(session.id))

    def _look_at_tasks(self) -> None:
        """End the Ray tasks that have ended, and so do not run whenever we look."""
        with self._lock:
            for task in self._tasks:
                self._tasks[task] = 0 if self._is_task_running(task) else self._tasks[task] + 1
            ended = [task for task, looks in self._tasks.items() if looks >= self.node.boot.config.idle_looks]
            for task in ended:
                del self._tasks[task]
        for task in ended:
            self._end_task(task)

    def _end_task(self, task: str) -> None:
        """Release what a Ray task held. Until the ensemble has said so, or has ended the whole session.

        Its own calls come first, also those that are still on their way through the gateway: what they were granted
        later, nobody would release. So they are sent from here too, over the connection that carries the end; the log
        executes each once, and the gateway is answered as well.
        """
        session = self._session
        with self._lock:
            travelling = {key: entry for key, (owner, entry) in self._travelling.items() if owner == task}
            for key in travelling:
                del self._travelling[key]

        def ended(ending: Ending) -> None:
            if isinstance(ending, Failed) and self._session is session:
                self._end_task(task)

        if session is not None and session.id is not None:
            for entry in travelling.values():
                if entry.session == session.id:
                    self.courier.submit(Request(entry), time.monotonic())
            self.begin(Withdrawal(EndTask(task), ended))

    def broken(self, error: BaseException) -> None:
        """See ``NodeOwner``. In the user's process: whoever waits is told, and later calls are too."""
        logger.critical("the connection to ensemble %r failed", self.node.boot.name, exc_info=error)
        failed = OutcomeUnknown(f"This process's connection to the ensemble failed by itself: {error!r}.")
        self.abandon(failed, failed)
        self._ends()

    def _opened(self, session: Session, ending: Ending) -> None:
        waiting, self._unnumbered = list(self._unnumbered), {}
        try:
            number = unpack(ending)
        except ConcoordError as error:  # For want of a leader, or of room for one more session.
            self._session, self.not_open_for = None, error
            for call in waiting:
                call.end(Failed(0, 0, error))
            return
        self.not_open_for = None
        with self._lock:
            session.opened(number)
        self.is_open.set()
        self._tell_watcher()
        for call in waiting:
            self.begin(call)

    def _lost(self, *, is_told: bool) -> None:
        """The session has ended without us. The next call opens another, after somebody was told."""
        with self._lock:
            self._session = None
            self._is_untold = not is_told
        self.is_open.clear()

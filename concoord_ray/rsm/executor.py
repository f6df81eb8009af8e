"""The replicated state machine: decided batches in, replies out.

Deterministic: the same slots give the same state, the same replies and the same wake-ups on every replica. Nothing here
reads a clock, the address of an object, or the order of a set. Ensemble time moves only with a batch's stamp, and when
it has moved, every deadline that it passed is handled, in order, before the batch's own commands: a timeout is a logged
event with one outcome, and a permit that is free when a call arrives is granted however short its timeout was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from concoord_ray.config import Config
from concoord_ray.errors import (
    ConfigurationError,
    Diverged,
    NoSuchObject,
    ObjectExists,
    OutcomeUnknown,
    Overloaded,
    ProtocolViolation,
)
from concoord_ray.paxos.membership import Size
from concoord_ray.rsm import snapshot
from concoord_ray.rsm.calls import GENERATION_SHIFT, Calls, as_reply
from concoord_ray.rsm.checkpoint import Checkpoint, ObjectDigest, ReplyDigests, in_turn, reply_digest
from concoord_ray.rsm.command import (
    Acknowledge,
    Batch,
    Call,
    Cancel,
    CloseSession,
    Command,
    Create,
    Delete,
    EndTask,
    Entry,
    ExpireSession,
    ListObjects,
    Lookup,
    OpenSession,
    Outcome,
    Reply,
    Resize,
)
from concoord_ray.rsm.context import CallContext, Owner
from concoord_ray.rsm.digest import digest
from concoord_ray.rsm.objects import Kind, ObjectTable, raised, refuse, value
from concoord_ray.rsm.reads import ReadOnlyEffects
from concoord_ray.rsm.rope import Rope
from concoord_ray.rsm.sessions import Answer, Session
from concoord_ray.rsm.stack import even_stack
from concoord_ray.rsm.waiters import PARKED, Waiter
from concoord_ray.rsm.wire import decode_batch, decode_command

#: What a snapshot holds of an executor. The rest begins anew with each slot, or is for ``take_applied`` alone. Objects
#: come first: so it is known of which of them anything is that cannot be restored.
STATE = (
    "_objects",
    "time_ns",
    "wall_ns",
    "next_slot",
    "_sessions",
    "_ended",
    "_nonces",
    "_next_session",
    "_tokens",
    "_timers",
    "_parked",
    "_kept_bytes",
    "_grants",
    "_replies",
    "_checkpoint_slot",
    "size",
    "resized_slot",
    "stop_sign",
)


class Executor(Calls):
    """The state of one ensemble at one slot: its calls and sessions, and its objects."""

    def __init__(self, ensemble: str, config: Config | None = None, *, generation: int = 0) -> None:
        """``generation`` is how often the ensemble was recovered: fencing tokens of later ones are all higher."""
        super().__init__(ensemble, config or Config(), generation)
        self._objects = ObjectTable(ensemble, self)
        self._replies = ReplyDigests()
        self._checkpoint_slot = 0

    # The log.

    def apply(self, slot: int, batch_value: bytes) -> None:
        """Execute one slot; ``take_applied`` tells what came of it."""
        self.apply_batch(slot, decode_batch(batch_value))

    def apply_batch(self, slot: int, batch: Batch) -> None:
        """Execute one slot whose value is decoded."""
        if slot != self.next_slot:
            raise Diverged(f"asked to execute slot {slot} when slot {self.next_slot} is next; this replica stops.")
        self._draws = 0
        self._refusing = batch.crowded
        self.time_ns = max(self.time_ns, batch.stamp_ns)
        self.wall_ns = max(self.wall_ns, batch.wall_ns)
        with even_stack():
            if self._fire_timers():
                self._run_ready(None)
            for entry in batch.entries:
                self._apply_entry(entry)
        self.stop_sign = batch.stop_sign or self.stop_sign
        self.next_slot = slot + 1
        if self.next_slot - self._checkpoint_slot >= self._config.checkpoint_interval_slots:
            self._take_checkpoint()

    def _take_checkpoint(self) -> None:
        """What other replicas have to come to as well, at this very slot."""
        slot, config = self.next_slot, self._config
        objects = tuple(
            ObjectDigest(
                info.object_id,
                info.class_name,
                digest(instance, budget=config.checkpoint_nodes_per_object, seed=slot),
            )
            for info, instance in in_turn(self._objects.instances(), slot, config.checkpoint_objects)
        )
        rest = (self.time_ns, self.wall_ns, self._tokens, self._next_session, self._parked, len(self._sessions))
        replies = self._replies.take()
        checkpoint = Checkpoint(slot, self._checkpoint_slot, objects, replies, digest(rest, budget=100, seed=slot))
        self._applied.checkpoints.append(checkpoint)
        self._checkpoint_slot = slot

    def kinds_of(self, entries: Iterable[Entry]) -> frozenset[Kind]:
        """Which user code these entries would run."""
        return self._objects.kinds_of(entries)

    def calls_in(self, entries: Iterable[Entry]) -> list[str]:
        """The same for people to read, each call with its object."""
        return self._objects.calls_in(entries)

    def _apply_entry(self, entry: Entry) -> None:
        session = self._sessions.get(entry.session)
        if session is not None:
            session.last_slot = self.next_slot
            if self._acknowledge(session, entry.acks):
                self._run_ready(None)
            if entry.seq in session.answers or entry.seq in session.parked:
                reply = session.reply(entry.seq)
                if reply is not None:
                    self._applied.replies.append(reply)
                return
        try:
            command = decode_command(entry.command)
        except (ValueError, RecursionError) as error:  # So are msgspec's errors, and broken UTF-8.
            self._reply(entry, session, refuse(ProtocolViolation(f"The command cannot be decoded: {error}")))
            return
        if isinstance(command, OpenSession) and entry.session == 0:
            self._open(entry, command)
        elif isinstance(command, ExpireSession) and entry.session == 0:
            self._expire(entry, command)
            self._run_ready(None)
        elif session is None:
            self._reply(entry, None, refuse(self._ended.error(entry.session, entry.seq)))
        elif entry.seq < 1:
            text = f"A session numbers its commands from 1; this one has the number {entry.seq}."
            self._applied.replies.append(as_reply(entry, refuse(ProtocolViolation(text))))
        elif isinstance(command, Acknowledge):
            # Its own reply carries nothing that could be missed.
            self._kept_bytes -= session.acknowledge(((entry.seq, entry.seq),))
            self._applied.replies.append(as_reply(entry, value(None)))
        elif entry.seq in session.acknowledged:
            text = f"Call {entry.seq} was sent again after its reply had been acknowledged."
            self._applied.replies.append(as_reply(entry, refuse(OutcomeUnknown(text))))
        else:
            answer = self._execute(session, entry, command)
            if answer is not None:
                self._reply(entry, session, answer)
            if session.ended_tasks and isinstance(command, Call):
                task = Owner(session.id, command.owner).scope.task
                if task in session.ended_tasks:
                    self._end_task(session, task)
            self._run_ready(command.object_id if isinstance(command, Call) else None)

    def _run_ready(self, object_id: int | None) -> None:
        """Run the guarded calls that a command has made ready, until no guard of a waiting call holds."""
        affected = dict.fromkeys(self._objects.may_be_ready(object_id))
        while affected:
            first = next(iter(affected))
            ran = self._objects.run_ready(first, self._resume)
            if ran is None:
                del affected[first]
                continue
            waiter, method, result = ran
            session = self._sessions[waiter.session]
            answer = self._finish(session, waiter.seq, (waiter.object_id, method), result)
            if answer is not None:
                self._keep(session, waiter.seq, answer)
            affected.update(dict.fromkeys(self._objects.may_be_ready(first)))

    def _resume(self, waiter: Waiter) -> CallContext:
        self._unpark(self._sessions[waiter.session], waiter.seq)
        return CallContext(self, waiter.session, waiter.seq, waiter.owner.name, waiter.object_id)

    def _execute(self, session: Session, entry: Entry, command: Command) -> Answer | None:
        """Execute one fresh command; None when its call is parked."""
        if isinstance(command, Call):
            refusal = self._refusal(session)
            if refusal is not None:
                return refusal
            context = CallContext(self, session.id, entry.seq, command.owner, command.object_id)
            result = self._objects.call(context, command)
            return self._finish(session, entry.seq, (command.object_id, command.method), result)
        if isinstance(command, Create):
            return self._create(session, entry, command)
        if isinstance(command, Delete):
            return self._delete(command.object_id)
        if isinstance(command, Cancel):
            return value(int(self._cancel(session, command)))
        if isinstance(command, CloseSession):
            self._end(session)
            return value(None)
        if isinstance(command, EndTask):
            self._end_task(session, command.task)
            return value(None)
        if isinstance(command, Resize):
            return self._resize(command)
        return refuse(ProtocolViolation(f"{type(command).__name__} is not a command for the log."))

    def _finish(self, session: Session, seq: int, called: tuple[int, str], result: Any) -> Answer | None:
        """The answer to a call that has run, None if it waits or has its answer; ``called`` is an object's method."""
        object_id, method = called
        waiter = session.parked.get(seq)
        if seq in session.answers:
            self._grants.pop((session.id, seq), None)
            return None  # It parked, and then woke itself: that was its answer.
        if result is PARKED:
            if waiter is not None:
                return None
            return raised(RuntimeError(f"{method} returned PARKED, but nothing was parked by this call"))
        if waiter is not None:
            self._withdraw((waiter,))
            if type(result) is not Answer:
                text = f"{method} must return what the blocking operation returned, since its caller has to wait"
                return raised(RuntimeError(text))
        # Not isinstance: that would ask the result, which is of a user's class, what it is.
        answer = result if type(result) is Answer else value(result)
        # Of what was pickled already nothing is left to compare but that it was: pickles of equal values differ.
        is_opaque = type(result) is Answer and answer.outcome is not Outcome.PLAIN
        said = b"" if is_opaque else reply_digest(answer.outcome, answer.payload, result, seed=self.next_slot)
        self._replies.add(self._objects.class_name(object_id), method, bytes((answer.outcome,)) + said)
        return answer

    def _create(self, session: Session, entry: Entry, command: Create) -> Answer:
        existing = None if command.name is None else self._objects.find(command.name)
        if existing is not None:
            other = self._objects.other_origin(existing.name or "", command.origin)
            if command.get_if_exists and other:
                text = f"What is called {command.name!r} is a {other}, not a {command.origin}. Use another name."
                return refuse(ObjectExists(text))
            if command.get_if_exists:
                return value(existing)
            text = f"An object called {command.name!r} exists. Use get_if_exists=True to share it, or another name."
            return refuse(ObjectExists(text))
        if len(self._objects) >= self._config.max_objects:
            text = (
                f"There are {len(self._objects)} objects in the ensemble, and max_objects is "
                f"{self._config.max_objects}. Delete some with concoord.delete(...)."
            )
            return refuse(Overloaded(text))
        context = CallContext(self, session.id, entry.seq, command.owner, 0)
        answer = self._objects.create(context, command)
        waiter = session.parked.get(entry.seq)
        if waiter is not None:
            self._withdraw((waiter,))
            self._objects.delete(context.object_id)
            return raised(RuntimeError("a constructor cannot wait: the object that it waits in does not exist yet"))
        return answer

    def _delete(self, object_id: int) -> Answer:
        if not self._objects.delete(object_id):
            return refuse(NoSuchObject(f"The object with id {object_id} does not exist, or was deleted already."))
        gone = refuse(NoSuchObject("The object was deleted while this call waited in it."))
        sessions = self._sessions
        waiters = [w for session in sessions.values() for w in session.parked.values() if w.object_id == object_id]
        self._withdraw(waiters)
        for waiter in waiters:
            self._keep(sessions[waiter.session], waiter.seq, gone)
        return value(None)

    def _resize(self, command: Resize) -> Answer:
        size = self.size or Size(self._config.acceptors, self._config.replicas)
        size = Size(
            size.acceptors if command.acceptors is None else command.acceptors,
            size.replicas if command.replicas is None else command.replicas,
        )
        if min(size) < 1:
            text = f"{size.acceptors} acceptors and {size.replicas} replicas: an ensemble needs one of each."
            return refuse(ConfigurationError(text))
        self.size, self.resized_slot = size, self.next_slot
        return value((self.resized_slot, *size))

    # Snapshots.

    def snapshot(self, extra: bytes = b"", go_on: Callable[[], None] = lambda: None) -> Rope:
        """The state between two slots, from which ``restore`` goes on, and whatever is to be found in its header.

        ``go_on`` is called again and again, and may raise ``snapshot.Interrupted``. Raises SnapshotFailed if a method
        has put something into its object that cannot be pickled.
        """
        header = snapshot.Header(self._ensemble, self.next_slot, extra)
        state = {name: getattr(self, name) for name in STATE}
        return snapshot.write(header, state, self, self._objects.instances(), go_on)

    def restore(self, data: bytes | Rope) -> None:
        """Take over the state of a snapshot of the same ensemble: as if every slot below it had been executed here.

        ``take_applied`` tells the sessions that live then as opened, and those that lived here only as ended. Raises
        SnapshotUnusable, which names the object that could not be restored, and then nothing has changed.
        """
        state, types = snapshot.read(data, self._ensemble, self)
        before = self._sessions
        vars(self).update(state)
        self._tokens = max(self._tokens, self._first_token)
        self._objects.types = types
        self._applied.opened.extend((session.id, session.ttl_ns) for session in self._sessions.values())
        self._applied.ended.extend(session for session in before if session not in self._sessions)

    @property
    def generation(self) -> int:
        """Which recovery the highest fencing token so far belongs to."""
        return self._tokens >> GENERATION_SHIFT

    def moved_to(self, ensemble: str) -> bytes:
        """A snapshot for another ensemble to begin with: of this state, and of no view."""
        self._ensemble, self.stop_sign, self.size, self.resized_slot = ensemble, b"", None, -1
        return bytes(self.snapshot())

    # Reads.

    def read(self, entry: Entry) -> Reply:
        """Answer a read from the applied state, changing nothing."""
        try:
            command = decode_command(entry.command)
        except (ValueError, RecursionError) as error:  # So are msgspec's errors, and broken UTF-8.
            return as_reply(entry, refuse(ProtocolViolation(f"The read cannot be decoded: {error}")))
        if isinstance(command, Lookup):
            info = self._objects.find(command.name)
            if info is None:
                text = f"No object is called {command.name!r}. concoord.list_objects() lists those that exist."
                return as_reply(entry, refuse(NoSuchObject(text)))
            return as_reply(entry, value(info))
        if isinstance(command, ListObjects):
            return as_reply(entry, value(self._objects.named()))
        if isinstance(command, Call) and self._objects.is_readonly(command.object_id, command.method):
            effects = ReadOnlyEffects.like(self)
            context = CallContext(effects, entry.session, entry.seq, command.owner, command.object_id)
            result = self._objects.call(context, command)
            return as_reply(entry, result if type(result) is Answer else value(result))
        return as_reply(entry, refuse(ProtocolViolation(f"{type(command).__name__} cannot be read outside the log.")))

"""What must hold at every step, in every seed: one small checker each, and ``Watch``, which the simulated roles tell
what they do.

A breach raises ``Broken``, which ends the run at the very event that caused it.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable

from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.messages import Decisions, Heartbeat, Message, P1b, P2a, P2b, Ping, Pong
from concoord_ray.paxos.outputs import Accepted, Joined, Promised, Record, Send, Truncated
from concoord_ray.paxos.view import Member, View, following_view
from concoord_ray.rsm.command import Outcome, Reply

CallKey = tuple[int, int]


def majority(view: View) -> int:
    """How many acceptors of the view are more than half. Not asked of the code under test."""
    return len(view.acceptors) // 2 + 1


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, checker: object, what: str) -> None:
        super().__init__(f"{type(checker).__name__}: {what}")
        self.invariant = type(checker).__name__


class OneLineage:
    """An epoch has one view, and each but the first begins where the stop-sign of the one before it stands."""

    def __init__(self, first: View) -> None:
        #: By epoch, as far as any replica has come.
        self.views = [first]
        self._named: dict[int, View] = {first.epoch: first}
        self._proposed: list[View] = []

    def proposed(self, view: View) -> None:
        """A leader has proposed a stop-sign; it may come to hold, now or later."""
        if view not in self._proposed:
            self._proposed.append(view)

    def has_proposed(self, view: View) -> bool:
        """Whether some leader has proposed it already."""
        return view in self._proposed

    def named(self, view: View) -> View:
        """Somebody takes part in this view."""
        known = self._named.setdefault(view.epoch, view)
        if known != view:
            raise Broken(self, f"epoch {view.epoch} has two views, {known} and {view}")
        return known

    def view(self, epoch: int) -> View | None:
        return self._named.get(epoch)

    def known(self) -> list[View]:
        """Every view that holds or may come to hold."""
        return [*self.views, *(view for view in self._proposed if view.epoch >= len(self.views))]

    def passed(self, by: Member, slot: int, value: bytes) -> None:
        """A replica has handed on a slot."""
        view = following_view(value)
        if view is None:
            return
        self.named(view)
        if view.first_slot != slot + 1 or view.epoch > len(self.views):
            raise Broken(self, f"{by} passed to {view} in slot {slot}, after {self.views[-1]}")
        if view.epoch == len(self.views):
            self.views.append(view)

    def at(self, slot: int) -> View:
        """The view that a slot belongs to."""
        return next(view for view in reversed(self.views) if view.first_slot <= slot)


class OneValuePerSlot:
    """At most one value is ever handed on for a slot, by anyone (agreement)."""

    def __init__(self) -> None:
        self.decided: dict[int, bytes] = {}

    def check(self, slot: int, value: bytes, by: Member) -> None:
        known = self.decided.setdefault(slot, value)
        if known != value:
            raise Broken(self, f"{by} decided {_brief(value)} for slot {slot}, where {_brief(known)} was decided")


class OneValuePerBallot:
    """In one ballot a slot is given one value, and its leader proposes only in its own ballot (P2b, P2c)."""

    def __init__(self) -> None:
        self._proposed: dict[tuple[int, Ballot, int], bytes] = {}

    def check(self, by: Member, message: P2a, lineage: OneLineage) -> None:
        following = following_view(message.value)
        if following is not None:
            lineage.proposed(following)
        if (message.ballot.replica, message.ballot.incarnation) != (by.index, by.incarnation):
            raise Broken(self, f"{by} proposed in ballot {message.ballot}, which is another's")
        known = self._proposed.setdefault((message.epoch, message.ballot, message.slot), message.value)
        if known != message.value:
            raise Broken(self, f"{by} proposed two values for slot {message.slot} in ballot {message.ballot}")


class ChosenByMajority:
    """What is decided was accepted, durably, by a majority of its slot's view in one ballot.

    No two values of an (epoch, slot) are.
    """

    def __init__(self, lineage: OneLineage) -> None:
        self._lineage = lineage
        self._accepted: dict[tuple[int, Ballot, int], tuple[bytes, set[Member]]] = {}
        self.chosen: dict[tuple[int, int], bytes] = {}

    def accepted(self, by: Member, record: Accepted) -> None:
        pvalue = record.pvalue
        value, acceptors = self._accepted.setdefault((record.epoch, pvalue.ballot, pvalue.slot), (pvalue.value, set()))
        view = self._lineage.view(record.epoch)
        assert view is not None, "an acceptor joins before it accepts"
        acceptors.update({by} & set(view.acceptors))
        if len(acceptors) >= majority(view):
            known = self.chosen.setdefault((record.epoch, pvalue.slot), value)
            if known != value:
                both = f"{_brief(known)}, and {_brief(value)} in ballot {pvalue.ballot}"
                raise Broken(self, f"two values are chosen for slot {pvalue.slot}: {both}")

    def decided(self, slot: int, value: bytes, by: Member) -> None:
        epoch = self._lineage.at(slot).epoch
        if self.chosen.get((epoch, slot)) != value:
            what = f"slot {slot} of epoch {epoch}"
            raise Broken(self, f"{by} took {_brief(value)} for decided in {what}; no majority has accepted it")


class PromisesNeverFall:
    """Per acceptor, over all its lives: no answer falls behind a promise that was given. Within a life: a p-value gives
    way only to one of a higher ballot, and is accepted only in a ballot that is not below the promise.
    """

    def __init__(self) -> None:
        self._promised: dict[tuple[Member, int], Ballot] = {}
        self._accepted: dict[tuple[Member, int, int], tuple[Ballot, bytes]] = {}
        self._said: dict[tuple[Member, int], Ballot] = {}

    def stepped(self, by: Member, records: Iterable[Record]) -> None:
        for record in records:
            if isinstance(record, Promised):
                self._promise(by, record.epoch, record.ballot)
            elif isinstance(record, Accepted):
                pvalue = record.pvalue
                self._promise(by, record.epoch, pvalue.ballot)
                held = self._accepted.get((by, record.epoch, pvalue.slot))
                if held is not None and held != (pvalue.ballot, pvalue.value) and held[0] >= pvalue.ballot:
                    raise Broken(self, f"{by} replaced what it accepted in {held[0]} by a value of {pvalue.ballot}")
                self._accepted[by, record.epoch, pvalue.slot] = pvalue.ballot, pvalue.value

    def answered(self, by: Member, message: Message) -> None:
        if isinstance(message, (P1b, P2b, Pong)):
            said = self._said.get((by, message.epoch), BOTTOM)
            if message.promised < said:
                raise Broken(self, f"{by} says that it promised {message.promised}, and has said {said} before")
            self._said[by, message.epoch] = message.promised

    def restarted(self, by: Member) -> None:
        """Only what was durable is left of an acceptor's life; it is told again by ``stepped``."""
        for key in [key for key in self._promised if key[0] == by]:
            del self._promised[key]
        for slot in [slot for slot in self._accepted if slot[0] == by]:
            del self._accepted[slot]

    def _promise(self, by: Member, epoch: int, ballot: Ballot) -> None:
        if ballot < self._promised.get((by, epoch), BOTTOM):
            raise Broken(self, f"{by} went below its promise {self._promised[by, epoch]}, to {ballot}")
        self._promised[by, epoch] = ballot


class AnswersAreDurable:
    """When an answer leaves an acceptor, everything that it says is on the disk (or the acceptor will never be back);
    and what was answered in an earlier life is still there after a restart.
    """

    def __init__(self) -> None:
        self._promised: dict[tuple[Member, int], Ballot] = {}
        self._accepted: dict[tuple[Member, int, int], Ballot] = {}
        self._said_promised: dict[tuple[Member, int], Ballot] = {}
        self._said_accepted: dict[tuple[Member, int, int], Ballot] = {}
        self._truncated: dict[Member, Truncated] = {}

    def became_durable(self, by: Member, record: Record) -> None:
        if isinstance(record, Promised):
            self._promised[by, record.epoch] = record.ballot
        elif isinstance(record, Accepted):
            self._promised[by, record.epoch] = record.pvalue.ballot
            self._accepted[by, record.epoch, record.pvalue.slot] = record.pvalue.ballot
        elif isinstance(record, Truncated):
            self._truncated[by] = record

    def left(self, by: Member, message: Message) -> None:
        if isinstance(message, (P1b, P2b, Pong)) and message.promised != BOTTOM:
            if self._promised.get((by, message.epoch), BOTTOM) < message.promised:
                raise Broken(self, f"{by} said that it promised {message.promised} before that was durable")
            self._said_promised[by, message.epoch] = message.promised
        if isinstance(message, P2b) and message.ballot == message.promised:
            key = (by, message.epoch, message.slot)
            if self._accepted.get(key, BOTTOM) < message.ballot and not self._is_dropped(
                by, message.epoch, message.slot
            ):
                raise Broken(self, f"{by} said that it accepted slot {message.slot} before that was durable")
            self._said_accepted[key] = message.ballot

    def restarted(self, by: Member, records: Iterable[Record]) -> None:
        """The acceptor is back, as the same member, with these records."""
        for key in [key for key in self._promised if key[0] == by]:
            del self._promised[key]
        for place in [place for place in self._accepted if place[0] == by]:
            del self._accepted[place]
        for record in records:
            self.became_durable(by, record)
        for key, ballot in self._said_promised.items():
            if key[0] != by or self._is_dropped(by, key[1]):
                continue
            if self._promised.get(key, BOTTOM) < ballot:
                raise Broken(self, f"{by} came back without the promise {ballot} that it had given")
        for place, ballot in self._said_accepted.items():
            if place[0] != by or self._is_dropped(*place):
                continue
            if self._accepted.get(place, BOTTOM) < ballot:
                raise Broken(self, f"{by} came back without slot {place[2]}, which it had accepted in {ballot}")

    def _is_dropped(self, by: Member, epoch: int, slot: int | None = None) -> bool:
        truncated = self._truncated.get(by)
        if truncated is None:
            return False
        return epoch < truncated.first_epoch or (slot is not None and slot < truncated.below)


class NoVoteWithoutView:
    """An incarnation that the view of an epoch does not name never votes in it."""

    def __init__(self, lineage: OneLineage) -> None:
        self._lineage = lineage

    def check(self, by: Member, message: Message) -> None:
        if isinstance(message, (P1b, P2b)):
            view = self._lineage.view(message.epoch)
            if view is None or by not in view.acceptors:
                raise Broken(self, f"{by} is not in view {message.epoch}, and answered {type(message).__name__}")


class TruncatedIsApplied:
    """A slot is dropped only after every replica of a view then in force, in some life of it, has handed it on."""

    def __init__(self, lineage: OneLineage) -> None:
        self._lineage = lineage
        #: What has been said to be needed no more.
        self.below = 0

    def said(self, message: Message) -> None:
        """A replica tells others how far the log may be dropped."""
        if isinstance(message, (Ping, Heartbeat)):
            self.below = max(self.below, message.truncate_below)

    def check(self, by: Member, truncated: Truncated, order: GapFree) -> None:
        reached: dict[int, int] = {}
        for replica, next_slot in order.next_slots.items():
            reached[replica.index] = max(next_slot, reached.get(replica.index, 0))
        views = [view for view in self._lineage.views if view.epoch >= self._lineage.at(truncated.below).epoch]
        if not any(all(reached.get(index, 0) >= truncated.below for index in view.replicas) for view in views):
            raise Broken(self, f"{by} dropped the slots below {truncated.below}, and the replicas are at {reached}")


class EverythingMayDie:
    """With disks: the log is dropped, and a view change follows another, only once disks hold what happened before.

    A disk that has held a snapshot counts, though it may be lost meanwhile: that is a failure, and not of the protocol.
    """

    def __init__(self, lineage: OneLineage) -> None:
        self._lineage = lineage
        #: By replica, up to where its disk ever held everything.
        self._saved: dict[int, int] = {}
        self.has_disks = False

    def saved(self, by: Member, slot: int) -> None:
        """Its disk holds the effects of every slot below this one."""
        self._saved[by.index] = max(slot, self._saved.get(by.index, 0))

    def check_dropped(self, by: Member, truncated: Truncated) -> None:
        first = self._lineage.at(truncated.below).epoch
        views = [view for view in self._lineage.views if view.epoch >= first]
        if self.has_disks and not any(self._holding(v, truncated.below) >= min(2, len(v.replicas)) for v in views):
            raise Broken(self, f"{by} dropped the slots below {truncated.below}, and disks are at {self._saved}")

    def check_proposed(self, by: Member, following: View) -> None:
        view = self._lineage.view(following.epoch - 1)
        if self.has_disks and view is not None and view.epoch > 0 and not self._holding(view, view.first_slot):
            raise Broken(self, f"{by} proposed {following}, and no disk holds what was before {view}: {self._saved}")

    def check_ended(self, view: View) -> None:
        """Members that have no place in this view are ended."""
        if self.has_disks and self._holding(view, view.first_slot) < min(2, len(view.replicas)):
            raise Broken(self, f"members are ended, and of what was before {view} disks are at {self._saved}")

    def _holding(self, view: View, slot: int) -> int:
        return sum(self._saved.get(index, 0) >= slot for index in view.replicas)


class SameExecution:
    """Every replica, in every life, executes the same values in the same slots, and comes to the same state."""

    def __init__(self) -> None:
        self.digests: dict[int, tuple[bytes, int]] = {}

    def check(self, by: Member, slot: int, value: bytes, digest: int) -> None:
        known = self.digests.setdefault(slot, (value, digest))
        if known[0] != value:
            raise Broken(self, f"{by} executed {_brief(value)} in slot {slot}, another {_brief(known[0])}")
        if known[1] != digest:
            raise Broken(self, f"{by} came to another state in slot {slot} than another replica did")


class GapFree:
    """A replica hands on slots in order, without gaps, each once."""

    def __init__(self) -> None:
        self.next_slots: dict[Member, int] = {}

    def check(self, by: Member, slot: int) -> None:
        expected = self.next_slots.get(by, 0)
        if slot != expected:
            raise Broken(self, f"{by} handed on slot {slot} when slot {expected} was next")
        self.next_slots[by] = slot + 1

    def installed(self, by: Member, next_slot: int) -> None:
        """It goes on from a snapshot."""
        if next_slot < self.next_slots.get(by, 0):
            raise Broken(self, f"{by} went back to slot {next_slot} by a snapshot")
        self.next_slots[by] = next_slot


class ExactlyOnce:
    """A (session, seq) is executed at most once, in the same slot everywhere; a reply is the same whenever given.

    Withdrawing a granted call replaces its reply, once: what was granted is given back.
    """

    def __init__(self) -> None:
        self.executed: dict[CallKey, int] = {}
        self._by_replica: dict[tuple[Member, CallKey], int] = {}
        self.replies: dict[CallKey, list[bytes]] = {}

    def check_executed(self, by: Member, key: CallKey, slot: int) -> None:
        before = self._by_replica.get((by, key))
        if before is not None:
            raise Broken(self, f"{by} executed call {key} in slots {before} and {slot}")
        self._by_replica[by, key] = slot
        known = self.executed.setdefault(key, slot)
        if known != slot:
            raise Broken(self, f"call {key} was executed in slot {known} and, by {by}, in slot {slot}")

    def replied(self, by: Member, reply: Reply) -> None:
        if reply.outcome is Outcome.REFUSED or reply.session == 0:
            return
        known = self.replies.setdefault((reply.session, reply.seq), [reply.payload])
        if known != [reply.payload]:
            raise Broken(self, f"{by} gave another reply to call {(reply.session, reply.seq)} than was given before")

    def received(self, key: CallKey, payload: bytes) -> None:
        """A client was given a result: it must be that of an execution."""
        if self.replies.get(key) != [payload]:
            raise Broken(self, f"a client received a result for call {key} that no replica has produced")


class GrantsToTheWaiting:
    """Nothing is granted to a session that has ended, nor to a call that was answered (timed out, cancelled)."""

    def check(self, by: Member, key: CallKey, session_lives: bool, is_answered: bool) -> None:
        if not session_lives:
            raise Broken(self, f"{by} granted something to call {key}, whose session has ended")
        if is_answered:
            raise Broken(self, f"{by} granted something to call {key}, which had been answered")


class Watch:
    """All checkers of one run, and what the roles tell them."""

    def __init__(self, view: View) -> None:
        self.lineage = OneLineage(view)
        self.slots = OneValuePerSlot()
        self.ballots = OneValuePerBallot()
        self.chosen = ChosenByMajority(self.lineage)
        self.promises = PromisesNeverFall()
        self.durable = AnswersAreDurable()
        self.votes = NoVoteWithoutView(self.lineage)
        self.execution = SameExecution()
        self.order = GapFree()
        self.truncation = TruncatedIsApplied(self.lineage)
        self.disks = EverythingMayDie(self.lineage)
        self.once = ExactlyOnce()
        self.grants = GrantsToTheWaiting()
        self.counts: Counter[str] = Counter()
        #: When each session that has ended was first seen to have.
        self.ended_sessions_ns: dict[int, int] = {}

    # Acceptors.

    def acceptor_stepped(self, by: Member, records: Iterable[Record]) -> None:
        """It asks for these to be made durable."""
        for record in records:
            if isinstance(record, Joined):
                self.lineage.named(record.view)
            elif isinstance(record, Truncated):
                self.truncation.check(by, record, self.order)
                self.disks.check_dropped(by, record)
                self.counts["truncations"] += 1
        self.promises.stepped(by, records)

    def became_durable(self, by: Member, record: Record) -> None:
        """It is as durable as it will be."""
        self.durable.became_durable(by, record)
        if isinstance(record, Accepted):
            self.chosen.accepted(by, record)

    def acceptor_restarted(self, by: Member, records: list[Record]) -> None:
        """It is back as the same member, with these records."""
        self.promises.restarted(by)
        # A disk may give them in an order in which a promise falls; what it holds is what they come to.
        votes = [record for record in records if isinstance(record, (Promised, Accepted))]
        in_order = sorted(votes, key=_ballot_of)
        self.promises.stepped(by, in_order)
        self.durable.restarted(by, records)
        for record in records:
            if isinstance(record, Accepted):
                self.chosen.accepted(by, record)
            elif isinstance(record, Joined):
                self.counts["acceptors back"] += 1

    def acceptor_sends(self, by: Member, send: Send) -> None:
        """It answers."""
        message = send.message
        self.votes.check(by, message)
        self.promises.answered(by, message)
        self.durable.left(by, message)

    # Replicas.

    def replica_sends(self, by: Member, send: Send) -> None:
        """It speaks to acceptors or to other replicas."""
        message = send.message
        self.truncation.said(message)
        if isinstance(message, P2a):
            self.ballots.check(by, message, self.lineage)
            following = following_view(message.value)
            if following is not None:
                self.disks.check_proposed(by, following)
        elif isinstance(message, Decisions):
            for slot, value in enumerate(message.values, message.first_slot):
                self.decided(by, slot, value)

    def decided(self, by: Member, slot: int, value: bytes) -> None:
        """It takes the value for decided."""
        self.slots.check(slot, value, by)
        self.chosen.decided(slot, value, by)

    def handed_on(self, by: Member, slot: int, value: bytes) -> None:
        """It gives the slot to its executor."""
        self.order.check(by, slot)
        self.decided(by, slot, value)
        self.lineage.passed(by, slot, value)

    def installed(self, by: Member, next_slot: int) -> None:
        """It goes on from a snapshot that has everything below this slot."""
        self.order.installed(by, next_slot)
        self.counts["snapshots"] += 1

    def executed(self, by: Member, slot: int, value: bytes, replies: list[Reply], state: tuple[int, ...]) -> None:
        """Its executor has applied the slot, which gave these replies and led to this state."""
        digest = 0
        for reply in replies:
            self.once.replied(by, reply)
            digest = zlib.crc32(reply.payload, zlib.crc32(repr((reply.session, reply.seq)).encode(), digest))
        self.execution.check(by, slot, value, zlib.crc32(repr(state).encode(), digest))


def _ballot_of(vote: Promised | Accepted) -> Ballot:
    return vote.ballot if isinstance(vote, Promised) else vote.pvalue.ballot


def _brief(value: bytes) -> str:
    return f"{len(value)} B {zlib.crc32(value):08x}"

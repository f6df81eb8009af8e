"""The acceptor: the memory of the ensemble (*Paxos Made Moderately Complex*, section 2.2, figure 2).

Invariants:

- a promise is never taken back: ``promised`` only grows, within an epoch;
- a p-value is accepted only in the promised ballot or a higher one, and only ever replaced by one of a higher ballot;
- an answer leaves only after what it says is durable (``outputs.persist`` before ``outputs.send``);
- an epoch that was dropped is never joined again, and every page of promises says below which slot it cannot show what
  was accepted.

Deviations from the paper, and why:

- state is kept **per epoch**, and only for epochs whose view names this very incarnation: an acceptor that lost its
  memory is somebody else and must not vote in the place of its former life. An epoch that has ended goes on being
  served until it is dropped: to a replica that lags, its stop-sign is found as any value is, and keeps it from
  deciding anything above;
- p1b is paged, so that a long log never makes a frame beyond the limit. Pages are consistent without further care:
  between two pages of one ballot nothing below that ballot can be accepted;
- p1b lists the highest ballot per slot only; lower ones can never be adopted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from concoord_ray.paxos.ballot import BOTTOM, Ballot
from concoord_ray.paxos.messages import AcceptorRequest, Message, NewerView, P1a, P1b, P2a, P2b, Ping, Pong, PValue
from concoord_ray.paxos.outputs import Accepted, Joined, Outputs, Promised, Record, Send, Truncated
from concoord_ray.paxos.view import Member, View


@dataclass(slots=True)
class _EpochState:
    """What this acceptor has promised and accepted in one epoch."""

    view: View
    promised: Ballot = BOTTOM
    accepted: dict[int, PValue] = field(default_factory=dict)
    lowest_slot: int = 0
    highest_slot: int = -1

    def drop_below(self, below: int) -> None:
        """Forget what was accepted for the slots below this one."""
        for slot in range(self.lowest_slot, min(below, self.highest_slot + 1)):
            self.accepted.pop(slot, None)
        self.lowest_slot = max(self.lowest_slot, below)


class Acceptor:
    """One acceptor, stepped by ``receive``. Pure: its role persists and sends what gathers in ``outputs``."""

    def __init__(self, me: Member, *, page_bytes: int) -> None:
        self.me = me
        self.outputs = Outputs()
        self._page_bytes = page_bytes
        self._epochs: dict[int, _EpochState] = {}
        self._newest: View | None = None
        self._first_epoch = 0
        #: What was accepted for slots below this one is dropped.
        self.truncated_below = 0

    @property
    def view(self) -> View | None:
        """The newest view that names this acceptor, or None before it has joined one."""
        return self._newest

    def join(self, view: View) -> bool:
        """Take part in ``view`` if it names this incarnation, and no other view of its epoch is known; true if so."""
        state = self._epochs.get(view.epoch)
        if state is not None:
            return state.view == view
        if self.me not in view.acceptors or view.epoch < self._first_epoch:
            return False
        self.outputs.persist.append(Joined(view))
        self._adopt(view)
        return True

    def restore(self, records: Iterable[Record]) -> None:
        """Replay what was made durable, in the order in which it was."""
        for record in records:
            if isinstance(record, Joined):
                self._adopt(record.view)
            elif isinstance(record, Promised):
                self._promise(self._epochs[record.epoch], record.ballot)
            elif isinstance(record, Accepted):
                self._accept(self._epochs[record.epoch], record.pvalue)
            else:
                self._truncate(record)

    def receive(self, source: Member, message: AcceptorRequest) -> None:
        """Step with one message from a replica."""
        if isinstance(message, P2a):
            self._receive_p2a(source, message)
        elif isinstance(message, Ping):
            self._receive_ping(source, message)
        else:
            self._receive_p1a(source, message)

    def _receive_p1a(self, source: Member, message: P1a) -> None:
        epoch, ballot = message.view.epoch, message.ballot
        if self._is_dropped(source, epoch) or not self.join(message.view):
            return
        state = self._epochs[epoch]
        if ballot > state.promised:
            self._promise(state, ballot)
            self.outputs.persist.append(Promised(epoch, ballot))
        if ballot < state.promised:
            self._reply(source, self._promises(epoch, ballot, state, message.from_slot, (), None))
            return
        page, next_slot = self._page(state, message.from_slot)
        self._reply(source, self._promises(epoch, ballot, state, message.from_slot, page, next_slot))

    def _receive_p2a(self, source: Member, message: P2a) -> None:
        if self._is_dropped(source, message.epoch):
            return
        state = self._epochs.get(message.epoch)
        if state is None:
            return  # Not joined: only a p1a carries the view that could name us. The leader sends it until we answer.
        if message.ballot >= state.promised:
            held = state.accepted.get(message.slot)
            is_dropped = message.slot < self.truncated_below  # It is decided, and applied by all: a late duplicate.
            if not is_dropped and (held is None or held.ballot != message.ballot):  # Written once, answered each time.
                pvalue = PValue(message.ballot, message.slot, message.value)
                self._accept(state, pvalue)
                self.outputs.persist.append(Accepted(message.epoch, pvalue))
        self._reply(source, P2b(message.epoch, message.ballot, state.promised, message.slot))

    def _receive_ping(self, source: Member, message: Ping) -> None:
        if self._is_dropped(source, message.epoch):
            return
        state = self._epochs.get(message.epoch)
        if state is not None and message.truncate_below > self.truncated_below:
            ended = [e for e in self._epochs if e < self._first_of_slot(message.truncate_below)]
            truncated = Truncated(message.truncate_below, max(ended, default=self._first_epoch - 1) + 1)
            self._truncate(truncated)
            self.outputs.persist.append(truncated)
        self._reply(
            source, Pong(message.epoch, state.promised if state else BOTTOM, message.nonce, self.truncated_below)
        )

    def _first_of_slot(self, below: int) -> int:
        """The epoch of a slot, as far as this acceptor knows; those before it are over for everybody."""
        return max((e for e, state in self._epochs.items() if state.view.first_slot <= below), default=0)

    def _truncate(self, truncated: Truncated) -> None:
        self.truncated_below = truncated.below
        self._first_epoch = truncated.first_epoch
        for epoch in [e for e in self._epochs if e < truncated.first_epoch]:
            del self._epochs[epoch]
        for state in self._epochs.values():
            state.drop_below(truncated.below)

    def _is_dropped(self, source: Member, epoch: int) -> bool:
        """Answer a message of an epoch that is over for everybody with the newest view, and never act on it."""
        if epoch >= self._first_epoch or self._newest is None:
            return False
        self._reply(source, NewerView(self._newest))
        return True

    def _promises(
        self,
        epoch: int,
        ballot: Ballot,
        state: _EpochState,
        from_slot: int,
        page: tuple[PValue, ...],
        next_slot: int | None,
    ) -> P1b:
        return P1b(epoch, ballot, state.promised, from_slot, page, next_slot, self.truncated_below)

    def _page(self, state: _EpochState, from_slot: int) -> tuple[tuple[PValue, ...], int | None]:
        page: list[PValue] = []
        size = 0
        for slot in range(max(from_slot, state.lowest_slot), state.highest_slot + 1):
            pvalue = state.accepted.get(slot)
            if pvalue is None:
                continue
            if page and size + len(pvalue.value) > self._page_bytes:
                return tuple(page), slot
            page.append(pvalue)
            size += len(pvalue.value)
        return tuple(page), None

    def _adopt(self, view: View) -> None:
        self._epochs[view.epoch] = _EpochState(view, lowest_slot=max(view.first_slot, self.truncated_below))
        if self._newest is None or view.epoch > self._newest.epoch:
            self._newest = view

    @staticmethod
    def _promise(state: _EpochState, ballot: Ballot) -> None:
        state.promised = ballot

    @staticmethod
    def _accept(state: _EpochState, pvalue: PValue) -> None:
        state.promised = pvalue.ballot
        state.accepted[pvalue.slot] = pvalue
        state.highest_slot = max(state.highest_slot, pvalue.slot)

    def _reply(self, to: Member, message: Message) -> None:
        self.outputs.send.append(Send((to,), message))

"""Decisions from replica to replica: asked for where they are missing, and told in pages that fit into frames.

Whoever asks waits for the page: a log of many pages is fetched one after the other, as fast as they come. What does not
come is asked for again with growing patience. A link that takes longer for a page than others do would otherwise fill
up with copies of it.
"""

from __future__ import annotations

from concoord_ray.config import Config
from concoord_ray.paxos.learner import Learner
from concoord_ray.paxos.messages import Behind, CatchUp, Decisions
from concoord_ray.paxos.outputs import Decided, Outputs, Send
from concoord_ray.paxos.view import Member


class CatchingUp:
    """What one replica asks others for, and tells them."""

    def __init__(self, outputs: Outputs, learner: Learner, config: Config) -> None:
        self._outputs = outputs
        self._learner = learner
        self._page_bytes = config.catch_up_page_bytes
        self._first_patience_s = config.retransmit_interval_s
        self._last_patience_s = 4 * config.election_timeout_s
        self._patience_s = self._first_patience_s
        self._asked_slot = -1
        self._asked_at_s = 0.0
        #: What this leadership has decided since it last told the others.
        self.gathered: list[Decided] = []

    def ask(self, peers: tuple[Member, ...], epoch: int, now_s: float) -> None:
        """Ask for what follows our log, unless a page of just that may be on its way."""
        slot = self._learner.next_slot
        if slot == self._asked_slot:
            if now_s - self._asked_at_s < self._patience_s:
                return
            self._patience_s = min(2 * self._patience_s, self._last_patience_s)
        else:
            self._patience_s = self._first_patience_s
        if peers:
            self._asked_slot, self._asked_at_s = slot, now_s
            self._outputs.send.append(Send(peers, CatchUp(epoch, slot)))

    def forget(self) -> None:
        """Whoever was asked is gone, or another may know more: the next question is not held back."""
        self._asked_slot = -1

    def answer(self, source: Member, message: CatchUp, epoch: int) -> None:
        """Tell one page, or that the log does not reach back so far."""
        if message.from_slot < self._learner.first_slot:
            self._outputs.send.append(Send((source,), Behind(epoch, message.from_slot)))
        else:
            self.tell((source,), self._learner.page(message.from_slot, self._page_bytes), epoch)

    def tell_gathered(self, to: tuple[Member, ...], epoch: int) -> None:
        """Tell what has gathered."""
        gathered, self.gathered = self.gathered, []
        self.tell(to, gathered, epoch)

    def tell(self, to: tuple[Member, ...], decided: list[Decided], epoch: int) -> None:
        """Tell decisions in slot order, about a page at a time: one may be as large as a frame allows.

        A page is of consecutive slots. What others told a leader meanwhile is missing among its own.
        """
        if not to:
            return
        page: list[Decided] = []
        size = 0
        for one in decided:
            is_next = not page or one.slot == page[-1].slot + 1
            if page and (not is_next or size + len(one.value) > self._page_bytes):
                self._tell_page(to, page, epoch)
                page, size = [], 0
            page.append(one)
            size += len(one.value)
        if page:
            self._tell_page(to, page, epoch)

    def _tell_page(self, to: tuple[Member, ...], page: list[Decided], epoch: int) -> None:
        values = tuple(value for _, value in page)
        self._outputs.send.append(Send(to, Decisions(epoch, page[0].slot, values, self._learner.next_slot)))
